"""The training host's side of checkpoints: pointers to them, their upload and their restore.

    points.py     RUN@STEP as people write it
    record.py     from the arguments of `log_checkpoint` to the record in the spool
    manifest.py   the files of a checkpoint: paths, digests, limits
    local.py      what lies on this host's disks: URIs, sizes, lists of files
    transfer.py   single requests to the object store; what is tried again, and how the rest is stopped
    upload.py     a file or folder to the object store, in parts (parts.py); a killed one goes on (upload_state.py)
    download.py   back again (remote.py says to where): checked (sink.py), and whole or not at all
    progress.py   how far either is

Threads exist only while a call of `upload` or `download` lasts.
"""
