"""`thalweg up`, `thalweg ingest`, `thalweg api`: the server's roles as processes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

import click

from thalweg_tracker.app import Serving, serve
from thalweg_tracker.cli.workers import run_workers
from thalweg_tracker.errors import TrackerError
from thalweg_tracker.model.settings import (
    DEFAULT_GRPC,
    DEFAULT_HTTP,
    Address,
    EmbeddedStore,
    FileObjects,
    ServerSettings,
    Store,
    parse_address,
    parse_objects,
    parse_store,
)

DEFAULT_DATA = "~/.local/share/thalweg"
_data = click.option(
    "--data", envvar="THALWEG_DATA", default=DEFAULT_DATA, show_default=True, help="Folder of the database."
)
_store = click.option(
    "--store",
    envvar="THALWEG_STORE",
    required=True,
    help="ClickHouse servers: clickhouse://user:password@host:9000,host:9000/database, and options: docs/cluster.md.",
)
_grpc = click.option(
    "--grpc", "grpc_text", default=DEFAULT_GRPC, show_default=True, help="host:port of the ingest; port 0: any."
)
_http = click.option(
    "--http", "http_text", default=DEFAULT_HTTP, show_default=True, help="host:port of the API; port 0: any."
)
_objects = click.option(
    "--objects", help="Where checkpoints go: a folder, or s3://bucket/prefix.  [default: THALWEG_OBJECTS; DATA/objects]"
)
_workers = click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes that serve the address."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the addresses as one line of JSON when ready.")
_verbose = click.option("--verbose", is_flag=True, help="Log each commit.")


@click.command()
@_data
@_objects
@_grpc
@_http
@click.option("--workers", type=int, default=1, hidden=True)
@_json
@_verbose
def up(
    data: str, objects: str | None, grpc_text: str, http_text: str, workers: int, as_json: bool, verbose: bool
) -> None:
    """Serve everything in one process, on the embedded engine.

    Example: thalweg up --data ./tracking
    """
    if workers != 1:
        raise click.UsageError(
            "--workers is for `thalweg ingest` and `thalweg api` on ClickHouse servers: the folder of an embedded"
            " database belongs to one process"
        )
    _run("--data", data, grpc_text, http_text, objects_text=objects, as_json=as_json, verbose=verbose)


@click.command()
@_store
@_grpc
@_workers
@_json
@_verbose
def ingest(store: str, grpc_text: str, workers: int, as_json: bool, verbose: bool) -> None:
    """Take records in, into ClickHouse servers. Run `thalweg migrate` once before.

    Example: thalweg ingest --store clickhouse://localhost:9000/thalweg --workers 4
    """
    _run("--store", store, grpc_text, None, workers=workers, as_json=as_json, verbose=verbose)


@click.command()
@_store
@_objects
@_http
@click.option("--ingest", "told", help="host:port of the gRPC ingest that senders are told.", default=DEFAULT_GRPC)
@_workers
@_json
@_verbose
def api(store: str, objects: str | None, http_text: str, told: str, workers: int, as_json: bool, verbose: bool) -> None:
    """Answer queries over HTTP, from ClickHouse servers.

    Example: thalweg api --store clickhouse://localhost:9000/thalweg --ingest 127.0.0.1:7411
    """
    _run(
        "--store", store, None, http_text, told, objects_text=objects, workers=workers, as_json=as_json, verbose=verbose
    )


def _run(
    key: str,
    store_text: str,
    grpc_text: str | None,
    http_text: str | None,
    told: str | None = None,
    *,
    objects_text: str | None = None,
    workers: int = 1,
    as_json: bool,
    verbose: bool,
) -> None:
    set_up_logging(verbose)
    try:
        store = _role_store(key, store_text)
        settings = ServerSettings(
            store,
            grpc=parse_address("--grpc", grpc_text) if grpc_text else None,
            http=parse_address("--http", http_text) if http_text else None,
            told=told,
            objects=parse_objects("--objects", objects_text, os.environ, store) if http_text else None,
        )
        say_ready = _say_ready_json if as_json else _say_ready
        if workers == 1:
            asyncio.run(serve(settings, say_ready))
        elif isinstance(settings.objects, FileObjects):
            raise click.UsageError(
                f"--objects {settings.objects}: a folder of checkpoints belongs to one process. Keep them in s3://, or"
                " leave --workers out."
            )
        else:
            run_workers(settings, workers, partial(set_up_logging, verbose), say_ready)
    except TrackerError as error:
        _fail(error)
    if not as_json:
        print("thalweg: stopped", flush=True)


def set_up_logging(verbose: bool) -> None:
    """To standard error. Of a worker, too."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for noisy in ("aiobotocore", "asyncio", "botocore", "grpc", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _role_store(key: str, text: str) -> Store:
    store = parse_store(key, text)
    if isinstance(store, EmbeddedStore) == (key == "--store"):
        wanted = (
            "clickhouse://host:port/database"
            if key == "--store"
            else "a folder; servers are for `thalweg ingest` and `thalweg api`"
        )
        raise click.UsageError(f"{key} {store}: wanted {wanted}")
    return store


def _say_ready(serving: Serving, workers: Sequence[int] = ()) -> None:
    def line(what: str, address: Address | None, scheme: str = "") -> str:
        return f"  {what:<8}{scheme}{address}\n" if address else ""

    print(
        "thalweg is up\n"
        + line("http", serving.http, "http://")
        + line("grpc", serving.grpc)
        + f"  data    {serving.engine}\n"
        + (f"  docs    http://{serving.http}/docs\n" if serving.http else "")
        + (f"  workers {', '.join(map(str, workers))}\n" if workers else "")
        + "Ctrl-C stops it.",
        flush=True,
    )


def _say_ready_json(serving: Serving, workers: Sequence[int] = ()) -> None:
    http = f"http://{serving.http}" if serving.http else None
    grpc = str(serving.grpc) if serving.grpc else None
    ready = {"http": http, "grpc": grpc, "engine": serving.engine, "pid": os.getpid()}
    print(json.dumps(ready | ({"workers": list(workers)} if workers else {})), flush=True)


def _fail(error: TrackerError) -> NoReturn:
    print(f"Error: {error}", file=sys.stderr)
    sys.exit(1)
