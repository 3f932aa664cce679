"""Files and SQLite: run directories, corpora and attribution stores. Knows no HTTP."""
