"""What kind of disk a folder lies on, and whether one can write there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

import psutil

_NETWORK: Final = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "fuse.weka",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "panfs",
        "pvfs2",
        "smb3",
        "smbfs",
        "virtiofs",
        "wekafs",
    }
)
_MEMORY: Final = frozenset({"ramfs", "tmpfs"})


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    folder = folder.absolute()
    return next(one for one in (folder, *folder.parents) if one.exists())


def write_problem(folder: Path) -> str:
    """Why no file can be made there; empty if one can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def filesystem(folder: Path) -> str:
    """The type of the file system there, such as ext4; empty if it is not known."""
    place = os.path.realpath(folder)
    mounts = [
        (len(one.mountpoint), one.fstype)
        for one in psutil.disk_partitions(all=True)
        if os.path.commonpath([one.mountpoint, place]) == one.mountpoint
    ]
    return max(mounts, default=(0, ""))[1]


def is_network(fstype: str) -> bool:
    """Whether other hosts may see the same files."""
    return fstype in _NETWORK


def is_memory(fstype: str) -> bool:
    """Whether all is gone after a reboot."""
    return fstype in _MEMORY


def free_bytes(folder: Path) -> int:
    """What this user may still write."""
    return int(psutil.disk_usage(str(folder)).free)
