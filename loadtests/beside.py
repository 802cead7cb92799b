"""A load of the ingest in a thread, while something else is measured."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from thalweg.bench.ingest import IngestLoad, IngestResult, run_ingest


@contextmanager
def ingest_beside(url: str, project: str, load: IngestLoad) -> Iterator[Future[IngestResult]]:
    """Begins when its clients do; waits at the end until all is read back. Raises what the load does."""
    began = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(run_ingest, url, project, load, began=began)
        loading.add_done_callback(lambda _: began.set())  # also where it has failed
        began.wait()
        yield loading
        loading.result()
