"""Other trackers beside Thalweg: the same loop, the same machine, each in a virtual environment of its own."""
