"""The expression language: text -> tree -> checked tree -> SQL. Pure: no clock, no socket, no database."""
