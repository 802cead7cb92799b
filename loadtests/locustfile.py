"""Users for locust: writers over gRPC, dashboards over HTTP, forks. `locust -f loadtests/locustfile.py --host URL`.

Three kinds, mixed by weight or chosen by name (`locust ... WriterUser DashboardUser`), headless or with locust's page,
distributed with its own master and workers. A writer's response time is that from the making of a frame until it
was acknowledged, and so can be read; when it stops, it reads back everything that it has logged, and what is not
as it was logged is a failure. `make loadtest` puts all of it on a server of its own.
"""

from __future__ import annotations

# Locust has patched the standard library for gevent when this file is loaded; gRPC has to be told before its
# first channel.
import grpc.experimental.gevent as grpc_gevent

grpc_gevent.init_gevent()

import queue
import random
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any, ClassVar, Final

import gevent
import grpc
from locust import User, between, constant_throughput, events, task
from locust.contrib.fasthttp import FastHttpUser
from locust.exception import StopUser

from thalweg.api_client import ApiClient, segment
from thalweg.bench.frames import Frames
from thalweg.bench.queries import NothingThereError, dashboard
from thalweg.bench.read_back import verify
from thalweg.bench.words import Words
from thalweg.errors import ThalwegError
from thalweg.wire import policy
from thalweg.wire.run_ids import generate_run_id
from thalweg.wire.v1 import ingest_pb2_grpc

STEPS_PER_S: Final = 10.0
ACKED_MOST_S: Final = 60.0
_numbers = iter(range(1 << 62))


@events.init_command_line_parser.add_listener
def _add_options(parser: ArgumentParser) -> None:
    """Options of this file, beside locust's own; also on its page."""
    parser.add_argument("--project", default="loadtest", help="project of the runs that are made and asked for")
    parser.add_argument("--metrics", default="100", help="metrics of a writer's step; several, as in 10,1000: in turn")
    parser.add_argument("--ranks", type=int, default=1, help="writers of a run, each a rank of it")


class ProtocolUser(User):
    """A writer's stream, and its words on it."""

    abstract = True

    def on_start(self) -> None:
        """Takes the address of the ingest from the API, as the SDK does."""
        self.api = ApiClient(str(self.host))
        self.options = self.environment.parsed_options
        self.channel = grpc.insecure_channel(self.api.get("/health")["grpc"], options=policy.CLIENT_OPTIONS)

    def on_stop(self) -> None:
        """Lets go of the connection."""
        self.channel.close()

    def tell(self, kind: str, name: str, took_ms: float, error: Exception | None = None) -> None:
        """Counts one answer, or one failure."""
        self.environment.events.request.fire(
            request_type=kind, name=name, response_time=took_ms, response_length=0, exception=error, context={}
        )

    def open(self, run_id: str, rank: int = 0, first_step: float = 0.0) -> None:
        """Begins to write to a run."""
        number = next(_numbers)
        widths = [int(text) for text in self.options.metrics.split(",")]
        frames = Frames.of(widths[number // self.options.ranks % len(widths)], number)
        self.words = Words(self.options.project, run_id, frames, first_step, rank)
        self._to_say: queue.Queue[Any] = queue.Queue()
        self._to_say.put(self.words.hello())
        self._to_say.put(self.words.start())
        stub = ingest_pb2_grpc.IngestStub(self.channel)  # type: ignore[no-untyped-call]  # generated without types
        call = stub.Stream(iter(self._to_say.get, None))
        self._acks = gevent.spawn(self._take_acks, call)

    def log(self) -> None:
        """The next frame."""
        if self._acks.dead:
            raise StopUser
        self.words.log()
        self._say()

    def end(self) -> None:
        """Waits until all is acknowledged, then reads it back."""
        self.words.end()
        self._say()
        self._acks.join(ACKED_MOST_S)
        begin = time.perf_counter()
        error: Exception | None = None
        if not self._acks.dead:
            error = TimeoutError(f"not acknowledged within {ACKED_MOST_S:g} s")
            self._acks.kill()
        try:
            words, rank = self.words, self.words.rank if self.options.ranks > 1 else None
            verify(
                self.api,
                words.project,
                words.run_id,
                words.frames,
                words.steps,
                first_step=words.first_step,
                rank=rank,
            )
        except ThalwegError as wrong:
            error = wrong
        self.tell("http", "read everything back", (time.perf_counter() - begin) * 1e3, error)
        self._to_say.put(None)

    def _say(self) -> None:
        message = self.words.next()
        if message is not None:
            self._to_say.put(message)

    def _take_acks(self, call: Iterator[Any]) -> None:
        try:
            for answer in call:
                if answer.WhichOneof("kind") == "rejected":
                    self.tell("grpc", "frame", 0.0, ValueError(answer.rejected.message))
                    continue
                for took_ms in self.words.acknowledged_ms(answer.ack.sequence):
                    self.tell("grpc", "frame", took_ms)
                if self.words.is_done(answer.ack.sequence):
                    return
                self._say()
        except grpc.RpcError as error:
            self.tell("grpc", "frame", 0.0, error)


class WriterUser(ProtocolUser):
    """A training's process: a run of its own, or with --ranks a rank of one that has several."""

    weight = 10
    wait_time = constant_throughput(STEPS_PER_S)
    started: ClassVar[list[str]] = []

    def on_start(self) -> None:
        """A run that was not there before, or the next rank of the last one."""
        super().on_start()
        rank = len(self.started) % self.options.ranks
        self.started.append(self.started[-1] if rank else generate_run_id())
        self.open(self.started[-1], rank)

    @task
    def step(self) -> None:
        """One step of the training."""
        self.log()

    def on_stop(self) -> None:
        """Everything is there, as it was logged."""
        self.end()
        super().on_stop()


class ForkUser(ProtocolUser):
    """Forks a run again and again, and logs a few steps to the fork. There is one, however many users there are."""

    fixed_count = 1
    wait_time = constant_throughput(1.0)

    def on_start(self) -> None:
        """A root to fork."""
        super().on_start()
        self.root = generate_run_id()
        self.open(self.root)
        for _ in range(20):
            self.log()
        self.end()

    @task
    def fork(self) -> None:
        """A fork at some step, that goes on from there."""
        step = float(random.randrange(20))  # a load, not a secret
        path = f"/projects/{segment(self.options.project)}/runs/{self.root}/fork"
        begin = time.perf_counter()
        try:
            made = self.api.post(path, {"step": step, "config": {"lr": step}})
        except ThalwegError as error:
            self.tell("http", "fork", (time.perf_counter() - begin) * 1e3, error)
            return
        self.tell("http", "fork", (time.perf_counter() - begin) * 1e3)
        self.open(made["run_id"], first_step=step + 1)
        for _ in range(5):
            self.log()
        self.end()


class DashboardUser(FastHttpUser):
    """Somebody who looks at the project's newest runs."""

    weight = 5
    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        """Waits until there is something to look at."""
        self._look_again()

    def _look_again(self) -> None:
        project = self.environment.parsed_options.project
        while True:
            try:
                self.questions = dashboard(ApiClient(str(self.host)), project)
                return
            except NothingThereError:
                gevent.sleep(0.5)

    @task
    def look(self) -> None:
        """All questions of a page, one after the other."""
        for question in self.questions:
            with self.client.request(
                question.method,
                f"/api/v1{question.path}",
                json=question.body,
                name=question.name,
                catch_response=True,
            ) as answer:
                if answer.status_code == 200 and not question.is_right(answer.json()):
                    answer.failure("the answer lacks what is there")

    @task
    def go_to_the_newest(self) -> None:
        """The runs of the page are those that are new by now."""
        self._look_again()
