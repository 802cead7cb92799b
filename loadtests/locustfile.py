"""Users for locust: writers and forks over gRPC, dashboards and listeners over HTTP.

`locust -f loadtests/locustfile.py --host URL`. Kinds are mixed by weight or chosen by name (`locust ... WriterUser
DashboardUser`), headless or with locust's page, distributed with its own master and workers. A writer's response time
is that from the making of a frame until it was acknowledged, and so can be read; when it stops, it reads back
everything that it has logged, and what is not as it was logged is a failure.

Unless you say otherwise it is bounded (10 minutes, 1,000 users a process), asks this machine, listens on it alone,
and lets users end what they are at when the time is over. `make loadtest` puts some of this on a server of its own.
"""

from __future__ import annotations

# Locust has patched the standard library for gevent when this file is loaded; gRPC has to be told before its
# first channel.
import grpc.experimental.gevent as grpc_gevent

grpc_gevent.init_gevent()

import logging
import os
import queue
import random
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, ClassVar, Final
from urllib.parse import urlencode, urlsplit

import gevent
import gevent.pool
from geventhttpclient.response import HTTPConnectionClosed
from locust import User, between, constant_throughput, events, task
from locust.contrib.fasthttp import FastHttpUser
from locust.exception import StopUser

from thalweg.api_client import ApiClient, segment
from thalweg.bench import answers
from thalweg.bench.frames import Frames
from thalweg.bench.live import read_events
from thalweg.bench.queries import (
    NothingThereError,
    Question,
    Subject,
    define_custom,
    find_subject,
    questions,
    remove_custom,
)
from thalweg.bench.read_back import verify
from thalweg.bench.words import Words
from thalweg.errors import ThalwegError
from thalweg.sender.channels import bearer_metadata, open_blocking_channel
from thalweg.settings import Settings
from thalweg.wire.run_ids import generate_run_id
from thalweg.wire.v1 import ingest_pb2_grpc

log = logging.getLogger(__name__)

STEPS_PER_S: Final = 10.0
FORK_EVERY_S: Final = 1.0
FORKS_AT_ONCE: Final = 30
ROOT_STEPS: Final = 20
FORK_STEPS: Final = 5
ACKED_MOST_S: Final = 60.0
LOOKS_AT_A_PAGE: Final = 4
LISTEN_S: Final = 10.0
LISTEN_METRICS: Final = 4
SILENT_MOST_S: Final = 30.0
"""A stream sends a comment every ten seconds at least."""
CLOSED: Final = (HTTPConnectionClosed, ConnectionResetError, BrokenPipeError)
LOOPBACK: Final = "127.0.0.1"


@events.init_command_line_parser.add_listener
def _add_options(parser: ArgumentParser) -> None:
    """Options of this file, beside locust's own; also on its page. Bounds where locust has none."""
    parser.set_defaults(web_host=LOOPBACK, master_bind_host=LOOPBACK, run_time=600, stop_timeout=180.0)
    parser.add_argument("--project", default="loadtest", help="project of the runs that are made and asked for")
    parser.add_argument(
        "--look-at", default="", help="projects to ask for, if not that; several, as in a,b: one a user"
    )
    parser.add_argument("--metrics", default="100", help="metrics of a writer's step; several, as in 10,1000: in turn")
    parser.add_argument("--ranks", type=int, default=1, help="writers of a run, each a rank of it")
    parser.add_argument("--nothing-most", type=float, default=60.0, help="seconds to wait for runs to look at")
    parser.add_argument("--most-users", type=int, default=1000, help="users of one process; more end at once")


@events.init.add_listener
def _choose_server(environment: Any, **_: Any) -> None:
    """Without --host it is that of the SDK: THALWEG_URL, else this machine."""
    environment.host = environment.host or _settings().url


@events.test_start.add_listener
def _forget(environment: Any, **_: Any) -> None:
    """A test knows nothing of the one before: no users, and no run that has ranks to come."""
    ServerUser.present, WriterUser.next_run = 0, iter(())
    ServerUser.begun.clear()


@events.quitting.add_listener
def _tell_failures(environment: Any, **_: Any) -> None:
    """Locust prints them itself, but not where it writes its statistics as JSON."""
    if environment.parsed_options.json or environment.parsed_options.json_file:
        for one in environment.runner.errors.values():
            log.error("%d times: %s %s: %s", one.occurrences, one.method, one.name, one.error)


def _settings() -> Settings:
    return Settings.read(os.environ, rank=0)


class ServerUser(User):
    """A user of a server."""

    abstract = True
    present: ClassVar[int] = 0
    begun: ClassVar[Counter[type]] = Counter()

    def on_start(self) -> None:
        """Raises StopUser where there are enough users."""
        self.options = self.environment.parsed_options
        projects = self.options.look_at.split(",") if self.options.look_at else [self.options.project]
        self.place, number = divmod(ServerUser.begun[type(self)], len(projects))
        self.project = projects[number]
        ServerUser.begun[type(self)] += 1
        self.token = _settings().token
        self.api = ApiClient(str(self.host), self.token)
        ServerUser.present += 1
        if ServerUser.present > self.options.most_users:
            problem = f"this process has {self.options.most_users} users already; --most-users allows more"
            self.tell("user", "start", 0.0, ValueError(problem))
            raise StopUser

    def on_stop(self) -> None:
        """Makes room for another."""
        ServerUser.present -= 1

    def tell(self, kind: str, name: str, took_ms: float, error: Exception | None = None) -> None:
        """Counts one answer, or one failure."""
        self.environment.events.request.fire(
            request_type=kind, name=name, response_time=took_ms, response_length=0, exception=error, context={}
        )

    def find_something(self) -> Subject:
        """The newest runs, once there are some. Raises StopUser, with a failure, if there are none for too long."""
        deadline_s = time.monotonic() + self.options.nothing_most
        while True:
            begin = time.perf_counter()
            try:
                found = find_subject(self.api, self.project)
            except NothingThereError as error:
                if time.monotonic() > deadline_s:
                    self.tell("http", "newest runs and names", _ms_since(begin), error)
                    raise StopUser from error
                gevent.sleep(0.5)
            except ThalwegError as error:
                self.tell("http", "newest runs and names", _ms_since(begin), error)
                raise StopUser from error
            else:
                self.tell("http", "newest runs and names", _ms_since(begin))
                return found


class Stream:
    """A writer's stream, and its words on it. Lives from the first word until `end`."""

    def __init__(self, user: ProtocolUser, words: Words) -> None:
        self._user = user
        self._words = words
        self._to_say: queue.Queue[Any] = queue.Queue()
        self._to_say.put(words.hello())
        self._to_say.put(words.start())
        stub = ingest_pb2_grpc.IngestStub(user.channel)  # type: ignore[no-untyped-call]  # generated without types
        metadata = bearer_metadata(user.token)
        call = stub.Stream(iter(self._to_say.get, None), metadata=metadata)
        self._acks = gevent.spawn(self._take_acks, call)

    @property
    def is_broken(self) -> bool:
        """Whether the server ended it. That was told."""
        return bool(self._acks.dead)

    def log(self) -> None:
        """The next frame."""
        self._words.log()
        self._say()

    def end(self) -> None:
        """Waits until all is acknowledged, then reads it back."""
        self._words.end()
        self._say()
        self._acks.join(ACKED_MOST_S)
        begin = time.perf_counter()
        error: Exception | None = None
        if not self._acks.dead:
            error = TimeoutError(f"not acknowledged within {ACKED_MOST_S:g} s")
            self._acks.kill()
        try:
            words, rank = self._words, self._words.rank if self._user.options.ranks > 1 else None
            verify(
                self._user.api,
                words.project,
                words.run_id,
                words.frames,
                words.steps,
                first_step=words.first_step,
                rank=rank,
            )
        except ThalwegError as wrong:
            error = wrong
        self._user.tell("http", "read everything back", _ms_since(begin), error)
        self._to_say.put(None)

    def _say(self) -> None:
        message = self._words.next()
        if message is not None:
            self._to_say.put(message)

    def _take_acks(self, call: Iterator[Any]) -> None:
        try:
            for answer in call:
                if answer.WhichOneof("kind") == "rejected":
                    self._user.tell("grpc", "frame", 0.0, ValueError(answer.rejected.message))
                    continue
                for took_ms in self._words.acknowledged_ms(answer.ack.sequence):
                    self._user.tell("grpc", "frame", took_ms)
                if self._words.is_done(answer.ack.sequence):
                    return
                self._say()
            self._user.tell("grpc", "frame", 0.0, EOFError("the server ended the stream"))
        except Exception as error:  # noqa: BLE001  # the outermost line of a greenlet
            self._user.tell("grpc", "frame", 0.0, error)


class ProtocolUser(ServerUser):
    """Who opens streams, over one connection."""

    abstract = True
    channel: Any = None

    def on_start(self) -> None:
        """Takes the address of the ingest from the API, as the SDK does, or from THALWEG_GRPC."""
        super().on_start()
        address = os.environ.get("THALWEG_GRPC") or self.api.get("/health")["grpc"]
        self.channel = open_blocking_channel(address)

    def on_stop(self) -> None:
        """Lets go of the connection."""
        if self.channel is not None:
            self.channel.close()
        super().on_stop()

    @property
    def widths(self) -> list[int]:
        """Metrics of a step, run by run."""
        return [int(text) for text in self.options.metrics.split(",")]


class WriterUser(ProtocolUser):
    """A training's process: a run of its own, or with --ranks a rank of one that has several."""

    weight = 10
    wait_time = constant_throughput(STEPS_PER_S)
    next_run: ClassVar[Iterator[tuple[str, int, int]]] = iter(())
    runs_begun: ClassVar[int] = 0
    stream: Stream | None = None

    def on_start(self) -> None:
        """A run that was not there before, or the next rank of the last one, with as many metrics."""
        super().on_start()
        run_id, rank, width = self._place()
        frames = Frames.of(width, seed=WriterUser.runs_begun * self.options.ranks + rank)
        self.stream = Stream(self, Words(self.options.project, run_id, frames, rank=rank))

    def _place(self) -> tuple[str, int, int]:
        """Run, rank and width. Nothing here waits, so no other user comes between."""
        place = next(WriterUser.next_run, None)
        if place is None:
            run_id, width = generate_run_id(), self.widths[WriterUser.runs_begun % len(self.widths)]
            WriterUser.runs_begun += 1
            WriterUser.next_run = iter([(run_id, rank, width) for rank in range(self.options.ranks)])
            place = next(WriterUser.next_run)
        return place

    @task
    def step(self) -> None:
        """One step of the training."""
        assert self.stream is not None
        if self.stream.is_broken:
            raise StopUser
        self.stream.log()

    def on_stop(self) -> None:
        """Everything is there, as it was logged."""
        if self.stream is not None:
            self.stream.end()
        super().on_stop()


class ForkUser(ProtocolUser):
    """Forks a run once a second, and logs a few steps to each fork. There is one, however many users there are.

    A fork is due at its time, whatever became of those before; how late each comes is told. The first is due when the
    root is there.
    """

    fixed_count = 1
    root = ""

    def wait_time(self) -> float:
        """Seconds until the next fork is due."""
        return max(0.0, self.begin + self.forks * FORK_EVERY_S - time.perf_counter())

    def on_start(self) -> None:
        """A root to fork."""
        super().on_start()
        self.frames = Frames.of(self.widths[0], seed=0)
        self.writing = gevent.pool.Pool(FORKS_AT_ONCE)
        self.root = generate_run_id()
        stream = Stream(self, Words(self.options.project, self.root, self.frames))
        for _ in range(ROOT_STEPS):
            stream.log()
        stream.end()
        self.begin, self.forks = time.perf_counter(), 0

    @task
    def fork(self) -> None:
        """A fork at some step."""
        late_ms = _ms_since(self.begin + self.forks * FORK_EVERY_S)
        self.forks += 1
        self.tell("load", "fork begins late", max(0.0, late_ms))
        step = float(random.randrange(ROOT_STEPS))  # a load, not a secret
        path = f"/projects/{segment(self.options.project)}/runs/{self.root}/fork"
        begin = time.perf_counter()
        try:
            made = self.api.post(path, {"step": step, "config": {"lr": step}})
        except ThalwegError as error:
            self.tell("http", "fork", _ms_since(begin), error)
            return
        self.tell("http", "fork", _ms_since(begin))
        self.writing.spawn(self.go_on, made["run_id"], step + 1)  # waits only where FORKS_AT_ONCE are under way

    def go_on(self, run_id: str, first_step: float) -> None:
        """Logs to a fork, and reads that back."""
        try:
            stream = Stream(self, Words(self.options.project, run_id, self.frames, first_step))
            for _ in range(FORK_STEPS):
                stream.log()
            stream.end()
        except Exception as error:  # noqa: BLE001  # the outermost line of a greenlet
            self.tell("grpc", "frame", 0.0, error)

    def on_stop(self) -> None:
        """All forks are there, with what was logged to them."""
        if self.root:
            self.writing.join()
        super().on_stop()


class DashboardUser(ServerUser, FastHttpUser):
    """Somebody who looks at the project's newest runs: at a page, which refreshes itself, then at the next one.

    Each begins with another page, and with those runs that are the newest when it comes to a page.
    """

    weight = 5
    wait_time = between(5.0, 10.0)
    custom = ""
    computed_from = ""

    def on_start(self) -> None:
        """Comes to a page."""
        super().on_start()
        self.looks, self.questions = 0, list[Question]()

    @task
    def look(self) -> None:
        """All that the page asks for, one question after the other."""
        if self.looks % LOOKS_AT_A_PAGE == 0:
            self.questions = self._go_on()
        self.looks += 1
        for question in self.questions:
            self._ask(question)

    def _go_on(self) -> list[Question]:
        """The questions of the next page, of the newest runs."""
        subject = self.find_something()
        if self.computed_from != subject.names[0]:
            self._define(subject)
        every = questions(subject, self.custom)
        pages = list(dict.fromkeys(one.page for one in every))
        page = pages[(self.place + self.looks // LOOKS_AT_A_PAGE) % len(pages)]
        return [one for one in every if one.page == page]

    def _define(self, subject: Subject) -> None:
        """A custom metric of its own, of what there is to see."""
        begin = time.perf_counter()
        try:
            self._remove()
            self.custom, self.computed_from = define_custom(self.api, subject), subject.names[0]
        except ThalwegError as error:
            self.tell("http", "define a custom metric", _ms_since(begin), error)
            raise StopUser from error
        self.tell("http", "define a custom metric", _ms_since(begin))

    def _ask(self, question: Question) -> None:
        """Asks, and once again where the server had closed the connection that was kept, as browsers do."""
        if not self._is_answered(question):
            self._is_answered(question, is_last=True)

    def _is_answered(self, question: Question, *, is_last: bool = False) -> bool:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        with self.client.request(
            question.method,
            f"/api/v1{question.path}",
            json=question.body,
            name=question.name,
            headers=headers,
            catch_response=True,
        ) as answer:
            if isinstance(getattr(answer, "error", None), CLOSED) and not is_last:
                answer.request_meta["name"] = "kept connection had closed"
                answer.success()
                return False
            if answer.status_code == 200:  # else it is a failure already
                try:
                    question.check_answer(answer.json())
                except (answers.WrongAnswerError, ValueError) as error:
                    answer.failure(str(error))
        return True

    def on_stop(self) -> None:
        """Leaves the server as it was."""
        try:
            self._remove()
        except ThalwegError as error:
            self.tell("http", "remove a custom metric", 0.0, error)
        super().on_stop()

    def _remove(self) -> None:
        name, self.custom = self.custom, ""
        if name:
            remove_custom(self.api, self.project, name)


class LiveUser(ServerUser):
    """Somebody who lets the charts of the newest runs grow: a live stream, opened anew every few seconds.

    The response time of `live point` is from `log()` until it was told, by the clocks of the writer and of the user.
    """

    weight = 1
    wait_time = between(0.0, 1.0)

    @task
    def listen(self) -> None:
        """The points of some series for a while."""
        subject = self.find_something()
        names = subject.names[:LISTEN_METRICS]
        query = urlencode({"runs": subject.runs, "metrics": names}, doseq=True)
        where = urlsplit(f"{self.host}/api/v1/projects/{segment(subject.project)}/live?{query}")
        connect = HTTPSConnection if where.scheme == "https" else HTTPConnection
        connection = connect(str(where.hostname), where.port, timeout=SILENT_MOST_S)
        begin = time.perf_counter()
        try:
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            connection.request("GET", f"{where.path}?{where.query}", headers=headers)
            self._hear(connection.getresponse(), answers.live_points(subject.runs, names), begin)
        except (OSError, HTTPException, ThalwegError, ValueError, LookupError) as error:
            self.tell("http", "live", _ms_since(begin), error)
        finally:
            connection.close()

    def _hear(self, stream: HTTPResponse, check: answers.Check, begin: float) -> None:
        """Events for LISTEN_S from the first on. Raises what is wrong with them."""
        if stream.status != 200:
            raise ValueError(f"{stream.status} {stream.reason}: {stream.read(500)!r}")
        heard_at = None
        for kind, data in read_events(line.decode() for line in stream):
            now = time.perf_counter()
            if kind == "dropped":
                raise ValueError(f"the stream was dropped: {data['reason']}")
            if kind == "status" and heard_at is None:
                heard_at = now
                self.tell("http", "live", _ms_since(begin))
            elif kind == "points":
                answers.checked(check, data)
                newest_us = max(one["time"][-1] for one in data["series"])
                self.tell("http", "live point", max(0.0, time.time() * 1e3 - newest_us / 1e3))
            if heard_at is None and now - begin > SILENT_MOST_S:
                raise ValueError(f"no status of a run within {SILENT_MOST_S:g} s")
            if heard_at is not None and now - heard_at > LISTEN_S:
                return
        raise ValueError("the server ended the stream")


def _ms_since(begin: float) -> float:
    return (time.perf_counter() - begin) * 1e3
