"""The position of torchdata's StatefulDataLoader."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.frameworks import trained
from thalweg.testing import ServerProcess

pytest.importorskip("torch", reason="torch is not installed", exc_type=ImportError)
pytest.importorskip("torchdata", reason="torchdata is not installed", exc_type=ImportError)

SCRIPT = """
import os, sys
import torch, thalweg
from torchdata.stateful_dataloader import StatefulDataLoader
from thalweg.integrations.torchdata import load_loader, save_loader

def loader(workers=0, dataset=None):
    rows = list(range(40)) if dataset is None else dataset
    return StatefulDataLoader(rows, batch_size=4, shuffle=True, num_workers=workers,
                              generator=torch.Generator().manual_seed(3))
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_restored_loader_goes_on_with_the_next_batch(server: ServerProcess, tmp_path: Path, workers: int) -> None:
    """Shuffled, and with workers: the batches before and after the restart are those of one epoch."""
    script = f"""
whole = [batch.tolist() for batch in loader({workers})]
run = thalweg.init(run_id="loader-{workers}")
half, seen = loader({workers}), []
for step, batch in enumerate(half):
    seen.append(batch.tolist())
    if step == 4:
        save_loader(half, run, step, "ckpt/4")
        break
run.finish()
place = thalweg.restore("loader-{workers}@4", to="back", kind="dataloader")
again = loader({workers})
load_loader(again, place)
assert seen + [batch.tolist() for batch in again] == whole
"""
    trained.train(tmp_path, server.url, SCRIPT + script)
    found = trained.wait_for_checkpoints(server, f"loader-{workers}", {4.0: "complete"})
    (kind,) = found[4.0]["kinds"]
    assert kind["kind"] == "dataloader"
    assert kind["digest"].startswith("sha256:")


def test_each_rank_saves_its_part(server: ServerProcess, tmp_path: Path) -> None:
    """Two ranks are two shards of one checkpoint; each gets its own back from the folder."""
    script = """
import torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
run = thalweg.init(run_id="loaders")
mine = loader(dataset=list(range(rank * 100, rank * 100 + 20)))
batches = iter(mine)
next(batches)
save_loader(mine, run, 0, "ckpt/0")
run.finish()
dist.barrier()
wanted = [batch.tolist() for batch in batches]
again = loader(dataset=list(range(rank * 100, rank * 100 + 20)))
load_loader(again, "ckpt/0")
assert [batch.tolist() for batch in again] == wanted
dist.destroy_process_group()
"""
    with trained.torchrun(tmp_path, server.url, SCRIPT + script) as process:
        trained.end_of(process)
    found = trained.wait_for_checkpoints(server, "loaders", {0.0: "complete"})
    (kind,) = found[0.0]["kinds"]
    assert (kind["kind"], kind["shards"], kind["shards_done"]) == ("dataloader", 2, 2)


def test_what_cannot_be_restored_says_why(tmp_path: Path) -> None:
    """Objects in the state need a word of trust; another number of ranks, a missing and a damaged file are told."""
    script = """
class Custom:
    pass
class Rows(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return i
    def state_dict(self): return {"custom": Custom()}
    def load_state_dict(self, state): self.state = state
path = save_loader(loader(dataset=Rows()), None, 0, "ckpt")
os.rename(path, "ckpt/dataloader-00000-of-00004.pt")
with open("cut.pt", "wb") as file:
    file.write(open("ckpt/dataloader-00000-of-00004.pt", "rb").read()[:200])
for place in ("ckpt/dataloader-00000-of-00004.pt", "ckpt", "nothing.pt", "cut.pt"):
    try:
        load_loader(loader(dataset=Rows()), place)
    except thalweg.CheckpointError as error:
        print(str(error).splitlines()[0])
load_loader(loader(dataset=Rows()), "ckpt/dataloader-00000-of-00004.pt", weights_only=False)
"""
    out, _ = trained.train_offline(tmp_path, SCRIPT + script)
    trust, ranks, absent, damaged = out.splitlines()
    assert "pass weights_only=False" in trust
    assert "of rank 0 of 1" in ranks
    assert "dataloader-00000-of-00004.pt" in ranks
    assert "nothing.pt is not there" in absent
    assert "damaged" in damaged
    assert [path.name for path in (tmp_path / "ckpt").iterdir()] == ["dataloader-00000-of-00004.pt"]
