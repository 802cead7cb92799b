"""The figures of all rounds, and how they compare."""

from __future__ import annotations

from loadtests.peers.program import TRACKERS, Measured
from loadtests.report import Report
from thalweg.bench.numbers import quantile

OWN = ("thalweg, offline", "thalweg, online")
SERVED = ("mlflow", "mlflow, asynchronous")
COST = ("log(), median",)
CPU = ("CPU of the loop", "CPU of finishing")


class Findings:
    """Figures by name, one for each round, and words on what is to be known of them."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._values: dict[str, list[float]] = {}
        self._units: dict[str, str] = {}
        self._cheapest: dict[str, list[str]] = {}
        self.notes: list[str] = []

    def add(self, name: str, unit: str, value: float) -> None:
        """One value of a round."""
        self._values.setdefault(name, []).append(value)
        self._units[name] = unit
        print(f"  {name}: {value:,.4g} {unit}", flush=True)

    def note(self, text: str) -> None:
        """Once each."""
        if text not in self.notes:
            self.notes.append(text)
            print(f"  {text}", flush=True)

    def add_loop(self, title: str, found: Measured, width: int) -> None:
        """The figures of one loop."""
        took_us = [ns / 1e3 for ns in found.took_ns]
        points = width * len(took_us)
        self.add(f"{title}: log(), median", "us", quantile(took_us, 0.5))
        self.add(f"{title}: log(), p99", "us", quantile(took_us, 0.99))
        self.add(f"{title}: CPU of the loop", "us/point", found.loop_cpu_s / points * 1e6)
        self.add(f"{title}: CPU of finishing", "us/point", found.finish_cpu_s / points * 1e6)
        if found.readable_s is not None:
            self.add(f"{title}: until readable", "points/s", points / found.readable_s)

    def tell(self, report: Report) -> None:
        """All figures that every round has."""
        for name, values in self._values.items():
            if len(values) == self._rounds:
                report.add(name, self._units[name], values)
            else:
                self.note(f"{name}: left out, as it failed in {self._rounds - len(values)} of {self._rounds} rounds.")

    def compare(self, report: Report, widths: list[int]) -> None:
        """The cheapest other tracker of each round beside Thalweg."""
        others = [peer for peer in TRACKERS if peer not in OWN]
        local = [peer for peer in others if peer not in SERVED]
        for width in widths:
            for own in OWN:
                self._tell_times(report, own, others, width, "log(), median", COST)
            self._tell_times(report, OWN[0], local, width, "CPU of the loop", CPU[:1])
            self._tell_times(report, OWN[0], local, width, "CPU with finishing", CPU)
            self._tell_times(report, OWN[1], list(SERVED), width, "CPU with finishing", CPU)
        for peers, some in self._cheapest.items():
            self.note(f"Cheapest was {peers} in: {'; '.join(some)}.")

    def _tell_times(
        self, report: Report, own: str, others: list[str], width: int, what: str, parts: tuple[str, ...]
    ) -> None:
        costs = {peer: self._total(f"{peer}, {width:,} metrics", parts) for peer in others}
        costs = {peer: some for peer, some in costs.items() if some}
        own_costs = self._total(f"{own}, {width:,} metrics", parts)
        if not costs or not own_costs:
            return
        cheapest = [min(costs, key=lambda peer: costs[peer][number]) for number in range(self._rounds)]
        times = [costs[peer][number] / own_costs[number] for number, peer in enumerate(cheapest)]
        report.add(f"times {own}, {width:,} metrics: {what}", "", times, "at least 10")
        self._cheapest.setdefault(" or ".join(sorted(set(cheapest))), []).append(f"{width:,} metrics, {what} ({own})")

    def _total(self, title: str, parts: tuple[str, ...]) -> list[float]:
        """The sum of figures, round by round; empty where one of them is missing in a round."""
        columns = [self._values.get(f"{title}: {part}", []) for part in parts]
        is_whole = all(len(column) == self._rounds for column in columns)
        return [sum(row) for row in zip(*columns, strict=True)] if is_whole else []
