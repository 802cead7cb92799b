"""Any folder goes up and comes back, whatever the sizes of its files and of the parts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.upload_server import Fault, UploadServer, serve
from tests.unit.sdk.checkpoints.conftest import Clock, content
from thalweg.api_client import ApiClient
from thalweg.checkpoints.download import download
from thalweg.checkpoints.record import describe_checkpoint
from thalweg.checkpoints.upload import upload
from thalweg.checkpoints.upload_state import Target

TARGET = Target("digits", "run", None, 7.0, "full")
NAMES = st.lists(st.sampled_from(["a", "b.pt", "ü", "x y", ".z", "%41", "=41"]), min_size=1, max_size=3).map("/".join)
FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "put", "complete", "get"]),
        st.integers(0, 10),
        st.sampled_from([Fault(503), Fault(cut_at_bytes=0), Fault(cut_at_bytes=40)]),
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def shared_server() -> Iterator[UploadServer]:
    """One for all examples."""
    with serve() as running:
        yield running


def without_clashes(sizes: dict[str, int]) -> dict[str, int]:
    """Without files that others have as a folder."""
    return {path: size for path, size in sizes.items() if not any(other.startswith(f"{path}/") for other in sizes)}


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.dictionaries(NAMES, st.integers(0, 900), min_size=1, max_size=6).map(without_clashes),
    part_bytes=st.integers(1, 1000),
    urls_max=st.integers(1, 50),
    faults=FAULTS,
)
def test_what_goes_up_comes_back(
    shared_server: UploadServer,
    tmp_path_factory: pytest.TempPathFactory,
    sizes: dict[str, int],
    part_bytes: int,
    urls_max: int,
    faults: list[tuple[str, int, Fault]],
) -> None:
    """Any split of any sizes round-trips, also over a bad network; the manifest fits a record."""
    server, folder = shared_server, tmp_path_factory.mktemp("from")
    server.heal()
    server.part_bytes, server.urls_max = max(part_bytes, max(sizes.values()) // 40), max(urls_max, 6)
    for kind, skip, fault in faults:
        server.on(kind, fault, skip=skip)
    tree = {path: content(size, len(path)) for path, size in sizes.items()}
    for path, data in tree.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    saved = folder.parent / f"{folder.name}.json"
    done = upload(ApiClient(server.url), folder, TARGET, state_path=saved, pace=Clock().pace())
    record = describe_checkpoint(done.uri, step=7, now_us=1, files=done.files, digest=done.digest)
    assert [file["path"] for file in record.fields["checkpoint"]["files"]] == sorted(tree)
    to = download(
        server.resolve(done.uri),
        folder.parent / f"{folder.name}-back",
        base_url=server.url,
        refresh=lambda: server.resolve(done.uri),
        pace=Clock().pace(),
    )
    assert {str(path.relative_to(to)): path.read_bytes() for path in to.rglob("*") if path.is_file()} == tree
    assert not server.uploads
