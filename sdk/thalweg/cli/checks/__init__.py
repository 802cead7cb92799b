"""What `thalweg doctor` looks at: a module a subject, each of which gives findings."""
