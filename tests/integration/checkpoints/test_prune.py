"""What is deleted, and what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import wire
from tests.support.checkpoints import Place, answering, forked, object_path, rewound, saved
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.objects.files import FileStore


def test_pruning(either: Place) -> None:
    """Objects are gone, and the list says so; the rest is untouched; once more changes nothing."""
    either.save("r", 10, 20, 30, 40)
    dry = either.prune("r", keep_last=2, dry_run=True)
    assert ([one["step"] for one in dry["kept"]], dry["dry_run"]) == ([30, 40], True)
    assert dry["deleted"] == [{"step": step, "bytes": 8, "objects": 2} for step in (10, 20)]
    assert set(either.states("r").values()) == {"complete"}
    done = either.prune("r", keep_last=2)
    assert (done["deleted"], done["failed"], done["dry_run"]) == (dry["deleted"], [], False)
    assert either.states("r") == {10: "deleted", 20: "deleted", 30: "complete", 40: "verified"}
    assert either.prune("r", keep_last=2)["deleted"] == []
    assert {one["state"] for one in either.verify("r", [10, 20]).values()} == {"deleted"}
    found = either.resolve("r", step=30)
    assert [either.fetch(one["url"]) for one in found["files"]] == [b"weights", b"r"]
    assert either.resolve("r", 404, step=25)["error"]["code"] == "no_checkpoint"
    uri = either.upload("r", 20, {"model.pt": b"again"})
    either.say("r", saved(20, uri, files={"model.pt": 5}), times=[2 * wire.START_US])
    assert either.resolve("r", step=25)["step"] == 20


def test_pruning_needs_a_policy(place: Place) -> None:
    """Otherwise it would delete all but one."""
    place.save("r", 1)
    assert place.post(place.path("r", "/checkpoints/prune"), {}, 400)["error"]["code"] == "nothing_to_keep"


def test_forks_keep_what_they_point_at(place: Place) -> None:
    """Also forks of forks and rewinds, on the branch that they left; ancestors are not touched."""
    place.save("r", 10, 20, 30, 40, 50)
    place.say("fork", saved(100), origin=forked("r", 25))
    place.say("deep", saved(100), origin=forked("fork", 12))
    kept = {one["step"]: one["reasons"] for one in place.prune("r", keep_last=1)["kept"]}
    assert kept == {
        10: ["a fork at step 12 points at it"],
        20: ["a fork at step 25 points at it"],
        50: ["the newest complete one", "one of the last 1"],
    }
    assert place.resolve("deep", step=99)["step"] == 10
    assert place.resolve("fork", step=99)["step"] == 20
    place.say("r", saved(51), origin=rewound(50, 1))
    assert [one["step"] for one in place.prune("r", keep_last=1)["kept"]] == [51]
    assert place.states("r", branch=0)[50] != "deleted"


def test_what_must_stay_is_looked_at_first(place: Place) -> None:
    """The newest one is told to be complete, but it is not there: the one before it must stay."""
    place.save("r", 1, 2, 3)
    object_path(place.resolve("r")["files"][0]["uri"]).unlink()
    dry = place.prune("r", keep_last=1, dry_run=True)
    assert [one["step"] for one in dry["deleted"]] == [1]
    assert place.states("r")[3] == "verified"  # what was found is not kept either
    done = place.prune("r", keep_last=1)
    assert {one["step"] for one in done["kept"]} == {2, 3}
    assert place.states("r") == {1: "deleted", 2: "verified", 3: "missing"}


def test_what_is_outside_the_store_is_left(place: Place, tmp_path: Path) -> None:
    """Be it readable or not."""
    target = tmp_path / "x"
    target.write_bytes(b"1")
    place.say("r", saved(1, target.as_uri()), saved(2, "s3://other/x"), times=[wire.START_US, wire.START_US + 1])
    place.save("r", 3, 4)
    done = place.prune("r", keep_last=1)
    assert [one["step"] for one in done["deleted"]] == [3]
    assert {one["step"]: one["reasons"] for one in done["kept"]} == {
        1: ["outside the store"], 2: ["outside the store"], 4: ["the newest complete one", "one of the last 1"],
    }  # fmt: skip
    assert target.exists()


def test_shared_objects_are_left(place: Place) -> None:
    """A file that is overwritten at each save is pointed at by all of them, and maybe by another run."""
    uri = place.upload("r", 0, {"latest.pt": b"1"})
    place.say("r", *(saved(step, uri + "latest.pt") for step in (1, 2, 3)))
    place.save("r", 4, 5)
    place.say("other", saved(7, place.list("r", limit=2)[1]["kinds"][0]["uri"]))
    done = place.prune("r", keep_every=3)
    reasons = {one["step"]: one["reasons"] for one in done["kept"]}
    assert reasons[1] == reasons[2] == reasons[4] == ["another checkpoint points at its objects"]
    assert done["deleted"] == []
    assert place.resolve("r", step=3)["state"] == "verified"
    done = place.prune("r", keep_last=1)  # now all that point at the file go together
    assert [one["step"] for one in done["deleted"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("letters", "others"), [("=", "%3D"), ("/run", "/%72un"), ("/run", "//./run"), ("file://", "file://localhost")]
)
def test_no_spelling_hides_a_pointer(place: Place, letters: str, others: str) -> None:
    """Neither can an alias of a URI delete what is not its own, nor does who points by it lose what it points at."""
    place.save("run 1", 1, 2)
    files = {step: place.resolve("run 1", step=step)["files"][0]["uri"] for step in (1, 2)}
    aliases = {step: uri.replace(letters, others, 1) for step, uri in files.items()}
    assert aliases[1] != files[1]
    place.save("other", 8)
    place.say("other", saved(3, aliases[1]), saved(9, "gs://elsewhere/x"))
    kept = {one["step"]: one["reasons"] for one in place.prune("run 1", keep_last=1)["kept"]}
    assert kept[1] == ["another checkpoint points at its objects"]
    place.say("run 1", saved(1, "gs://elsewhere/y"), times=[2 * wire.START_US])
    assert 3 in {one["step"] for one in place.prune("other", keep_last=1)["kept"]}
    assert object_path(files[1]).exists()


def test_an_alias_is_handed_out_as_its_object(place: Place) -> None:
    """`Path.as_uri` writes the equals signs of the store's names as %3D: it is the same file."""
    uri = place.upload("run 1", 1, {"model 1.pt": b"12345"})
    assert "=" in uri
    alias = uri.replace("=", "%3D")
    place.say("run 1", saved(1, alias, files={"model 1.pt": 5}), saved(2, alias))
    for step in (1, 2):
        found = place.resolve("run 1", step=step)
        assert (found["state"], place.fetch(found["files"][0]["url"])) == ("verified", b"12345")


def test_uploads_of_others_are_left(place: Place) -> None:
    """Also such as nobody points at yet: the word of them may be in a spool."""
    uri = place.upload("victim", 1, {"w": b"1"})
    place.say("r", saved(1, uri + "w"), saved(2, uri))
    place.save("r", 3, 4)
    done = place.prune("r", keep_last=1)
    assert [one["step"] for one in done["deleted"]] == [3]
    reasons = {one["step"]: one["reasons"] for one in done["kept"]}
    assert reasons[1] == reasons[2] == ["no upload of this branch"]
    assert object_path(uri + "w").exists()


def test_a_fork_that_is_made_meanwhile(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it points at is kept, though the plan did not know of it."""
    place.save("r", 1, 2, 3)
    delete = FileStore.delete

    async def forking(self: FileStore, uris: Sequence[str]) -> dict[str, str]:
        await asyncio.to_thread(place.post, place.path("r", "/fork"), {"run_id": "child", "step": 2}, 201)
        return await delete(self, uris)

    monkeypatch.setattr(FileStore, "delete", forking)
    done = place.prune("r", keep_last=1)
    assert [one["step"] for one in done["deleted"]] == [1]
    assert {one["step"]: one["reasons"] for one in done["kept"]}[2] == ["a fork at step 2 points at it"]
    assert place.resolve("child")["step"] == 2


def test_a_failure_is_told_and_the_others_go_on(place: Place) -> None:
    """It is not marked as deleted, and may be tried again."""
    place.save("r", 1, 2, 3)
    stuck = object_path(place.resolve("r", step=1, verify=False)["files"][0]["uri"])
    content = stuck.read_bytes()
    stuck.unlink()
    stuck.mkdir()  # no file: unlink fails
    (stuck / "x").write_bytes(content)
    done = place.prune("r", keep_last=1)
    assert [one["step"] for one in done["failed"]] == [1]
    assert "model.pt" in done["failed"][0]["detail"]
    assert [one["step"] for one in done["deleted"]] == [2]
    assert place.states("r")[1] != "deleted"


def test_without_a_store(engine: Engine) -> None:
    """Pointers are listed and handed out; the rest is refused with a word."""
    with answering(engine, None) as tracker:
        place = Place(tracker, "without a store")
        place.say("r", saved(1, "s3://b/x"))
        found = place.resolve("r")
        assert (found["state"], found["kinds"][0]["detail"]) == ("complete", "this server has no object store")
        named = {"step": 1, "upload": "ab" * 16, "path": "a", "size_bytes": 1}
        for path, body in (("/uploads", named), ("/checkpoints/prune", {"keep_last": 1})):
            assert place.post(place.path("r", path), body, 400)["error"]["code"] == "no_object_store"
