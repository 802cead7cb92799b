"""torch.distributed.checkpoint through our hook: which moments are recorded, by whom, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.frameworks import trained
from tests.support.waiting import wait_until
from thalweg.testing import ServerProcess

pytest.importorskip("torch", reason="torch is not installed", exc_type=ImportError)

TWO_RANKS = """
import threading
from pathlib import Path
import torch, thalweg
import torch.distributed as dist
from torch.distributed.checkpoint import FileSystemWriter
from thalweg.integrations.torch_checkpoint import async_save

GATE = Path("gate")

class SlowWriter(FileSystemWriter):
    def write_data(self, plan, planner):
        while not GATE.exists():
            threading.Event().wait(0.01)
        return super().write_data(plan, planner)

dist.init_process_group("gloo")
saving = dist.new_group(backend="gloo")  # the save talks in a thread of its own: not in between the training's words
rank = dist.get_rank()
torch.manual_seed(rank)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
run = thalweg.init(run_id="ranks")

def step(number):
    optimizer.zero_grad()
    loss = (model(torch.randn(16, 8)) - 1).pow(2).mean()
    loss.backward()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
        parameter.grad /= 2
    optimizer.step()
    run.log({"loss": loss}, step=number)

for number in range(5):
    step(number)
state = {f"rank{rank}": model.state_dict(), "optimizer": optimizer.state_dict()}
slow = async_save(state, run=run, step=4, checkpoint_id="ckpt/4", metrics={"loss": 0.5},
                  storage_writer=SlowWriter("ckpt/4"), process_group=saving)
for number in range(5, 10):
    step(number)  # the training goes on, while the checkpoint waits
slow.result()
async_save(state, run=run, step=9, checkpoint_id="ckpt/9", process_group=saving).result()
run.finish()
dist.destroy_process_group()
"""


def test_two_ranks_save_one_checkpoint(server: ServerProcess, tmp_path: Path) -> None:
    """While the parts are written the checkpoint is staged and the training goes on; complete when all are there."""
    with trained.torchrun(tmp_path, server.url, TWO_RANKS) as process:
        wait_until(lambda: trained.is_logged(server, "ranks", "loss", 9))
        staged = trained.wait_for_checkpoints(server, "ranks", {4.0: "staged"})[4.0]
        assert staged["blocked_s"] > 0
        assert not (tmp_path / "ckpt" / "4" / ".metadata").exists()
        (tmp_path / "gate").touch()
        trained.end_of(process)
    trained.finished(server, "ranks")
    found = trained.wait_for_checkpoints(server, "ranks", {4.0: "complete", 9.0: "complete"})
    assert found[4.0]["metrics"] == {"loss": 0.5}
    (kind,) = found[9.0]["kinds"]
    files = sorted((tmp_path / "ckpt" / "9").iterdir())
    assert [file.name for file in files] == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    assert kind["uri"] == (tmp_path / "ckpt" / "9").as_uri() + "/"
    assert kind["size_bytes"] == sum(file.stat().st_size for file in files)


def test_each_moment_is_said_once_and_by_the_coordinator(tmp_path: Path) -> None:
    """The first rank says staged, then durable, with the files of all ranks; the other says nothing."""
    (tmp_path / "gate").touch()
    with trained.torchrun(tmp_path, trained.NOBODY, TWO_RANKS, THALWEG_MODE="offline") as process:
        trained.end_of(process)
    said = trained.words(tmp_path, rank=0)
    assert trained.states_of(said) == [(4.0, "staged"), (4.0, "durable"), (9.0, "staged"), (9.0, "durable")]
    assert [file["path"] for file in said[3]["files"]] == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    assert all(file["size_bytes"] for file in said[3]["files"])
    staged, durable = said[2:]
    assert 0 < staged["staged_us"] == durable["staged_us"] <= durable["saved_us"]
    assert 0 < staged["blocked_s"] == durable["blocked_s"] < 60
    assert trained.words(tmp_path, rank=1) == []


ALONE = """
import os, torch, thalweg
from thalweg.integrations.torch_checkpoint import async_save, save
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse
run = thalweg.init(run_id="alone")
state = {"model": torch.nn.Linear(4, 4).state_dict()}
"""


def test_a_failed_save_is_never_durable(tmp_path: Path) -> None:
    """The future raises what torch raised, one line tells of it, the training goes on, and there is no durable word."""
    script = """
open("file", "w").close()
future = async_save(state, run=run, step=1, checkpoint_id="file/1")
print(type(future.exception()).__name__)
try:
    save(state, run=run, step=2, checkpoint_id="file/2")
except BaseException as error:  # torch derives its CheckpointException from it
    print(type(error).__name__)
save(state, run=run, step=3, checkpoint_id="good")
"""
    out, err = trained.train_offline(tmp_path, ALONE + script)
    assert out.split() == ["CheckpointException", "CheckpointException"]
    told = [line for line in err.splitlines() if "is not saved" in line]
    assert len(told) == 1
    assert "the checkpoint of step 1 at" in told[0]
    assert "NotADirectoryError" in told[0]
    assert trained.states_of(trained.words(tmp_path)) == [(1.0, "staged"), (3.0, "durable")]


def test_a_stager_in_the_background(tmp_path: Path) -> None:
    """With an asynchronous stager torch's response comes back, and the staged word when the copy is done."""
    script = """
stager = DefaultStager(StagingOptions(False, False, True, False))
response = async_save(state, run=run, step=1, checkpoint_id="1", async_stager=stager)
assert isinstance(response, AsyncSaveResponse), response
response.staging_completion.result()
response.upload_completion.result()
stager.close()
run.finish()
"""
    trained.train_offline(tmp_path, ALONE + script)
    words = trained.words(tmp_path)
    assert trained.states_of(words)[-1] == (1.0, "durable")
    assert trained.states_of(words) in ([(1.0, "staged"), (1.0, "durable")], [(1.0, "durable")])


def test_a_save_that_is_waited_for_is_recorded_before_the_run_ends(tmp_path: Path) -> None:
    """When the future is done the durable word is written: `finish()` right after it loses nothing."""
    script = """
for step in range(20):
    future = async_save(state, run=run, step=step, checkpoint_id=f"ckpt/{step}")
    assert future.result() is not None
run.finish()
"""
    _, err = trained.train_offline(tmp_path, ALONE + script)
    assert "finished" not in err
    durable = [step for step, state in trained.states_of(trained.words(tmp_path)) if state == "durable"]
    assert durable == [float(step) for step in range(20)]


def test_a_save_that_nobody_waits_for_is_recorded_at_the_end(tmp_path: Path) -> None:
    """The interpreter waits for torch's thread before it ends the run."""
    trained.train_offline(tmp_path, ALONE + "async_save(state, run=run, step=1, checkpoint_id='1')")
    assert trained.states_of(trained.words(tmp_path)) == [(1.0, "staged"), (1.0, "durable")]


def test_what_is_recorded_can_be_restored(server: ServerProcess, tmp_path: Path) -> None:
    """`restore` brings back what torch can load, equal to what was saved."""
    script = """
import torch.distributed.checkpoint as dcp
save(state, run=run, step=7, checkpoint_id="ckpt/7", metrics={"loss": 1.5})
run.finish()
wanted = {name: tensor.clone() for name, tensor in state["model"].items()}
place = thalweg.restore("alone@9", to="back")
for tensor in state["model"].values():
    tensor.zero_()
dcp.load(state, checkpoint_id=place)
assert all(torch.equal(state["model"][name], tensor) for name, tensor in wanted.items())
"""
    trained.train(tmp_path, server.url, ALONE + script)
    found = trained.wait_for_checkpoints(server, "alone", {7.0: "complete"})
    assert found[7.0]["metrics"] == {"loss": 1.5}


def test_an_upload_goes_on_behind_the_training(server: ServerProcess, tmp_path: Path) -> None:
    """With upload the future is done when the object store has the checkpoint, which can do without the folder."""
    script = """
import shutil
import torch.distributed.checkpoint as dcp
run.log({"loss": 1.0}, step=1)
async_save(state, run=run, step=1, checkpoint_id="ckpt/1", upload=True, metrics={"loss": 1.0}).result()
save(state, run=run, step=2, checkpoint_id="ckpt/2", upload=True)
run.finish()
shutil.rmtree("ckpt")
for step in (1, 2):
    dcp.load(state, checkpoint_id=thalweg.restore(f"sent@{step}", to=f"back/{step}"))
"""
    trained.train(tmp_path, server.url, ALONE.replace("alone", "sent") + script)
    found = trained.wait_for_checkpoints(server, "sent", {1.0: "complete", 2.0: "complete"})
    assert found[1.0]["metrics"] == {"loss": 1.0}


def test_ranks_without_a_shared_folder(server: ServerProcess, tmp_path: Path) -> None:
    """Rank 0 sees a part of the files: it does not send that, and a look at the checkpoint finds what is missing."""
    script = """
import torch, thalweg
import torch.distributed as dist
from thalweg.integrations.torch_checkpoint import save
dist.init_process_group("gloo")
rank = dist.get_rank()
run = thalweg.init(run_id="apart")
run.log({"loss": 1.0}, step=2)
state = {f"model{rank}": torch.nn.Linear(4, 4).state_dict()}
try:
    save(state, run=run, step=1, checkpoint_id=f"node{rank}/1", upload=True)
except thalweg.CheckpointError as error:
    print(rank, error, flush=True)
save(state, run=run, step=2, checkpoint_id=f"node{rank}/2")
run.finish()
dist.destroy_process_group()
"""
    with trained.torchrun(tmp_path, server.url, script) as process:
        out, _ = trained.end_of(process)
    assert out.startswith("0 cannot upload")
    assert "1 of its 3 files are not on this host, such as __1_0.distcp" in out
    trained.wait_for_checkpoints(server, "apart", {2.0: "complete"})
    looked = server.client.post(f"/projects/{trained.PROJECT}/runs/apart/checkpoints/verify", {"steps": None})
    assert [one["state"] for one in looked["checkpoints"]] == ["missing"]


RESTARTED = """
import os
import torch, thalweg
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from thalweg.integrations.torch_checkpoint import async_save

dist.init_process_group("gloo")
rank, attempt = dist.get_rank(), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
run = thalweg.init(run_id="restarted", rewind_to="latest-checkpoint")
os.write(1, f"branch {rank} {attempt} {run.branch} {run.fork_step}\\n".encode())
torch.manual_seed(0)
model = torch.nn.Linear(8, 1)
state = {"model": model.state_dict(), "step": torch.tensor(0)}
first = 0
if run.fork_step is not None:
    place = run.restore(to=f"back/{rank}")
    dcp.load(state, checkpoint_id=place)
    model.load_state_dict(state["model"])
    first = int(state["step"]) + 1
    assert first == run.fork_step + 1
for step in range(first, 20):
    loss = (model(torch.ones(4, 8)) - 1).pow(2).mean()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.01 * parameter.grad
            parameter.grad = None
    run.log({"loss": loss, "attempt": attempt}, step=step)
    if step % 5 == 4:
        now = {"model": model.state_dict(), "step": torch.tensor(step)}
        async_save(now, run=run, step=step, checkpoint_id=f"ckpt/{attempt}/{step}").result()
        run.flush()
    if attempt == 0 and step == 12:
        dist.barrier()
        if rank == 1:
            os._exit(17)
        dist.barrier()  # until the agent ends this rank, too
run.finish()
dist.destroy_process_group()
"""


def test_a_restart_goes_on_from_the_latest_checkpoint(server: ServerProcess, tmp_path: Path) -> None:
    """After a crash torchrun starts both ranks again: they are on one new branch, and its history has no gap."""
    # torchrun 2.13 lets the second attempt find the first one's addresses in its store, unless told so
    fresh = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with trained.torchrun(tmp_path, server.url, RESTARTED, "--max-restarts=1", **fresh) as process:
        out, _ = trained.end_of(process)
    told = sorted(line.split() for line in out.splitlines() if line.startswith("branch"))
    (_, _, _, first, _), (_, _, _, second, _) = (line for line in told if line[2] == "0")
    assert first == second
    again = [line for line in told if line[2] == "1"]
    assert [line[1] for line in again] == ["0", "1"]
    assert again[0][3] == again[1][3] != first
    assert again[0][4] == again[1][4] == "9.0"
    trained.finished(server, "restarted")
    branch = int(again[0][3])
    attempts = trained.series(server, "restarted", "attempt", branch=branch)
    assert attempts == {float(step): float(step > 9) for step in range(20)}
    loss = trained.series(server, "restarted", "loss", branch=branch)
    assert sorted(loss.values(), reverse=True) == list(loss.values()), "the restored model is the saved one"
    steps = trained.wait_for_checkpoints(
        server, "restarted", {4.0: "complete", 9.0: "complete", 14.0: "complete", 19.0: "complete"}
    )
    assert {step: one["branch"] for step, one in steps.items()} == {4.0: 0, 9.0: 0, 14.0: branch, 19.0: branch}
