"""`thalweg sync`: the sender, run by hand. sweep.py does the work; here is what the user sees of it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TaskID

from thalweg.cli import formats, output
from thalweg.cli.options import json_option, settings
from thalweg.cli.sweep import FolderReport, Progress, Sweep, SweepOrder, last_sequence
from thalweg.spool import layout

_WORDS: Final = {
    "delivered": "delivered",
    "live": "still written to",
    "busy": "being delivered by another process",
    "unknown": "writer on another host",
    "failed": "failed",
}


class BarProgress(Progress):
    """A bar for each folder."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task = TaskID(0)

    def begin(self, identity: layout.Identity, folder: Path) -> None:
        """Adds a bar over the records that are there."""
        if self._bars.disable:
            return  # counting records reads a segment
        label = formats.plain(f"{identity.project}/{identity.run_id} rank {identity.rank}")
        self._task = self._bars.add_task(label, total=last_sequence(folder) or None, detail="")

    def update(self, acked: int, sent_bytes: int) -> None:
        """Moves the bar."""
        if not self._bars.disable:
            detail = f"{formats.count(acked, 'record')}, {formats.size(sent_bytes)} sent"
            self._bars.update(self._task, completed=acked, detail=detail)


class ConsoleHandler(logging.Handler):
    """Prints the sender's warnings above the bars."""

    def __init__(self, screen: Console) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one line."""
        self._screen.print(formats.plain(record.getMessage()), soft_wrap=True)


@click.command()
@click.argument("spool_dir", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--url", metavar="URL", help="The server's HTTP address.  [default: the one each run was started with]")
@click.option("--assume-ended", is_flag=True, help="Take processes on other hosts as ended.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up on a folder after so long without an acknowledgement.",
)
@json_option
@click.pass_context
def sync(
    context: click.Context,
    spool_dir: Path | None,
    url: str | None,
    assume_ended: bool,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Deliver what waits in the spool: offline runs, and what was left when a server was away.

    SPOOL_DIR is a spool, or the folder of one writer in it; without it THALWEG_SPOOL_DIR, else the
    default spool. Folders that a running sender delivers are left to it. What is delivered and complete
    is removed. May be interrupted and repeated: nothing is stored twice.

    \b
    Example: thalweg sync
             thalweg sync /scratch/spool --url http://tracker:7412 --assume-ended
    """
    chosen = settings(url)
    place = spool_dir or chosen.spool_dir
    is_writer = (place / layout.IDENTITY_FILE).exists()
    folders = [place] if is_writer else layout.writer_folders(place)
    order = SweepOrder(chosen.url if url else None, chosen.token, assume_ended, timeout_s)
    reports = _sweep(folders, order)
    if as_json:
        output.print_json({"spool_dir": str(place), "folders": [_as_json(report) for report in reports]})
    elif reports:
        _print(reports)
    else:
        output.note(f"Nothing waits in {place}.")
    context.exit(1 if any(report.state == "failed" for report in reports) else 0)


def _sweep(folders: list[Path], order: SweepOrder) -> list[FolderReport]:
    with output.progress() as bars:
        handler = ConsoleHandler(bars.console)
        log = logging.getLogger("thalweg")
        log.addHandler(handler)
        try:
            return asyncio.run(Sweep(order, BarProgress(bars)).run(folders))
        finally:
            log.removeHandler(handler)


def _print(reports: list[FolderReport]) -> None:
    columns = ("run", "rank", "outcome", "records", "sent", "reason")
    rows = [
        (
            f"{report.identity.project}/{report.identity.run_id}" if report.identity else str(report.folder),
            str(report.identity.rank) if report.identity else "",
            _WORDS[report.state],
            f"{report.records:,}",
            formats.size(report.sent_bytes),
            _reason(report),
        )
        for report in reports
    ]
    output.print_table(columns, rows, right=("rank", "records", "sent"))
    hosts = {report.identity.host for report in reports if report.state == "unknown" and report.identity}
    if hosts:
        output.note(
            f"Some folders were written on {', '.join(sorted(hosts))}: from here nobody can tell whether their "
            "processes still run. If they do not: thalweg sync --assume-ended"
        )


def _reason(report: FolderReport) -> str:
    losses = ", ".join(f"{n:,} {reason}" for reason, n in report.losses.items())
    return "; ".join(part for part in (report.reason, losses) if part)


def _as_json(report: FolderReport) -> dict[str, Any]:
    identity = report.identity
    return {
        "folder": str(report.folder),
        "project": identity.project if identity else None,
        "run_id": identity.run_id if identity else None,
        "rank": identity.rank if identity else None,
        "host": identity.host if identity else None,
        "state": report.state,
        "records": report.records,
        "sent_bytes": report.sent_bytes,
        "losses": report.losses,
        "reason": report.reason or None,
    }
