"""The HTTP API: FastAPI routes over thalweg_tracker.query. Owns requests, answers and their encodings; no SQL."""
