"""The word on a framework that is not installed."""

from __future__ import annotations


def missing(module: str, packages: str, cause: ImportError) -> ImportError:
    """The error of a hook whose framework cannot be imported; raise it from `cause`."""
    return ImportError(
        f"cannot import {module}: {cause}. It needs packages that Thalweg does not install by itself. "
        f"Next step: pip install {packages}",
        name=cause.name,
    )
