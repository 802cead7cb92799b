"""A host of the database goes away under ingest: streams go on, nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import training, wire
from tests.support.clickhouse_server import RunningServer, start
from tests.support.cutting import Cut, cutting
from tests.support.engines import opened
from tests.support.roles import Role, migrated, role
from tests.support.tracker import Tracker, answering
from tests.support.waiting import wait_until
from thalweg.api_client import ApiClient
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.ingest.committer import Committer
from thalweg_tracker.ingest.decode import StreamDecoder, decode_hello
from thalweg_tracker.ingest.events import WriterNews
from thalweg_tracker.model import series_flags
from thalweg_tracker.model.settings import ServerStore

WRITERS = 4
METRICS = 200
FRAMES = 50


@dataclass(frozen=True)
class Cluster:
    """Both roles, over a database with two hosts."""

    hosts: RunningServer
    ingest: Role
    client: ApiClient
    store: str


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One engine behind two ports."""
    with start(tmp_path / "clickhouse", listeners=2) as hosts:
        addresses = ",".join(f"127.0.0.1:{port}" for port in hosts.ports)
        store = migrated(f"clickhouse://default@{addresses}/failover")
        with (
            role(tmp_path / "ingest.log", "ingest", "--grpc=127.0.0.1:0", store=store) as ingest,
            role(tmp_path / "api.log", "api", "--http=127.0.0.1:0", store=store) as api,
        ):
            yield Cluster(hosts, ingest, ApiClient(api.ready["http"]), store)


class Load:
    """Writers that stream batches until told to stop, each on one stream that may not fail."""

    def __init__(self, grpc: str) -> None:
        self._grpc = grpc
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(WRITERS)
        self.acknowledged = [0] * WRITERS
        self._writing = [self._threads.submit(self._write, number) for number in range(WRITERS)]

    def _write(self, number: int) -> int:
        """Returns how many batches were acknowledged. Raises grpc.RpcError if the stream fails."""
        names = [f"m{metric}" for metric in range(METRICS)]
        with wire.writing(self._grpc, wire.hello(f"run-{number}", writer=number + 1)) as stream:
            for batch in range(10_000):
                if self._stop.is_set():
                    break
                steps = [float(batch * FRAMES + frame) for frame in range(FRAMES)]
                rows = [[value(step, metric) for metric in range(METRICS)] for step in steps]
                times = [wire.START_US + int(step) for step in steps]
                stream.commit(wire.batch(batch + 1, names if batch == 0 else [], steps, rows, times))
                self.acknowledged[number] = batch + 1
        return self.acknowledged[number]

    def wait_for_more(self, batches: int) -> None:
        """Returns when each writer has had so many batches acknowledged since."""
        wanted = [count + batches for count in self.acknowledged]

        def have_come() -> bool:
            ended = [one for one in self._writing if one.done()]
            assert not ended, [one.exception() for one in ended]
            return all(has >= want for has, want in zip(self.acknowledged, wanted, strict=True))

        wait_until(have_come, timeout_s=120)

    def end(self) -> list[int]:
        """The batches of each writer."""
        self._stop.set()
        try:
            return [one.result() for one in self._writing]
        finally:
            self._threads.shutdown()


def value(step: float, metric: int) -> float:
    """What the writers log."""
    return step * 1000 + metric


def assert_exact(client: ApiClient, batches: list[int]) -> None:
    """All points of all series, each once and with its value."""
    for number, count in enumerate(batches):
        for metric in range(0, METRICS, 7):
            found = training.exact(client, f"run-{number}", f"m{metric}", project=wire.PROJECT)
            assert found == {float(step): value(float(step), metric) for step in range(count * FRAMES)}
        body = {"runs": [f"run-{number}"], "metrics": [f"m{m}" for m in range(METRICS)], "points": 1}
        counted = client.post(f"/projects/{wire.PROJECT}/series", body)["series"]
        assert [one["n"] for one in counted] == [[count * FRAMES]] * METRICS


def test_streams_go_on_while_a_host_goes_away_and_comes_back(cluster: Cluster) -> None:
    """One host after the other: no stream ends, so no sender has to send again."""
    load = Load(cluster.ingest.ready["grpc"])
    try:
        for count, port in enumerate(cluster.hosts.ports, start=1):
            load.wait_for_more(2)
            cluster.hosts.close_listener(port)
            load.wait_for_more(3)
            cluster.hosts.open_listener(port)
            wait_until(lambda count=count: cluster.ingest.log.read_text().count("answers again") >= count)  # type: ignore[misc]
    finally:
        batches = load.end()
    assert_exact(cluster.client, batches)


def test_points_of_an_unknown_fate_are_marked_then_inserted_again(tmp_path: Path) -> None:
    """Their insert was made, but its answer is lost: readers of the copies know, and count each point once."""
    cut = Cut("INSERT INTO `points`")
    with start(tmp_path, listeners=2) as hosts, cutting(hosts.ports, cut) as ports:
        store = ServerStore(tuple(("127.0.0.1", port) for port in ports), "fate", "default", "")
        with opened(store) as engine, answering(engine) as http:
            migrate(engine)
            engine.execute("SYSTEM STOP MERGES points")
            tracker = Tracker(engine, http)
            writer = tracker.registry.place(decode_hello(wire.hello("r")), wire.START_US)
            batch = wire.batch(1, ["a", "b"], range(100), [[step, -step] for step in range(100)])
            decoded = StreamDecoder(writer).decode(batch)
            tracker.registry.register_names(writer.project, writer.run, decoded.new_names)

            async def commit() -> None:
                committer = Committer(engine)
                try:
                    await (await committer.submit(decoded.blocks, WriterNews(writer, [], {}, wire.START_US, 1)))
                finally:
                    await committer.close()

            asyncio.run(commit())
            assert cut.is_done.is_set()
            assert engine.query("SELECT count() AS n FROM points")["n"].to_pylist() == [400]
            flags = engine.query("SELECT DISTINCT flags FROM series_stats")["flags"].to_pylist()
            assert flags == [series_flags.HAS_NUMBER | series_flags.RESENT]
            for name, sign in (("a", 1), ("b", -1)):
                (exact,) = tracker.series(["r"], [name])
                assert (exact["x"], exact["value"]) == (list(range(100)), [sign * step for step in range(100)])
                (counted,) = tracker.series(["r"], [name], points=1)
                assert (counted["n"], counted["mean"]) == ([100], [sign * 49.5])
