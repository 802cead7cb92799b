"""Commands of the server: up, ingest, api, migrate. Listed by the `thalweg` command through entry points."""
