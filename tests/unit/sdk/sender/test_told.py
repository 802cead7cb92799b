"""Which gRPC address a sender goes to."""

from __future__ import annotations

import pytest

from thalweg.sender.told import seen_from_here


@pytest.mark.parametrize(
    ("told", "url", "seen"),
    [
        ("10.0.0.7:7411", "http://tracker:7412", "10.0.0.7:7411"),
        ("grpcs://ingest.example:443", "https://tracker.example", "grpcs://ingest.example:443"),
        ("0.0.0.0:7411", "http://tracker:7412", "tracker:7411"),
        ("grpcs://0.0.0.0:7411", "https://tracker.example/", "grpcs://tracker.example:7411"),
        ("[::]:7411", "http://[fd00::7]:7412", "[fd00::7]:7411"),
        ("[::1]:7411", "http://tracker:7412", "[::1]:7411"),
    ],
)
def test_a_server_on_all_addresses_is_reached_on_that_of_its_url(told: str, url: str, seen: str) -> None:
    """`0.0.0.0` would be the training host itself; any other address is taken at its word."""
    assert seen_from_here(told, url) == seen
