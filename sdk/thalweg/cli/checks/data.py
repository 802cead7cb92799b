"""The folder of the embedded database, seen from outside: rights, disk, and which process has it. Opens nothing."""

from __future__ import annotations

import json
import os
import pwd
import stat
from pathlib import Path
from typing import Any, Final

import psutil

from thalweg.cli import formats
from thalweg.cli.checks import disk
from thalweg.cli.checks.finding import FAIL, OK, WARN, Finding

CHECK: Final = "data"
_OWNER_FILE: Final = "owner.json"
_LOCKS: Final = Path("/proc/locks")
_LEAST_FREE_BYTES: Final = 1 << 30
_ENOUGH_FREE_BYTES: Final = 10 << 30


def check_data(folder: Path) -> list[Finding]:
    """Findings on the folder that `thalweg up --data` is given."""
    folder = folder.expanduser().absolute()
    if not folder.exists():
        place = disk.nearest_existing(folder)
        problem = disk.write_problem(place)
        if problem or not place.is_dir():
            told = f"{folder} is not there, and cannot be made in {place}: {problem or 'it is no folder'}"
            return [Finding(CHECK, FAIL, told, "Choose another folder, or mend the rights.")]
        return [Finding(CHECK, OK, f"{folder} is not there yet: `thalweg up` will make it"), *_disk(place)]
    if not folder.is_dir():
        return [Finding(CHECK, FAIL, f"{folder} is no folder", "Choose another one with --data.")]
    return [*_rights(folder), *_disk(folder), *_owner(folder)]


def _rights(folder: Path) -> list[Finding]:
    found = folder.stat()
    mine = os.geteuid()
    if found.st_uid != mine and mine:
        told = f"{folder} belongs to {_user(found.st_uid)}, and you are {_user(mine)}"
        return [Finding(CHECK, FAIL, told, f"Run the server and this check as {_user(found.st_uid)}.")]
    if problem := disk.write_problem(folder):
        return [Finding(CHECK, FAIL, f"cannot write in {folder}: {problem}", "Mend its rights, or the mount's.")]
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return [Finding(CHECK, WARN, f"other users can get at {folder}", f"chmod 700 {folder}")]
    return [Finding(CHECK, OK, f"{folder} can be written to by {_user(found.st_uid)} alone")]


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _disk(folder: Path) -> list[Finding]:
    kind = disk.filesystem(folder)
    if disk.is_network(kind):
        told = f"it lies on a network file system ({kind}), which the database is not made for"
        findings = [Finding(CHECK, WARN, told, "Choose a local disk, or ClickHouse servers.")]
    elif disk.is_memory(kind):
        findings = [Finding(CHECK, WARN, f"it lies in memory ({kind})", "Choose a disk: a restart loses all of it.")]
    else:
        findings = [Finding(CHECK, OK, f"it lies on a local disk ({kind or 'of unknown type'})")]
    free = disk.free_bytes(folder)
    told = f"{formats.size(free)} are free"
    if free < _LEAST_FREE_BYTES:
        return [*findings, Finding(CHECK, FAIL, told, "Make room: writers wait when the disk is full.")]
    if free < _ENOUGH_FREE_BYTES:
        return [*findings, Finding(CHECK, WARN, told, "Make room: merges need some beside what is stored.")]
    return [*findings, Finding(CHECK, OK, told)]


def _owner(folder: Path) -> list[Finding]:
    path = folder / _OWNER_FILE
    try:
        found = path.stat()
        owner = json.loads(path.read_text())
    except FileNotFoundError:
        is_empty = not any(folder.iterdir())
        told = "it is empty" if is_empty else f"it holds files, and no {_OWNER_FILE}"
        then = "" if is_empty else "Make sure that this is the folder of a tracker."
        return [Finding(CHECK, OK if is_empty else WARN, told, then)]
    except (OSError, ValueError):
        return [Finding(CHECK, WARN, f"cannot read {path}", "Start the server: it writes the file anew.")]
    owner = owner if isinstance(owner, dict) else {}
    if not _is_locked(found, owner):
        return [Finding(CHECK, OK, "no server has it open")]
    where = f", which serves {owner['http']}" if owner.get("http") else ""
    told = f"process {owner.get('pid', '?')} on {owner.get('host', '?')} has it open{where}"
    return [Finding(CHECK, OK, told)]


def _is_locked(found: os.stat_result, owner: dict[str, Any]) -> bool:
    """Whether a process holds the lock. Not by trying to take it: that could keep a server from starting."""
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        return any(place in line.split() for line in _LOCKS.read_text().splitlines())
    except OSError:
        return psutil.pid_exists(int(owner.get("pid") or 0))
