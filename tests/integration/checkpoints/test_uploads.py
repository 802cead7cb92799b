"""Uploads through presigned URLs, to both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.checkpoints import Place, saved


def test_an_upload_is_saved_verified_and_fetched(either: Place) -> None:
    """What was put comes back from the URL of a resolved checkpoint, under the path that it had."""
    either.save("r", 5, body=b"the weights")
    assert either.states("r") == {5: "complete"}
    found = either.resolve("r")
    assert (found["state"], found["step"], found["skipped"], found["size_bytes"]) == ("verified", 5, [], 12)
    assert [(one["kind"], one["shard"], one["path"], one["size_bytes"]) for one in found["files"]] == [
        ("full", 0, "model.pt", 11),
        ("full", 0, "rng state/0", 1),
    ]
    assert [either.fetch(one["url"]) for one in found["files"]] == [b"the weights", b"r"]
    assert either.states("r") == {5: "verified"}


def test_an_upload_goes_on(either: Place) -> None:
    """With its id it tells what has arrived; a part of a wrong size is to be sent again."""
    either.say("r", saved(1))
    named = {"step": 1, "upload": "ab" * 16, "path": "big/a.pt", "size_bytes": 100, "kind": "model", "shard": 2}
    begun = either.post(either.path("r", "/uploads"), named)
    part_bytes = begun["part_bytes"]
    named["size_bytes"] = 2 * part_bytes + 5
    begun = either.post(either.path("r", "/uploads"), named)
    assert (begun["done"], [part["number"] for part in begun["parts"]]) == ([], [1, 2, 3])
    assert begun["uri"].startswith(begun["folder_uri"])
    assert begun["folder_uri"].endswith("/branch-0/step-1/model/shard-2/" + "ab" * 16 + "/")
    etag = either.send(begun["parts"][2]["url"], b"12345")
    either.send(begun["parts"][0]["url"], b"too short")
    again = either.post(either.path("r", "/uploads"), named | {"upload_id": begun["upload_id"]})
    assert again["done"] == [{"number": 3, "etag": etag.strip('"'), "size_bytes": 5}]
    assert ([part["number"] for part in again["parts"]], again["uri"]) == ([1, 2], begun["uri"])
    assert either.post(either.path("r", "/uploads/abort"), named | {"upload_id": begun["upload_id"]}) == {}
    gone = either.post(either.path("r", "/uploads"), named | {"upload_id": begun["upload_id"]}, status=404)
    assert gone["error"]["code"] == "upload_not_found"
    assert either.post(either.path("r", "/uploads/abort"), named | {"upload_id": begun["upload_id"]}) == {}


def test_an_upload_of_another_size_is_refused(either: Place) -> None:
    """What arrived is not what was told: nothing is made of it. What was complete before stays."""
    named = {"step": 1, "upload": "cd" * 16, "path": "a.pt", "size_bytes": 10}
    begun = either.post(either.path("new", "/uploads"), named)
    etag = either.send(begun["parts"][0]["url"], b"short")
    body = named | {"upload_id": begun["upload_id"], "parts": [{"number": 1, "etag": etag}]}
    refused = either.post(either.path("new", "/uploads/complete"), body, status=400)["error"]
    assert refused["code"] == "wrong_size"
    assert "5 bytes, 10 were told" in refused["message"]
    either.say("new", saved(1, begun["uri"]))
    assert either.verify("new")[1]["state"] == "missing"
    body["size_bytes"] = 5
    done = either.post(either.path("new", "/uploads/complete"), body)
    refused = either.post(either.path("new", "/uploads/complete"), body | {"size_bytes": 6}, status=400)["error"]
    assert refused["code"] == "wrong_size"
    assert either.post(either.path("new", "/uploads/complete"), body) == done  # asked again, it answers again
    assert either.verify("new")[1]["state"] == "verified"


def test_an_empty_file(either: Place) -> None:
    """Has one part without bytes."""
    uri = either.upload("r", 1, {"empty": b""})
    either.say("r", saved(1, uri, files={"empty": 0}))
    found = either.resolve("r")
    assert [either.fetch(one["url"]) for one in found["files"]] == [b""]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"path": "../x"}, 400),
        ({"path": "/etc/passwd"}, 400),
        ({"path": "a//b"}, 400),
        ({"path": "a/./b"}, 400),
        ({"path": "nul\0"}, 400),
        ({"path": ""}, 422),
        ({"path": "x" * 1025}, 422),
        ({"path": "é" * 600}, 400),
        ({"upload": "AB" * 16}, 422),
        ({"upload": "../" + "a" * 29}, 422),
        ({"kind": "../.."}, 422),
        ({"shard": -1}, 422),
        ({"step": "NaN"}, 422),
        ({"size_bytes": -1}, 422),
        ({"size_bytes": 2**62}, 400),
        ({"more": 1}, 422),
    ],
)
def test_bad_uploads(place: Place, change: dict[str, Any], status: int) -> None:
    """Nothing but a plain path below the save's own folder."""
    named = {"step": 1, "upload": "ab" * 16, "path": "a", "size_bytes": 1}
    place.post(place.path("r", "/uploads"), named | change, status=status)


def test_uploads_of_different_saves_have_different_places(place: Place) -> None:
    """Each part of the identity counts; nasty names are levels like others."""
    named = {"branch": 0, "step": 1, "kind": "full", "shard": 0, "upload": "ab" * 16, "path": "a/b", "size_bytes": 1}
    changes: list[dict[str, Any]] = [
        {}, {"branch": 1}, {"step": 2}, {"step": 1.5}, {"kind": "model"}, {"shard": 1}, {"upload": "ac" * 16},
        {"path": "a"}, {"path": "a=2Fb"}, {"path": "A/b"},
    ]  # fmt: skip
    uris = [place.post(place.path("r", "/uploads"), named | change)["uri"] for change in changes]
    uris += [place.post(place.path(run, "/uploads"), named)["uri"] for run in ("r2", "r r", "%2e%2e'")]
    assert len(set(uris)) == len(uris)
