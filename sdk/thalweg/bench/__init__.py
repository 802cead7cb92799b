"""Loads against a running server, and what came of them: `thalweg bench`, and the scripts in loadtests/.

Every load reads back what it has logged and compares it, value by value: a lost or wrong point fails it. Needs
NumPy and pyarrow (`pip install 'thalweg[bench]'`).
"""
