"""Numbered migrations. A shipped file is frozen: tests/unit/tracker/engine/test_migrate.py holds its hash."""
