"""Two layouts of a batch on the wire: frames grouped by schema, against parallel arrays with a schema id a frame.

Measures the server's part: from the received `bytes` to one matrix a schema. Frames of several schemas
alternate, as train, validation and gradient metrics do in a training loop. Both give the same matrices,
which is checked.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from loadtests.report import Report

Matrices = dict[int, NDArray[np.float64]]


def make(schemas: int, width: int, frames: int) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Schema ids of frames in turn, and all values, frame by frame."""
    ids = np.resize(np.arange(schemas, dtype=np.uint32), frames)
    return ids, np.random.default_rng(0).random(frames * width)


def from_arrays(ids: bytes, values: bytes, widths: NDArray[np.int64]) -> Matrices:
    """One matrix a schema from parallel arrays."""
    schema = np.frombuffer(ids, dtype="<u4")
    flat = np.frombuffer(values, dtype="<f8")
    ends = np.cumsum(widths[schema])
    starts = ends - widths[schema]
    found: Matrices = {}
    for number in np.unique(schema).tolist():
        mine = starts[schema == number]
        found[number] = flat[mine[:, None] + np.arange(widths[number])]
    return found


def from_groups(groups: dict[int, bytes], widths: NDArray[np.int64]) -> Matrices:
    """One matrix a schema from groups."""
    return {number: np.frombuffer(data, "<f8").reshape(-1, int(widths[number])) for number, data in groups.items()}


def main() -> None:
    """Measures several shapes and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=201)
    options = parser.parse_args()
    report = Report("Layout of a batch on the wire", (__doc__ or "").strip())
    for schemas, width in ((1, 1000), (3, 1000), (3, 10), (50, 10)):
        frames = 131_072 // width
        ids, flat = make(schemas, width, frames)
        widths = np.full(schemas, width)
        matrix = flat.reshape(frames, width)
        groups = {number: matrix[ids == number].tobytes() for number in range(schemas)}
        arrays = ids.tobytes(), flat.tobytes()
        one, other = from_arrays(*arrays, widths), from_groups(groups, widths)
        assert all(np.array_equal(one[number], other[number]) for number in range(schemas))
        took: dict[str, list[float]] = {"parallel arrays": [], "groups": []}
        for _ in range(options.repeats):
            begin = time.perf_counter()
            from_arrays(*arrays, widths)
            middle = time.perf_counter()
            from_groups(groups, widths)
            took["parallel arrays"].append((middle - begin) / flat.size * 1e9)
            took["groups"].append((time.perf_counter() - middle) / flat.size * 1e9)
        for layout, ns in took.items():
            report.add(f"{schemas} schemas of {width} metrics, {layout}", "ns/point", ns)
    report.write("wire_layout")


if __name__ == "__main__":
    main()
