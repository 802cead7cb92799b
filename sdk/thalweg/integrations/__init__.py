"""Hooks for training frameworks. Each module needs its framework; `import thalweg` imports none of them.

    torch_checkpoint.py   torch.distributed.checkpoint: save, async_save
    torchdata.py          the position of a StatefulDataLoader
    lightning.py          a Logger
    transformers.py       a TrainerCallback
    saved_paths.py        for the last two: what a framework saves, overwrites and deletes by itself

They use the public face of the SDK: what they do, a training script can do itself.
"""
