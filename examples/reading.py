"""What the examples read back over the HTTP API, each answer in one call. Read-only; knows nothing of the spool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.api_client import ApiClient, run_path, segment

Points = list[tuple[float, float]]  # step, value
Run = str | tuple[str, int]  # its id, or one of its branches


@dataclass(frozen=True, slots=True)
class Project:
    """One project of a server."""

    client: ApiClient
    name: str

    def run(self, run_id: str, branch: int | None = None) -> Any:
        """Status, config, health, lineage of a run: of its newest branch, or of the given one."""
        return self.client.get(run_path(self.name, run_id), branch=branch)

    def metrics(self, run_id: str, branch: int | None = None) -> dict[str, dict[str, Any]]:
        """The metrics of a run by name, each with its last, least and greatest value."""
        path = f"{run_path(self.name, run_id)}/metrics"
        return {metric["name"]: metric for metric in self.client.pages(path, "metrics", branch=branch)}

    def lineage(self, run_id: str) -> list[dict[str, Any]]:
        """The way from the root to a run, itself last, with what each changed of its config."""
        found: list[dict[str, Any]] = self.client.get(f"{run_path(self.name, run_id)}/lineage")["lineage"]
        return found

    def advice(self, run_id: str) -> Any:
        """How often to save; None while that cannot be told."""
        return self.client.get(f"{run_path(self.name, run_id)}/checkpoints")["advice"]

    def points(self, run: Run, metric: str) -> Points:
        """All points of a metric, exact, inherited ones included; none where the run has no such metric."""
        found = self._series([run], metric, None)
        return list(zip(found[0]["x"], found[0]["value"], strict=True)) if found else []

    def buckets(self, runs: Sequence[Run], metric: str, count: int) -> list[dict[str, Any]]:
        """A metric of each run that has it, in so many buckets."""
        return self._series(runs, metric, count)

    def _series(self, runs: Sequence[Run], metric: str, points: int | None) -> list[dict[str, Any]]:
        named = [run if isinstance(run, str) else {"run_id": run[0], "branch": run[1]} for run in runs]
        asked = {"runs": named, "metrics": [metric], "points": points}
        found: list[dict[str, Any]] = self.client.post(f"/projects/{segment(self.name)}/series", asked)["series"]
        return found
