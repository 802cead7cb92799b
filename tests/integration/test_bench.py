"""`thalweg bench` against a real server: it measures, and fails where data is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg
from tests.support.proxy import passing_on
from thalweg.api_client import ApiClient
from thalweg.bench.answers import WrongAnswerError
from thalweg.bench.frames import Frames, Mappings
from thalweg.bench.ingest import IngestLoad, run_ingest
from thalweg.bench.numbers import quantile
from thalweg.bench.queries import NothingThereError, define_custom, find_subject, questions, run_queries
from thalweg.bench.read_back import WrongDataError, verify
from thalweg.errors import ThalwegError
from thalweg.testing import ServerProcess, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for all."""
    with running_server(tmp_path_factory.mktemp("bench") / "data") as server:
        yield server


def bench(*arguments: str, status: int = 0) -> Any:
    """What `thalweg bench ... --json` says, or where it fails its message."""
    done = subprocess.run(
        [sys.executable, "-m", "thalweg.cli.main", "bench", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if status == 0 else done.stderr


def test_ingest(server: ServerProcess) -> None:
    """Clients log, and everything is counted, tagged and queryable."""
    found = bench("ingest", "--url", server.url, "--metrics", "7", "--rate", "20", "--seconds", "1", "-p", "small")
    assert found["load"] == {
        "clients": 2, "metrics": 7, "steps_per_s": 20.0, "seconds": 1.0, "backlog_points": 4_000_000
    }  # fmt: skip
    assert found["checked"] is True
    assert found["points"] % 7 == 0
    assert 0 < found["points"] <= 2 * 7 * 21
    assert 0 < found["points_per_s"] <= 2 * 7 * 21
    runs = server.client.get("/projects/small/runs")["runs"]
    assert {run["run_id"] for run in runs} == set(found["runs"])
    assert all(run["tags"] == ["bench"] and run["status"] == "finished" for run in runs)


def test_as_fast_as_it_goes(server: ServerProcess) -> None:
    """Without a rate clients keep within their backlog; what was acknowledged is no more than was logged."""
    load = IngestLoad(clients=1, metrics=50, seconds=0.5, backlog_points=20_000)
    found = run_ingest(server.url, "fast", load)
    assert 0 < found.points_per_s * 0.5 <= found.points
    assert found.log_p50_us <= found.log_p99_us


def test_narrow(server: ServerProcess) -> None:
    """Many writers over a few connections."""
    found = bench(
        "ingest", "--url", server.url, "--load", "narrow", "--clients", "6", "--metrics", "3", "--rate", "5",
        "--seconds", "1", "-p", "narrow", "--no-check",
    )  # fmt: skip
    assert found["checked"] is False
    assert found["points"] == 6 * 3 * 5
    assert 0 < found["visible_p50_ms"] <= found["visible_p99_ms"] <= found["visible_worst_ms"]
    assert len(set(found["runs"])) == 6


@pytest.fixture(scope="module")
def asked(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A project with runs, of which the newest has no metrics."""
    run_ingest(server.url, "asked", IngestLoad(clients=2, metrics=5, steps_per_s=50, seconds=0.2))
    log_nothing(server, "asked", "nothing yet", tmp_path_factory.mktemp("spool"))
    return "asked"


def log_nothing(server: ServerProcess, project: str, run_id: str, spool: Path) -> None:
    """A run without metrics."""
    thalweg.init(project=project, run_id=run_id, url=server.url, spool_dir=spool, system_interval_s=0).finish()


def test_queries(server: ServerProcess, asked: str) -> None:
    """All questions are asked, also where the newest run is empty, and the server is left as it was."""
    assert server.client.get(f"/projects/{asked}/runs")["runs"][0]["run_id"] == "nothing yet"
    found = bench("query", "--url", server.url, "--users", "8", "--seconds", "1", "-p", asked)
    assert (found["errors"], found["first_error"], found["checked"]) == (0, "", True)
    assert len(found["questions"]) == 8
    assert all(one["answers"] > 0 for one in found["questions"])
    assert server.client.get(f"/projects/{asked}/custom-metrics")["custom_metrics"] == []


def test_figures_of_what_was_never_asked_are_null(server: ServerProcess, asked: str) -> None:
    """JSON has no NaN."""
    found = bench("query", "--url", server.url, "--users", "1", "--seconds", "0.1", "--think", "1000", "-p", asked)
    assert [one["answers"] for one in found["questions"]].count(0) == 7
    assert {one["p95_ms"] for one in found["questions"] if not one["answers"]} == {None}


def test_nothing_to_ask_for(server: ServerProcess, tmp_path: Path) -> None:
    """No runs, or none with metrics: a sentence."""
    with pytest.raises(NothingThereError):
        run_queries(server.client, "empty", 1, 0.1)
    log_nothing(server, "without metrics", "r", tmp_path)
    with pytest.raises(NothingThereError):
        run_queries(server.client, "without metrics", 1, 0.1)


def test_wrong_answers_are_told(server: ServerProcess, asked: str) -> None:
    """An answer that cannot be right is an error, and its time counts for nothing."""

    def lower(path: str, body: bytes) -> bytes:
        if not path.endswith("/series"):
            return body
        document = json.loads(body)
        for one in document["series"]:
            one["max"][0] = one["min"][0] - 1.0
        return json.dumps(document).encode()

    with passing_on(server.url, lower) as url:
        found = run_queries(ApiClient(url), asked, users=8, seconds=0.1)
        message = bench("query", "--url", url, "--users", "8", "--seconds", "0.1", "-p", asked, status=1)
    by_name = {one.name: one.answers for one in found.questions}
    wrong = {"many metrics of one run", "one metric of the newest runs", "expression", "custom metric"}
    assert {name for name, answers in by_name.items() if not answers} == wrong
    assert found.errors >= len(wrong)
    assert "a min is above its max" in found.first_error
    assert "were wrong or did not come" in message
    assert "a min is above its max" in message


def test_a_user_that_fails_is_told(server: ServerProcess, asked: str) -> None:
    """Whatever ends a user's thread is an error. (No JSON of the API is nested so deeply that it cannot be read.)"""

    def nest(path: str, body: bytes) -> bytes:
        return b"[" * 200_000 if path.endswith("/runs/query") else body

    with passing_on(server.url, nest) as url:
        found = run_queries(ApiClient(url), asked, users=8, seconds=0.1)
    assert found.errors >= 1
    assert "RecursionError" in found.first_error
    assert server.client.get(f"/projects/{asked}/custom-metrics")["custom_metrics"] == []


@pytest.mark.parametrize("answer", [b"{}", b"[]", b'{"series": [{}]}', b'{"runs": null}', b"not JSON"])
def test_answers_of_another_shape_are_told(server: ServerProcess, asked: str, answer: bytes) -> None:
    """They are wrong answers, not the end of a user: all goes on, and only they are missing."""

    def replace(path: str, body: bytes) -> bytes:
        return answer if path.endswith(("/series", "/runs/query")) else body

    with passing_on(server.url, replace) as url:
        found = run_queries(ApiClient(url), asked, users=8, seconds=0.1)
    assert [bool(one.answers) for one in found.questions] == [True, False, True, True, False, False, False, False]
    assert "ended before its time" not in found.first_error


def test_every_question_notices_what_belongs_to_another(server: ServerProcess, asked: str) -> None:
    """The answer to a question about another run, or the answer backwards, is wrong."""
    subject = find_subject(server.client, asked)
    custom = define_custom(server.client, subject)
    with passing_on(server.url, lambda _, body: body.replace(subject.run.encode(), b"another-run")) as url:
        for question in questions(subject, custom):
            question.check_answer(question.ask(server.client))
            if question.name in ("run list", "run table by last value", "metric names"):
                continue  # a run more or less, or names alone: nobody can tell
            with pytest.raises(WrongAnswerError):
                question.check_answer(question.ask(ApiClient(url)))
    server.client.delete(f"/projects/{asked}/custom-metrics/{custom}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--load", "narrow", "--rate", "0.1", "--seconds", "1"], "that is no step"),
        (["--load", "narrow", "--rate", "0"], "that is no step"),
        (["--load", "wide", "--clients", "65"], "64 are the most"),
    ],
)
def test_loads_that_cannot_be(arguments: list[str], sentence: str) -> None:
    """A sentence, before anything is asked or started."""
    message = bench("ingest", "--url", "http://127.0.0.1:9", *arguments, status=2)
    assert sentence in message
    assert "Traceback" not in message


def test_freshness_and_sdk(server: ServerProcess) -> None:
    """As many as asked for."""
    assert bench("freshness", "--url", server.url, "--points", "3")["points"] == 3
    (found,) = bench("sdk", "--metrics", "4", "--calls", "20")
    assert (found["metrics"], found["calls"]) == (4, 20)


def test_no_server() -> None:
    """A sentence, no traceback."""
    message = bench("query", "--url", "http://127.0.0.1:9", "--seconds", "1", status=1)
    assert message.startswith("Error: ")
    assert "Traceback" not in message


def test_wrong_data_is_told(server: ServerProcess, tmp_path: Path) -> None:
    """A point too few, a value that differs, a step that differs, another rank's: each fails."""
    frames, steps = Frames.of(3, seed=1), 10
    rows = Mappings(frames)
    for rank in (0, 1):
        run = thalweg.init(
            project="wrong", run_id="r", url=server.url, spool_dir=tmp_path, rank=rank, system_interval_s=0
        )
        for step in range(steps):
            run.log(rows[step] if rank == 0 else dict.fromkeys(frames.names, 0.5), step=step)
        run.finish()
    assert verify(server.client, "wrong", "r", frames, steps, rank=0) == 3 * steps
    assert verify(server.client, "wrong", "r", frames, 0, rank=0) == 0
    other = replace(frames, rows=np.nextafter(frames.rows, 9))
    for call in (
        lambda: verify(server.client, "wrong", "r", frames, steps + 1, rank=0),
        lambda: verify(server.client, "wrong", "r", frames, steps - 1, rank=0),
        lambda: verify(server.client, "wrong", "r", other, steps, rank=0),
        lambda: verify(server.client, "wrong", "r", frames, steps, rank=1),
        lambda: verify(server.client, "wrong", "r", frames, steps, first_step=0.5, rank=0),
        lambda: verify(server.client, "wrong", "gone", frames, steps),
    ):
        with pytest.raises(ThalwegError) as caught:
            call()
        assert isinstance(caught.value, WrongDataError) or "gone" in str(caught.value)


def test_quantiles() -> None:
    """The least value that enough do not exceed."""
    assert [quantile([4, 1, 3, 2], share) for share in (0.0, 0.5, 0.51, 0.99, 1.0)] == [1, 2, 3, 4, 4]
