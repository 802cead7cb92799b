"""`thalweg up`, `thalweg ingest`, `thalweg api`: the server's roles as processes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import NoReturn

import click

from thalweg_tracker.app import Serving, serve
from thalweg_tracker.errors import TrackerError
from thalweg_tracker.model.settings import (
    DEFAULT_GRPC,
    DEFAULT_HTTP,
    DRAIN_S,
    Address,
    EmbeddedStore,
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
    help="ClickHouse servers: clickhouse://user:password@host:9000,host:9000/database",
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
_json = click.option("--json", "as_json", is_flag=True, help="Print the addresses as one line of JSON when ready.")
_drain = click.option(
    "--drain-s",
    envvar="THALWEG_DRAIN_S",
    type=click.FloatRange(0, 3600),
    default=DRAIN_S,
    show_default=True,
    help="Seconds from SIGTERM to the end, at most. A second SIGTERM ends it at once.",
)
_verbose = click.option("--verbose", is_flag=True, help="Log each commit.")


@click.command()
@_data
@_objects
@_grpc
@_http
@_drain
@_json
@_verbose
def up(
    data: str, objects: str | None, grpc_text: str, http_text: str, drain_s: float, as_json: bool, verbose: bool
) -> None:
    """Serve everything in one process, on the embedded engine.

    Example: thalweg up --data ./tracking
    """
    _run("--data", data, grpc_text, http_text, objects_text=objects, drain_s=drain_s, as_json=as_json, verbose=verbose)


@click.command()
@_store
@_grpc
@_drain
@_json
@_verbose
def ingest(store: str, grpc_text: str, drain_s: float, as_json: bool, verbose: bool) -> None:
    """Take records in, into ClickHouse servers. Run `thalweg migrate` once before.

    Example: thalweg ingest --store clickhouse://localhost:9000/thalweg
    """
    _run("--store", store, grpc_text, None, drain_s=drain_s, as_json=as_json, verbose=verbose)


@click.command()
@_store
@_objects
@_http
@click.option("--ingest", "told", help="host:port of the gRPC ingest that senders are told.", default=DEFAULT_GRPC)
@_drain
@_json
@_verbose
def api(
    store: str, objects: str | None, http_text: str, told: str, drain_s: float, as_json: bool, verbose: bool
) -> None:
    """Answer queries over HTTP, from ClickHouse servers.

    Example: thalweg api --store clickhouse://localhost:9000/thalweg --ingest 127.0.0.1:7411
    """
    _run(
        "--store", store, None, http_text, told, objects_text=objects, drain_s=drain_s, as_json=as_json, verbose=verbose
    )


def _run(
    key: str,
    store_text: str,
    grpc_text: str | None,
    http_text: str | None,
    told: str | None = None,
    *,
    objects_text: str | None = None,
    drain_s: float,
    as_json: bool,
    verbose: bool,
) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for noisy in ("aiobotocore", "asyncio", "botocore", "grpc", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        store = _role_store(key, store_text)
        settings = ServerSettings(
            store,
            grpc=parse_address("--grpc", grpc_text) if grpc_text else None,
            http=parse_address("--http", http_text) if http_text else None,
            told=told,
            objects=parse_objects("--objects", objects_text, os.environ, store) if http_text else None,
            drain_s=drain_s,
        )
        asyncio.run(serve(settings, _say_ready_json if as_json else _say_ready))
    except TrackerError as error:
        _fail(error)
    if not as_json:
        print("thalweg: stopped", flush=True)


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


def _say_ready(serving: Serving) -> None:
    def line(what: str, address: Address | None, scheme: str = "") -> str:
        return f"  {what:<8}{scheme}{address}\n" if address else ""

    print(
        "thalweg is up\n"
        + line("http", serving.http, "http://")
        + line("grpc", serving.grpc)
        + f"  data    {serving.engine}\n"
        + (f"  docs    http://{serving.http}/docs\n" if serving.http else "")
        + "Ctrl-C stops it.",
        flush=True,
    )


def _say_ready_json(serving: Serving) -> None:
    http = f"http://{serving.http}" if serving.http else None
    grpc = str(serving.grpc) if serving.grpc else None
    print(json.dumps({"http": http, "grpc": grpc, "engine": serving.engine, "pid": os.getpid()}), flush=True)


def _fail(error: TrackerError) -> NoReturn:
    print(f"Error: {error}", file=sys.stderr)
    sys.exit(1)
