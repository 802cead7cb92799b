"""The composition root: the only place that builds objects across layers, starts them and takes them down.

gRPC runs on the main event loop; HTTP has a thread and loop of its own, so that a large answer being
encoded delays no ack.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
import uvicorn

from thalweg.version import __version__
from thalweg_tracker.access.doors import Doors, make_doors, open_doors
from thalweg_tracker.api.application import make_api
from thalweg_tracker.api.live_hub import LiveHub
from thalweg_tracker.api.requests import Requests
from thalweg_tracker.care.drain import Drain
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate, pending
from thalweg_tracker.engine.server import ServerEngine
from thalweg_tracker.errors import EngineError, SettingError
from thalweg_tracker.ingest.committer import Committer
from thalweg_tracker.ingest.deleted import DeletedRuns
from thalweg_tracker.ingest.registry import Registry
from thalweg_tracker.ingest.service import SERVICE, IngestService, start_grpc
from thalweg_tracker.model.access import TlsFiles
from thalweg_tracker.model.settings import (
    DRAIN_S,
    Address,
    EmbeddedStore,
    FileObjects,
    ObjectSettings,
    ServerSettings,
    Store,
    check_exposure,
)
from thalweg_tracker.objects.contract import ObjectStore
from thalweg_tracker.objects.files import FileStore
from thalweg_tracker.objects.s3 import S3Store
from thalweg_tracker.telemetry.grpc_health import HealthService
from thalweg_tracker.telemetry.ops import Ops, OpsThread
from thalweg_tracker.telemetry.probe import PROBE_WITHIN_S, Rows
from thalweg_tracker.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

_BACKLOG: Final = 2048
_CUT_EVERY_S: Final = 0.1
_INSTANCE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Serving:
    """What a started server listens on; None where it does not have the role."""

    grpc: Address | None
    http: Address | None
    engine: str
    ops: Address | None = None
    is_secure: bool = False

    @property
    def url(self) -> str | None:
        """Where the API is."""
        return f"{'https' if self.is_secure else 'http'}://{self.http}" if self.http else None


@dataclass(frozen=True, slots=True)
class Shared:
    """Others serve the same address: gRPC listens beside them, HTTP takes its connections from a socket of theirs."""

    listener: socket.socket | None = None


def open_engine(store: Store, *, makes_database: bool = True) -> Engine:
    """The engine of a store. `makes_database`: on a server, if there is none. Raises EngineError."""
    if isinstance(store, EmbeddedStore):
        return EmbeddedEngine(store.data_dir)
    return ServerEngine(store, makes_database=makes_database)


def make_objects(settings: ObjectSettings | None) -> ObjectStore | None:
    """The object store of some settings; None where there is none."""
    if settings is None:
        return None
    return FileStore(settings) if isinstance(settings, FileObjects) else S3Store(settings)


async def serve(settings: ServerSettings, on_ready: Callable[[Serving], None], shared: Shared | None = None) -> None:
    """Serves the roles that have an address, until SIGTERM or SIGINT, then drains. Raises SettingError, EngineError.

    `shared`: this process is one of several with these settings.
    """
    check_exposure(settings)
    drain = Drain(settings.drain_s)
    drain.watch_signals()
    engine = await asyncio.to_thread(open_engine, settings.store)
    try:
        if isinstance(settings.store, EmbeddedStore):
            await asyncio.to_thread(migrate, engine)
        elif todo := await asyncio.to_thread(pending, engine):
            names = ", ".join(f"{one.number:04d}_{one.name}" for one in todo)
            raise EngineError(f"cannot serve {settings.store}: its schema lacks {names}. Run `thalweg migrate` first.")
        await _serve(engine, settings, on_ready, drain, shared)
    finally:
        await asyncio.get_running_loop().shutdown_default_executor()  # calls of the engine end first
        engine.close()
        drain.end()


async def _serve(
    engine: Engine,
    settings: ServerSettings,
    on_ready: Callable[[Serving], None],
    drain: Drain,
    shared: Shared | None,
) -> None:
    doors = await asyncio.to_thread(make_doors, engine, settings.access, settings.store)
    telemetry = make_telemetry(engine)
    instance = secrets.token_hex(_INSTANCE_BYTES)
    ingest: Ingest | None = None
    http: HttpThread | None = None
    ops: OpsThread | None = None
    try:
        is_shared, listener = shared is not None, shared.listener if shared else None
        if settings.grpc:
            ingest = await Ingest.start(engine, settings.grpc, doors, telemetry, is_shared=is_shared)
        scheme = "grpcs://" if settings.access.tls else ""
        told = settings.told or (f"{scheme}{ingest.address}" if ingest else None)
        objects = make_objects(settings.objects)
        if settings.http:
            http = HttpThread(engine, settings.http, told, objects, doors, telemetry, listener, instance)
        ops = OpsThread(listen(settings.ops, "--ops"), telemetry) if settings.ops else None
        serving = Serving(
            ingest.address if ingest else None,
            http.address if http else None,
            engine.describe(),
            ops.address if ops else None,
            is_secure=settings.access.tls is not None,
        )
        if isinstance(engine, EmbeddedEngine):
            engine.announce(http=serving.url, instance=instance)
        gc.collect()
        gc.freeze()  # modules and routes stay: large answers are built faster where collections do not walk them
        on_ready(serving)
        await drain.begun.wait()
        telemetry.readiness.drain()  # first of all: whoever sends work here looks elsewhere from now on
    finally:
        within_s = drain.streams_s
        stopping = [ingest.stop(within_s)] if ingest else []
        await asyncio.gather(*stopping, *([asyncio.to_thread(http.stop, within_s)] if http else []))
        if ops:
            await asyncio.to_thread(ops.stop)
        await asyncio.to_thread(telemetry.close)
        await asyncio.to_thread(doors.gate.close)


def make_telemetry(engine: Engine) -> Telemetry:
    """That of a server on this engine. Its questions have a connection of their own: a pool in use is no failure."""

    def ask(sql: str) -> Rows:
        return [row for batch in engine.stream(sql, timeout_s=PROBE_WITHIN_S) for row in batch.to_pylist()]

    kind = "embedded" if isinstance(engine, EmbeddedEngine) else "server"
    return Telemetry.of(ask, version=__version__, engine=kind, environ=os.environ)


class Ingest:
    """The running ingest role."""

    def __init__(
        self,
        server: grpc.aio.Server,
        service: IngestService,
        committer: Committer,
        health: HealthService,
        deleted: DeletedRuns,
        address: Address,
    ) -> None:
        self.address = address
        self._server = server
        self._service = service
        self._committer = committer
        self._health = health
        self._deleted = deleted

    @classmethod
    async def start(
        cls, engine: Engine, address: Address, doors: Doors, telemetry: Telemetry, *, is_shared: bool = False
    ) -> Ingest:
        """Listens. Raises SettingError if the address is taken; by others that share it is not."""
        committer = Committer(engine, telemetry)
        registry = Registry(engine)
        deleted = DeletedRuns(engine, registry)
        service = IngestService(registry, committer, deleted, doors, telemetry)
        health = HealthService(SERVICE)
        server, bound = await start_grpc(service, address, health, doors.settings.tls, is_shared=is_shared)
        deleted.start()
        return cls(server, service, committer, health, deleted, bound)

    async def stop(self, within_s: float) -> None:
        """Takes in nothing new, gives the streams time for their acks, commits what is left."""
        self._health.drain()
        self._service.stop()
        await self._server.stop(within_s)
        await self._deleted.stop()
        await self._committer.close()


class HttpThread:
    """The running HTTP role: uvicorn in a thread of its own."""

    def __init__(
        self,
        engine: Engine,
        address: Address,
        grpc_address: str | None,
        objects: ObjectStore | None = None,
        doors: Doors | None = None,
        telemetry: Telemetry | None = None,
        listener: socket.socket | None = None,
        instance: str = "",
    ) -> None:
        """Listens, unless it is handed a socket that does. Raises SettingError if the address is taken.

        `instance`: tells this server from all others, to whom asks with a token.
        """
        self._socket = listener or listen(address)
        self.address = Address(address.host, self._socket.getsockname()[1])
        doors, telemetry = doors or open_doors(), telemetry or Telemetry()
        app = make_api(engine, objects, __version__, grpc_address, doors, telemetry, instance)
        outer = Ops(telemetry, Requests(app, telemetry), doors.admits)
        config = uvicorn.Config(outer, log_config=None, access_log=False, **_tls(doors.settings.tls))
        self._server = _Server(config, app.state.live)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http")
        self._thread.start()

    def stop(self, within_s: float = DRAIN_S) -> None:
        """Answers what was asked, as far as that is done in time, then stops."""
        self._server.config.timeout_graceful_shutdown = int(within_s)
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


class _Server(uvicorn.Server):
    """Ends the live streams when it stops, as it waits for all answers under way."""

    def __init__(self, config: uvicorn.Config, live: LiveHub) -> None:
        super().__init__(config)
        self._live = live

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn. Runs on its loop."""
        self._live.stop()
        cutting = asyncio.create_task(self._cut_abandoned())
        await super().shutdown(sockets)
        cutting.cancel()

    async def _cut_abandoned(self) -> None:
        """Cuts connections of streams that were given up, whose clients do not take what is on its way to them."""
        while True:
            for connection in list(self.server_state.connections):
                cycle, transport = getattr(connection, "cycle", None), getattr(connection, "transport", None)
                if cycle and transport and transport.is_closing() and not cycle.response_complete:
                    transport.abort()
            await asyncio.sleep(_CUT_EVERY_S)


def _tls(files: TlsFiles | None) -> dict[str, Any]:
    """What uvicorn is told of TLS."""
    if files is None:
        return {}
    asked = ssl.CERT_REQUIRED if files.client_ca else ssl.CERT_NONE
    return {
        "ssl_certfile": files.certificate,
        "ssl_keyfile": files.key,
        "ssl_ca_certs": files.client_ca,
        "ssl_cert_reqs": asked,
    }


def listen(address: Address, key: str = "--http") -> socket.socket:
    """A socket that listens. `key`: the option that named it. Raises SettingError if the address is taken."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off: it would cost 40 ms an answer on a kept connection.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)  # from here on clients may connect, and wait for uvicorn
    except OSError as error:
        listener.close()
        raise SettingError(key, str(address), f"an address that is free ({error.strerror})") from error
    return listener
