"""What is found of objects, and what is made of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.support import wire
from tests.support.checkpoints import Place, object_path, saved
from tests.support.s3_server import S3Server
from thalweg_tracker.model.keys import run_key


def test_what_became_of_objects(place: Place, tmp_path: Path) -> None:
    """Good, missing, of another size, changed since, and back again."""
    target = tmp_path / "model.pt"
    target.write_bytes(b"12345")
    place.say("r", saved(1, target.as_uri(), size_bytes=5))
    one = place.verify("r")[1]
    assert (one["state"], one["kinds"][0]["detail"], one["kinds"][0]["checked_at"] is None) == ("verified", "", False)
    target.write_bytes(b"123456")
    one = place.verify("r")[1]
    assert one["state"] == "changed"
    assert "has 6 bytes, 5 were told" in one["kinds"][0]["detail"]
    kept = tmp_path / "kept"
    target.rename(kept)
    assert place.verify("r")[1]["state"] == "missing"
    assert place.states("r") == {1: "missing"}
    kept.write_bytes(b"54321")
    kept.rename(target)
    one = place.verify("r")[1]  # of the right size, but not what was verified before
    assert one["state"] == "changed"
    assert "the content is another" in one["kinds"][0]["detail"]
    place.say("r", saved(1, target.as_uri(), size_bytes=5), times=[2 * wire.START_US])
    assert place.states("r") == {1: "complete"}  # told anew: what was found before does not count
    assert place.verify("r")[1]["state"] == "verified"
    assert place.states("r") == {1: "verified"}


def test_a_folder(place: Place, tmp_path: Path) -> None:
    """Without a manifest it is all that is in it; with one, the files named. Outside the store nothing is listed."""
    root = tmp_path / "a b"
    (root / "sub").mkdir(parents=True)
    (root / "x%").write_bytes(b"123")
    (root / "sub" / "y").write_bytes(b"4")
    outside = root.as_uri() + "/"
    place.say("out", saved(1, outside), saved(4, outside, files={"x%": 3, "sub/y": 0}))
    place.say("out", saved(5, outside[:-1], files={"x%": 3, "z": 1}))
    found = place.verify("out")
    assert {step: one["state"] for step, one in found.items()} == {1: "complete", 4: "verified", 5: "missing"}
    assert "lists no folders outside" in found[1]["kinds"][0]["detail"]
    files = place.resolve("out", step=1)["files"]
    assert [(one["path"], one["uri"], one["url"]) for one in files] == [("", outside, None)]
    shutil.rmtree(root)
    assert {step: one["state"] for step, one in place.verify("out").items()} == {
        1: "complete",
        4: "missing",
        5: "missing",
    }
    uri = place.upload("r", 1, {"x": b"123", "sub/y": b"4"})
    place.say("r", saved(1, uri), saved(2, uri, size_bytes=4), saved(3, uri, size_bytes=5))
    place.say("r", saved(4, uri, files={"x": 3, "sub/y": 0}), saved(5, uri[:-1], files={"x": 3, "z": 1}))
    found = place.verify("r")
    assert {step: one["state"] for step, one in found.items()} == {
        1: "verified", 2: "verified", 3: "changed", 4: "verified", 5: "missing",
    }  # fmt: skip
    assert "there is no object" in found[5]["kinds"][0]["detail"]
    assert found[1]["size_bytes"] == 4
    assert [one["path"] for one in place.resolve("r", step=4)["files"]] == ["x", "sub/y"]
    assert [place.fetch(one["url"]) for one in place.resolve("r", step=1)["files"]] == [b"4", b"123"]
    shutil.rmtree(object_path(uri))
    assert {one["state"] for one in place.verify("r").values()} == {"missing"}


def test_a_path_of_another_host(place: Place, tmp_path: Path) -> None:
    """Is not missing: nobody but that host can tell. A training goes back to it."""
    far = tmp_path / "scratch" / "node17"
    place.save("r", 5)
    lost = place.resolve("r")["files"][0]["uri"]
    object_path(lost).unlink()
    place.say("r", saved(10, (far / "a").as_uri()), saved(11, f"{far.as_uri()}/b", files={"x": 1}), saved(4, lost))
    found = place.verify("r")
    assert {step: one["state"] for step, one in found.items()} == {
        4: "missing", 5: "missing", 10: "complete", 11: "complete",
    }  # fmt: skip
    for step in (10, 11):
        assert "not on the server's host, or gone" in found[step]["kinds"][0]["detail"]
    rewind = {"step": "latest-checkpoint", "attempt": "a"}
    assert place.post(place.path("r", "/rewind"), rewind)["fork_step"] == 11


def test_many_files_outside(place: Place, tmp_path: Path) -> None:
    """Are looked at one by one, for their folder is not listed."""
    names = [str(number) for number in range(70)]
    for name in names:
        (tmp_path / name).write_bytes(b"1")
    place.say("r", saved(1, f"{tmp_path.as_uri()}/", files=dict.fromkeys(names, 1)))
    assert place.verify("r")[1]["state"] == "verified"
    (tmp_path / "69").unlink()
    assert place.verify("r")[1]["state"] == "missing"


def test_a_large_manifest(either: Place) -> None:
    """Is compared with a list of the folder."""
    files = {f"part {n}": b"x" for n in range(70)}
    uri = either.upload("r", 1, files)
    either.say("r", saved(1, uri, files=dict.fromkeys(files, 1)), saved(2, uri, files=dict.fromkeys([*files, "z"], 1)))
    assert either.verify("r")[1]["state"] == "verified"


def test_what_cannot_be_looked_at(place: Place) -> None:
    """A place of another store stays complete, with the reason; it is handed out without a URL."""
    place.say("r", saved(1, "s3://somewhere/x"), saved(2, "gs://b/folder/"))
    one = place.verify("r")[1]
    assert one["state"] == "complete"
    assert "cannot look there" in one["kinds"][0]["detail"]
    files = place.resolve("r", step=1)["files"]
    assert [(one["path"], one["uri"], one["url"]) for one in files] == [("x", "s3://somewhere/x", None)]
    files = place.resolve("r")["files"]
    assert [(one["path"], one["uri"], one["url"]) for one in files] == [("", "gs://b/folder/", None)]


def test_a_store_out_of_reach_marks_nothing(on_s3: Place, s3: S3Server) -> None:
    """That the store fails says nothing of the object."""
    on_s3.save("r", 1)
    s3.fail(500, 100)
    try:
        for path, method in (("/checkpoints/verify", "POST"), ("/checkpoints/resolve", "GET")):
            answer = on_s3.tracker.http.request(method, on_s3.path("r", path), json={} if method == "POST" else None)
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "object_store_error")
        assert on_s3.states("r") == {1: "complete"}
    finally:
        s3.fail(500, 0)
    assert on_s3.verify("r")[1]["state"] == "verified"


def test_looking_twice_writes_once(place: Place) -> None:
    """A thousand ranks resolve the same checkpoint at once."""
    place.save("r", 1)
    for _ in range(3):
        assert place.resolve("r")["state"] == "verified"
    where = {"run": run_key(place.project, "r")}
    rows = place.tracker.engine.query("SELECT count() AS n FROM checkpoint_checks WHERE run = {run:UInt64}", where)
    assert rows["n"].to_pylist() == [1]


def test_only_the_steps_asked_for(place: Place) -> None:
    """Others are left as they are; steps without a checkpoint are left out."""
    place.save("r", 1, 2, 3)
    assert sorted(place.verify("r", [1, 2.5, 3])) == [1, 3]
    assert place.states("r") == {1: "verified", 2: "complete", 3: "verified"}
    assert place.verify("r", []) == {}


def test_bad_questions(place: Place) -> None:
    """A step is a number, a kind one of four."""
    place.save("r", 1)
    for query in ({"step": "NaN"}, {"step": "inf"}, {"kind": "weights"}, {"best": ""}, {"best": "x", "mode": "best"}):
        place.resolve("r", 422, **query)
    orders: list[dict[str, Any]] = [{"keep_last": 0}, {"keep_every": 0}, {"keep_best": {}}, {"keep": 1}]
    for order in orders:
        place.post(place.path("r", "/checkpoints/prune"), order, 422)
