"""Writes tests/fixtures/schema_N.tar.gz: a small database of the newest schema of this checkout, and what the API says.

    python tools/write_fixture_database.py

To be run before a migration is added, so that there is a database of each schema that was released. What is there is
not written again: it stands for databases that people have.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support import archive  # noqa: E402  # the path is set first
from thalweg_tracker.engine.embedded import OWNER_FILE  # noqa: E402
from thalweg_tracker.engine.migrate import shipped  # noqa: E402
from thalweg_tracker.model.settings import EmbeddedStore  # noqa: E402


def main() -> None:
    """Fills a database, asks, and packs both."""
    target = ROOT / "tests" / "fixtures" / f"schema_{shipped()[-1].number}.tar.gz"
    if target.exists():
        raise SystemExit(f"{target} is there already, and stays as it is")
    with tempfile.TemporaryDirectory() as folder:
        data, answers = Path(folder) / "data", Path(folder) / "answers.json"
        with archive.tracker_on(EmbeddedStore(data)) as tracker:
            archive.fill(tracker)
            answers.write_text(json.dumps(archive.ask_all(tracker.http)))
        (data / OWNER_FILE).unlink()
        target.parent.mkdir(exist_ok=True)
        with tarfile.open(target, "w:gz") as packed:
            for path in (data, answers):
                packed.add(path, path.name)
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
