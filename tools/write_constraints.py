"""Writes constraints.txt: the exact version of every distribution that is installed beside thalweg."""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

OWN_TOOLS = {"pip", "setuptools", "wheel", "thalweg"}


def main() -> None:
    """Names and versions, sorted, without their sources."""
    found = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
    lines = [f"{name}=={version}" for name, version in sorted(found.items()) if name not in OWN_TOOLS]
    header = "# Versions that CI and `make` install. Written by `make lock`.\n"
    Path("constraints.txt").write_text(header + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
