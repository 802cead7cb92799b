"""What /metrics says, as Prometheus reads it."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Scrape:
    """One answer. `types`: by family, as the text names it. `values`: by name and labels."""

    types: dict[str, str]
    values: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """The one sample with these labels; 0 where there is none, as Prometheus' rates have it."""
        return self.values.get((name, frozenset(labels.items())), 0.0)

    def labelled(self, name: str, label: str) -> dict[str, float]:
        """The samples of a metric by one label; others are summed up."""
        sums: dict[str, float] = {}
        for (sample, labels), value in self.values.items():
            if sample == name:
                which = dict(labels)[label]
                sums[which] = sums.get(which, 0.0) + value
        return sums

    @property
    def names(self) -> set[str]:
        """Names of all samples."""
        return {name for name, _ in self.values}


def parse(text: str) -> Scrape:
    """An answer in the text format. Asserts that no sample is there twice."""
    types, values = {}, {}
    for family in text_string_to_metric_families(text):
        types[family.name + ("_total" if family.type == "counter" else "")] = family.type
        for sample in family.samples:
            place = sample.name, frozenset(sample.labels.items())
            assert place not in values, place
            values[place] = sample.value
    return Scrape(types, values)


def scrape(url: str) -> Scrape:
    """What a server says now. `url`: of the server, or of its ops address."""
    answer = httpx.get(f"{url}/metrics", timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return parse(answer.text)
