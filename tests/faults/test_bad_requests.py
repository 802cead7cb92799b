"""Bad requests over HTTP: wrong types, bad cursors, SQL in every position: the one shape, the right status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.tracker import Tracker, tracking
from thalweg_tracker.api.encode import ARROW_STREAM


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracker]:
    """A database with one run, which must be there at the end."""
    with tracking(tmp_path_factory.mktemp("bad") / "data") as running:
        running.log("neighbour", "loss", {1.0: 1.0})
        yield running
        assert running.series(["neighbour"], ["loss"])[0]["value"] == [1.0]


BAD_REQUESTS: list[tuple[str, str, Any, int]] = [
    ("GET", "/nowhere", None, 404),
    ("DELETE", "/projects", None, 405),
    ("GET", "/projects?limit=0", None, 422),
    ("GET", "/projects?limit=1000000000000000000000000", None, 422),
    ("GET", "/projects?limit=1.5", None, 422),
    ("GET", "/projects?cursor=garbage", None, 400),
    ("GET", "/projects?cursor=%F0%9F%92%A9", None, 400),
    ("GET", "/projects?cursor=WzFd", None, 400),  # [1], a text is wanted
    ("GET", "/projects?cursor=WyJcdWQ4MDAiXQ", None, 400),  # ["\ud800"]
    ("GET", "/projects?cursor=" + "W1tb" * 1000, None, 400),
    ("GET", "/projects?cursor=" + "a" * 5000, None, 422),
    ("GET", "/projects/p/runs?cursor=WzEwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAsImEiXQ", None, 400),  # 10 ** 27
    ("GET", "/projects/p/runs?cursor=W3RydWUsImEiXQ", None, 400),  # [true, "a"]
    ("GET", "/projects/" + "p" * 129 + "/runs", None, 422),
    ("GET", "/projects/p/runs/nobody", None, 404),
    ("GET", "/projects/p/runs/..%2F..%2Fetc%2Fpasswd", None, 404),
    ("GET", "/projects/p/runs/%00", None, 404),
    ("GET", "/projects/p/runs/%FF%FE", None, 404),
    ("GET", "/projects/p/runs/' OR 1=1 --", None, 404),
    ("GET", "/projects/' OR '1'='1/runs/neighbour", None, 404),
    ("GET", "/projects/p/runs/nobody/metrics", None, 404),
    ("GET", "/projects/p/runs/neighbour/metrics?match=(", None, 400),
    ("GET", "/projects/p/runs/neighbour/metrics?match=" + "(a{1000}){1000}", None, 400),
    ("GET", "/projects/p/runs/neighbour/metrics?match=" + "a" * 513, None, 400),
    ("GET", "/projects/p/runs/neighbour/metrics?prefix=" + "a" * 1025, None, 422),
    ("POST", "/projects/p/series", b"{", 422),
    ("POST", "/projects/p/series", b"\xff\xfe", 422),
    ("POST", "/projects/p/series", b"[" * 200_000, 400),
    ("POST", "/projects/p/series", b"", 422),
    ("POST", "/projects/p/series", b"null", 422),
    ("POST", "/projects/p/series", [], 422),
    ("POST", "/projects/p/series", {}, 400),
    ("POST", "/projects/p/series", {"runs": "neighbour", "metrics": ["loss"]}, 422),
    ("POST", "/projects/p/series", {"runs": [1], "metrics": ["loss"]}, 422),
    ("POST", "/projects/p/series", {"runs": [], "metrics": ["loss"]}, 422),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "metrics": []}, 400),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "metrics": [""]}, 422),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "metrics": ["\ud800"]}, 422),
    ("POST", "/projects/p/series", {"runs": ["\udfff"], "metrics": ["loss"]}, 422),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "metrics": ["loss"], "wild": 1}, 422),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "metrics": ["loss"], "x": "loss +"}, 400),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "filter": "true", "metrics": ["loss"]}, 400),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "expressions": ["last(loss)"]}, 400),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "expressions": ["`loss`; DROP TABLE runs"]}, 400),
    ("POST", "/projects/p/series", {"expressions": ['run("nobody", loss)']}, 404),
    ("POST", "/projects/p/runs/query", {"filter": "loss"}, 400),
    ("POST", "/projects/p/runs/query", {"sort": ["-"]}, 400),
    ("POST", "/projects/p/runs/query", {"cursor": "bm8"}, 400),
    ("POST", "/projects/p/runs/query", {"sort": ["run.name"], "cursor": "WzEsICJ4Il0"}, 400),
    ("POST", "/projects/p/runs/query", {"group_by": ["run.name"], "cursor": "WzEsICJ4Il0"}, 400),
    ("PUT", "/projects/p/custom-metrics/f", {"expression": "f + g(1)"}, 400),
    ("GET", "/projects/p/custom-metrics/nothing", None, 404),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "metrics": ["loss"], "points": 0}, 422),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "metrics": ["loss"], "points": 10_001}, 422),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "metrics": ["loss"], "points": 1.5}, 422),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "metrics": ["loss"], "from": "x"}, 422),
    ("POST", "/projects/p/series", b'{"runs": ["neighbour"], "metrics": ["loss"], "from": NaN}', 422),
    ("POST", "/projects/p/series", {"runs": ["nobody"], "metrics": ["loss"]}, 404),
    ("POST", "/projects/p/series", {"runs": ["neighbour", "'); DROP TABLE runs; --"], "metrics": ["loss"]}, 404),
    ("POST", "/projects/'; DROP TABLE runs; --/series", {"runs": ["neighbour"], "metrics": ["loss"]}, 404),
    ("POST", "/projects/p/series", {"runs": ["neighbour"] * 10_001, "metrics": ["loss"]}, 422),
    ("POST", "/projects/p/series", {"runs": ["neighbour"], "metrics": ["loss"] * 10_001}, 422),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD_REQUESTS)
def test_a_bad_request_has_the_one_shape(tracker: Tracker, method: str, path: str, body: Any, status: int) -> None:
    """The right status, and {"error": {"code", "message", "hint"}} with texts in it, whatever was asked for."""
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    for accept in ("application/json", ARROW_STREAM):
        headers = {"Content-Type": "application/json", "Accept": accept}
        answer = tracker.http.request(method, path, content=content, headers=headers)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        place = {"span", "expression"} if error["code"] == "bad_expression" else set()
        assert set(error) == {"code", "message", "hint", *place}
        assert error["code"]
        assert error["message"]
        assert len(answer.content) < 5000
