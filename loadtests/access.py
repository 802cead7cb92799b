"""What it costs to ask for tokens: points a second, milliseconds a request, and how soon a revoked token is refused.

The same load, and the same requests, against a server that asks for tokens and one that does not, in turns; ratios are
of one round. `revoked`: from the answer to the order until a writer's stream that was open, and a new request, are
refused. The load's points are read back and compared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from loadtests.report import Report
from thalweg.api_client import ApiClient
from thalweg.bench.ingest import IngestLoad, run_ingest
from thalweg.testing import ServerProcess, running_server

ADMIN = "a" * 40
REQUESTS = 2000


@contextmanager
def serving(*, tokens: bool) -> Iterator[ServerProcess]:
    """A server of one kind; what this process logs to it shows a token where it needs one."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        options = ["--auth", "tokens"] if tokens else []
        with running_server(data, *options, token=ADMIN if tokens else None) as server:
            if tokens:
                os.environ["THALWEG_TOKEN"] = server.client.post("/tokens", {"role": "write", "project": "bench"})[
                    "token"
                ]
            try:
                yield server
            finally:
                os.environ.pop("THALWEG_TOKEN", None)


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


def revoked_ms(server: ServerProcess) -> float:
    """Until a request with a token that was just revoked is refused."""
    made = server.client.post("/tokens", {"role": "read", "project": "bench"})
    client = ApiClient(server.url, made["token"])
    client.get("/projects")
    server.client.delete(f"/tokens/{made['id']}")
    began = time.perf_counter()
    headers = {"Authorization": f"Bearer {made['token']}"}
    while httpx.get(f"{server.url}/api/v1/projects", headers=headers).status_code != 401:
        assert time.perf_counter() - began < 60, "it is never refused"
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    """Measures in rounds and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    report = Report("Access", (__doc__ or "").strip())
    load = IngestLoad(2, 1000, seconds=options.seconds)
    rates: dict[bool, list[float]] = {False: [], True: []}
    requests: dict[bool, list[float]] = {False: [], True: []}
    revoked = []
    for number in range(options.rounds):
        for tokens in (False, True) if number % 2 == 0 else (True, False):
            with serving(tokens=tokens) as server:
                rates[tokens].append(run_ingest(server.url, "bench", load).points_per_s)
                requests[tokens].append(request_ms(server, "/projects/bench/custom-metrics"))
                if tokens:
                    revoked.append(revoked_ms(server))
        print(f"round {number + 1}: {rates[False][-1]:,.0f} without, {rates[True][-1]:,.0f} with tokens", flush=True)
    costs = [100 * (1 - with_ / without) for without, with_ in zip(rates[False], rates[True], strict=True)]
    slower = [with_ - without for without, with_ in zip(requests[False], requests[True], strict=True)]
    report.add("wide, without tokens", "points/s", rates[False])
    report.add("wide, with tokens", "points/s", rates[True])
    report.add("ingest lost to tokens", "%", costs, "under 3")
    report.add("a request, without tokens", "ms", requests[False])
    report.add("a request, with tokens", "ms", requests[True])
    report.add("a request, more with tokens", "ms", slower, "under 1")
    report.add("a revoked token is refused after", "ms", revoked, "under 5,000")
    report.write("access")


if __name__ == "__main__":
    main()
