"""What the commands print: JSON or tables on stdout, notes and progress on stderr.

Tables are as wide as they need: an id or number broken in two could not be copied.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from thalweg.cli.formats import plain

_TABLE_COLUMNS: Final = 10_000
STATUS_STYLES: Final = {
    "running": "cyan",
    "finished": "green",
    "failed": "red",
    "killed": "red",
    "lost": "yellow",
}


def console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console on stdout, or on another file, that takes text literally; as wide as the terminal if not said."""
    target = file or sys.stdout
    return Console(file=target, width=width, markup=False, highlight=False, emoji=False)


def takes(text: str) -> bool:
    """Whether stdout can have these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def print_json(document: object) -> None:
    """One JSON document on one line of stdout."""
    click.echo(json.dumps(document, ensure_ascii=False, allow_nan=False))


def note(message: str) -> None:
    """A line for people, on stderr."""
    click.echo(message, err=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Rows under headings; the columns named in `right` are aligned there. Text is printed literally."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(column, text) for column, text in zip(columns, row, strict=True)))
    screen = console(width=_TABLE_COLUMNS)
    with screen.capture() as drawn:
        screen.print(table)
    click.echo("\n".join(line.rstrip() for line in drawn.get().splitlines()))


def _cell(column: str, text: str) -> Text:
    return Text(plain(text), style=STATUS_STYLES.get(text, "") if column == "status" else "")


def print_pairs(title: str, pairs: Mapping[str, Any]) -> None:
    """A heading and indented lines of key and value; nothing where there are none."""
    if not pairs:
        return
    click.echo(click.style(f"\n{title}", bold=True))
    width = max(len(plain(key)) for key in pairs)
    for key, value in pairs.items():
        click.echo(f"  {plain(key):<{width}}  {plain(value)}")


def progress() -> Progress:
    """A progress bar on stderr, which shows nothing where that is no terminal. Tasks have a field `detail`."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[detail]}", markup=False),
        console=console(sys.stderr),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
