"""The fixed queries, one file each, loaded once."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final

_INCLUDE: Final = re.compile(r"\{include:(\w+)\}")


@cache
def load(name: str) -> str:
    """The text of `<name>.sql`, with `{include:other}` replaced by the text of `other.sql`."""
    text = resources.files(__name__).joinpath(f"{name}.sql").read_text()
    return _INCLUDE.sub(lambda match: load(match[1]), text)


def load_with(name: str, **parts: str) -> str:
    """The text of `<name>.sql` with pieces of SQL in the places `{part}`; those of values, `{name:Type}`, stay."""
    return filled(load(name), **parts)


def filled(sql: str, **parts: str) -> str:
    """A text with pieces of SQL in its places `{part}`."""
    for part, piece in parts.items():
        sql = sql.replace(f"{{{part}}}", piece)
    return sql
