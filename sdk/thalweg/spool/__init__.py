"""The append-only files on the training host where records wait until they are acknowledged.

A spool folder holds one folder a writer:

    <spool>/<writer>/writer.json      who writes: project, run, rank, process (layout.py, process.py)
    <spool>/<writer>/000001.seg ...   records, in mapped segments of fixed size (records.py, writer.py, reader.py)
    <spool>/<writer>/state            acknowledged sequence and counters, mapped by both processes (state.py)
    <spool>/<writer>/quarantine/      damaged bytes, moved aside
    <spool>/<writer>/writer.lock      held by the process that writes
    <spool>/<writer>/sender.lock      held by the process that delivers this folder
"""
