"""What `thalweg doctor` is told where the server is installed. It finds these by the entry points `thalweg.checks`."""
