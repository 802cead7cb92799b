"""Load tests and benchmarks. Each script measures one thing, verifies its data, and writes a report."""
