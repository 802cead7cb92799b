"""What an import costs a training process, and the oldest protobuf that the generated code works with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import thalweg

SDK = Path(thalweg.__file__).parents[1]
OLDEST_PROTOBUF = "4.25.8"
HEAVY = ("grpc", "google", "numpy", "psutil", "click", "rich", "pyarrow", "chdb", "fastapi", "asyncio", "torch")


def run_python(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a fresh interpreter."""
    command = [sys.executable, *arguments, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment or None)


def test_import_is_light() -> None:
    """`import thalweg` loads none of the heavy libraries: they are the sender's and the server's."""
    script = f"import sys, thalweg; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = run_python(script)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_public_names_are_there() -> None:
    """Everything in __all__ can be imported, and is all that a star brings."""
    script = "from thalweg import *; import thalweg; print(set(thalweg.__all__) <= set(globals()) | {'__version__'})"
    assert run_python(script).stdout == "True\n"
    assert sorted(thalweg.__all__) == thalweg.__all__


def test_import_starts_nothing() -> None:
    """Importing makes no thread, no process and no folder, and leaves the hooks of the interpreter alone."""
    script = (
        "import sys, threading, psutil; hook, leave = sys.excepthook, sys.exit; import thalweg\n"
        "print(threading.active_count(), len(psutil.Process().children()), sys.excepthook is hook, sys.exit is leave)"
    )
    assert run_python(script).stdout == "1 0 True True\n"


ROUND_TRIP = """
import google.protobuf, sys
from thalweg.wire.v1 import ingest_pb2, records_pb2
batch = records_pb2.Batch(sequence=7, schemas=[records_pb2.Schema(id=1, names=["a"])], resent=True)
batch.frames.append(records_pb2.FrameGroup(schema=1, steps=bytes(8), times=bytes(8), values=bytes(8)))
word = records_pb2.Event(time_us=1, ended=records_pb2.WriterEnded(outcome=records_pb2.WriterEnded.KILLED, signal=9))
batch.events.append(word)
sent = ingest_pb2.ClientRecords(batch=batch)
got = ingest_pb2.ClientRecords.FromString(sent.SerializeToString())
assert got == sent and got.batch.events[0].ended.signal == 9 and not got.batch.events[0].ended.HasField("exit_code")
print(google.protobuf.__version__)
"""


def test_generated_code_works_with_the_oldest_protobuf(tmp_path: Path) -> None:
    """The messages import and round-trip with the oldest protobuf that pyproject.toml admits."""
    place = tmp_path / "protobuf"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    got = subprocess.run(
        [*command, "--target", str(place), f"protobuf=={OLDEST_PROTOBUF}"], capture_output=True, text=True, check=False
    )
    if got.returncode:
        pytest.skip(f"pip cannot install protobuf {OLDEST_PROTOBUF}: {got.stderr.strip()[-200:]}")
    done = run_python(ROUND_TRIP, "-S", PYTHONPATH=f"{place}:{SDK}")
    assert done.stdout == f"{OLDEST_PROTOBUF}\n", done.stderr
