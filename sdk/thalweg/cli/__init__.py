"""The command line, `thalweg`: main.py is its entry, each command has a file of its own.

Needs the SDK's dependencies alone. The server's commands come from the entry points `thalweg.commands`.
"""
