"""Keys: 64 bits, the same in Python and in SQL."""

from pathlib import Path

from tests.support.engines import NASTY_TEXTS, opened
from thalweg_tracker.model.keys import metric_key, run_key, writer_key
from thalweg_tracker.model.settings import EmbeddedStore


def test_keys_are_those_of_sql(tmp_path: Path) -> None:
    """xxh3 of the same bytes on the real engine, whatever the names hold."""
    run_sql = """SELECT xxh3(concat(
        {project:String}, char(0), {run_id:String}, char(0), toString({branch:UInt32}))) AS key"""
    with opened(EmbeddedStore(tmp_path / "data")) as engine:
        for text in NASTY_TEXTS:
            (row,) = engine.query("SELECT xxh3({name:String}) AS key", {"name": text}).to_pylist()
            assert row["key"] == metric_key(text)
            for branch in (0, 4_294_967_295):
                where = {"project": text, "run_id": text[::-1], "branch": branch}
                (row,) = engine.query(run_sql, where).to_pylist()
                assert row["key"] == run_key(text, text[::-1], branch)


def test_the_parts_of_a_run_are_kept_apart() -> None:
    """Neither a part moved over its border nor another branch gives the same key."""
    keys = [run_key("ab", "c"), run_key("a", "bc"), run_key("abc", ""), run_key("ab", "c", 1), run_key("ab", "c0")]
    assert len(set(keys)) == len(keys)


def test_the_key_of_a_writer_is_the_first_half_of_its_id() -> None:
    """Random, so its first 64 bits are as good as a hash."""
    assert writer_key("00000000000000ff" + "f" * 16) == 255
