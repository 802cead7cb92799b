"""What is done to checkpoints: looked at in the object store, resolved, pruned. Owns `checkpoint_checks`; no HTTP."""
