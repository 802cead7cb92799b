"""What it costs to ask for tokens: CPU of the ingest, milliseconds a request, and how soon a revoked token is refused.

The same loads, and the same requests, against a server that asks for tokens and one that does not, in turns; ratios are
of one round. All points are read back and compared. A token is looked up for each batch: `small batches` is the load
where that weighs most, a frame or a few of ten points a batch, so what tokens cost the ingest at most is told by the
CPU that the server takes for a frame of it. `wide`, a look-up for some ten thousand points, cannot tell: as its merges
fall, two equal loads differ by a tenth or more.

`revoked`: from the answer to the order until nothing can be done with the token any more, the longest of a round: by a
new request or a new stream, on a stream that was open and goes on sending, and on one that was open and says nothing,
which has to be ended too. `here`: in the server that took the order. `elsewhere`: in `thalweg ingest`, where `thalweg
api` took it, each a process, on the server of the tests (the native protocol in front of the embedded engine).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import grpc
import httpx

from loadtests.report import Report
from loadtests.usage import cpu_s
from tests.support import wire
from tests.support.clickhouse_server import start
from tests.support.roles import migrated, role
from thalweg.api_client import ApiClient
from thalweg.bench.frames import Frames
from thalweg.bench.ingest import IngestLoad, run_ingest
from thalweg.bench.read_back import verify
from thalweg.bench.streams import StreamsLoad, run_streams
from thalweg.testing import ServerProcess, running_server

ADMIN: Final = "a" * 40
REQUESTS: Final = 2000
PROJECT: Final = "bench"
SMALL_BATCHES: Final = StreamsLoad(writers=200, metrics=10, steps_per_s=10, seconds=8)
REVOKED: Final = 4
"""Tokens of each kind and round: how long it takes elsewhere depends on when the order comes."""
PATIENCE_S: Final = 60

IsRefused = Callable[[], bool]
Begin = Callable[[str, str], AbstractContextManager[IsRefused]]
"""Of an address and a token: something that is let in, and asks or waits whether it still is."""


@contextmanager
def serving(*, tokens: bool) -> Iterator[ServerProcess]:
    """A server of one kind; what this process logs to it shows a token where it needs one."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        options = ["--auth", "tokens"] if tokens else []
        with running_server(data, *options, token=ADMIN if tokens else None) as server:
            if tokens:
                os.environ["THALWEG_TOKEN"] = new_token(server.client)["token"]
            try:
                yield server
            finally:
                os.environ.pop("THALWEG_TOKEN", None)


def small_batches_us(server: ServerProcess) -> float:
    """CPU of the server for a frame of ten points; what reading them back takes is not in it."""
    before_s = cpu_s(server.process.pid)
    result = run_streams(server.url, PROJECT, SMALL_BATCHES, check=False)
    took_s = cpu_s(server.process.pid) - before_s
    frames = result.points // SMALL_BATCHES.metrics
    for seed, run_id in enumerate(result.runs):
        verify(server.client, PROJECT, run_id, Frames.of(SMALL_BATCHES.metrics, seed), frames // SMALL_BATCHES.writers)
    return 1e6 * took_s / frames


def request_ms(server: ServerProcess, path: str) -> float:
    """Median of many requests on one kept connection."""
    token = os.environ.get("THALWEG_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    took = []
    with httpx.Client(base_url=f"{server.url}/api/v1", headers=headers) as client:
        for _ in range(REQUESTS):
            began = time.perf_counter()
            client.get(path).raise_for_status()
            took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e3


def new_token(admin: ApiClient) -> dict[str, str]:
    """One to write with."""
    made: dict[str, str] = admin.post("/tokens", {"role": "write", "project": PROJECT})
    return made


@contextmanager
def new_requests(url: str, token: str) -> Iterator[IsRefused]:
    """A request each time."""
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{url}/api/v1", headers=headers) as client:
        client.get("/projects").raise_for_status()
        yield lambda: client.get("/projects").status_code == 401


@contextmanager
def new_streams(address: str, token: str) -> Iterator[IsRefused]:
    """A stream, and a batch on it, each time."""

    def is_refused() -> bool:
        with open_stream(address, token) as stream:
            return not takes(stream, 1)

    assert not is_refused()
    yield is_refused


@contextmanager
def sending(address: str, token: str) -> Iterator[IsRefused]:
    """A stream that goes on, a batch each time."""
    numbers = count(1)
    with open_stream(address, token) as stream:
        assert takes(stream, next(numbers))
        yield lambda: not takes(stream, next(numbers))


@contextmanager
def silent(address: str, token: str) -> Iterator[IsRefused]:
    """A stream that waits for its end."""
    with open_stream(address, token) as stream:
        assert takes(stream, 1)
        yield lambda: stream.ending()[0] is grpc.StatusCode.UNAUTHENTICATED


def open_stream(address: str, token: str) -> AbstractContextManager[wire.WriterStream]:
    """Of a run of its own."""
    return wire.writing(address, wire.hello(f"revoked-{time.time_ns()}", project=PROJECT), token)


def takes(stream: wire.WriterStream, number: int) -> bool:
    """Whether a batch of one point is acknowledged. Raises grpc.RpcError where it is not the token that bars it."""
    try:
        stream.commit(wire.batch(number, ["loss"] if number == 1 else [], [number], [[1.0]]))
    except grpc.RpcError:
        if stream.call.code() is not grpc.StatusCode.UNAUTHENTICATED:
            raise
        return False
    return True


def known_token(admin: ApiClient, address: str) -> dict[str, str]:
    """One that another process, the ingest there, lets in already."""
    made, began_s = new_token(admin), time.perf_counter()
    while True:
        with open_stream(address, made["token"]) as stream:
            if takes(stream, 1):
                return made
        assert time.perf_counter() - began_s < PATIENCE_S, "it is never let in"


def revoked_ms(admin: ApiClient, address: str, begin: Begin, make: Callable[[], dict[str, str]]) -> float:
    """Until tokens that were just revoked are refused; the longest."""
    longest_s = 0.0
    for _ in range(REVOKED):
        made = make()
        with begin(address, made["token"]) as is_refused:
            admin.delete(f"/tokens/{made['id']}")
            began_s = time.perf_counter()
            while not is_refused():
                assert time.perf_counter() - began_s < PATIENCE_S, "it is never refused"
            longest_s = max(longest_s, time.perf_counter() - began_s)
    return longest_s * 1e3


HERE: Final[dict[str, Begin]] = {"a new request": new_requests, "an open stream": sending, "a silent stream": silent}
ELSEWHERE: Final[dict[str, Begin]] = {"a new stream": new_streams, "an open stream": sending, "a silent stream": silent}


def measure_here(server: ServerProcess, found: dict[str, list[float]]) -> None:
    """In the process that takes the order."""
    for name, begin in HERE.items():
        address = server.url if begin is new_requests else server.grpc
        took_ms = revoked_ms(server.client, address, begin, lambda: new_token(server.client))
        found.setdefault(f"revoked: {name}, here", []).append(took_ms)


def measure_elsewhere(rounds: int, found: dict[str, list[float]]) -> None:
    """In a process of another role than the one that takes the order."""
    admin = {"THALWEG_ADMIN_TOKEN": ADMIN}
    with tempfile.TemporaryDirectory() as name, start(Path(name) / "data") as database:
        log = Path(name) / "log"
        store = migrated(f"clickhouse://default@127.0.0.1:{database.ports[0]}/access")
        with (
            role(log, "ingest", "--grpc=127.0.0.1:0", "--auth=tokens", store=store, **admin) as ingest,
            role(log, "api", "--http=127.0.0.1:0", "--auth=tokens", store=store, **admin) as api,
        ):
            client, address = ApiClient(api.ready["http"], ADMIN), ingest.ready["grpc"]
            for _ in range(rounds):
                for kind, begin in ELSEWHERE.items():
                    took_ms = revoked_ms(client, address, begin, lambda: known_token(client, address))
                    found.setdefault(f"revoked: {kind}, elsewhere", []).append(took_ms)


def main() -> None:
    """Measures in rounds and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12, help="of loads and requests")
    parser.add_argument("--revocations", type=int, default=3, help="rounds of revocations")
    parser.add_argument("--seconds", type=float, default=12)
    options = parser.parse_args()
    report = Report("Access", (__doc__ or "").strip())
    load = IngestLoad(2, 1000, seconds=options.seconds)
    batches: dict[bool, list[float]] = {False: [], True: []}
    rates: dict[bool, list[float]] = {False: [], True: []}
    requests: dict[bool, list[float]] = {False: [], True: []}
    revoked: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for tokens in (False, True) if number % 2 == 0 else (True, False):
            with serving(tokens=tokens) as server:
                batches[tokens].append(small_batches_us(server))
                rates[tokens].append(run_ingest(server.url, PROJECT, load).points_per_s)
                requests[tokens].append(request_ms(server, f"/projects/{PROJECT}/custom-metrics"))
                if tokens and number < options.revocations:
                    measure_here(server, revoked)
        print(f"round {number + 1}: {batches[False][-1]:.0f} us without, {batches[True][-1]:.0f} us with tokens")
    measure_elsewhere(options.revocations, revoked)
    costs = [100 * (with_ / without - 1) for without, with_ in zip(batches[False], batches[True], strict=True)]
    slower = [with_ - without for without, with_ in zip(requests[False], requests[True], strict=True)]
    report.add("small batches: server's CPU of a frame, without tokens", "us", batches[False])
    report.add("small batches: server's CPU of a frame, with tokens", "us", batches[True])
    report.add("small batches: more CPU with tokens", "%", costs, "under 3")
    report.add("wide, without tokens", "points/s", rates[False])
    report.add("wide, with tokens", "points/s", rates[True])
    report.add("a request, without tokens", "ms", requests[False])
    report.add("a request, with tokens", "ms", requests[True])
    report.add("a request, more with tokens", "ms", slower, "under 1")
    for name, took_ms in revoked.items():
        report.add(name, "ms", took_ms, "under 5,000")
    report.write("access")


if __name__ == "__main__":
    main()
