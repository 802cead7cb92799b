"""Version 1 of the protocol. Generated from proto/thalweg/wire/v1 by `make proto`; not edited by hand."""
