"""Commands of the server: up, ingest, api, migrate, move. Listed by the `thalweg` command through entry points."""
