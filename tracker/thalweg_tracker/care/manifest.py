"""What a backup says of itself: `manifest.json`, written when all the rest is there. Pure.

It has a checksum of its own, one of each file, and of each table how many rows it has and the sum of their hashes,
which does not depend on their order.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from thalweg_tracker.errors import RejectedError

NAME: Final = "manifest.json"
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a backup: a part of the rows of a table, as Parquet."""

    name: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TableContent:
    """What there is of a table. `checksum`: the sum of the hashes of its rows, 16 hexadecimal digits."""

    name: str
    rows: int
    checksum: str
    files: tuple[StoredFile, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup. `migrations`: the SHA-256 of those that the database had, by number."""

    thalweg: str
    created_us: int
    migrations: dict[int, str]
    tables: tuple[TableContent, ...]

    @property
    def schema(self) -> int:
        """The number of the newest migration."""
        return max(self.migrations)

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for table in self.tables for file in table.files)

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(table.rows for table in self.tables)

    def rows_of(self, name: str) -> int:
        """Rows of a table; 0 if it is not there."""
        return sum(table.rows for table in self.tables if table.name == name)


def as_checksum(total: int) -> str:
    """A sum of 64-bit hashes as a text: what is above 64 bits is lost."""
    return f"{total % 2**64:016x}"


def to_json(manifest: Manifest) -> bytes:
    """The text of a manifest."""
    document = {"format": FORMAT, **asdict(manifest)}
    return json.dumps({**document, "sha256": _digest(document)}, indent=1).encode()


def from_json(text: bytes, where: str) -> Manifest:
    """What `to_json` wrote. Raises RejectedError where it is damaged, or of a kind that is not known here."""
    try:
        document = json.loads(text)
        told = document.pop("sha256")
        if _digest(document) != told:
            raise _damaged(where, "its text does not have the checksum that it names")
        if document["format"] != FORMAT:
            raise RejectedError(
                "newer_backup",
                f"cannot read the backup {where}: its format is {document['format']}, this version knows {FORMAT}",
                "Upgrade thalweg.",
            )
        return Manifest(
            thalweg=document["thalweg"],
            created_us=document["created_us"],
            migrations={int(number): sha256 for number, sha256 in document["migrations"].items()},
            tables=tuple(_table(one) for one in document["tables"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(where, f"it is no manifest ({type(error).__name__})") from error


def _table(document: dict[str, Any]) -> TableContent:
    files = tuple(StoredFile(**file) for file in document["files"])
    return TableContent(document["name"], document["rows"], document["checksum"], files)


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _damaged(where: str, why: str) -> RejectedError:
    return RejectedError("damaged_backup", f"cannot read the backup {where}: {NAME} is damaged, {why}")
