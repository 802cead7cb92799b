"""Forks and lineages over the HTTP API: how long they take, and that what they answer is right.

A database is filled with the code of the ingest, and served by `thalweg up` once it is merged; all requests go over
one kept HTTP connection. What is in it: a run of 100 million points to fork; a chain of 100 forks, each with its
share of the points of one series, beside a plain run with the same points; a root with 10,000 forks; 100,000
checkpoints. Every answer is compared with what was written.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests.asking import Asking, timed_ms
from loadtests.filling import INSERT_POINTS, PROJECT, Filler, settle
from loadtests.report import Report
from thalweg.testing import running_server
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.lineage.chain import Branch, extend, root

WIDE_METRICS = 1000


def fill(engine: Engine, options: argparse.Namespace, some_file: Path) -> None:
    """Everything that is asked for later."""
    migrate(engine)
    filler = Filler(engine)
    fill_wide(filler, options.points)
    fill_chain(filler, options.forks, options.chain_points)
    fill_tree(filler, options.leaves)
    runs = [f"saved-{number}" for number in range(options.checkpoints // 100)]
    filler.add_runs(runs)
    for run_id in runs:
        filler.add_checkpoints(run_id, range(0, 10_000, 100), some_file.as_uri())


def fill_wide(filler: Filler, points: int) -> None:
    """The run `wide`: 1,000 metrics."""
    filler.add_runs(["wide"])
    names = [f"layer_{number}/norm" for number in range(WIDE_METRICS)]
    frames = INSERT_POINTS // WIDE_METRICS
    rng = np.random.default_rng(0)
    values = rng.normal(size=(frames, WIDE_METRICS)).astype(np.float32).astype(np.float64)
    for start in range(0, points // WIDE_METRICS, frames):
        filler.log("wide", names, np.arange(start, start + frames, dtype=np.float64), values)


def loss(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """A curve whose value tells its step."""
    return 1.0 / (1.0 + steps)


def fill_chain(filler: Filler, forks: int, points: int) -> None:
    """`chain-0` .. `chain-<forks>`, each forked from the one before, and `plain` with all their points."""
    share = points // (forks + 1)
    lineage = root(Branch("chain-0"))
    made = []
    for number in range(1, forks + 1):
        step = float(number * share - 1)
        lineage = extend(lineage, step, Branch(f"chain-{number}"))
        made.append((f"chain-{number}", f"chain-{number - 1}", step, lineage))
    filler.add_runs(["chain-0", "plain"])
    filler.add_forks(made)
    for number in range(forks + 1):
        steps = np.arange(number * share, (number + 1) * share, dtype=np.float64)
        filler.log(f"chain-{number}", ["loss"], steps, loss(steps)[:, None])
        filler.log("plain", ["loss"], steps, loss(steps)[:, None])


def fill_tree(filler: Filler, leaves: int) -> None:
    """`root`, and so many forks of it at steps from 0 to 990, with 20 points of their own each."""
    filler.add_runs(["root"])
    steps = np.arange(1000, dtype=np.float64)
    filler.log("root", ["loss"], steps, loss(steps)[:, None])
    made = []
    for number in range(leaves):
        step = float(number % 100 * 10)
        made.append((f"leaf-{number}", "root", step, extend(root(Branch("root")), step, Branch(f"leaf-{number}"))))
    filler.add_forks(made)
    owns = [(run_id, np.arange(step + 1, step + 21, dtype=np.float64)) for run_id, _, step, _ in made]
    filler.log_runs(["loss"], [(run_id, own, -loss(own)[:, None]) for run_id, own in owns])


def measure_forks(asking: Asking, repeats: int) -> float:
    """Median of so many forks of the wide run."""
    step = 12.0

    def check(answer: Any) -> None:
        assert answer["fork_step"] == step, answer
        assert not answer["is_ahead"], answer
        assert [one["run_id"] for one in answer["lineage"]] == ["wide", answer["run_id"]], answer

    return timed_ms(lambda: asking.post("/runs/wide/fork", {"step": step, "config": {"lr": 0.1}}), repeats, check)


def measure_chain(asking: Asking, options: argparse.Namespace, points: int | None) -> tuple[float, float]:
    """Medians for the last of the chain and for the plain run, turn by turn."""
    total = options.chain_points // (options.forks + 1) * (options.forks + 1)

    def check(answer: Any) -> None:
        if points is None:
            assert answer["x"] == list(map(float, range(total))), "steps are missing"
            assert answer["value"] == loss(np.arange(total, dtype=np.float64)).tolist(), "values differ"
        else:
            assert sum(answer["n"]) == total, (sum(answer["n"]), total)

    leaf = f"chain-{options.forks}"
    return (
        timed_ms(lambda: asking.series(leaf, points), options.calls, check),
        timed_ms(lambda: asking.series("plain", points), options.calls, check),
    )


def measure_tree(asking: Asking, options: argparse.Namespace, metric: str) -> float:
    """Median of the tree's list: the ten thousand nodes, and those that the other parts made."""

    def check(answer: Any) -> None:
        leaves = [node for node in answer["nodes"] if node["run_id"].startswith("leaf-")]
        assert len(leaves) == options.leaves, len(leaves)
        assert all(node["parent_run_id"] == "root" for node in leaves)
        if metric:
            assert all(node["metric"]["last_step"] == node["fork_step"] + 20 for node in leaves)

    return timed_ms(lambda: asking.get("/lineage", metric=metric, limit=20_000), options.calls, check)


def measure_leaves(asking: Asking, options: argparse.Namespace) -> list[float]:
    """Milliseconds for the exact series of leaves here and there."""
    took = []
    for number in range(0, options.leaves, max(1, options.leaves // options.calls)):
        step = number % 100 * 10
        begin = time.perf_counter()
        answer = asking.series(f"leaf-{number}", None)
        took.append((time.perf_counter() - begin) * 1e3)
        steps = np.arange(step + 21, dtype=np.float64)
        expected = np.where(steps <= step, loss(steps), -loss(steps))
        assert answer["x"] == steps.tolist(), answer["x"]
        assert answer["value"] == expected.tolist()
    return took


def measure_resolve(asking: Asking, repeats: int, *, verify: bool) -> float:
    """Median of resolving a step of one of the runs with checkpoints, with or without a look at the object."""
    steps = iter(range(37, 10**9, 100))

    def ask() -> Any:
        step = next(steps) % 10_000
        return step, asking.get("/runs/saved-7/checkpoints/resolve", step=step, verify=str(verify).lower())

    def check(answer: Any) -> None:
        step, found = answer
        assert found["step"] == math.floor(step / 100) * 100, (step, found["step"])
        assert found["state"] == ("verified" if verify else found["state"]), found

    return timed_ms(ask, repeats, check)


def measure(url: str, report: Report, options: argparse.Namespace) -> None:
    """Everything, in several rounds."""
    asking = Asking.of(url, PROJECT)
    rounds: list[dict[str, float]] = [dict(one_round(asking, options)) for _ in range(options.rounds)]
    wanted = {
        "fork": "under 20",
        "lineage, exact, ratio to plain": "at most 1.5",
        "lineage, 1,000 buckets, ratio to plain": "at most 1.5",
        "tree": "under 300",
        "tree with a metric": "under 300",
        "leaf's series, median": "under 100",
        "leaf's series, worst": "under 100",
        "resolve and look": "under 30",
        "resolve": "under 30",
    }
    for name in rounds[0]:
        unit = "" if "ratio" in name else "ms"
        report.add(name, unit, [one[name] for one in rounds], wanted.get(name, ""))


def one_round(asking: Asking, options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Each figure once."""
    yield "fork", measure_forks(asking, options.calls)
    for words, points in (("exact", None), ("1,000 buckets", 1000)):
        chain, plain = measure_chain(asking, options, points)
        yield f"lineage, {words}", chain
        yield f"plain run, {words}", plain
        yield f"lineage, {words}, ratio to plain", chain / plain
    yield "tree", measure_tree(asking, options, "")
    yield "tree with a metric", measure_tree(asking, options, "loss")
    leaves = measure_leaves(asking, options)
    yield "leaf's series, median", statistics.median(leaves)
    yield "leaf's series, worst", max(leaves)
    yield "resolve and look", measure_resolve(asking, options.calls, verify=True)
    yield "resolve", measure_resolve(asking, options.calls, verify=False)


def main() -> None:
    """Fills a database, serves it, and asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20, help="calls in a row for one figure")
    parser.add_argument("--points", type=int, default=100_000_000, help="of the run that is forked")
    parser.add_argument("--forks", type=int, default=100, help="in the chain")
    parser.add_argument("--chain-points", type=int, default=1_000_000, help="of the series along the chain")
    parser.add_argument("--leaves", type=int, default=10_000, help="forks of one root")
    parser.add_argument("--checkpoints", type=int, default=100_000)
    options = parser.parse_args()
    report = Report("Forks, lineages, checkpoints", (__doc__ or "").strip())
    with tempfile.TemporaryDirectory() as folder:
        some_file = Path(folder) / "checkpoint.bin"
        some_file.write_bytes(b"state")
        engine = EmbeddedEngine(Path(folder) / "data")
        try:
            fill(engine, options, some_file)
            settle(engine)
        finally:
            engine.close()
        with running_server(Path(folder) / "data") as server:
            measure(server.url, report, options)
    report.write("lineage")


if __name__ == "__main__":
    main()
