"""/metrics of real servers under real traffic: the numbers are those of what was sent, not only the names."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import training, wire
from tests.support.live import listening
from tests.support.scrape import Scrape, scrape
from tests.support.waiting import wait_until
from thalweg.testing import ServerProcess, running_server
from thalweg_tracker.api.requests import OTHER_ROUTE
from thalweg_tracker.model import limits

ROOT = Path(__file__).parents[2]
RUN_ROUTE = "/api/v1/projects/{project}/runs/{run_id}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server whose numbers begin at zero."""
    with running_server(tmp_path / "data") as running:
        yield running


def test_what_was_sent_is_counted(server: ServerProcess) -> None:
    """Points, batches, commits and refused points are exactly those of the writers; streams are counted out again."""
    with wire.writing(server.grpc, wire.hello("one")) as one, wire.writing(server.grpc, wire.hello("two", 2)) as two:
        one.commit(wire.batch(1, ["a", "b"], [1, 2, 3], [[1, 2]] * 3))
        two.commit(wire.batch(1, ["a", ""], [1, math.nan], [[1, 2]] * 2), wire.batch(2))
        now = scrape(server.url)
        assert now.value("thalweg_ingest_points_total") == 6 + 1
        assert now.value("thalweg_ingest_batches_total") == 3
        commits = now.value("thalweg_ingest_commit_duration_seconds_count")
        assert 1 <= commits <= 3
        assert now.value("thalweg_ingest_commit_rows_count") == commits
        assert now.value("thalweg_ingest_commit_rows_sum") == 7
        assert now.value("thalweg_ingest_ack_duration_seconds_count") == commits
        assert now.labelled("thalweg_ingest_rejected_points_total", "reason") == {"step": 2, "name": 1}
        assert now.value("thalweg_ingest_streams") == 2
        assert now.value("thalweg_ingest_commit_failures_total") == 0
        assert now.value("thalweg_ingest_queue_bytes") == 0
        assert now.value("thalweg_ingest_queue_limit_bytes") == limits.INGEST_BUFFER_BYTES
        assert now.labelled("thalweg_engine_rows", "table")["points"] == 7
        assert now.labelled("thalweg_engine_parts", "table")["points"] >= 1
        assert now.labelled("thalweg_engine_bytes", "table")["points"] > 0
        assert (now.value("thalweg_engine_up"), now.value("thalweg_ready")) == (1, 1)
        one.end()
    wait_until(lambda: scrape(server.url).value("thalweg_ingest_streams") == 0)
    ends = scrape(server.url).labelled("thalweg_ingest_stream_ends_total", "reason")
    assert ends["ended"] >= 1
    assert ends["ended"] + ends["gone"] == sum(ends.values()) == 2, "the other was broken off"


def test_how_streams_end(server: ServerProcess) -> None:
    """One that says nonsense is refused; the others have nothing to do with it."""
    with wire.writing(server.grpc, None) as stream:
        stream.send(wire.batch(1))
        stream.ending()
    refused = scrape(server.url).labelled("thalweg_ingest_stream_ends_total", "reason")
    assert (refused["refused"], sum(refused.values())) == (1, 1)


def test_the_age_of_points_is_that_of_the_worst_writer(server: ServerProcess) -> None:
    """A writer whose spool lags an hour behind is seen while it is connected, until it says that nothing waits."""
    late_us = time.time_ns() // 1000 - 3_600_000_000
    with wire.writing(server.grpc, wire.hello("late")) as late, wire.writing(server.grpc, wire.hello("now", 2)) as now:
        late.commit(wire.batch(1, ["a"], [1], [[1]], [late_us]))
        now.commit(wire.batch(1, ["a"], [1], [[1]], [time.time_ns() // 1000]))
        seen = scrape(server.url)
        assert 3600 <= seen.value("thalweg_ingest_worst_point_age_seconds") < 3600 + 600
        assert seen.value("thalweg_ingest_point_age_seconds_count") == 2
        buckets = seen.labelled("thalweg_ingest_point_age_seconds_bucket", "le")
        assert (buckets["1800.0"], buckets["21600.0"]) == (1, 2)
        late.commit(wire.batch(2))
        assert scrape(server.url).value("thalweg_ingest_worst_point_age_seconds") < 3600
        assert scrape(server.url).value("thalweg_ingest_point_age_seconds_count") == 2


def test_requests_are_counted_by_route(server: ServerProcess) -> None:
    """By the template of the route, whatever is asked for; also what is not there, and methods that it has not."""
    with wire.writing(server.grpc, wire.hello("r")) as stream:
        stream.commit(wire.batch(1, ["a"], [1], [[1]]))
    with httpx.Client(base_url=server.url) as http:
        for run in ("r", "r", "x", "y"):
            http.get(f"/api/v1/projects/p/runs/{run}")
        http.post("/api/v1/projects/p/series", json={"runs": ["r"], "metrics": ["a"], "points": None})
        for path in ("/wp-login.php", "/api/v1/nothing?token=secret"):
            http.get(path)
        http.request("PROPFIND", "/api/v1/projects")
        for path in ("/healthz", "/readyz", "/metrics"):
            http.get(path)
    now = scrape(server.url)
    name = "thalweg_http_requests_total"
    assert now.value(name, method="GET", route=RUN_ROUTE, status="200") == 2
    assert now.value(name, method="GET", route=RUN_ROUTE, status="404") == 2
    assert now.value(name, method="POST", route="/api/v1/projects/{project}/series", status="200") == 1
    assert now.value(name, method="GET", route=OTHER_ROUTE, status="404") == 2
    assert now.labelled(name, "method")["OTHER"] == 1
    assert sum(now.labelled(name, "route").values()) == 8, "probes are not counted"
    duration = "thalweg_http_request_duration_seconds_count"
    assert now.value(duration, method="GET", route=RUN_ROUTE) == 4
    assert now.value("thalweg_http_requests_in_progress") == 0


def test_live_streams_are_counted_while_they_are_open(server: ServerProcess) -> None:
    """And their time is that to the first byte, not that of hours of listening."""
    with wire.writing(server.grpc, wire.hello("r")) as stream:
        stream.commit(wire.batch(1, ["a"], [1], [[1]]))
        with (
            httpx.Client(base_url=f"{server.url}/api/v1", timeout=60) as http,
            listening(http, runs="r", metrics="a") as heard,
        ):
            stream.commit(wire.batch(2, ["a"], [2], [[2]], [wire.START_US + 9]))
            heard.wait_for_steps([2], "r", "a")
            open_now = scrape(server.url)
            assert open_now.value("thalweg_live_listeners") == 1
            assert open_now.value("thalweg_http_requests_in_progress") == 1
    wait_until(lambda: scrape(server.url).value("thalweg_live_listeners") == 0)
    route = "/api/v1/projects/{project}/live"
    wait_until(
        lambda: scrape(server.url).value("thalweg_http_requests_total", method="GET", route=route, status="200") == 1
    )


def test_a_training_is_counted_to_the_point(server: ServerProcess, tmp_path: Path) -> None:
    """The SDK, its sender and a real process: what the run says was accepted is what the server has counted."""
    script = """
import sys, thalweg
with thalweg.init(project="faults", run_id="counted", url=sys.argv[1], system_interval_s=0) as run:
    for step in range(500):
        run.log({"loss": 1.0 / (1 + step), "lr": 0.1}, step=step)
"""
    status, _, err = training.run_to_end(tmp_path, server.url, script, server.url)
    assert status == 0, err
    training.wait_for_status(server.client, "counted", "finished")
    now = wait_until(lambda: (seen := scrape(server.url)).value("thalweg_ingest_points_total") >= 1000 and seen)
    assert isinstance(now, Scrape)
    assert now.value("thalweg_ingest_points_total") == 1000
    assert now.value("thalweg_ingest_worst_point_age_seconds") < 3600


def test_no_name_or_secret_becomes_a_label(server: ServerProcess) -> None:
    """However runs, projects and metrics are called, and whatever stands in headers."""
    with wire.writing(server.grpc, wire.hello("run-name", project="project-name")) as stream:
        stream.commit(wire.batch(1, ["metric-name"], [1], [[1]]))
    headers = {"Authorization": "Bearer s3cr3t", "X-Request-ID": "id-of-mine"}
    httpx.get(f"{server.url}/api/v1/projects/project-name/runs/run-name?token=s3cr3t", headers=headers)
    text = httpx.get(f"{server.url}/metrics").text
    for word in ("run-name", "project-name", "metric-name", "s3cr3t", "id-of-mine", "127.0.0.1"):
        assert word not in text


def test_openmetrics_for_those_who_take_it(server: ServerProcess) -> None:
    """Prometheus asks for it first."""
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
    answer = httpx.get(f"{server.url}/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scrape]:
    """The metrics of a server after some of everything."""
    with running_server(tmp_path_factory.mktemp("used") / "data") as running:
        with wire.writing(running.grpc, wire.hello("r")) as stream:
            stream.commit(wire.batch(1, ["a"], [1, math.inf], [[1], [2]]))
        running.client.get("/projects/p/runs/r")
        yield scrape(running.url)


def test_the_dashboard_shows_what_is_there(used: Scrape) -> None:
    """Every metric that a query of it names is in an answer of a server that was used; and the other way round."""
    dashboard = json.loads((ROOT / "deploy/grafana/thalweg.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    named = {word for query in queries for word in re.findall(r"\b(?:thalweg|process)_[a-z_]+", query)}
    assert named - used.names == set()
    families = {name for name in used.types if name.startswith("thalweg_")}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert families - shown == set(), "a metric that no panel shows"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"


def test_the_guide_lists_what_is_there(used: Scrape) -> None:
    """docs/monitoring.md: each metric with its type and no other, all ends of streams, and alerts on those alone."""
    guide = (ROOT / "docs/monitoring.md").read_text()
    listed = {
        name: kind
        for names, kind in re.findall(r"^\| (`[^|]+`) \| (gauge|counter|histogram) \|", guide, re.MULTILINE)
        for name in re.findall(r"`([a-z_]+)`", names)
    }
    assert listed == used.types
    (ends,) = re.findall(r"`thalweg_ingest_stream_ends_total` .* by `reason`: (.+) \|", guide)
    assert sorted(ends.split(", ")) == sorted(used.labelled("thalweg_ingest_stream_ends_total", "reason"))
    alerts = re.findall(r"expr: (.+)", guide)
    assert len(alerts) >= 5
    named = {word for alert in alerts for word in re.findall(r"\b(?:thalweg|process)_[a-z_]+", alert)}
    assert named - used.names == set()


def test_names_follow_the_conventions(used: Scrape) -> None:
    """Counters end in _total, units are seconds and bytes, and no name has another prefix."""
    for name, kind in used.types.items():
        assert name.startswith(("thalweg_", "process_")), name
        assert name.endswith("_total") == (kind == "counter"), name
        assert not re.search(r"_(ms|us|millis|kb|mb)(_|$)", name), name
