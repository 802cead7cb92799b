"""Spool folders for tests: made as the SDK makes them, read back as the sender reads them."""

from __future__ import annotations

import math
import os
import socket
import struct
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thalweg.spool import layout, process
from thalweg.spool.reader import Damage, SpoolReader
from thalweg.spool.records import EVENT, FRAME, SCHEMA, read_frame, read_text
from thalweg.spool.writer import SpoolWriter

NO_LIMIT = 1 << 40
SMALL_SEGMENT_BYTES = 4096


def identity(**fields: Any) -> layout.Identity:
    """This process as a writer, but for `fields`."""
    return layout.Identity(
        **{
            "project": "p",
            "run_id": "r",
            "rank": 0,
            "writer": layout.new_writer_id(),
            "url": "http://127.0.0.1:9",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_started": process.started_s(os.getpid()),
            "primary": True,
            "mode": "online",
            **fields,
        }
    )


def new_folder(spool_dir: Path, **fields: Any) -> Path:
    """A writer's folder with its identity."""
    return layout.create_folder(spool_dir, identity(**fields))


def small_writer(folder: Path, segment_bytes: int = SMALL_SEGMENT_BYTES, limit_bytes: int = NO_LIMIT) -> SpoolWriter:
    """A writer with segments small enough to have many."""
    return SpoolWriter(folder, limit_bytes, segment_bytes=segment_bytes)


def append(writer: SpoolWriter, values: Mapping[str, float], step: float, time_us: int | None = None) -> None:
    """Appends one frame, as the recorder does."""
    schema = writer.declare(tuple(values), len(values))
    writer.append_frame(schema, step, time_us or 1_000_000 + int(step), array("d", values.values()))


@dataclass(slots=True)
class Content:
    """What a spool folder holds. Frames are (step, time in us, values by name)."""

    frames: list[tuple[float, int, dict[str, float]]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)

    @property
    def steps(self) -> list[float]:
        """Steps of the frames in order."""
        return [step for step, _, _ in self.frames]

    @property
    def points(self) -> list[dict[str, float]]:
        """Values of the frames in order."""
        return [values for _, _, values in self.frames]

    @property
    def last_word(self) -> dict[str, Any]:
        """The last event that says how the writer ended."""
        return next((event for event in reversed(self.events) if event["kind"] == "ended"), {})

    def attributes(self) -> dict[str, str]:
        """JSON texts by path, as last set."""
        events = [event["attributes"] for event in self.events if event["kind"] == "attributes"]
        return {path: text for attributes in events for path, text in attributes.items()}


class Reading:
    """A reader and all that it has read so far."""

    def __init__(self, folder: Path) -> None:
        self.content = Content()
        self.reader = SpoolReader(folder, self.content.damages.append)
        self._schemas: dict[int, tuple[str, ...]] = {}

    def read_on(self, *, writer_ended: bool = False, most_frames: float = math.inf) -> Content:
        """Reads until there is nothing more, or the content has so many frames."""
        content = self.content
        while len(content.frames) < most_frames:
            record = self.reader.advance(writer_ended=writer_ended)
            if record is None:
                break
            content.sequences.append(record.header.sequence)
            if record.header.kind == SCHEMA:
                document = read_text(record.view, record.at)
                self._schemas[document["id"]] = tuple(document["names"])
            elif record.header.kind == EVENT:
                content.events.append(read_text(record.view, record.at))
            elif record.header.kind == FRAME:
                frame = read_frame(record.view, record.at)
                values = struct.unpack(f"<{len(frame.values) // 8}d", frame.values)
                frame.values.release()
                names = self._schemas[frame.schema]
                content.frames.append((frame.step, frame.time_us, dict(zip(names, values, strict=True))))
        return content


def read_all(folder: Path, *, writer_ended: bool = True) -> Content:
    """Everything in a folder."""
    reading = Reading(folder)
    content = reading.read_on(writer_ended=writer_ended)
    reading.reader.close()
    return content


def the_folder(spool_dir: Path) -> Path:
    """The one writer's folder of a spool."""
    (folder,) = layout.writer_folders(spool_dir)
    return folder


def segments(folder: Path) -> list[Path]:
    """Paths of the segments."""
    return [layout.segment_path(folder, number) for number in layout.segment_numbers(folder)]


def bits(values: Iterable[float]) -> list[bytes]:
    """Values as bytes: equal where NaNs and zeros are bit for bit."""
    return [struct.pack("<d", value) for value in values]
