"""A process that owns an embedded engine: `python -m tests.support.engine_owner DATA_DIR`.

It inserts rows 0 to 999 into the table `t`, says "inserted" and lives until its stdin ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.clickhouse_server import REPOSITORY

ROWS = 1000


@contextmanager
def owning(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """The process, after its rows were inserted; it is killed at the end of the block."""
    command = [sys.executable, "-m", "tests.support.engine_owner", str(data_dir)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "inserted\n"
            yield process
        finally:
            process.kill()


def main() -> None:
    import pyarrow as pa

    from thalweg_tracker.engine.embedded import EmbeddedEngine

    engine = EmbeddedEngine(Path(sys.argv[1]))
    engine.execute("CREATE TABLE t (x UInt64) ENGINE = MergeTree ORDER BY x")
    engine.insert("t", pa.table({"x": pa.array(range(ROWS), pa.uint64())}))
    engine.announce(http="http://127.0.0.1:7412")
    print("inserted", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
