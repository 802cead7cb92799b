"""The checkpoint to go on from."""

from __future__ import annotations

import math

from tests.support import wire
from tests.support.checkpoints import DURABLE, STAGED, Place, forked, object_path, rewound, saved
from thalweg_tracker.api import checkpoint_models as models


def test_the_nearest_one_that_is_there(place: Place) -> None:
    """What is not good is skipped, and told."""
    place.save("r", 1, 2, 3)
    place.say("r", saved(4, shards=2), saved(5, state=STAGED), times=[wire.START_US + 40, wire.START_US + 50])
    assert place.resolve("r")["step"] == 3
    lost = object_path(place.resolve("r")["files"][0]["uri"])
    lost.unlink()
    found = place.resolve("r")
    assert (found["step"], [(one["step"], one["state"]) for one in found["skipped"]]) == (
        2,
        [(5, "staged"), (4, "incomplete"), (3, "missing")],
    )
    assert "model.pt" in found["skipped"][2]["detail"]
    assert place.resolve("r", step=1.999)["step"] == 1
    assert place.resolve("r", step=2)["step"] == 2
    assert place.states("r")[3] == "missing"


def test_the_answer_is_as_it_is_documented(place: Place) -> None:
    """It is put together by hand, for it may have 100,000 files."""
    place.save("r", 1, metrics={"loss": 0.5})
    answer = place.resolve("r")
    models.ResolvedCheckpoint.model_validate(answer)
    assert set(answer) == set(models.ResolvedCheckpoint.model_fields)
    assert [set(one) for one in answer["files"]] == [set(models.CheckpointFile.model_fields)] * 2
    assert answer["metrics"] == {"loss": 0.5}
    assert answer["created_at"] == place.list("r")[0]["created_at"]


def test_without_verification(place: Place) -> None:
    """What was told is taken for true."""
    place.save("r", 1)
    object_path(place.resolve("r", verify=False)["files"][0]["uri"]).unlink()
    assert place.resolve("r", verify=False)["state"] == "complete"
    assert place.resolve("r", 404)["error"]["code"] == "no_checkpoint"
    assert place.resolve("r", 404, verify=False)["error"]["code"] == "no_checkpoint"


def test_no_checkpoint(place: Place) -> None:
    """A 404 that says why."""
    place.say("r", saved(5, state=STAGED))
    for query in ({}, {"step": 7}, {"kind": "model"}, {"best": "loss"}):
        error = place.resolve("r", 404, **query)["error"]
        assert error["code"] == "no_checkpoint"
    assert "step 5 is staged" in place.resolve("r", 404)["error"]["hint"]
    assert place.resolve("nobody", 404)["error"]["code"] == "run_not_found"
    assert place.resolve("r", 404, branch=3)["error"]["code"] == "branch_not_found"


def test_one_kind(place: Place) -> None:
    """By its own state, whatever the others are."""
    place.say("r", saved(1), saved(2, kind="model"), saved(3, kind="model"), saved(3, kind="optimizer", state=STAGED))
    assert place.resolve("r")["step"] == 2
    assert place.resolve("r", kind="full")["step"] == 1
    found = place.resolve("r", kind="model")
    assert (found["step"], [kind["kind"] for kind in found["kinds"]]) == (3, ["model"])
    assert {one["kind"] for one in found["files"]} == {"model"}


def test_along_the_lineage(place: Place) -> None:
    """An ancestor's checkpoints up to the fork are handed out, later ones are not."""
    place.say("root", saved(10), saved(20), saved(30))
    place.say("child", saved(40), origin=forked("root", 25))
    assert place.resolve("child")["step"] == 40
    found = place.resolve("child", step=39)
    assert (found["run_id"], found["step"]) == ("root", 20)
    place.say("root", saved(22), origin=rewound(15, 1))
    assert place.resolve("root")["step"] == 22
    assert place.resolve("root", step=21)["step"] == 10
    assert place.resolve("root", branch=0)["step"] == 30


def test_forks_at_the_latest_checkpoint(place: Place) -> None:
    """The latest one that is really there, along the lineage; a 404 where there is none."""
    place.save("r", 10, 20)
    place.say("r", saved(30, state=STAGED), times=[wire.START_US + 100])
    object_path(place.resolve("r")["files"][0]["uri"]).unlink()
    order = {"step": "latest-checkpoint", "run_id": "child"}
    assert place.post(place.path("r", "/fork"), order, 201)["fork_step"] == 10
    rewind = {"step": "latest-checkpoint", "attempt": "a"}
    assert place.post(place.path("child", "/rewind"), rewind)["fork_step"] == 10
    place.say("empty", saved(1, state=STAGED))
    assert place.post(place.path("empty", "/fork"), order, 404)["error"]["code"] == "no_checkpoint"


def test_the_best(place: Place) -> None:
    """By the checkpoint's own word, else the last logged value at or before it; along the lineage; NaN is none."""
    place.tracker.log("r", "val/loss", {1.0: 0.9, 5.0: 0.1, 9.0: 0.5, 11.0: math.nan}, project=place.project)
    place.tracker.log("r", "val/loss", {9.0: 0.7}, writer=2, rank=1, project=place.project)
    steps = (0.5, 4, 6, 10, 12)
    place.say("r", *(saved(step) for step in steps), saved(20, metrics={"val/loss": 0.55, "acc": 2}))
    assert place.resolve("r", best="val/loss")["step"] == 6
    assert place.resolve("r", best="val/loss", step=5)["step"] == 4
    assert place.resolve("r", best="val/loss", mode="max")["step"] == 4
    assert place.resolve("r", best="acc")["step"] == 20
    assert place.resolve("r", 404, best="nothing")["error"]["code"] == "no_checkpoint"
    place.say("child", saved(30), saved(31, metrics={"val/loss": 0.05}), origin=forked("r", 10))
    assert place.resolve("child", best="val/loss", step=30)["step"] == 6
    assert place.resolve("child", best="val/loss")["step"] == 31
    assert place.resolve("child", best="val/loss", mode="max", step=30)["step"] == 4
    # at step 9 the mean over the ranks is 0.6, which is what 10 and 30 have
    found = place.prune("child", keep_best={"metric": "val/loss"}, dry_run=True)
    assert [one["step"] for one in found["kept"]] == [30, 31]


def test_many_that_are_not_there(place: Place) -> None:
    """They are passed over in batches; a hundred are told, of the others the number."""
    place.say("r", *(saved(step, state=STAGED if step else DURABLE) for step in range(400)))
    found = place.resolve("r")
    assert (found["step"], len(found["skipped"]), found["skipped_more"]) == (0, 100, 299)
