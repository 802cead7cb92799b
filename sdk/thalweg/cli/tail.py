"""`thalweg tail`: the last points of a run, then new ones as they come.

Steps are followed upwards: a step that is logged again, or arrives late from another rank, is not printed again.
Unless a branch was chosen, a run that is rewound meanwhile is followed on its new branch, from where that begins.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import groupby, islice
from typing import Any, Final

import click

from thalweg.api_client import ApiClient, segment
from thalweg.cli import formats, output
from thalweg.cli.locate import LocatedRun, locate
from thalweg.cli.options import branch_option, connect, json_option, project_option, url_option
from thalweg.errors import NotFoundError, ServerError

POLL_S: Final = 1.0
METRICS_MAX: Final = 20
_SYSTEM: Final = "system/"
_BUCKETS: Final = 1000
_GOING_ON: Final = ("created", "running")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Point:
    """A point as it is printed. `value` is a number, or the API's name of NaN or an infinity."""

    metric: str
    step: float
    time_us: int
    value: float | str


class PointTail:
    """Reads a run's points from the end. Owns what was seen: no point is given twice."""

    def __init__(self, client: ApiClient, run: LocatedRun, metrics: Sequence[str]) -> None:
        """`metrics`: names; none: all but the system's, at most METRICS_MAX, new ones included."""
        self.has_more_metrics = False
        self._client = client
        self._run = run
        self._branch: int = run.document["branch"]
        self._chosen = bool(metrics)
        self._seen: dict[str, float | None] = dict.fromkeys(metrics)

    def status(self) -> str:
        """The status now, of the branch that is read from here on."""
        run = self._client.get(self._run.path, branch=self._run.branch)
        if run["branch"] != self._branch:
            self._follow(run)
        return str(run["status"])

    def _follow(self, run: dict[str, Any]) -> None:
        """Goes over to another branch: what it inherits was seen."""
        self._branch = run["branch"]
        (begun,) = (one for one in run["branches"] if one["branch"] == self._branch)
        after = begun["fork_step"]
        start = float(after) if isinstance(after, (int, float)) else None  # None: it inherits nothing
        for name, seen in self._seen.items():
            self._seen[name] = None if seen is None or start is None else min(seen, start)
        place = "to the start" if start is None else f"to step {formats.step(start)}"
        output.note(f"The run was rewound {place}: branch {self._branch} follows.")

    def last(self, points: int) -> list[Point]:
        """The last points of each metric, by step."""
        self._find_metrics()
        found = []
        for name in self._seen:
            read = self._read([name], self._start_of_last(name, max(points, 1)))
            self._note(read)
            found += read[-points:] if points else []
        return self._by_step(found)

    def new(self) -> list[Point]:
        """Points after those seen, by step."""
        self._find_metrics()
        names_by_step: dict[float | None, list[str]] = defaultdict(list)
        for name, step in self._seen.items():
            names_by_step[step].append(name)
        found = []
        for step, names in names_by_step.items():
            found += [point for point in self._read(names, step) if step is None or point.step > step]
        self._note(found)
        return self._by_step(found)

    def _find_metrics(self) -> None:
        """Takes in metrics that are new, unless the user has chosen."""
        if self._chosen or self.has_more_metrics:
            return
        entries = self._client.pages(self._run.path + "/metrics", "metrics", branch=self._branch)
        names = (entry["name"] for entry in entries if not entry["name"].startswith(_SYSTEM))
        for name in islice((name for name in names if name not in self._seen), METRICS_MAX + 1 - len(self._seen)):
            if len(self._seen) == METRICS_MAX:
                self.has_more_metrics = True
            else:
                self._seen[name] = None

    def _start_of_last(self, name: str, points: int) -> float | None:
        """A step from which on there are at least so many points, and few more; None: all of them.

        The API has no "last n": the counts of buckets tell where to begin.
        """
        series = self._series([name], points=_BUCKETS)
        count = 0
        for step, in_bucket in zip(reversed(series[0]["x"]), reversed(series[0]["n"]), strict=True) if series else ():
            count += in_bucket
            if count >= points:
                return float(step)
        return None

    def _read(self, names: list[str], from_step: float | None) -> list[Point]:
        series = self._series(names, points=None, with_time=True, **{"from": from_step})
        return [
            Point(one["name"], step, time_us, value)
            for one in series
            for step, time_us, value in zip(one["x"], one["time"], one["value"], strict=True)
        ]

    def _series(self, names: list[str], **query: Any) -> list[dict[str, Any]]:
        body = {"runs": [{"run_id": self._run.run_id, "branch": self._branch}], "metrics": names, **query}
        answer = self._client.post(f"/projects/{segment(self._run.project)}/series", body)
        series: list[dict[str, Any]] = answer["series"]
        return series

    def _note(self, points: Iterable[Point]) -> None:
        for point in points:
            seen = self._seen[point.metric]
            self._seen[point.metric] = point.step if seen is None else max(seen, point.step)

    def _by_step(self, points: list[Point]) -> list[Point]:
        order = {name: place for place, name in enumerate(self._seen)}
        return sorted(points, key=lambda point: (point.step, order[point.metric]))


@click.command()
@click.argument("run")
@project_option
@click.option("--metric", "-m", "metrics", multiple=True, metavar="NAME", help="A metric to print; may be repeated.")
@click.option("--points", "-n", type=click.IntRange(0), default=10, show_default=True, help="Points of each metric.")
@click.option(
    "--follow/--no-follow",
    "-f/-F",
    default=None,
    help="Go on with new points until the run has ended.  [default: if stdout is a terminal]",
)
@branch_option
@url_option
@json_option
def tail(
    run: str,
    project: str | None,
    metrics: tuple[str, ...],
    points: int,
    follow: bool | None,
    branch: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Print the last points of a run, then new ones as they come.

    Without --metric: all metrics but system/*, at most 20. With --json each point is a line of JSON.

    \b
    Example: thalweg tail digits/20260101-abcdefgh -m train/loss
             thalweg tail 20260101-abcdefgh --follow --json | jq .value
    """
    client = connect(url)
    found = locate(client, run, project, branch)
    reader = PointTail(client, found, metrics)
    emit = _print_json if as_json else _print_lines
    emit(reader.last(points))
    if reader.has_more_metrics:
        output.note(f"Only the first {METRICS_MAX} metrics are shown. Choose others with --metric NAME.")
    if sys.stdout.isatty() if follow is None else follow:
        status = follow_run(reader, emit, time.sleep)
        output.note(f"The run is {status}.")


def follow_run(reader: PointTail, emit: Callable[[list[Point]], None], wait: Callable[[float], None]) -> str:
    """Emits new points until the run has ended, and gives its status. Waits out a server that is away."""
    is_away = False
    while True:
        try:
            status = reader.status()  # first: what comes before the end is read after it is known
            emit(reader.new())
            if status not in _GOING_ON:
                return status
            is_away = False
        except NotFoundError:
            raise
        except ServerError as error:
            if not is_away:
                output.note(f"Waiting for the server: {error}")
            is_away = True
        wait(POLL_S)


def _print_lines(points: list[Point]) -> None:
    """One line a step: time, step, metrics."""
    for step, group in groupby(points, key=lambda point: point.step):
        row = list(group)
        values = "  ".join(f"{formats.plain(point.metric)} {formats.number(point.value)}" for point in row)
        click.echo(f"{formats.clock(max(point.time_us for point in row))}  step {formats.step(step)}  {values}")


def _print_json(points: list[Point]) -> None:
    for point in points:
        moment = (_EPOCH + timedelta(microseconds=point.time_us)).isoformat(timespec="microseconds")
        output.print_json(
            {
                "metric": point.metric,
                "step": point.step,
                "time": moment.replace("+00:00", "Z"),
                "value": point.value,
            }
        )
