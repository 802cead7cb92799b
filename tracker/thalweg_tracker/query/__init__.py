"""Reads: runs, metrics and series from the engine, as plain rows and columns. Knows nothing of HTTP.

The SQL lies in thalweg_tracker/sql/, one file a query.
"""
