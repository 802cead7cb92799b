"""The composition root: the only place that builds objects across layers, starts them and takes them down.

gRPC runs on the main event loop; HTTP has a thread and loop of its own, so that a large answer being
encoded delays no ack.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc
import uvicorn

from thalweg.version import __version__
from thalweg_tracker.api.application import make_api
from thalweg_tracker.api.live_hub import LiveHub
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate, pending
from thalweg_tracker.engine.server import ServerEngine
from thalweg_tracker.errors import EngineError, SettingError
from thalweg_tracker.ingest.committer import Committer
from thalweg_tracker.ingest.registry import Registry
from thalweg_tracker.ingest.service import IngestService, start_grpc
from thalweg_tracker.model.settings import (
    Address,
    EmbeddedStore,
    FileObjects,
    ObjectSettings,
    ServerSettings,
    Store,
)
from thalweg_tracker.objects.contract import ObjectStore
from thalweg_tracker.objects.files import FileStore
from thalweg_tracker.objects.s3 import S3Store

log = logging.getLogger(__name__)

_BACKLOG: Final = 2048
_CUT_EVERY_S: Final = 0.1
DRAIN_S: Final = 10.0
"""How long streams and requests may go on after the order to stop, to get the answers to what was sent."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What a started server listens on; None where it does not have the role."""

    grpc: Address | None
    http: Address | None
    engine: str


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
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    engine = await asyncio.to_thread(open_engine, settings.store)
    try:
        if isinstance(settings.store, EmbeddedStore):
            await asyncio.to_thread(migrate, engine)
        elif todo := await asyncio.to_thread(pending, engine):
            names = ", ".join(f"{one.number:04d}_{one.name}" for one in todo)
            raise EngineError(f"cannot serve {settings.store}: its schema lacks {names}. Run `thalweg migrate` first.")
        await _serve(engine, settings, on_ready, stop, shared)
    finally:
        await asyncio.get_running_loop().shutdown_default_executor()  # calls of the engine end first
        engine.close()


async def _serve(
    engine: Engine,
    settings: ServerSettings,
    on_ready: Callable[[Serving], None],
    stop: asyncio.Event,
    shared: Shared | None,
) -> None:
    ingest = await Ingest.start(engine, settings.grpc, is_shared=shared is not None) if settings.grpc else None
    http: HttpThread | None = None
    try:
        told = str(ingest.address) if ingest else settings.told
        objects, listener = make_objects(settings.objects), shared.listener if shared else None
        http = HttpThread(engine, settings.http, told, objects, listener) if settings.http else None
        serving = Serving(ingest.address if ingest else None, http.address if http else None, engine.describe())
        if isinstance(engine, EmbeddedEngine):
            engine.announce(http=f"http://{serving.http}" if serving.http else None)
        gc.collect()
        gc.freeze()  # modules and routes stay: large answers are built faster where collections do not walk them
        on_ready(serving)
        await stop.wait()
        log.info("stopping: taking in what is under way")
    finally:
        if ingest:
            await ingest.stop()
        if http:
            await asyncio.to_thread(http.stop)


class Ingest:
    """The running ingest role."""

    def __init__(self, server: grpc.aio.Server, service: IngestService, committer: Committer, address: Address) -> None:
        self.address = address
        self._server = server
        self._service = service
        self._committer = committer

    @classmethod
    async def start(cls, engine: Engine, address: Address, *, is_shared: bool = False) -> Ingest:
        """Listens. Raises SettingError if the address is taken; by others that share it is not."""
        committer = Committer(engine)
        service = IngestService(Registry(engine), committer)
        server, bound = await start_grpc(service, address, is_shared=is_shared)
        return cls(server, service, committer, bound)

    async def stop(self) -> None:
        """Takes in nothing new, gives the streams time for their acks, commits what is left."""
        self._service.stop()
        await self._server.stop(DRAIN_S)
        await self._committer.close()


class HttpThread:
    """The running HTTP role: uvicorn in a thread of its own."""

    def __init__(
        self,
        engine: Engine,
        address: Address,
        grpc_address: str | None,
        objects: ObjectStore | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        """Listens, unless it is handed a socket that does. Raises SettingError if the address is taken."""
        self._socket = listener or listen(address)
        self.address = Address(address.host, self._socket.getsockname()[1])
        app = make_api(engine, objects, __version__, grpc_address)
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=int(DRAIN_S))
        self._server = _Server(config, app.state.live)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http")
        self._thread.start()

    def stop(self) -> None:
        """Answers what was asked, then stops."""
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


def listen(address: Address) -> socket.socket:
    """A socket for HTTP that listens. Raises SettingError if the address is taken."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off: it would cost 40 ms an answer on a kept connection.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)  # from here on clients may connect, and wait for uvicorn
    except OSError as error:
        listener.close()
        raise SettingError("--http", str(address), f"an address that is free ({error.strerror})") from error
    return listener
