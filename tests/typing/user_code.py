"""Typical code of users, for `mypy --strict`; it is not run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import thalweg
import thalweg.query as q
from thalweg.testing import MemoryTransport, running_server


def train(steps: int) -> str:
    """A training loop."""
    run: thalweg.Run = thalweg.init(
        project="digits", config={"optimizer": {"lr": 0.1}}, tags=["baseline"], mode="offline"
    )
    run.config["model/width"] = 64
    for step in range(steps):
        run.log({"train/loss": 1 / (1 + step), "grad": {"norm": np.float32(0.5)}}, step=step)
    run.log({"val/acc": 0.9})
    acknowledged: bool = run.flush(timeout=5.0)
    run.finish(exit_code=0 if acknowledged else 1)
    return run.run_id


def train_with_block() -> None:
    """The same with a block, and with errors."""
    try:
        with thalweg.init("digits", run_id="r1", rank=3, strict=True) as run:
            run.log({"loss": float("nan")}, step=0.5)
    except thalweg.InputError as error:
        print(error)


def test_of_mine(tmp_path: Path) -> None:
    """A user's own test."""
    with running_server(tmp_path) as server:
        print(server.url, server.client.get("/projects"))
    print(len(MemoryTransport().batches))


def read_back() -> list[float]:
    """Queries of a notebook."""
    try:
        q.set_metric("digits", "f1", "2 * precision * recall / (precision + recall)", "of the talk")
        kind: str = q.check("digits", "ema(f1, 0.9)")["kind"]
    except thalweg.ServerError as error:
        print(error.code, error.span, error.expression)
        return []
    best: q.Table = q.runs("digits", filter='has_tag("baseline")', columns=["config.lr"], sort="-max(f1)", limit=5)
    for row in best:
        print(row["run_id"], row["config.lr"], kind)
    curves = q.series("digits", runs=best, expressions="ema(f1, 0.9)", x="relative_time", points=200)
    print(curves.pandas(), curves.polars(), curves.arrow(), len(curves), curves.columns)
    for batch in q.stream("digits", runs=["a", ("b", 0)], metrics=["train/loss"], from_=1000):
        print(batch)
    print(q.metrics("digits", "a", prefix="train/"), q.custom_metrics("digits"))
    q.delete_metric("digits", "f1")
    return [float(value) for value in curves["mean"]]
