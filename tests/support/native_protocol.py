"""The server's side of the ClickHouse native protocol, at exactly one revision: packets in, packets out.

Knows the order of the fields of each packet and nothing of engines or threads. One object per connection, one
thread. Anything that the protocol does not allow here raises ProtocolError, after which the bytes of the
connection have no meaning any more and it must end; a peer that went away raises EOFError or OSError.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from clickhouse_driver.block import BlockInfo
from clickhouse_driver.bufferedreader import BufferedSocketReader
from clickhouse_driver.protocol import ClientPacketTypes, Compression, ServerPacketTypes
from clickhouse_driver.reader import (
    read_binary_str,
    read_binary_uint8,
    read_binary_uint64,
    read_binary_uint128,
)
from clickhouse_driver.varint import read_varint, write_varint
from clickhouse_driver.writer import write_binary_int32, write_binary_str, write_binary_uint8

from tests.support.native_columns import (
    BUFFER_BYTES,
    Sink,
    bytes_sink,
    bytes_source,
    native_from_wire,
    native_header,
    wire_from_native,
)

REVISION = 54459  # the first one with server-side parameters; what came later is not needed

_UNQUOTED = {"b": "\b", "f": "\f", "r": "\r", "n": "\n", "t": "\t", "0": "\0", "a": "\a", "v": "\v"}


class ProtocolError(Exception):
    """The peer sent, or asks for, something outside the small protocol that is spoken here."""


@dataclass(frozen=True, slots=True)
class Query:
    text: str
    settings: dict[str, str]
    parameters: dict[str, str]  # by name, as the escaped text that `--param_name` takes


@dataclass(frozen=True, slots=True)
class ServerVersion:
    numbers: tuple[int, int, int]  # major, minor, patch
    timezone: str


class NativeConnection:
    """Reads client packets from a socket and writes server packets to it."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._source: Any = BufferedSocketReader(peer, BUFFER_BYTES)

    def receive_packet_type(self) -> int:
        packet_type: int = read_varint(self._source)
        return packet_type

    def receive_hello(self) -> str:
        """The database that the client names ('' for none); user and password are read and not checked."""
        if self.receive_packet_type() != ClientPacketTypes.HELLO:
            raise ProtocolError("the first packet is not a hello")
        read_binary_str(self._source)  # client name
        _major, _minor, revision = (read_varint(self._source) for _ in range(3))
        database, _user, _password = (read_binary_str(self._source) for _ in range(3))
        if revision < REVISION:
            raise ProtocolError(f"the client's revision {revision} is older than {REVISION}")
        return str(database)

    def receive_addendum(self) -> None:
        read_binary_str(self._source)  # quota key

    def receive_query(self) -> Query:
        source = self._source
        read_binary_str(source)  # query id
        self._skip_client_info()
        settings = self._receive_settings()
        read_binary_str(source)  # secret between servers
        read_varint(source)  # stage
        compression = read_varint(source)
        text = read_binary_str(source)
        parameters = {name: _unquote(value) for name, value in self._receive_settings().items()}
        if compression != Compression.DISABLED:
            raise ProtocolError("compression is not supported: connect with compression=False")
        self._receive_no_external_tables()
        return Query(text, settings, parameters)

    def receive_blocks(self) -> Iterator[bytes]:
        """The data packets of an insert as Native blocks, up to the empty one that ends them."""
        while (block := self._receive_block()) is not None:
            self._send_profile_events()
            yield block
        self._send_profile_events()

    def send_hello(self, version: ServerVersion) -> None:
        major, minor, patch = version.numbers
        sink, finish = _packet(ServerPacketTypes.HELLO)
        write_binary_str("ClickHouse", sink)
        for number in (major, minor, REVISION):
            write_varint(number, sink)
        write_binary_str(version.timezone, sink)
        write_binary_str("chDB behind tests/support", sink)  # display name
        write_varint(patch, sink)
        self._peer.sendall(finish())

    def send_pong(self) -> None:
        self._send_empty(ServerPacketTypes.PONG)

    def send_end_of_stream(self) -> None:
        self._send_empty(ServerPacketTypes.END_OF_STREAM)

    def send_blocks(self, native: bytes) -> None:
        """Raises RuntimeError, with nothing of the block sent, for a block that cannot be copied."""
        source = bytes_source(native)
        while True:
            sink, finish = _block_packet(ServerPacketTypes.DATA)
            try:
                has_block = wire_from_native(source, sink)
            except (EOFError, ValueError) as error:
                raise RuntimeError("the engine's answer is not Native: leave out the FORMAT clause") from error
            if not has_block:
                return
            self._peer.sendall(finish())

    def send_exception(self, code: int, message: str) -> None:
        sink, finish = _packet(ServerPacketTypes.EXCEPTION)
        write_binary_int32(code, sink)
        write_binary_str("DB::Exception", sink)
        write_binary_str(f"DB::Exception: {message}", sink)
        write_binary_str("", sink)  # stack trace
        write_binary_uint8(0, sink)  # no nested exception
        self._peer.sendall(finish())

    def end_after_exception(self, code: int, message: str) -> None:
        """Sends it and reads until the peer hangs up: to close over unread bytes resets the connection."""
        self.send_exception(code, message)
        self._peer.shutdown(socket.SHUT_WR)
        while self._peer.recv(BUFFER_BYTES):
            pass

    def _send_profile_events(self) -> None:
        """None happened, but clients wait for this packet after each data packet of an insert."""
        sink, finish = _block_packet(ServerPacketTypes.PROFILE_EVENTS)
        sink.write(native_header([]))
        self._peer.sendall(finish())

    def _send_empty(self, packet_type: int) -> None:
        _, finish = _packet(packet_type)
        self._peer.sendall(finish())

    def _skip_client_info(self) -> None:
        source = self._source
        if read_binary_uint8(source) == 0:  # kind: no query
            return
        for _ in range(3):  # initial user, query id, address
            read_binary_str(source)
        read_binary_uint64(source)  # start time
        read_binary_uint8(source)  # interface
        for _ in range(3):  # user of the system, host, client name
            read_binary_str(source)
        for _ in range(3):  # major, minor, revision
            read_varint(source)
        read_binary_str(source)  # quota key
        read_varint(source)  # distributed depth
        read_varint(source)  # patch
        if read_binary_uint8(source):  # OpenTelemetry: trace, span, state, flags
            read_binary_uint128(source), read_binary_uint64(source)
            read_binary_str(source), read_binary_uint8(source)
        for _ in range(3):  # parallel replicas
            read_varint(source)

    def _receive_settings(self) -> dict[str, str]:
        settings = {}
        while name := read_binary_str(self._source):
            read_binary_uint8(self._source)  # flags
            settings[name] = read_binary_str(self._source)
        return settings

    def _receive_no_external_tables(self) -> None:
        if self._receive_block() is not None:
            raise ProtocolError("external tables are not supported")

    def _receive_block(self) -> bytes | None:
        packet_type = self.receive_packet_type()
        if packet_type != ClientPacketTypes.DATA:
            raise ProtocolError(f"packet {packet_type} where data was due")
        read_binary_str(self._source)  # name of the external table
        BlockInfo().read(self._source)
        try:
            return native_from_wire(self._source)
        except NotImplementedError as error:
            raise ProtocolError(str(error)) from error


def _packet(packet_type: int) -> tuple[Sink, Any]:
    sink, finish = bytes_sink()
    write_varint(packet_type, sink)
    return sink, finish


def _block_packet(packet_type: int) -> tuple[Sink, Any]:
    sink, finish = _packet(packet_type)
    write_binary_str("", sink)  # name of the external table
    BlockInfo().write(sink)
    return sink, finish


def _unquote(value: str) -> str:
    """A parameter arrives as a quoted literal whose content is the escaped text: one level comes off."""
    if len(value) < 2 or value[0] != "'" or value[-1] != "'":
        raise ProtocolError(f"the parameter {value!r} is not a quoted literal")
    return re.sub(r"\\(.)", lambda found: _UNQUOTED.get(found[1], found[1]), value[1:-1], flags=re.DOTALL)
