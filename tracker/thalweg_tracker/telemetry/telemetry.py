"""What a server process tells of itself, as one object that its parts are handed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from thalweg_tracker.telemetry.engine_metrics import EngineCollector
from thalweg_tracker.telemetry.metrics import Metrics
from thalweg_tracker.telemetry.probe import Ask, Probe
from thalweg_tracker.telemetry.readiness import Readiness
from thalweg_tracker.telemetry.traces import Traces


def _unasked() -> Readiness:
    return Readiness(None)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Without arguments: counts for nobody, is ready, makes no traces. For parts that stand alone."""

    metrics: Metrics = field(default_factory=Metrics)
    readiness: Readiness = field(default_factory=_unasked)
    traces: Traces = field(default_factory=Traces)
    probe: Probe | None = None

    @classmethod
    def of(cls, ask: Ask, *, version: str, engine: str, environ: Mapping[str, str]) -> Telemetry:
        """That of a server process. `ask`: the engine's rows to some SQL; `engine`: its kind."""
        probe = Probe(ask)
        metrics = Metrics(version, engine)
        readiness = Readiness(probe)
        metrics.ready.set_function(lambda: float(readiness.look().is_ready))
        metrics.registry.register(EngineCollector(probe))
        return cls(metrics, readiness, Traces.configured(environ, version), probe)

    def close(self) -> None:
        """Before the engine is closed."""
        self.traces.close()
        if self.probe is not None:
            self.probe.close()
