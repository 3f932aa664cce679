"""One small router for each noun of the API."""
