"""`thalweg up`, `thalweg ingest`, `thalweg api`: the server's roles as processes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from thalweg_tracker.app import Serving, serve
from thalweg_tracker.cli.observing import Observing, observing
from thalweg_tracker.cli.workers import run_workers
from thalweg_tracker.errors import TrackerError
from thalweg_tracker.model.access import parse_access
from thalweg_tracker.model.settings import (
    DEFAULT_GRPC,
    DEFAULT_HTTP,
    DRAIN_S,
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
    "--grpc",
    "grpc_text",
    envvar="THALWEG_LISTEN_GRPC",
    default=DEFAULT_GRPC,
    show_default=True,
    help="host:port of the ingest; port 0: any.",
)
_http = click.option(
    "--http",
    "http_text",
    envvar="THALWEG_LISTEN_HTTP",
    default=DEFAULT_HTTP,
    show_default=True,
    help="host:port of the API; port 0: any.",
)
_objects = click.option(
    "--objects", help="Where checkpoints go: a folder, or s3://bucket/prefix.  [default: THALWEG_OBJECTS; DATA/objects]"
)
_auth = click.option(
    "--auth",
    type=click.Choice(["none", "tokens"]),
    envvar="THALWEG_AUTH",
    default="none",
    show_default=True,
    help="Who may ask: whoever is on this machine, or whoever has a token.",
)
_certificate = click.option(
    "--tls-cert", "certificate", envvar="THALWEG_TLS_CERT", help="PEM file: TLS for gRPC and HTTP."
)
_certificate_key = click.option(
    "--tls-key", "certificate_key", envvar="THALWEG_TLS_KEY", help="PEM file with the key of --tls-cert."
)
_client_ca = click.option(
    "--tls-client-ca", "client_ca", envvar="THALWEG_TLS_CLIENT_CA", help="PEM file: clients must show a certificate."
)
_origins = click.option(
    "--cors-origins", "origins", envvar="THALWEG_CORS_ORIGINS", default="", help="Origins of web pages that may ask."
)


def _access(command: Callable[..., None]) -> Callable[..., None]:
    """The options of who may come in."""
    for option in (_client_ca, _certificate_key, _certificate, _auth):
        command = option(command)
    return command


_workers = click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes that serve the address."
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


@click.command()
@_data
@_objects
@_grpc
@_http
@_access
@_origins
@_drain
@click.option("--ingest", "told", help="host:port or grpcs://host:port that senders are told, behind a proxy.")
@click.option("--workers", type=int, default=1, hidden=True)
@_json
@observing
def up(**options: Any) -> None:
    """Serve everything in one process, on the embedded engine.

    Example: thalweg up --data ./tracking
    """
    if options["workers"] != 1:
        raise click.UsageError(
            "--workers is for `thalweg ingest` and `thalweg api` on ClickHouse servers: the folder of an embedded"
            " database belongs to one process"
        )
    _run("--data", options["data"], options)


@click.command()
@_store
@_grpc
@_access
@_drain
@_workers
@_json
@observing
def ingest(**options: Any) -> None:
    """Take records in, into ClickHouse servers. Run `thalweg migrate` once before.

    Example: thalweg ingest --store clickhouse://localhost:9000/thalweg --workers 4
    """
    _run("--store", options["store"], options)


@click.command()
@_store
@_objects
@_http
@_access
@_origins
@click.option("--ingest", "told", help="host:port or grpcs://host:port that senders are told.", default=DEFAULT_GRPC)
@_drain
@_workers
@_json
@observing
def api(**options: Any) -> None:
    """Answer queries over HTTP, from ClickHouse servers.

    Example: thalweg api --store clickhouse://localhost:9000/thalweg --ingest 127.0.0.1:7411
    """
    _run("--store", options["store"], options)


def _run(key: str, store_text: str, options: Mapping[str, Any]) -> None:
    """Serves what the options of a command say. `key`: the option that names the store."""
    observed: Observing = options["observed"]
    observed.set_up_logs()
    as_json, grpc_text, http_text = options["as_json"], options.get("grpc_text"), options.get("http_text")
    try:
        store = _role_store(key, store_text)
        settings = ServerSettings(
            store,
            grpc=parse_address("--grpc", grpc_text) if grpc_text else None,
            http=parse_address("--http", http_text) if http_text else None,
            told=options.get("told"),
            objects=parse_objects("--objects", options["objects"], os.environ, store) if http_text else None,
            ops=observed.ops(),
            drain_s=options["drain_s"],
            access=parse_access(
                os.environ,
                auth=options["auth"],
                certificate=options["certificate"],
                key=options["certificate_key"],
                client_ca=options["client_ca"],
                origins=options.get("origins", ""),
            ),
        )
        say_ready = _say_ready_json if as_json else _say_ready
        if options["workers"] == 1:
            asyncio.run(serve(settings, say_ready))
        elif isinstance(settings.objects, FileObjects):
            raise click.UsageError(
                f"--objects {settings.objects}: a folder of checkpoints belongs to one process. Keep them in s3://, or"
                " leave --workers out."
            )
        else:
            run_workers(settings, options["workers"], observed.set_up_logs, say_ready)
    except TrackerError as error:
        observed.fail(error)
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


def _say_ready(serving: Serving, workers: Sequence[int] = ()) -> None:
    def line(what: str, place: object) -> str:
        return f"  {what:<8}{place}\n" if place else ""

    print(
        "thalweg is up\n"
        + line("http", serving.url)
        + line("grpc", serving.grpc)
        + line("ops", serving.ops and f"http://{serving.ops}")
        + line("data", serving.engine)
        + line("docs", serving.url and f"{serving.url}/docs")
        + line("workers", ", ".join(map(str, workers)))
        + "Ctrl-C stops it.",
        flush=True,
    )


def _say_ready_json(serving: Serving, workers: Sequence[int] = ()) -> None:
    grpc = str(serving.grpc) if serving.grpc else None
    ops = f"http://{serving.ops}" if serving.ops else None
    ready = {"http": serving.url, "grpc": grpc, "ops": ops, "engine": serving.engine, "pid": os.getpid()}
    print(json.dumps(ready | ({"workers": list(workers)} if workers else {})), flush=True)
