"""`thalweg bench`: loads against a running server, to size a deployment, and whether its answers are right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import import_module
from math import isfinite
from typing import Any, Final

import click

from thalweg.cli import output
from thalweg.cli.options import connect, json_option, settings, url_option
from thalweg.errors import ThalwegError

_project = click.option(
    "--project", "-p", default="bench", show_default=True, metavar="P", help="Project of the runs that it makes."
)
_WIDTHS: Final = (1, 10, 100, 1000)
_PROCESSES_MAX: Final = 64
_seconds = click.option("--seconds", type=click.FloatRange(0.1, 86_400), default=60.0, show_default=True, metavar="S")


@click.group()
def bench() -> None:
    """Put loads on a server, and measure what it takes.

    Runs that these make are tagged `bench`. `ingest` and `freshness` read back every point that they log: one that
    is lost or wrong is an error. `query` did not log what it asks for: it checks what holds of any data.
    Needs NumPy and pyarrow: pip install 'thalweg[bench]'.
    """


@bench.command()
@click.option(
    "--load",
    "name",
    type=click.Choice(["wide", "very-wide", "single", "narrow"]),
    default="wide",
    show_default=True,
    help="wide: 2 clients, 1,000 metrics a step, as fast as it goes; very-wide: 1 client, 100,000; single: 1 client,"
    " 1 metric; narrow: 500 small writers, 10 metrics, 10 steps/s each.",
)
@click.option(
    "--clients",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help=f"Others than the load has; at most {_PROCESSES_MAX} but for narrow, as each is a process.",
)
@click.option("--metrics", type=click.IntRange(1, 131_072), metavar="N", help="Metrics of a step.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 1_000_000),
    metavar="R",
    help="Steps per second of a client; 0: no limit, which narrow does not have.",
)
@_seconds
@click.option("--check/--no-check", default=True, show_default=True, help="Read all points back, and compare.")
@_project
@url_option
@json_option
def ingest(
    name: str,
    clients: int | None,
    metrics: int | None,
    rate: float | None,
    seconds: float,
    check: bool,
    project: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Log points as fast as they are taken, or at a rate.

    \b
    Example: thalweg bench ingest --url http://tracker:7412 --load wide --seconds 30
             thalweg bench ingest --clients 8 --metrics 200 --rate 5 --json | jq .points_per_s
    """
    chosen = settings(url).url
    result: Any
    if name == "narrow":
        streams = _load("streams")
        narrow = streams.StreamsLoad(**_given(writers=clients, metrics=metrics, steps_per_s=rate), seconds=seconds)
        if round(narrow.steps_per_s * seconds) < 1:
            raise click.UsageError(
                f"cannot log {narrow.steps_per_s:g} steps/s for {seconds:g} s: that is no step. "
                "Give a greater --rate or --seconds."
            )
        _say(as_json, f"Logging to {chosen} for {seconds:g} s ...")
        result = streams.run_streams(chosen, project, narrow, check=check)
        _print(result, as_json, _tell_streams, checked=check)
    else:
        if clients is not None and clients > _PROCESSES_MAX:
            raise click.UsageError(
                f"cannot start {clients:,} clients of {name}: each is a process, and {_PROCESSES_MAX} are the most. "
                "--load narrow has writers that share one."
            )
        loads = _load("ingest")
        load = replace(loads.LOADS[name], seconds=seconds, **_given(clients=clients, metrics=metrics, steps_per_s=rate))
        _say(as_json, f"Logging to {chosen} for {seconds:g} s ...")
        result = loads.run_ingest(chosen, project, load, check=check)
        _print(result, as_json, _tell_ingest, checked=check)
    if check and not as_json:
        click.echo(f"All {result.points:,} points were read back and compared.")


@bench.command()
@click.option("--users", type=click.IntRange(1, 1000), default=10, show_default=True, metavar="N")
@click.option(
    "--think",
    type=click.FloatRange(0, 3600),
    default=0.0,
    show_default=True,
    metavar="S",
    help="Between two questions.",
)
@_seconds
@_project
@url_option
@json_option
def query(users: int, think: float, seconds: float, project: str, url: str | None, as_json: bool) -> None:
    """Ask what dashboards ask of a project's newest runs.

    \b
    Each answer is checked by what holds of any data:
      nothing comes that was not asked for, nor twice
      what the runs and their metrics were found to have is there
      runs, rows, series, names and steps are in their order
      min <= mean <= max, first and last between them, counts of points and of NaN fit
      the custom metric is nowhere below what it can be
    That values are those that were logged is what `bench ingest` checks.

    A custom metric bench/above_best/... is defined meanwhile, and removed at the end.

    Example: thalweg bench query --project digits --users 20 --seconds 30
    """
    client = connect(url)
    _say(as_json, f"{users} users ask {client.url} for {seconds:g} s ...")
    result = _load("queries").run_queries(client, project, users, seconds, think)
    _print(result, as_json, _tell_queries, checked=True)
    if result.errors:
        raise ThalwegError(f"{result.errors} answers were wrong or did not come; the first: {result.first_error}")


@bench.command()
@click.option("--points", type=click.IntRange(1, 100_000), default=50, show_default=True, metavar="N")
@click.option("--every", type=click.FloatRange(0, 3600), default=0.0, metavar="S", help="Seconds from one to the next.")
@_project
@url_option
@json_option
def freshness(points: int, every: float, project: str, url: str | None, as_json: bool) -> None:
    """Measure how long a point takes from log() until it can be read.

    Example: thalweg bench freshness --url http://tracker:7412
    """
    chosen = settings(url).url
    _say(as_json, f"Logging {points} points to {chosen}, one after the other ...")
    _print(_load("freshness").run_freshness(chosen, project, points, every), as_json, _tell_freshness, checked=True)


@bench.command()
@click.option("--metrics", "-m", type=click.IntRange(1, 131_072), multiple=True, default=_WIDTHS, metavar="N")
@click.option("--calls", type=click.IntRange(10, 1_000_000), default=5000, show_default=True, metavar="N")
@json_option
def sdk(metrics: tuple[int, ...], calls: int, as_json: bool) -> None:
    """Measure what one log() costs the training, on this machine; no server is asked.

    Example: thalweg bench sdk -m 10 -m 500
    """
    measured = [_load("log_cost").measure_log(width, calls) for width in metrics]
    if as_json:
        output.print_json([asdict(one) for one in measured])
        return
    rows = [(f"{one.metrics:,}", f"{one.p50_us:.1f}", f"{one.p99_us:.1f}", f"{one.calls:,}") for one in measured]
    output.print_table(("metrics", "median us", "p99 us", "calls"), rows, ("metrics", "median us", "p99 us", "calls"))


def _load(module: str) -> Any:
    """A module of thalweg.bench, which needs more than the SDK does."""
    try:
        return import_module(f"thalweg.bench.{module}")
    except ImportError as error:
        raise ThalwegError(f"cannot run the load: {error}. Install it: pip install 'thalweg[bench]'") from error


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _say(as_json: bool, message: str) -> None:
    if not as_json:
        output.note(message)


def _print(result: Any, as_json: bool, tell: Callable[[Any], None], *, checked: bool) -> None:
    if as_json:
        output.print_json(_without_nan(asdict(result)) | {"checked": checked})
    else:
        tell(result)


def _without_nan(document: Any) -> Any:
    """With null for the figures of what never came: JSON has no NaN."""
    if isinstance(document, dict):
        return {key: _without_nan(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [_without_nan(value) for value in document]
    return None if isinstance(document, float) and not isfinite(document) else document


def _tell_ingest(result: Any) -> None:
    click.echo(
        f"{result.points_per_s:,.0f} points/s acknowledged and queryable: {result.load.clients} clients,"
        f" {result.load.metrics:,} metrics a step.\n"
        f"log() took {result.log_p50_us:.1f} us at the median, {result.log_p99_us:.1f} at p99."
        f" The rest was acknowledged {result.drained_s:.1f} s after the end."
    )


def _tell_streams(result: Any) -> None:
    click.echo(
        f"{result.points_per_s:,.0f} points/s: {result.load.writers} writers, {result.load.metrics} metrics,"
        f" {result.load.steps_per_s:g} steps/s each.\n"
        f"Visible after {result.visible_p50_ms:.0f} ms at the median, {result.visible_p99_ms:.0f} at p99,"
        f" {result.visible_worst_ms:.0f} at worst."
    )
    if result.late_p99_ms > 100:
        output.note(f"This client was {result.late_p99_ms:.0f} ms late itself (p99): it is too slow for the load.")


def _tell_queries(result: Any) -> None:
    rows = [
        (
            one.name,
            f"{one.answers:,}",
            *(f"{ms:.0f}" if one.answers else "-" for ms in (one.p50_ms, one.p95_ms, one.p99_ms)),
        )
        for one in result.questions
    ]
    columns = ("question", "answers", "median ms", "p95 ms", "p99 ms")
    output.print_table(columns, rows, columns[1:])
    click.echo(f"{result.answers_per_s:,.0f} right answers/s to {result.users} users, p95 {result.p95_ms:.0f} ms.")


def _tell_freshness(result: Any) -> None:
    click.echo(
        f"log() to visible over HTTP: {result.p50_ms:.0f} ms at the median, {result.p99_ms:.0f} at p99,"
        f" {result.worst_ms:.0f} at worst, of {result.points}."
    )
