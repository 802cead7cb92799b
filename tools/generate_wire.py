"""Generates sdk/thalweg/wire/v1 from proto/, in a virtual environment of its own.

The generator is old on purpose: what grpcio-tools 1.62 writes imports with protobuf 4.25 and everything
later, so that the SDK fits into training environments that pin an old protobuf.
"""

from __future__ import annotations

import subprocess
import tempfile
import venv
from pathlib import Path

GENERATORS = ("grpcio-tools==1.62.3", "mypy-protobuf==3.6.0", "setuptools<80")
FILES = ("thalweg/wire/v1/records.proto", "thalweg/wire/v1/ingest.proto")


def main() -> None:
    """Writes the generated modules over the old ones."""
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *GENERATORS], check=True)
        subprocess.run(
            [
                python, "-m", "grpc_tools.protoc", f"-I{root / 'proto'}",
                f"--plugin=protoc-gen-mypy={Path(folder, 'bin', 'protoc-gen-mypy')}",
                f"--python_out={root / 'sdk'}", f"--grpc_python_out={root / 'sdk'}", f"--mypy_out={root / 'sdk'}",
                *FILES,
            ],
            check=True,
        )  # fmt: skip
    (root / "sdk/thalweg/wire/v1/records_pb2_grpc.py").unlink()  # holds no service


if __name__ == "__main__":
    main()
