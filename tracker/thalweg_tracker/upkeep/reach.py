"""Where the server looks for the checkpoints of a project. Pure.

A pointer is a text that anybody with a token of the project may log. Where tokens are asked for, it leads the server
to nothing but the project's own uploads and what the operator has named: else it would tell, and hand out, what
belongs to others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from thalweg_tracker.objects.contract import ObjectStore
from thalweg_tracker.objects.keys import canonical

OUTSIDE: Final = "the server looks only at the project's own uploads, and at what THALWEG_CHECKPOINT_PLACES names"


@dataclass(frozen=True, slots=True)
class Reach:
    """What pointers may lead to: what the store allows, for each project its own part of it where `is_narrow`."""

    objects: ObjectStore | None
    is_narrow: bool = False
    places: tuple[str, ...] = ()
    """URIs of folders that all projects may point at."""

    def allows(self, project: str, uri: str) -> bool:
        """Whether the server may look there for a checkpoint of the project."""
        if not self.is_narrow:
            return True
        if ".." in unquote(uri).split("/"):
            return False  # it may lead out of the folder that it begins with; no upload lies at such a place
        own = () if self.objects is None else (self.objects.uri_for(project, ""),)
        return canonical(uri).startswith((*own, *self.places))
