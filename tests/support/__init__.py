"""Servers and helpers that tests start; nothing here is part of the product."""
