"""The trackers whose servers are not to be had here: they write files, and the files are read as they lie."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

from loadtests.peers.data import Row
from loadtests.peers.trackers import Log


class Wandb:
    """wandb, offline."""

    is_single = False

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._run: Any = None

    def start(self) -> Log:
        """See Tracker."""
        import wandb

        self._folder.mkdir()
        quiet = wandb.Settings(console="off", silent=True, x_disable_stats=True)
        self._run = run = wandb.init(project="peers", mode="offline", dir=str(self._folder), settings=quiet)
        return lambda values, step: run.log(values, step=step)

    def finish(self) -> None:
        """See Tracker."""
        import wandb

        self._run.finish()
        wandb.teardown()

    def last_step(self, name: str) -> float | None:
        """See Tracker."""
        return None

    def rows(self) -> Iterator[Row]:
        """See Tracker. The file is a log in the format of LevelDB, after 7 bytes of its own."""
        from wandb.proto.wandb_internal_pb2 import Record

        (path,) = self._folder.glob("wandb/offline-run-*/*.wandb")
        for text in leveldb_records(path.read_bytes(), 7):
            record = Record.FromString(text)
            if record.WhichOneof("record_type") == "history":
                for item in record.history.item:
                    name = item.key or "/".join(item.nested_key)
                    if name.startswith("train/"):
                        yield name, record.history.step.num, json.loads(item.value_json)


class NeptuneScale:
    """neptune-scale, offline."""

    is_single = False

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._run: Any = None

    def start(self) -> Log:
        """See Tracker."""
        from neptune_scale import Run

        quiet: dict[str, Any] = {"enable_console_log_capture": False, "source_tracking_config": None}
        self._run = run = Run(
            mode="offline", project="peers/peers", run_id="run", log_directory=str(self._folder), **quiet
        )
        return lambda values, step: run.log_metrics(data=values, step=step)

    def finish(self) -> None:
        """See Tracker."""
        self._run.close()

    def last_step(self, name: str) -> float | None:
        """See Tracker."""
        return None

    def rows(self) -> Iterator[Row]:
        """See Tracker. The file is a database with one message for each call."""
        messages = import_module("neptune_api.proto.neptune_pb.ingest.v1.common_pb2")
        (path,) = self._folder.glob("**/*.sqlite3")
        with closing(sqlite3.connect(path)) as database:
            for (text,) in database.execute("SELECT operation FROM run_operations WHERE operation_type = 0"):
                update = messages.UpdateRunSnapshot.FromString(text)
                step = update.step.whole + update.step.micro / 1e6
                for name, value in update.append.items():
                    yield name, step, value.float64


class TensorboardX:
    """tensorboardX, into event files. It takes one value a call, and keeps it in 32 bits."""

    is_single = True

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._writer: Any = None

    def start(self) -> Log:
        """See Tracker."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(self._folder))
        add = self._writer.add_scalar

        def log(values: dict[str, float], step: int) -> None:
            for name, value in values.items():
                add(name, value, step)

        return log

    def finish(self) -> None:
        """See Tracker."""
        self._writer.close()

    def last_step(self, name: str) -> float | None:
        """See Tracker."""
        return None

    def rows(self) -> Iterator[Row]:
        """See Tracker."""
        from tensorboardX.proto.event_pb2 import Event

        for path in self._folder.glob("events.*"):
            for text in tensorflow_records(path.read_bytes()):
                event = Event.FromString(text)
                for point in event.summary.value:
                    yield point.tag, event.step, point.simple_value


def leveldb_records(text: bytes, at: int) -> Iterator[bytes]:
    """The whole records of a log in LevelDB's format, from a place on. One that was cut off ends it."""
    parts = b""
    while at + 7 <= len(text):
        left = 32_768 - at % 32_768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", text, at + 4)
        at += 7
        if at + length > len(text):
            return
        parts += text[at : at + length]
        at += length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def tensorflow_records(text: bytes) -> Iterator[bytes]:
    """The whole records of a file of TensorFlow. One that was cut off ends it."""
    at = 0
    while at + 12 <= len(text):
        (length,) = struct.unpack_from("<Q", text, at)
        if at + 16 + length > len(text):
            return
        yield text[at + 12 : at + 12 + length]
        at += 16 + length
