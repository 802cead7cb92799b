"""Uploads and downloads of real processes that are killed in the middle: the next one goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.upload_server import Fault, UploadServer
from tests.support.waiting import wait_until
from tests.unit.sdk.checkpoints.conftest import content
from thalweg.checkpoints.parts import PARTS_AT_ONCE

UPLOAD = """
import sys
from pathlib import Path
from thalweg.api_client import ApiClient
from thalweg.checkpoints.upload import upload
from thalweg.checkpoints.upload_state import Target
url, source, saved = sys.argv[1:]
target = Target("digits", "run", None, 7.0, "full")
print(upload(ApiClient(url), source, target, state_path=Path(saved)).uri)
"""

DOWNLOAD = """
import json, sys
from thalweg.checkpoints.download import download
url, resolved, to = sys.argv[1:]
print(download(json.loads(resolved), to, base_url=url, refresh=lambda: json.loads(resolved)))
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own."""
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """What it printed, once it has ended well."""
    out, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    return out.strip()


def kill(process: subprocess.Popen[str], held: threading.Event) -> None:
    """Ends it without a word, and lets go of the requests that are under way."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    held.set()


def test_killed_upload_goes_on(server: UploadServer, tmp_path: Path) -> None:
    """Parts that had arrived before `kill -9` are not sent again; nothing is left over."""
    folder = tmp_path / "ckpt"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "x.pt").write_bytes(content(100_500))
    arguments = (server.url, str(folder), str(tmp_path / "spool" / "uploads" / "1.json"))
    held = threading.Event()
    server.on("put", Fault(held=held), skip=60, times=PARTS_AT_ONCE)
    process = start(UPLOAD, *arguments)
    wait_until(lambda: server.stored.total() == 60 and server.count("put") == 60 + PARTS_AT_ONCE)
    kill(process, held)
    assert server.uploads
    uri = finish(start(UPLOAD, *arguments))
    assert server.objects == {f"{uri}deep/x.pt": content(100_500)}
    assert server.stored == {("deep/x.pt", number): 1 for number in range(1, 102)}, "each part was taken in once"
    assert not server.uploads
    assert not list((tmp_path / "spool" / "uploads").iterdir())


def test_killed_download_goes_on(server: UploadServer, tmp_path: Path) -> None:
    """Bytes that had arrived before `kill -9` are not fetched again; until all is there, the destination is not."""
    size_bytes = 3 << 20
    server.objects["s3://bucket/ckpt/x"] = content(size_bytes)
    server.objects["s3://bucket/ckpt/y"] = b"whole"
    held = threading.Event()
    server.on("get", Fault(cut_at_bytes=2 << 20, held=held), path="x")
    arguments = (server.url, json.dumps(server.resolve("s3://bucket/ckpt/")), str(tmp_path / "to"))
    process = start(DOWNLOAD, *arguments)
    part = tmp_path / "to.partial" / "parts" / "000000"
    wait_until(lambda: part.exists() and part.stat().st_size >= (2 << 20) - 65_536)
    kill(process, held)
    assert not (tmp_path / "to").exists()
    kept_bytes = part.stat().st_size
    sent_bytes = server.sent_bytes
    assert finish(start(DOWNLOAD, *arguments)) == str(tmp_path / "to")
    assert (tmp_path / "to" / "x").read_bytes() == content(size_bytes)
    assert (tmp_path / "to" / "y").read_bytes() == b"whole"
    assert server.sent_bytes - sent_bytes <= size_bytes - kept_bytes + len(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["to"]


def test_interrupted_upload_ends_at_once(server: UploadServer, tmp_path: Path) -> None:
    """Ctrl-C does not wait for the answers of a store that hangs; what arrived is kept."""
    (tmp_path / "x").write_bytes(content(20_500))
    arguments = (server.url, str(tmp_path / "x"), str(tmp_path / "1.json"))
    held = threading.Event()
    server.on("put", Fault(held=held), skip=10, times=1000)
    process = start(UPLOAD, *arguments)
    wait_until(lambda: server.count("put") == 10 + PARTS_AT_ONCE and server.stored.total() == 10)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)  # half of the time after which an answer is not waited for
    held.set()
    assert told.rstrip().endswith("KeyboardInterrupt")
    server.heal()
    assert finish(start(UPLOAD, *arguments)) in server.objects
    assert set(server.stored.values()) == {1}


def test_two_uploads_of_the_same_folder(server: UploadServer, tmp_path: Path) -> None:
    """Where each rank of a host saves the same folder at once, each gets a whole checkpoint."""
    folder = tmp_path / "ckpt"
    folder.mkdir()
    tree = {f"{number}.pt": content(5500, number) for number in range(4)}
    for name, data in tree.items():
        (folder / name).write_bytes(data)
    arguments = (server.url, str(folder), str(tmp_path / "spool" / "uploads" / "1.json"))
    processes = [start(UPLOAD, *arguments) for _ in range(3)]
    for process in processes:
        uri = finish(process)
        assert {path: server.objects[uri + path] for path in tree} == tree
