"""The sender: the process beside a training process that reads its spool and streams it to the server.

launch.py starts it (the only module here that the training process imports), main.py is its entry,
delivery.py brings one writer's folder to the server, pack.py turns records into batches,
transport.py speaks gRPC, watch.py sees how the training process ends, host.py samples the host.
"""
