"""Questions to 200 million points over the HTTP API: how long they take, and that the answers are right.

A database is filled with the code of the ingest: 10,000 trainings of 1,000 steps and 18 metrics, with config, tags
and states; a run with 100,000 metrics; single series of 10 million, 1 million and 20 times 10,000 points. In each
round it is served by `thalweg up` and asked over one kept HTTP connection; then, the server being stopped, the
statements that the API makes of each question are run in the engine itself, side by side where the API does so; what
it looks up by key and remembers is not among them. Figures are medians of warm calls until the whole answer has come;
every answer is compared with what was written, a single NaN and a single spike among it.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from loadtests import query_answers as answers
from loadtests import query_data as data
from loadtests.asking import Asking, timed_ms
from loadtests.filling import PROJECT
from loadtests.live_events import AT_MOST, live_ms
from loadtests.recording import Recorder, Statement, ask_again
from loadtests.report import Report, python_loop_ms
from loadtests.usage import peak_mib, resident_mib
from thalweg.testing import ServerProcess, running_server
from thalweg_tracker.app import HttpThread
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.model.settings import Address

F1: Final = "2 * precision * recall / (precision + recall)"
ARROW_STREAM: Final = "application/vnd.apache.arrow.stream"
STREAMED: Final = "exact series as an Arrow stream"
PEAK: Final = "memory of the server during the stream, peak"


@dataclass(frozen=True, slots=True)
class Question:
    """A request, what its answer has to be, and the milliseconds that are wanted. `body` None: GET with `query`."""

    name: str
    path: str
    check: answers.Check
    body: dict[str, Any] | None = None
    query: dict[str, Any] | None = None
    wanted_ms: float | None = None

    def ask(self, asking: Asking) -> bytes:
        """The answer as it comes."""
        if self.body is None:
            return asking.fetch("GET", self.path, params=self.query)
        return asking.fetch("POST", self.path, json=self.body)

    def check_answer(self, answer: bytes) -> None:
        """Compares an answer with what was written."""
        self.check(orjson.loads(answer))


def make_questions(sizes: data.Sizes) -> Iterator[Question]:
    """All but the stream."""
    yield from series_questions(sizes)
    table = answers.Table(sizes.runs)
    columns = ["config.lr", "config.seed", "config.optimizer", "last(accuracy)", "last(loss)"]
    taken = np.array([data.config(number)["optimizer"] == "adam" for number in range(sizes.runs)])
    taken &= np.array([float(data.config(number)["lr"]) < 0.02 for number in range(sizes.runs)])
    taken &= table.last["loss"] < 0.7
    yield Question(
        "runs by config and last(loss)",
        "/runs/query",
        table.page(taken, "accuracy", columns),
        {
            "filter": 'config.optimizer == "adam" and config.lr < 0.02 and last(loss) < 0.7',
            "columns": columns,
            "sort": ["-last(accuracy)"],
            "limit": answers.PAGE,
        },
        wanted_ms=150,
    )
    columns = ["config.lr", "last(f1)"]
    yield Question(
        "runs by last(f1)",
        "/runs/query",
        table.page(np.ones(sizes.runs, bool), "f1", columns),
        {"columns": columns, "sort": ["-last(f1)"], "limit": answers.PAGE},
        wanted_ms=1500,
    )
    for words, pattern in (("many match", r"head_7\d/.*_norm$"), ("one matches", "^block_3/head_42/entropy$")):
        yield Question(
            f"metric names by regex, {words}",
            "/runs/wide/metrics",
            answers.names_page(sizes.wide_metrics, pattern),
            query={"match": pattern, "limit": answers.PAGE},
            wanted_ms=80,
        )


def series_questions(sizes: data.Sizes) -> Iterator[Question]:
    """Series in buckets, and expressions."""
    for points, wanted_ms in ((sizes.middle_points, 80), (sizes.long_points, 600)):
        yield Question(
            f"series of {points:,} points to 1,000 buckets",
            "/series",
            answers.single_in_buckets(data.single_values(points, 0), 1000),
            {"runs": [data.single_run(points)], "metrics": ["loss"], "points": 1000},
            wanted_ms=wanted_ms,
        )
    compared = [data.single_values(sizes.compared_points, number) for number in range(data.COMPARED)]
    yield Question(
        f"{data.COMPARED} series of {sizes.compared_points:,} points to 1,000 buckets",
        "/series",
        answers.in_buckets([answers.buckets(values, 1000) for values in compared]),
        {"runs": [f"compared-{number}" for number in range(data.COMPARED)], "metrics": ["loss"], "points": 1000},
        wanted_ms=120,
    )
    number = sizes.runs // 2
    yield Question(
        f"ema(f1, 0.99) of {data.STEPS:,} steps",
        "/series",
        answers.exact_series(answers.ema(answers.f1_values(number), 0.99)),
        {"runs": [data.training(number)], "expressions": ["ema(f1, 0.99)"], "points": None},
    )
    smooth = answers.ema(data.single_values(sizes.middle_points, 0), 0.99)
    yield Question(
        f"ema(loss, 0.99) of {sizes.middle_points:,} points to 1,000 buckets",
        "/series",
        answers.in_buckets([answers.buckets(smooth, 1000)], accuracy=1e-6),
        {"runs": [data.single_run(sizes.middle_points)], "expressions": ["ema(loss, 0.99)"], "points": 1000},
    )


def read_stream(server: ServerProcess, points: int, expected: NDArray[np.float32]) -> float:
    """Seconds for the exact series of so many points, all compared."""
    body = {"runs": [data.single_run(points)], "metrics": ["loss"], "points": None}
    begin = time.perf_counter()
    place = 0
    with (
        server.client.stream_arrow(f"/projects/{PROJECT}/series", body) as answer,
        pa.ipc.open_stream(answer) as reader,
    ):
        for batch in reader:
            end = place + batch.num_rows
            assert np.array_equal(batch["x"].to_numpy(), np.arange(place, end)), place
            assert np.array_equal(batch["value"].to_numpy(), expected[place:end], equal_nan=True), place
            place = end
    assert place == points, (place, points)
    return time.perf_counter() - begin


def measure_stream(folder: Path, points: int) -> Iterator[tuple[str, float]]:
    """The stream, from a server that has done nothing else."""
    expected = data.single_values(points, 0).astype(np.float32)
    with running_server(folder) as server:
        server.client.get("/health")
        before_mib = resident_mib(server)
        took_s = read_stream(server, points, expected)
        most_mib = peak_mib(server)
    yield f"{STREAMED}, {points:,} points", points / took_s
    yield "memory of the server before the stream", before_mib
    yield PEAK, most_mib


def measure_api(folder: Path, questions: list[Question], calls: int, live: int) -> Iterator[tuple[str, float]]:
    """Milliseconds over HTTP for each question."""
    with running_server(folder) as server:
        asking = Asking.of(server.url, PROJECT)
        asking.put("/custom-metrics/f1", {"expression": F1})
        for question in questions:
            yield question.name, timed_ms(partial(question.ask, asking), calls, question.check_answer)
        yield "memory of the server during the questions, peak", peak_mib(server)
        if live:
            yield from live_ms(server, live)


@contextmanager
def recording(folder: Path) -> Iterator[tuple[Recorder, Asking]]:
    """The API over an engine in this process that remembers its statements."""
    engine = EmbeddedEngine(folder)
    try:
        recorder = Recorder(engine)
        http = HttpThread(recorder, Address("127.0.0.1", 0), None)
        try:
            yield recorder, Asking.of(f"http://{http.address}", PROJECT)
        finally:
            http.stop()
    finally:
        engine.close()


@dataclass(frozen=True, slots=True)
class Direct:
    """What a question takes in the engine: all its statements as the API asks them, and each for itself."""

    total_ms: float
    statements: list[tuple[Statement, float]]

    @staticmethod
    def of(statements: list[Statement], calls: int) -> Direct:
        """Asks them again."""
        each = [(one, timed_ms(one.run, calls, _anything)) for one in statements]
        return Direct(timed_ms(partial(ask_again, statements), calls, _anything), each)


def _anything(answer: Any) -> None:
    """The API's answer was checked."""


def measure_direct(folder: Path, questions: list[Question], stream_points: int, calls: int) -> dict[str, Direct]:
    """The questions in the engine, and the stream if there are points for it."""
    measured = {}
    with recording(folder) as (recorder, asking):
        for question in questions:
            question.check_answer(question.ask(asking))
            recorder.asked.clear()
            question.ask(asking)
            measured[question.name] = Direct.of(list(recorder.asked), calls)
        if stream_points:
            recorder.asked.clear()
            body = {"runs": [data.single_run(stream_points)], "metrics": ["loss"], "points": None}
            asking.drain("/series", body, ARROW_STREAM)
            measured[f"{STREAMED}, {stream_points:,} points"] = Direct.of(list(recorder.asked), 1)
    return measured


def measure(report: Report, folder: Path, sizes: data.Sizes, options: argparse.Namespace) -> None:
    """Everything, round by round."""
    questions = [one for one in make_questions(sizes) if re.search(options.only, one.name)]
    stream_points = (options.stream_points or sizes.long_points) if re.search(options.only, STREAMED) else 0
    live = options.live_points if re.search(options.only, "live") else 0
    figures: dict[str, list[float]] = {}
    direct: dict[str, list[Direct]] = {}
    for _ in range(options.rounds):
        found = list(measure_stream(folder, stream_points)) if stream_points else []
        found += measure_api(folder, questions, options.calls, live)
        for name, value in [*found, ("a loop of a million additions in Python", python_loop_ms())]:
            figures.setdefault(name, []).append(value)
        for name, one in measure_direct(folder, questions, stream_points, options.calls).items():
            direct.setdefault(name, []).append(one)
    wanted = {one.name: f"under {one.wanted_ms:,.0f}" for one in questions if one.wanted_ms}
    wanted |= {PEAK: "under 1,024", AT_MOST: "under 300"}
    for name, values in figures.items():
        unit = "MiB" if "memory" in name else "points/s" if STREAMED in name else "ms"
        report.add(name, unit, values, wanted.get(name, ""))
        if STREAMED in name:
            in_engine = [stream_points / one.total_ms * 1e3 for one in direct[name]]
            report.add(f"{name}: in the engine", unit, in_engine)
        elif name in direct:
            add_direct(report, name, values, direct[name])
    if options.statements:
        for name, rounds in direct.items():
            print_statements(name, rounds[-1])


def add_direct(report: Report, name: str, values: list[float], rounds: list[Direct]) -> None:
    """The same in the engine alone, and what the API adds."""
    totals = [one.total_ms for one in rounds]
    most = max(0.3 * statistics.median(totals), 15)
    report.add(f"{name}: in the engine", "ms", totals)
    report.add(
        f"{name}: added by the API",
        "ms",
        [value - total for value, total in zip(values, totals, strict=True)],
        f"under {most:,.0f}",
    )
    parts = sorted((ms for _, ms in rounds[-1].statements), reverse=True)
    report.notes.append(f"{name}: {len(parts)} statements, alone {', '.join(f'{ms:,.0f}' for ms in parts)} ms.")


def print_statements(name: str, direct: Direct) -> None:
    """The statements of a question, the slowest first."""
    print(f"\n=== {name}: {direct.total_ms:,.1f} ms")
    for statement, ms in sorted(direct.statements, key=lambda pair: -pair[1]):
        print(f"--- {ms:,.1f} ms\n{statement.sql}\n    with {statement.briefly()}")


def main() -> None:
    """Fills a database, unless there is one, and asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=7, help="calls in a row for one figure")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the data, at least 0.05")
    parser.add_argument("--stream-points", type=int, help="of the series that is streamed; one is added if need be")
    parser.add_argument("--live-points", type=int, default=20, help="points that are waited for as live events")
    parser.add_argument("--data", type=Path, help="folder that keeps the database, used again when it is there")
    parser.add_argument("--fill-only", action="store_true", help="fill the folder, and stop")
    parser.add_argument("--only", default="", help="regex: questions to measure, by their names, `stream` and `live`")
    parser.add_argument("--statements", action="store_true", help="print each statement with its time")
    options = parser.parse_args()
    sizes = data.Sizes.of(options.scale)
    report = Report("Queries", (__doc__ or "").strip())
    with ExitStack() as stack:
        folder = options.data or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        begin = time.perf_counter()
        path = data.prepare(folder, sizes, options.stream_points or sizes.long_points)
        print(f"{sizes.points:,} points are there after {time.perf_counter() - begin:,.0f} s", flush=True)
        if not options.fill_only:
            measure(report, path, sizes, options)
            report.notes.append(f"{sizes.points:,} points in the database.")
            if options.scale == 1 and not options.only:  # else it says nothing of what is wanted
                report.write("queries")


if __name__ == "__main__":
    main()
