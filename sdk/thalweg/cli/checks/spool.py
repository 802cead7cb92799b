"""The spool: its folder and disk, what waits in it, what was refused, what was damaged."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thalweg.cli import formats
from thalweg.cli.checks import disk
from thalweg.cli.checks.finding import FAIL, OK, WARN, Finding
from thalweg.sender.watch import is_running
from thalweg.settings import Settings
from thalweg.spool import layout

CHECK: Final = "spool"
_LEAST_FREE_BYTES: Final = 1 << 30


def check_spool(settings: Settings) -> list[Finding]:
    """Findings on the spool of these settings. Changes nothing that is there."""
    folder = settings.spool_dir.absolute()
    place = disk.nearest_existing(folder)
    if not place.is_dir():
        return [Finding(CHECK, FAIL, f"{place} is no folder", "Choose another place with THALWEG_SPOOL_DIR.")]
    if problem := disk.write_problem(place):
        told = f"cannot write in {place}: {problem}"
        return [Finding(CHECK, FAIL, told, "Mend its rights, or choose another place with THALWEG_SPOOL_DIR.")]
    there = f"{folder} can be written to" if place == folder else f"{folder} will be made when the first run begins"
    findings = [Finding(CHECK, OK, there), _kind(place), _room(place, settings.spool_limit_bytes)]
    return findings + (_content(folder) if place == folder else [])


def _kind(place: Path) -> Finding:
    kind = disk.filesystem(place)
    if disk.is_network(kind):
        told = f"it lies on a network file system ({kind}): slow, and mapped files are not safe there"
        return Finding(CHECK, WARN, told, "Choose a local disk with THALWEG_SPOOL_DIR.")
    if disk.is_memory(kind):
        told = f"it lies in memory ({kind}): what was not sent is lost when the host restarts"
        return Finding(CHECK, WARN, told, "Choose a local disk with THALWEG_SPOOL_DIR.")
    return Finding(CHECK, OK, f"it lies on a local disk ({kind or 'of unknown type'})")


def _room(place: Path, quota_bytes: int) -> Finding:
    free = disk.free_bytes(place)
    told = f"{formats.size(free)} are free, of {formats.size(quota_bytes)} that each process may use"
    if free < _LEAST_FREE_BYTES:
        return Finding(CHECK, FAIL, told, "Make room: points are dropped, and counted, when the disk is full.")
    if free < quota_bytes:
        return Finding(CHECK, WARN, told, "Make room, or lower THALWEG_SPOOL_LIMIT_BYTES.")
    return Finding(CHECK, OK, told)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A writer's folder. `status`: what its sender last said, empty if there was none."""

    folder: Path
    identity: layout.Identity
    is_live: bool
    status: str
    error: str
    size_bytes: int


def _content(folder: Path) -> list[Finding]:
    findings = []
    waiting: list[_Waiting] = []
    for one in layout.writer_folders(folder):
        try:
            waiting.append(_look(one))
        except FileNotFoundError:  # delivered and removed meanwhile
            continue
        except (OSError, ValueError) as error:
            then = "Ask its version of thalweg to deliver it, or move it away."
            findings.append(Finding(CHECK, WARN, f"cannot read {one}: {error}", then))
    refused = [one for one in waiting if one.status == "refused"]
    stuck = [one for one in waiting if one.is_live and one.status == "waiting" and one.error]
    left = [one for one in waiting if not one.is_live and one not in refused]
    findings += [_refused(one) for one in refused]
    if stuck:
        told = f"{_folders(stuck)} of runs that go on cannot be delivered: {stuck[-1].error}"
        findings.append(Finding(CHECK, WARN, told, "See the findings on the server; nothing is lost meanwhile."))
    if left:
        findings.append(Finding(CHECK, WARN, f"{_folders(left)} of runs that ended wait", "Deliver them: thalweg sync"))
    live = [one for one in waiting if one.is_live and one not in stuck and one not in refused]
    if live:
        findings.append(Finding(CHECK, OK, f"{_folders(live)} of runs that go on"))
    if not waiting and not findings:
        findings.append(Finding(CHECK, OK, "nothing waits in it"))
    return findings + _quarantine(folder)


def _look(folder: Path) -> _Waiting:
    identity = layout.read_identity(folder)
    is_here = identity.host == socket.gethostname()
    is_live = layout.is_written_to(folder) or (is_here and is_running(identity.pid, identity.process_started))
    status, error = _last_word(folder)
    return _Waiting(folder, identity, is_live, status, error, _size(folder.glob(f"*{layout.SEGMENT_SUFFIX}")))


def _last_word(folder: Path) -> tuple[str, str]:
    try:
        document = json.loads((folder / layout.STATUS_FILE).read_text())
        return str(document["status"]), str(document["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def _size(paths: Iterable[Path]) -> int:
    """Bytes that files take on disk; one that is gone takes none."""
    total = 0
    for path in paths:
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def _folders(some: list[_Waiting]) -> str:
    return f"{formats.count(len(some), 'folder')} ({formats.size(sum(one.size_bytes for one in some))})"


def _refused(one: _Waiting) -> Finding:
    told = f"the server refused run {one.identity.project}/{one.identity.run_id} in {one.folder}: {one.error}"
    return Finding(CHECK, FAIL, told, "Mend what it says, then: thalweg sync")


def _quarantine(folder: Path) -> list[Finding]:
    places = [folder / layout.QUARANTINE_FOLDER, *folder.glob(f"*/{layout.QUARANTINE_FOLDER}")]
    files = [file for place in places for file in place.rglob("*.bin")]
    if not files:
        return []
    told = f"{formats.count(len(files), 'damaged piece')} ({formats.size(_size(files))}) lie in quarantine"
    then = "Check the disk (SMART, dmesg); the pieces may be deleted, their runs have counted what is missing."
    return [Finding(CHECK, WARN, told, then)]
