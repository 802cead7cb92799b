"""What surrounds a run: host and GPU metrics, the environment of the process, and no secrets in either."""
