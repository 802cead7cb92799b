"""Forks and rewinds: which points are seen from where. Pure: no clock, no socket, no database."""
