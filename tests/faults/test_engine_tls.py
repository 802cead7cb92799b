"""ClickHouse behind TLS: a front with a certificate of an authority of its own, before the server of the tests."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pytest

from tests.support.certificates import Certificates, make_certificates
from tests.support.clickhouse_server import RunningServer
from tests.support.engines import opened
from thalweg_tracker.engine.server import ServerEngine
from thalweg_tracker.errors import EngineBusyError, SettingError
from thalweg_tracker.model.settings import parse_store

SECRET = "open-sesame"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while some := source.recv(1 << 16):
            target.sendall(some)
    for side in (source, target):
        with suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


@contextmanager
def tls_front(port: int, certificates: Certificates) -> Iterator[int]:
    """Ends TLS before a port, for the time of the block. Yields its own port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []

    def serve(plain: socket.socket) -> None:
        try:
            client = context.wrap_socket(plain, server_side=True)
        except OSError:  # it did not like the certificate
            plain.close()
            return
        server = socket.create_connection(("127.0.0.1", port))
        sockets.extend((client, server))
        back = threading.Thread(target=_pass_on, args=(server, client))
        back.start()
        _pass_on(client, server)
        back.join()
        client.close()
        server.close()

    def accept() -> None:
        with suppress(OSError):  # until it is closed
            while True:
                plain, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(plain,)))
                threads[-1].start()

    listener = socket.create_server(("127.0.0.1", 0))
    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for thread in threads:
            thread.join()


def url(port: int, options: str) -> str:
    return f"clickhouse://default:{SECRET}@127.0.0.1:{port}/tls?{options}"


def test_a_server_whose_authority_is_named(clickhouse: RunningServer, certificates: Certificates) -> None:
    """Everything that an engine does, over TLS; also with any certificate, where one says so."""
    with tls_front(clickhouse.ports[0], certificates) as port:
        for options in (f"secure=true&ca={certificates.authority}", "secure=true&verify=false"):
            with opened(parse_store("--store", url(port, options))) as engine:
                engine.execute("CREATE OR REPLACE TABLE t (x UInt64, s String) ENGINE = MergeTree ORDER BY x")
                rows = pa.table({"x": pa.array(range(100_000), pa.uint64()), "s": ["ü" * 10] * 100_000})
                engine.insert("t", rows)
                assert engine.query("SELECT sum(x) AS n FROM t")["n"].to_pylist() == [sum(range(100_000))]
                streamed = pa.Table.from_batches(engine.stream("SELECT * FROM t ORDER BY x"))
                assert streamed.equals(rows)


def test_a_server_that_nobody_vouches_for(clickhouse: RunningServer, certificates: Certificates) -> None:
    """Refused, with what to do; the password is neither sent nor told."""
    with tls_front(clickhouse.ports[0], certificates) as port:
        with pytest.raises(EngineBusyError, match="Name the authority that signed it with ca=PATH") as refused:
            ServerEngine(parse_store("--store", url(port, "secure=true")))  # type: ignore[arg-type]
        assert SECRET not in str(refused.value)


def test_tls_where_there_is_none(clickhouse: RunningServer, certificates: Certificates) -> None:
    """An error, not a wait."""
    with pytest.raises(EngineBusyError) as refused:
        ServerEngine(parse_store("--store", url(clickhouse.ports[0], "secure=true")))  # type: ignore[arg-type]
    assert SECRET not in str(refused.value)


def test_an_authority_that_is_not_there(tmp_path: Path) -> None:
    """The file is named."""
    with pytest.raises(SettingError, match=r"absent\.pem"):
        ServerEngine(parse_store("--store", url(1, f"secure=true&ca={tmp_path}/absent.pem")))  # type: ignore[arg-type]
