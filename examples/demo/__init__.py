"""`make demo`: a server, real trainings, and what was recorded of them, read back, checked and shown.

One module for each part of it; __main__.py puts them together.
"""
