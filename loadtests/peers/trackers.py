"""The trackers that can be asked for what they have: how each logs, finishes and gives back. See files.py for the rest.

All have system metrics and capture of the console off. The last part of the folder is the name of the project; nothing
else is in it.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from loadtests.peers.data import Row

Log = Callable[[dict[str, float], int], object]
"""Logs values at a step."""


class Tracker(Protocol):
    """One tracker in one folder, with the address of its server where it has one."""

    is_single: bool
    """Values are kept in 32 bits."""

    def start(self) -> Log:
        """Starts a run, and gives the function that logs to it."""

    def finish(self) -> None:
        """Ends the run, and whatever process it has started here."""

    def last_step(self, name: str) -> float | None:
        """The last step that a reader finds of a metric; None where the tracker cannot be asked on this machine."""

    def rows(self) -> Iterator[Row]:
        """Every point that is there. In a fresh process, maybe after the one that logged was killed."""


class Thalweg:
    """Thalweg, to its own server."""

    is_single = False
    mode = "online"

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url
        self._run: Any = None

    def start(self) -> Log:
        """See Tracker."""
        import thalweg

        self._run = run = thalweg.init(
            project=self._folder.name,
            run_id="run",
            mode=self.mode,
            url=self._url or None,
            spool_dir=self._folder,
            system_interval_s=0,
        )
        return lambda values, step: run.log(values, step=step)

    def finish(self) -> None:
        """See Tracker."""
        self._run.finish()

    def last_step(self, name: str) -> float | None:
        """See Tracker."""
        from thalweg.api_client import ApiClient

        body = {"runs": ["run"], "metrics": [name], "points": None}
        found = ApiClient(self._url).post(f"/projects/{self._folder.name}/series", body)["series"]
        return float(found[0]["x"][-1]) if found else -1

    def rows(self) -> Iterator[Row]:
        """See Tracker."""
        return _thalweg_rows(self._url, self._folder.name)


class ThalwegOffline(Thalweg):
    """Thalweg without a server. `thalweg sync` then sends the spool to one of its own, which is asked."""

    mode = "offline"

    def last_step(self, name: str) -> float | None:
        """See Tracker."""
        return None

    def rows(self) -> Iterator[Row]:
        """See Tracker."""
        from thalweg.testing import running_server

        with running_server(self._folder.with_name(self._folder.name + "-server")) as server:
            command = [sys.executable, "-m", "thalweg.cli.main", "sync", str(self._folder), "--url", server.url]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            yield from _thalweg_rows(server.url, self._folder.name)


def _thalweg_rows(url: str, project: str) -> Iterator[Row]:
    from thalweg.api_client import ApiClient

    listed = ApiClient(url).pages(f"/projects/{project}/runs/run/metrics", "metrics")
    yield from _thalweg_points(url, project, [metric["name"] for metric in listed])


def _thalweg_points(url: str, project: str, metrics: list[str]) -> Iterator[Row]:
    import pyarrow as pa

    from thalweg.api_client import ApiClient

    body = {"runs": ["run"], "metrics": metrics, "points": None}
    answer = ApiClient(url).post_for_arrow(f"/projects/{project}/series", body)
    for batch in pa.ipc.open_stream(io.BytesIO(answer)):
        columns = (batch.column(name).to_pylist() for name in ("name", "x", "value"))
        yield from zip(*columns, strict=True)


class Mlflow:
    """mlflow, to its own server, whose address is in MLFLOW_TRACKING_URI."""

    is_single = False
    is_synchronous = True

    def __init__(self, folder: Path, url: str) -> None:
        self._experiment = folder.name

    def start(self) -> Log:
        """See Tracker."""
        import mlflow

        mlflow.set_experiment(self._experiment)
        mlflow.start_run()
        log, synchronous = mlflow.log_metrics, self.is_synchronous
        return lambda values, step: log(values, step=step, synchronous=synchronous)

    def finish(self) -> None:
        """See Tracker."""
        import mlflow

        mlflow.flush_async_logging()
        mlflow.end_run()

    def last_step(self, name: str) -> float | None:
        """See Tracker."""
        client, run = self._reader()
        return max((point.step for point in client.get_metric_history(run.info.run_id, name)), default=-1)

    def rows(self) -> Iterator[Row]:
        """See Tracker."""
        client, run = self._reader()
        for name in run.data.metrics:
            for point in client.get_metric_history(run.info.run_id, name):
                yield name, point.step, point.value

    def _reader(self) -> tuple[Any, Any]:
        import mlflow

        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name(self._experiment)
        (run,) = client.search_runs([experiment.experiment_id])
        return client, client.get_run(run.info.run_id)


class MlflowAsync(Mlflow):
    """The same with `synchronous=False`."""

    is_synchronous = False


class Trackio:
    """trackio, into its database on this machine."""

    is_single = False

    def __init__(self, folder: Path, url: str) -> None:
        self._project = folder.name
        os.environ.update(TRACKIO_DIR=str(folder.parent / "trackio"), HF_HUB_OFFLINE="1")

    def start(self) -> Log:
        """See Tracker."""
        import trackio

        trackio.init(project=self._project, name="run", embed=False, auto_log_gpu=False, auto_log_cpu=False)
        log = trackio.log
        return lambda values, step: log(values, step=step)

    def finish(self) -> None:
        """See Tracker."""
        import trackio

        trackio.finish()

    def last_step(self, name: str) -> float | None:
        """See Tracker."""
        from trackio.sqlite_storage import SQLiteStorage

        rows = SQLiteStorage.get_metric_values(self._project, "run", name)
        return max((row["step"] for row in rows), default=-1)

    def rows(self) -> Iterator[Row]:
        """See Tracker."""
        from trackio.sqlite_storage import SQLiteStorage

        for entry in SQLiteStorage.get_logs(self._project, "run"):
            for name, value in entry.items():
                if name.startswith("train/"):
                    yield name, entry["step"], value


class Aim:
    """aim, into a repository on this machine. Its read-only way finds no metrics, so a reader resumes the run."""

    is_single = False

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._run: Any = None

    def start(self) -> Log:
        """See Tracker."""
        self._run = run = self._open(None)
        return lambda values, step: run.track(values, step=step)

    def finish(self) -> None:
        """See Tracker."""
        self._run.close()

    def last_step(self, name: str) -> float | None:
        """See Tracker."""
        from aim.storage.context import Context

        metric = self._reader().get_metric(name, Context({}))
        return -1 if metric is None else float(metric.last_step())

    def rows(self) -> Iterator[Row]:
        """See Tracker."""
        for metric in self._reader().metrics():
            steps, columns = metric.data.items_list()
            yield from zip([metric.name] * len(steps), steps, columns[0], strict=True)

    def _reader(self) -> Any:
        from aim import Repo

        (run,) = Repo(str(self._folder)).list_all_runs()
        return self._open(run)

    def _open(self, run: str | None) -> Any:
        from aim import Run

        quiet = {"system_tracking_interval": None, "log_system_params": False, "capture_terminal_logs": False}
        return Run(run, repo=str(self._folder), **quiet)
