"""`thalweg restore`: a checkpoint of a run to this host's disk."""

from __future__ import annotations

from pathlib import Path

import click
from rich.progress import Progress as Bars
from rich.progress import TaskID

from thalweg.checkpointing import bring_back
from thalweg.checkpoints.record import KINDS
from thalweg.cli import formats, output
from thalweg.cli.locate import LocatedRun, locate_point
from thalweg.cli.options import branch_option, connect, json_option, project_option, settings, url_option


class RestoreBar:
    """The bar of one download. Called from its threads, one at a time."""

    def __init__(self, bars: Bars, run: LocatedRun) -> None:
        self.step: float | None = None
        self._bars = bars
        self._label = formats.plain(run.label)
        self._task: TaskID | None = None

    def say_step(self, step: float) -> None:
        """The step of the checkpoint that was found."""
        self.step = step
        self._task = self._bars.add_task(f"{self._label} step {formats.step(step)}", total=None, detail="")

    def update(self, done_bytes: int, total_bytes: int) -> None:
        """Moves the bar."""
        if self._task is not None:
            total = total_bytes or None  # 0: not known
            detail = formats.size(done_bytes) + (f" of {formats.size(total)}" if total else "")
            self._bars.update(self._task, completed=done_bytes, total=total, detail=detail)


def _restore_database(ctx: click.Context) -> click.Command:
    """The server's command, if the server is installed."""
    group = ctx.find_root().command
    found = group.get_command(ctx, "restore-database") if isinstance(group, click.Group) else None
    if found is None:
        raise click.ClickException(
            "a database is restored where its server is installed: pip install 'thalweg[server]'"
        )
    return found


@click.command()
@click.argument("point", metavar="RUN[@STEP]")
@click.option(
    "--to",
    "target",
    metavar="PATH",
    help="Where the checkpoint is to be: a file or folder that is not there yet. Of a single file also the "
    "folder to put it in.",
)
@click.option("--data", metavar="FOLDER", help="Restore a backup of a database into it: `restore-database`.")
@click.option("--store", metavar="URL", help="The same, into ClickHouse servers.")
@project_option
@click.option("--kind", type=click.Choice(KINDS), help="Only this kind of what was saved.")
@branch_option
@url_option
@json_option
@click.pass_context
def restore(
    ctx: click.Context,
    point: str,
    target: str | None,
    data: str | None,
    store: str | None,
    project: str | None,
    kind: str | None,
    branch: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Download the nearest complete checkpoint of RUN at or before STEP.

    Without STEP, and for RUN@latest-checkpoint: the latest. It may be one of a run that RUN continues.
    Every file is checked against what was saved. May be interrupted and repeated: it goes on where it
    was. Prints the path.

    \b
    Example: thalweg restore digits/20260101-abcdefgh@9000 --to ./ckpt
             thalweg restore 20260101-abcdefgh --kind model --to model.pt

    With --data or --store: restore a backup of a whole database, which `thalweg backup` made, into an empty one;
    see `thalweg restore-database --help`.
    """
    if data or store:
        if target:
            raise click.UsageError("give --to for a checkpoint, or --data or --store for a whole database")
        ctx.invoke(_restore_database(ctx), source=point, data=data, store=store, check=False, as_json=as_json)
        return
    if not target:
        raise click.UsageError(
            "name where the checkpoint is to be, with --to; a whole database needs --data or --store"
        )
    found, place = locate_point(connect(url), point, project, branch)
    with output.progress() as bars:
        bar = RestoreBar(bars, found)
        path = bring_back(
            settings(url),
            found.project,
            found.run_id,
            place.step,
            target,
            branch=branch,
            kind=kind,
            progress=bar.update,
            say_step=bar.say_step,
        )
    assert bar.step is not None
    if as_json:
        output.print_json({"project": found.project, "run_id": found.run_id, "step": bar.step, "path": str(Path(path))})
    else:
        output.note(f"Restored the checkpoint of step {formats.step(bar.step)} of {formats.plain(found.label)}:")
        click.echo(str(path))
