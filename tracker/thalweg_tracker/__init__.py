"""The server: takes points in (ingest), keeps them (engine), answers for them (query, api)."""
