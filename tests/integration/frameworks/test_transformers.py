"""The Trainer of transformers with our callback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.frameworks import trained
from thalweg.testing import ServerProcess

pytest.importorskip("torch", reason="torch is not installed", exc_type=ImportError)
pytest.importorskip("transformers", reason="transformers is not installed", exc_type=ImportError)
pytest.importorskip("accelerate", reason="accelerate is not installed", exc_type=ImportError)

SCRIPT = """
import os, sys
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
import thalweg
from thalweg.integrations.transformers import ThalwegCallback

def trainer(callback, steps, **more):
    torch.manual_seed(0)
    config = BertConfig(vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
                        max_position_embeddings=8)
    rows = [{"input_ids": [i % 32, 1, 2], "attention_mask": [1, 1, 1], "labels": i % 2} for i in range(64)]
    args = TrainingArguments(output_dir="out", max_steps=steps, per_device_train_batch_size=4, logging_steps=1,
                             eval_strategy="steps", eval_steps=4, save_steps=2, report_to="none", use_cpu=True,
                             disable_tqdm=True, seed=7, hub_token="secret", **more)
    return Trainer(BertForSequenceClassification(config), args, train_dataset=rows, eval_dataset=rows[:8],
                   callbacks=[callback])
"""


def test_a_training_is_a_run(server: ServerProcess, tmp_path: Path) -> None:
    """Logs by the Trainer's own names, arguments, the model's configuration, and the checkpoints with their metrics."""
    script = """
callback = ThalwegCallback(run_id="hf", tags=["bert"])
it = trainer(callback, 8)
it.train()
assert isinstance(callback.run, thalweg.Run)
it.evaluate()  # after the end of the training: the run goes on
"""
    trained.train(tmp_path, server.url, SCRIPT + script)
    run = trained.finished(server, "hf")
    assert run["config"]["max_steps"] == 8
    assert run["config"]["model"]["hidden_size"] == 8
    assert "secret" not in json.dumps(run["config"])
    assert run["tags"] == ["bert"]
    losses = trained.series(server, "hf", "train/loss")
    evaluated = trained.series(server, "hf", "eval/loss")
    assert list(losses) == [float(step) for step in range(1, 9)]
    assert list(evaluated) == [4.0, 8.0]
    found = trained.wait_for_checkpoints(server, "hf", dict.fromkeys((2.0, 4.0, 6.0, 8.0), "complete"))
    assert found[4.0]["metrics"]["eval/loss"] == pytest.approx(evaluated[4.0])
    assert found[4.0]["metrics"]["train/loss"] == pytest.approx(losses[4.0])
    assert "eval/loss" not in found[6.0]["metrics"], "an evaluation of other weights"
    (kind,) = found[8.0]["kinds"]
    assert kind["uri"] == (tmp_path / "out" / "checkpoint-8").as_uri() + "/"
    assert kind["size_bytes"] == sum(file.stat().st_size for file in (tmp_path / "out" / "checkpoint-8").iterdir())


def test_a_rewound_training_has_no_gap(server: ServerProcess, tmp_path: Path) -> None:
    """From the latest checkpoint the Trainer goes on with the very next step: nothing is missing, nothing refused."""
    script = """
run = thalweg.init(run_id="hf-rewound", rewind_to="latest-checkpoint", attempt=sys.argv[1], strict=True)
it = trainer(ThalwegCallback(run), int(sys.argv[2]))
it.args.output_dir = "out" + sys.argv[1]
it.train(resume_from_checkpoint=None if run.fork_step is None else str(run.restore(to="back")))
"""
    trained.train(tmp_path, server.url, SCRIPT + script, "1", "5")
    trained.finished(server, "hf-rewound")
    found = trained.wait_for_checkpoints(server, "hf-rewound", dict.fromkeys((2.0, 4.0, 5.0), "complete"))
    assert found[5.0]["kinds"][0]["uri"].endswith("/out1/checkpoint-5/")
    before = trained.series(server, "hf-rewound", "train/loss")
    trained.train(tmp_path, server.url, SCRIPT + script, "2", "8")
    run = trained.finished(server, "hf-rewound")
    after = trained.series(server, "hf-rewound", "train/loss", branch=run["branch"])
    assert list(after) == [float(step) for step in range(1, 9)]
    assert [after[step] for step in range(1, 6)] == [before[step] for step in range(1, 6)]


def test_what_the_trainer_deletes_is_taken_back(tmp_path: Path) -> None:
    """With save_total_limit the older checkpoints are deleted: nothing is to be restored from them."""
    trained.train_offline(tmp_path, SCRIPT + "trainer(ThalwegCallback(), 6, save_total_limit=1).train()")
    last = {word["step"]: word["state"] for word in trained.words(tmp_path)}
    assert last == {2.0: "staged", 4.0: "staged", 6.0: "durable"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["checkpoint-6"]


def test_two_processes_are_one_run(tmp_path: Path) -> None:
    """The first in the world records alone, and a checkpoint when the other one has written its part, too."""
    script = """
callback = ThalwegCallback(run_id="two")
it = trainer(callback, 4)
it.train()
os.write(1, f"\\nrank {it.args.process_index} {callback.run is not None}\\n".encode())
"""
    with trained.torchrun(tmp_path, trained.NOBODY, SCRIPT + script, THALWEG_MODE="offline") as process:
        out, _ = trained.end_of(process)
    assert sorted(line for line in out.splitlines() if line.startswith("rank")) == ["rank 0 True", "rank 1 False"]
    said = trained.words(tmp_path)
    assert trained.states_of(said) == [(2.0, "durable"), (4.0, "durable")]
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {file["path"] for file in said[0]["files"]}
