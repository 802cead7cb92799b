"""Takes records in. One direction: service (gRPC) -> decode -> committer -> engine, and acks the same way back.

decode.py turns messages into columns and refuses what is wrong; assemble.py turns columns into rows;
committer.py commits groups of batches; registry.py registers names and runs; service.py speaks gRPC.
"""
