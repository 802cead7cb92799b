"""`make demo`: a server, two real trainings, and what was recorded of them, read back, checked and shown.

Run it from the root of the repository with `pip install '.[server,examples]'`. It writes to `.demo/` only,
ends no process but those that it started, asks nothing, and needs no terminal. Exit status: 0 if every
check held, 1 if not, 130 after Ctrl-C.
"""

from __future__ import annotations

import fcntl
import io
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, Final

import plotext  # type: ignore[import-untyped]  # ships no types
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thalweg.api_client import ApiClient
from thalweg.errors import ServerError, ThalwegError

PROJECT: Final = "digits"
TRAININGS: Final = {
    "fast": ["--lr", "0.05", "--hidden", "128", "--epochs", "120"],
    "slow": ["--lr", "0.002", "--hidden", "32", "--epochs", "120"],
}
SHOWN_METRICS: Final = ("train/loss", "val/loss", "val/accuracy", "val/precision", "val/recall")

FOLDER: Final = Path(".demo")
MARKER: Final = FOLDER / "made-by-thalweg-demo"  # only a folder with this file is ever removed
DATA: Final = FOLDER / "data"
SPOOL: Final = FOLDER / "spool"
SERVER_LOG: Final = FOLDER / "server.log"

START_TIMEOUT_S: Final = 60.0
DELIVERY_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.05
LOG_TAIL_LINES: Final = 30
PLOT_BUCKETS: Final = 120
PLOT_HEIGHT_ROWS: Final = 18
PLOT_WIDTH_MAX: Final = 100
STEPS_PER_TICK: Final = 1000
TABLE_STYLE: Final[dict[str, Any]] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}
MARKERS: Final = ("*", "o")
TO_ASCII: Final = str.maketrans("┌┐└┘├┤┬┴┼─│", "+++++++++-|")  # any terminal and any log can show it


class DemoError(Exception):
    """Something did not hold. The message says what; the server's log may say why."""


class FolderError(DemoError):
    """The folder cannot be used, so nothing was started."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training printed at its end: the truth that the recorded run is held against."""

    run_id: str
    steps: int
    scores: dict[str, str]  # metric -> its last value, as printed


def main() -> int:
    """Runs the demo and gives its exit status."""
    console = Console(highlight=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the tables have lines
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # so that these end the server too
    started_s = time.monotonic()
    try:
        prepare_folder()
        console.rule("1. Start a server", align="left")
        with Server() as server:
            client = ApiClient(server.wait_for_url())
            version = wait_for("the server's health", lambda: health(client), START_TIMEOUT_S)["version"]
            console.print(f"thalweg {version} serves {client.url}, data in {DATA}\n")
            console.rule("2. Train twice", align="left")
            trained = []
            for run_id, options in TRAININGS.items():
                trained.append(train(console, run_id, options, client.url))
                server.expect_alive()
            console.rule("3. Read back, check, show", align="left")
            wait_for("the delivery of all records", spool_is_empty, DELIVERY_TIMEOUT_S)
            report(console, client, trained)
            status = server.stop()
        if status != 0:
            raise DemoError(f"the server ended with exit status {status} instead of 0")
    except KeyboardInterrupt:
        console.print("interrupted; the server is stopped")
        return 130
    except (DemoError, ThalwegError, OSError) as error:
        console.print(f"the demo failed: {error}", style="bold red", markup=False, soft_wrap=True)
        if not isinstance(error, FolderError):
            show_log_tails(console)
        return 1
    console.rule("4. Go on", align="left")
    show_next_steps(console)
    console.print(f"all checks passed, in {time.monotonic() - started_s:.0f} s", style="bold green")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def prepare_folder() -> None:
    """Makes an empty folder. Raises FolderError where the one that is there is not ours, or in use."""
    if FOLDER.exists():
        if not MARKER.is_file():
            raise FolderError(f"cannot empty {FOLDER}: it lacks {MARKER.name}, so no demo made it. Remove it yourself.")
        if (DATA / "owner.json").exists():
            with (DATA / "owner.json").open("rb") as owner:
                try:
                    fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise FolderError(f"cannot empty {FOLDER}: a server serves {DATA}. Stop it first.") from None
        shutil.rmtree(FOLDER)
    FOLDER.mkdir()
    MARKER.touch()


class Server:
    """`thalweg up` as a process with a log file. Leaving the `with` block stops it, whatever happened."""

    def __init__(self) -> None:
        """Starts it on free ports."""
        ports = ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        self._url: Future[str] = Future()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "thalweg.cli.main", "up", "--data", str(DATA), *ports],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C must reach the training first, which then still can deliver
        )
        self._reader = threading.Thread(target=self._read, name="server output")
        self._reader.start()

    def _read(self) -> None:
        """Copies the output to the log until the process ends; finds the address in it."""
        assert self._process.stdout is not None
        with self._process.stdout as lines, SERVER_LOG.open("w") as log:
            for line in lines:
                log.write(line)
                log.flush()
                address = re.search(r"http://127\.0\.0\.1:\d+", line)
                if address and not self._url.done():
                    self._url.set_result(address[0])
        if not self._url.done():
            self._url.set_exception(DemoError("the server ended before it was ready"))

    def wait_for_url(self) -> str:
        """The HTTP address, once the server has printed it. Raises DemoError."""
        try:
            return self._url.result(START_TIMEOUT_S)
        except FutureTimeoutError:
            raise DemoError(f"the server printed no address within {START_TIMEOUT_S:.0f} s") from None

    def expect_alive(self) -> None:
        """Raises DemoError if it has ended by itself."""
        if self._process.poll() is not None:
            raise DemoError(f"the server ended by itself, with exit status {self._process.returncode}")

    def stop(self) -> int:
        """Stops it as an operator would, with SIGTERM, and gives its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the server did not stop within {STOP_TIMEOUT_S:.0f} s; it was killed") from None
        finally:
            self._process.kill()  # nothing happens to one that has ended
            self._process.wait()
            self._reader.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            self.stop()


def wait_for(what: str, look: Callable[[], Any], timeout_s: float) -> Any:
    """What `look` returns, once that is true. Raises DemoError when the time is up."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline_s:
            raise DemoError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(POLL_S)
    return found


def health(client: ApiClient) -> Any:
    """The answer of /health; None while nobody answers."""
    try:
        return client.get("/health")
    except ServerError:
        return None


def spool_is_empty() -> bool:
    """Whether the server has acknowledged everything: only then a sender removes its folder of the spool."""
    return not any(entry.is_dir() for entry in SPOOL.iterdir())


def train(console: Console, run_id: str, options: Sequence[str], url: str) -> Trained:
    """Runs the example as a user would, in a process of its own, and shows its output."""
    command = [sys.executable, str(Path(__file__).with_name("digits.py")), "--run-id", run_id, *options]
    shown = ["python", os.path.relpath(command[1]), *command[2:]]
    console.print(f"$ THALWEG_URL={url} {shlex.join(shown)}", style="bold", soft_wrap=True)
    result = ""
    with running(command, url) as process:
        assert process.stdout is not None
        for line in process.stdout:
            console.print("  " + line.rstrip(), markup=False, soft_wrap=True)
            result = line if line.startswith("result:") else result
    if process.returncode != 0 or not result:
        raise DemoError(f"the training {run_id} ended without a result, with exit status {process.returncode}")
    console.print()
    numbers = dict(re.findall(r"(\S+) (\S+)", result.removeprefix("result:")))
    return Trained(run_id, int(numbers.pop("step")), numbers)


@contextmanager
def running(command: Sequence[str], url: str) -> Iterator[subprocess.Popen[str]]:
    """A training whose output can be read. Leaving the block waits for its end, or brings it about after an error."""
    settings = {
        "THALWEG_URL": url,
        "THALWEG_SPOOL_DIR": str(SPOOL),
        "THALWEG_SYSTEM_INTERVAL_S": "1",
        "PYTHONUNBUFFERED": "1",
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("THALWEG_")}
    process = subprocess.Popen(
        command,
        env=inherited | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # one Ctrl-C, from here: a second would disturb its last word to the server
    )
    with process:
        try:
            yield process
        except BaseException:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=STOP_TIMEOUT_S)
            finally:
                process.kill()  # nothing happens to one that has ended
            raise


def report(console: Console, client: ApiClient, trained: Sequence[Trained]) -> None:
    """Reads the runs back over the API, checks them and shows them. Raises DemoError."""
    summary, values = summary_table(), Table("metric", **TABLE_STYLE)
    rows: dict[str, list[str]] = {name: [] for name in SHOWN_METRICS}
    for training in trained:
        details, metrics = read_run(client, training.run_id)
        check(client, training, details, metrics)
        summary.add_row(*summarize(client, details, metrics))
        for heading in (f"{training.run_id}: last", "best", "at step"):
            values.add_column(heading, justify="right")
        for name, cells in rows.items():
            cells.extend(last_and_best(metrics[name]))
    for name, cells in rows.items():
        values.add_row(name, *cells)
    console.print(summary, values)
    show_plot(console, client, [training.run_id for training in trained])


def read_run(client: ApiClient, run_id: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A run's details, and its metrics by name."""
    path = f"/projects/{PROJECT}/runs/{run_id}"
    return client.get(path), {metric["name"]: metric for metric in client.pages(f"{path}/metrics", "metrics")}


def read_series(client: ApiClient, run_ids: Sequence[str], metric: str, points: int | None) -> list[dict[str, Any]]:
    """One metric of some runs: in so many buckets, or exact where `points` is None."""
    asked = {"runs": list(run_ids), "metrics": [metric], "points": points}
    found: list[dict[str, Any]] = client.post(f"/projects/{PROJECT}/series", asked)["series"]
    return found


def check(client: ApiClient, training: Trained, details: dict[str, Any], metrics: dict[str, dict[str, Any]]) -> None:
    """Holds what the server has against what the training said of itself. Raises DemoError."""

    def expect(what: str, found: object, expected: object) -> None:
        if found != expected:
            raise DemoError(f"run {training.run_id}: {what} is {found}, not {expected}")

    counters = {reason: points for reason, points in details["health"]["counters"].items() if points}
    logged = counters.pop("logged", 0)
    expect("its status", details["status"], "finished")
    expect("the number of accepted points", counters.pop("accepted", 0), logged)
    expect("the list of lost points", counters, {})
    exact = read_series(client, [training.run_id], "train/loss", points=None)
    steps = exact[0]["x"] if exact else []
    expect("the number of exact points of train/loss", len(steps), training.steps)
    expect("the list of gaps in its steps", [b for a, b in pairwise(steps) if b != a + 1], [])
    expect("the list of missing metrics", sorted({*SHOWN_METRICS} - metrics.keys()), [])
    for name, printed in training.scores.items():
        expect(f"the last {name}", f"{float(metrics[name]['last']):.4f}", printed)


def summary_table() -> Table:
    """The table for the rows of `summarize`."""
    table = Table("run", "status", **TABLE_STYLE)
    for heading in ("lr", "hidden", "steps", "logged", "accepted", "cpu, mean", "memory, max"):
        table.add_column(heading, justify="right")
    return table


def summarize(client: ApiClient, details: dict[str, Any], metrics: dict[str, dict[str, Any]]) -> list[str]:
    """A run as a row. Two samples of the host, a second apart, make a CPU percentage: a short run may have none."""
    config, counters = details["config"], details["health"]["counters"]
    cpu = read_series(client, [details["run_id"]], "system/cpu/percent", points=1)
    memory = metrics.get("system/memory/used_bytes")
    return [
        details["run_id"],
        details["status"],
        str(config["lr"]),
        str(config["hidden"]),
        f"{details['last_step']:,.0f}",
        f"{counters['logged']:,}",
        f"{counters['accepted']:,}",
        f"{cpu[0]['mean'][0]:.0f} %" if cpu else "-",
        f"{memory['max'] / 1e9:.1f} GB" if memory else "-",
    ]


def last_and_best(metric: dict[str, Any]) -> tuple[str, str, str]:
    """Last value, best value and its step: the least of a loss, the greatest of all else."""
    best, step = ("min", "argmin") if metric["name"].endswith("loss") else ("max", "argmax")
    return f"{metric['last']:.4g}", f"{metric[best]:.4g}", f"{metric[step]:,.0f}"


def show_plot(console: Console, client: ApiClient, run_ids: Sequence[str]) -> None:
    """Draws the training loss of the runs as text, on a scale of decades."""
    plotext.terminal.limit(width=False, height=False)
    figure, width = plotext.figure.clear(), min(console.width, PLOT_WIDTH_MAX)
    figure.theme("simple").plot_size(width, PLOT_HEIGHT_ROWS).label("step", "x")
    lowest, last_step, names = 0.0, 0.0, []
    for series, marker in zip(read_series(client, run_ids, "train/loss", PLOT_BUCKETS), MARKERS, strict=True):
        steps = series["x"]
        decades = [math.log10(value) for value in series["mean"]]  # by hand: plotext 6.1 has no ticks on log scales
        figure.draw(figure.signal(steps, decades, marker=marker).lines())
        lowest, last_step = min(lowest, *decades), max(last_step, steps[-1])
        names.append(f"{marker} {series['run_id']}")
    powers = range(math.floor(lowest), 1)
    figure.ruler("y").ticks(list(powers), [f"{10.0**power:g}" for power in powers])
    figure.ruler("x").ticks(list(range(0, int(last_step) + 1, STEPS_PER_TICK)))
    figure.title(f"train/loss: {', '.join(names)} (mean of each of {PLOT_BUCKETS} buckets)")
    is_plain = console.no_color or not console.is_terminal
    console.print(Text.from_ansi(figure.build().string(colorless=is_plain).translate(TO_ASCII)))


def show_log_tails(console: Console) -> None:
    """Prints the end of the server's log, and of the log of each sender that has not delivered everything."""
    for log in (SERVER_LOG, *SPOOL.glob("*/sender.log")):
        if log.exists():
            console.print(f"the end of {log}:")
            for line in log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]:
                console.print("  " + line, markup=False, soft_wrap=True)


def show_next_steps(console: Console) -> None:
    """Prints commands that work from here."""
    folder = Path(sys.executable).parent
    on_path = shutil.which("thalweg") == str(folder / "thalweg")
    prefix = "" if on_path else f"{folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder}/"
    steps = {
        f"{prefix}thalweg up --data {DATA}": "serve these two runs again; Ctrl-C stops it",
        f"{prefix}thalweg runs {PROJECT}": "in another terminal: list them",
        f"{prefix}thalweg show {PROJECT}/fast": "all that is known of one",
        f"{prefix}python examples/digits.py --lr 0.1": "record one more",
    }
    for command, effect in steps.items():
        console.print(f"  {command:{max(map(len, steps))}}  # {effect}", markup=False, soft_wrap=True)
    console.print()


if __name__ == "__main__":
    sys.exit(main())
