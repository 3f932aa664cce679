"""The service: HTTP API, command line and the pipelines that join computation and storage."""
