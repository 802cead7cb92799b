"""Registering runs and their branches: used by the ingest, and by the API for forks and rewinds."""
