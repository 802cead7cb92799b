"""Checkpoints by what was told and found of them: state, retention, advice. Pure: no clock, no socket, no database."""
