"""Names: kinds of checkpoints, paths of their files, and where uploads go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final
from urllib.parse import quote, unquote

from thalweg.wire import limits

KINDS: Final = ("full", "model", "optimizer", "dataloader")


@dataclass(frozen=True, slots=True)
class UploadPlace:
    """Where the files of one save go: `upload` is an id that the client chose for it."""

    project: str
    run_id: str
    branch: int
    step: float
    kind: str
    shard: int
    upload: str

    def levels(self, path: str = "") -> tuple[str, ...]:
        """Levels of the name of a file, or without a path of the folder, one for each part of the identity.

        So a client can write nowhere but below its own save, and no two saves share a name.
        """
        step = repr(self.step + 0.0).removesuffix(".0")
        numbers = (f"step-{step}", self.kind, f"shard-{self.shard}")
        return (*branch_levels(self.project, self.run_id, self.branch), *numbers, self.upload, *path.split("/"))


def branch_levels(project: str, run_id: str, branch: int) -> tuple[str, ...]:
    """Levels of the name of the folder of all uploads of a branch, but for the empty one at the end."""
    return (project, run_id, f"branch-{branch}")


def path_problem(path: str) -> str:
    """What is wrong with a path below a checkpoint; empty if nothing is."""
    if not 1 <= len(path.encode(errors="surrogatepass")) <= limits.CHECKPOINT_PATH_MAX_BYTES:
        return f"path {path[:60]!r} must have 1 to {limits.CHECKPOINT_PATH_MAX_BYTES} bytes"
    if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        return f"path {path[:60]!r} is not a plain relative path, such as model/part-0.safetensors"
    return ""


def file_uri(folder_uri: str, path: str) -> str:
    """The URI of a file that a manifest names below a URI that was logged. Only file:// URIs are quoted."""
    level = quote(path, safe="/=") if folder_uri.startswith("file://") else path
    return f"{folder_uri.rstrip('/')}/{level}"


def common_begin(uris: Iterable[str]) -> str:
    """The letters with which all of them begin; at least one is given."""
    ordered = sorted(uris)
    pairs = zip(ordered[0], ordered[-1], strict=False)
    return ordered[0][: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))]


def common_folder(uris: Iterable[str]) -> str:
    """The folder in which all of them lie; empty if there is none."""
    begin = common_begin(uris)
    return begin[: begin.rfind("/") + 1]


def last_level(uri: str) -> str:
    """The name of the file that a URI is of."""
    name = uri.rstrip("/").rpartition("/")[2]
    return unquote(name) if uri.startswith("file://") else name


def path_below(folder_uri: str, uri: str) -> str:
    """The path of a file below a folder."""
    path = uri.removeprefix(folder_uri)
    return unquote(path) if uri.startswith("file://") else path
