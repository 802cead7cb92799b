"""`thalweg export`: a run's exact points to a file, in long form, while they stream in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from thalweg.api_client import ApiClient, segment
from thalweg.cli import formats, output
from thalweg.cli.locate import LocatedRun, locate
from thalweg.cli.options import branch_option, connect, json_option, project_option, url_option
from thalweg.errors import InputError, ServerError

try:
    import pyarrow as pa

    from thalweg.cli.point_files import CsvFile, ParquetFile, PointFile
except ImportError as error:
    raise click.ClickException(f"cannot export: {error}. It needs: pip install 'thalweg[arrow]'") from error

METRICS_PER_REQUEST: Final = 64
_FILES: Final[dict[str, Callable[[Path, bool], PointFile]]] = {"parquet": ParquetFile, "csv": CsvFile}


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """What is exported, and where to."""

    run: LocatedRun
    metrics: list[str]
    by_rank: bool
    output: Path
    format: str


@click.command()
@click.argument("run")
@project_option
@click.option(
    "--format", "file_format", type=click.Choice(tuple(_FILES)), help="[default: by the name of --output, else parquet]"
)
@click.option(
    "--output",
    "-o",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write.  [default: RUN_ID.parquet or .csv here]",
)
@click.option("--metric", "-m", "metrics", multiple=True, metavar="NAME", help="A metric to write; may be repeated.")
@click.option("--by-rank/--mean", default=False, show_default=True, help="Each rank's points, or the mean over ranks.")
@branch_option
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
@url_option
@json_option
def export(
    run: str,
    project: str | None,
    file_format: str | None,
    target: Path | None,
    metrics: tuple[str, ...],
    by_rank: bool,
    branch: int | None,
    force: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Write the exact points of a run to a Parquet or CSV file, with those that it inherited.

    Columns: run_id, metric, rank (only with --by-rank), step, time, value. Without --metric all metrics are
    written. The file appears under its name when it is complete.

    \b
    Example: thalweg export digits/20260101-abcdefgh --format parquet
             thalweg export 20260101-abcdefgh -m train/loss -o loss.csv --by-rank
    """
    client = connect(url)
    found = locate(client, run, project, branch)
    suffix = target.suffix[1:].lower() if target else ""
    chosen = file_format or (suffix if suffix in _FILES else "parquet")
    place = target or Path(f"{found.run_id}.{chosen}")
    _check_target(place, force=force)
    order = ExportOrder(found, _names(client, found, metrics), by_rank, place, chosen)
    rows = write_points(client, order)
    size_bytes = place.stat().st_size
    if as_json:
        output.print_json(
            {
                "project": found.project,
                "run_id": found.run_id,
                "branch": found.document["branch"],
                "output": str(place),
                "format": chosen,
                "metrics": len(order.metrics),
                "rows": rows,
                "bytes": size_bytes,
            }
        )
    else:
        points, names = formats.count(rows, "point"), formats.count(len(order.metrics), "metric")
        output.note(f"Wrote {points} of {names} to {place} ({formats.size(size_bytes)}).")


def _check_target(place: Path, *, force: bool) -> None:
    if not place.absolute().parent.is_dir():
        raise InputError(f"cannot write {place}: there is no folder {place.parent}")
    if place.exists() and not force:
        raise InputError(f"cannot write {place}: it is there already. Choose --output, or overwrite it with --force.")


def _names(client: ApiClient, run: LocatedRun, wanted: tuple[str, ...]) -> list[str]:
    """The metrics to write. Raises InputError for one that the run does not have."""
    there = [entry["name"] for entry in client.pages(run.path + "/metrics", "metrics", branch=run.document["branch"])]
    missing = sorted(set(wanted).difference(there))
    if missing:
        raise InputError(
            f"cannot export {missing[0]!r}: run {run.run_id} has no such metric. "
            f"`thalweg show {run.project}/{run.run_id}` lists them."
        )
    return list(dict.fromkeys(wanted)) or there


def write_points(client: ApiClient, order: ExportOrder) -> int:
    """Writes the file and gives its number of rows. Raises ServerError, OSError; then there is no file."""
    with _draft(order.output) as draft, output.progress() as bars:
        task = bars.add_task(formats.plain(order.run.run_id), total=len(order.metrics), detail="")
        rows = 0
        with _FILES[order.format](draft, order.by_rank) as file:
            for start in range(0, len(order.metrics), METRICS_PER_REQUEST):
                names = order.metrics[start : start + METRICS_PER_REQUEST]
                for written in _copy(client, order, names, file):
                    rows += written
                    bars.update(task, detail=formats.count(rows, "point"))
                bars.update(task, completed=start + len(names))
    return rows


def _copy(client: ApiClient, order: ExportOrder, names: list[str], file: PointFile) -> Iterator[int]:
    """Copies the points of some metrics to the file; gives the rows of each batch."""
    query = {
        "runs": [order.run.series_name],
        "metrics": names,
        "points": None,
        "by_rank": order.by_rank,
        "with_time": True,
    }
    try:
        with (
            client.stream_arrow(f"/projects/{segment(order.run.project)}/series", query) as stream,
            pa.ipc.open_stream(stream) as batches,
        ):
            for batch in batches:
                if batch.num_rows:  # the schema of an answer without rows may lack columns
                    file.write(batch)
                    yield batch.num_rows
    except pa.ArrowInvalid as error:
        raise ServerError(f"cannot read the points that {client.url} sends: {error}") from error


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A temporary name beside the target, which becomes the target at the end, or vanishes."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield draft
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
