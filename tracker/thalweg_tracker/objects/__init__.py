"""Where checkpoints lie: one contract, two stores (S3 and its like, a folder), behind `contract.ObjectStore`."""
