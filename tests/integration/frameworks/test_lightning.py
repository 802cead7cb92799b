"""Lightning's Trainer with our logger, under both of its names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.integration.frameworks import trained
from thalweg.testing import ServerProcess

pytest.importorskip("torch", reason="torch is not installed", exc_type=ImportError)
NAMES = ("lightning.pytorch", "pytorch_lightning")

SCRIPT = """
import os, sys
from importlib import import_module
import torch
pl = import_module(sys.argv[1])
import thalweg
from thalweg.integrations.lightning import ThalwegLogger

class Line(pl.LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.save_hyperparameters()
        self.line = torch.nn.Linear(2, 1)
    def training_step(self, batch, index):
        loss = self.line(batch).pow(2).mean()
        self.log("train/loss", loss)
        return loss
    def validation_step(self, batch, index):
        self.log("val/loss", self.line(batch).pow(2).mean())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.lr)

def data():
    torch.manual_seed(0)
    return torch.utils.data.DataLoader(torch.randn(12, 2), batch_size=2)  # 6 batches

def trainer(logger, checkpoints, steps, **more):
    return pl.Trainer(max_steps=steps, logger=logger, log_every_n_steps=1, accelerator="cpu", devices=1,
                      callbacks=[checkpoints], enable_progress_bar=False, enable_model_summary=False, **more)
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_training_is_a_run(server: ServerProcess, tmp_path: Path, name: str) -> None:
    """Metrics, hyperparameters and the checkpoints of ModelCheckpoint are there, with the metric that it watches."""
    pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)
    run_id = name.partition(".")[0]
    script = f"""
logger = ThalwegLogger(run_id="{run_id}", tags=["lightning"])
kept = pl.callbacks.ModelCheckpoint("ckpt", monitor="val/loss", save_top_k=-1, save_last=True)
trainer(logger, kept, 12).fit(Line(0.1), data(), data())
assert (logger.name, logger.version) == ("faults", "{run_id}")
assert isinstance(logger.experiment, thalweg.Run)
"""
    trained.train(tmp_path, server.url, SCRIPT + script, name)
    run = trained.finished(server, run_id)
    assert run["config"] == {"lr": 0.1}
    assert run["tags"] == ["lightning"]
    assert list(trained.series(server, run_id, "train/loss")) == [float(step) for step in range(12)]
    losses = trained.series(server, run_id, "val/loss")
    assert list(losses) == [5.0, 11.0]
    found = trained.wait_for_checkpoints(server, run_id, {5.0: "complete", 11.0: "complete"})
    for step, one in found.items():
        (kind,) = one["kinds"]
        assert kind["uri"].endswith(f"step={int(step) + 1}.ckpt") or kind["uri"].endswith(
            f"step%3D{int(step) + 1}.ckpt"
        )
        assert one["metrics"] == {"val/loss": pytest.approx(losses[step], rel=1e-6)}
        assert one["metadata"]["global_step"] == step + 1


def test_a_rewound_training_has_no_gap(server: ServerProcess, tmp_path: Path) -> None:
    """From the recorded step Lightning goes on with the very next one: nothing is missing, and nothing refused."""
    pytest.importorskip("lightning", reason="lightning is not installed", exc_type=ImportError)
    script = """
same = torch.utils.data.DataLoader(torch.ones(12, 2), batch_size=2)  # Lightning begins the epoch's data again
kept = pl.callbacks.ModelCheckpoint("ckpt" + sys.argv[2], every_n_train_steps=4, save_top_k=-1)
run = thalweg.init(run_id="rewound", rewind_to="latest-checkpoint", attempt=sys.argv[2], strict=True)
place = None if run.fork_step is None else run.restore(to="back.ckpt")
trainer(ThalwegLogger(run), kept, int(sys.argv[3])).fit(Line(0.01), same, ckpt_path=place)
"""
    trained.train(tmp_path, server.url, SCRIPT + script, "lightning.pytorch", "1", "10")
    trained.finished(server, "rewound")
    trained.wait_for_checkpoints(server, "rewound", {3.0: "complete", 7.0: "complete"})
    before = trained.series(server, "rewound", "train/loss")
    assert list(before) == [float(step) for step in range(10)]
    trained.train(tmp_path, server.url, SCRIPT + script, "lightning.pytorch", "2", "14")
    run = trained.finished(server, "rewound")
    assert len(run["branches"]) == 2
    after = trained.series(server, "rewound", "train/loss", branch=run["branch"])
    assert list(after) == [float(step) for step in range(14)]
    assert [after[step] for step in range(8)] == [before[step] for step in range(8)]
    assert [after[step] for step in (8, 9)] == pytest.approx([before[step] for step in (8, 9)]), "the model is restored"


def test_what_lightning_deletes_is_taken_back(tmp_path: Path) -> None:
    """With one kept checkpoint, and a last one that is overwritten, one step alone stays durable: the newest."""
    pytest.importorskip("lightning", reason="lightning is not installed", exc_type=ImportError)
    script = """
kept = pl.callbacks.ModelCheckpoint("ckpt", every_n_train_steps=2, save_top_k=int(sys.argv[2]), save_last=True)
trainer(ThalwegLogger(), kept, 6).fit(Line(0.1), data())
"""
    for best in ("0", "1"):
        folder = tmp_path / best
        folder.mkdir()
        trained.train_offline(folder, SCRIPT + script, "lightning.pytorch", best)
        last = {word["step"]: word for word in trained.words(folder)}
        assert {step: word["state"] for step, word in last.items()} == {1.0: "staged", 3.0: "staged", 5.0: "durable"}
        assert Path(unquote(urlsplit(last[5.0]["uri"]).path)).is_file()


def test_what_was_uploaded_stays(server: ServerProcess, tmp_path: Path) -> None:
    """Though Lightning deletes its file: an uploaded checkpoint can still be restored."""
    pytest.importorskip("lightning", reason="lightning is not installed", exc_type=ImportError)
    script = """
kept = pl.callbacks.ModelCheckpoint("ckpt", every_n_train_steps=2, save_top_k=1, save_last=True)
trainer(ThalwegLogger(run_id="uploaded", upload=True), kept, 4).fit(Line(0.1), data())
place = thalweg.restore("uploaded@1", to="back.ckpt")
assert torch.load(place, weights_only=False)["global_step"] == 2
"""
    trained.train(tmp_path, server.url, SCRIPT + script, "lightning.pytorch")
    found = trained.wait_for_checkpoints(server, "uploaded", {1.0: "complete", 3.0: "complete"})
    assert not any("/ckpt/" in one["kinds"][0]["uri"] for one in found.values())
    assert len(list((tmp_path / "ckpt").glob("epoch*"))) == 1


def test_an_asynchronous_checkpoint_is_durable_when_it_is_written(tmp_path: Path) -> None:
    """With AsyncCheckpointIO the file comes later: staged first, durable at the next look."""
    pytest.importorskip("lightning", reason="lightning is not installed", exc_type=ImportError)
    script = """
import threading
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO
written = threading.Event()
class Slow(TorchCheckpointIO):
    def save_checkpoint(self, *args, **kwargs):
        written.wait()
        super().save_checkpoint(*args, **kwargs)
class Open(pl.callbacks.Callback):
    def on_train_end(self, trainer, module):
        written.set()
kept = pl.callbacks.ModelCheckpoint("ckpt", every_n_train_steps=2, save_top_k=-1)
it = trainer(ThalwegLogger(), kept, 4, plugins=[AsyncCheckpointIO(Slow())])
it.callbacks.append(Open())
it.fit(Line(0.1), data())
"""
    trained.train_offline(tmp_path, SCRIPT + script, "lightning.pytorch")
    said = trained.states_of(trained.words(tmp_path))
    assert said == [(1.0, "staged"), (3.0, "staged"), (1.0, "durable"), (3.0, "durable")]


def test_a_failed_training_is_a_failed_run(server: ServerProcess, tmp_path: Path) -> None:
    """The logger ends the run that it began, with the exception, though the script goes on."""
    pytest.importorskip("lightning", reason="lightning is not installed", exc_type=ImportError)
    script = """
class Broken(Line):
    def training_step(self, batch, index):
        if index == 3:
            raise ArithmeticError("diverged")
        return super().training_step(batch, index)
try:
    trainer(ThalwegLogger(run_id="broken"), pl.callbacks.ModelCheckpoint("ckpt"), 6).fit(Broken(0.1), data())
except ArithmeticError:
    pass
"""
    trained.train(tmp_path, server.url, SCRIPT + script, "lightning.pytorch")
    run = trained.failed(server, "broken")
    (writer,) = run["health"]["writers"]
    assert writer["exception"] == "ArithmeticError: diverged"
    assert list(trained.series(server, "broken", "train/loss")) == [0.0, 1.0, 2.0]


def test_two_processes_are_one_run(tmp_path: Path) -> None:
    """In a distributed training the first process records alone; the other one begins no run."""
    pytest.importorskip("lightning", reason="lightning is not installed", exc_type=ImportError)
    script = """
kept = pl.callbacks.ModelCheckpoint("ckpt", every_n_train_steps=2, save_top_k=-1)
logger = ThalwegLogger(run_id="two")
it = pl.Trainer(max_steps=2, logger=logger, log_every_n_steps=1, accelerator="cpu", devices=2, strategy="ddp",
                callbacks=[kept], enable_progress_bar=False, enable_model_summary=False)
it.fit(Line(0.1), data())
os.write(1, f"\\nrank {it.global_rank} {logger._run is not None}\\n".encode())
"""
    with trained.torchrun(
        tmp_path,
        trained.NOBODY,
        SCRIPT.replace("sys.argv[1]", "'lightning.pytorch'") + script,
        THALWEG_MODE="offline",
    ) as process:
        out, _ = trained.end_of(process)
    assert sorted(line for line in out.splitlines() if line.startswith("rank")) == ["rank 0 True", "rank 1 False"]
    assert trained.states_of(trained.words(tmp_path)) == [(1.0, "durable")]
