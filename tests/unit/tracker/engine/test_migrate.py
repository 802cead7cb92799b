"""Shipped migrations are numbered without a gap, read as statements, and never change."""

import re

from thalweg_tracker.engine.migrate import Migration, shipped

# To add a migration, add its line. Lines that were released stay as they are.
FROZEN = {
    "0001_initial": "34f12406c2d460ea280fdd6ce50d8ebb994f60f5e2ff8d1a52126f0f4257d135",
    "0002_forks_and_checkpoints": "86a20e3dfa54e4787b4027055e183b8e46c861c028c23abd1194a0d954469267",
    "0003_custom_metrics": "beee1107ce132b0715b0cace583418881dbe4dd02e16ac677b2e5bd6c3297173",
    "0004_access": "87649a7d35ebf331613286f91a8b01a5f31a088ebc695789971d025699933092",
    "0005_deletion": "5c06e03d3b37d8874a15a8cee8407c40ead49bf37e47da9d2c2e3497c592d98f",
    "0006_merges": "c114c18b3f51f0c0b0dd498c86836b64abaf4f6e3c82f285f0cc2ad06b319658",
    "0007_sync": "08ef3231f967b7ac065f096be07a599ee61080973a41419568e198b805229dcf",
    "0008_parts": "950dd5e3d4a83581d47b669a354c7f90519da5c73e26b289637885add3d74cdc",
    "0009_codecs": "4d27e7cc9a9af317989694fb8f6f36d60c3e89ce9ce90490a4d7533585cb744e",
}


def test_shipped_migrations_are_frozen() -> None:
    """The text of a shipped migration is the one that databases have run; a change needs a new migration."""
    assert {f"{one.number:04d}_{one.name}": one.sha256 for one in shipped()} == FROZEN


def test_numbers_have_no_gap() -> None:
    """Migrations are numbered 1, 2, 3."""
    assert [one.number for one in shipped()] == list(range(1, len(shipped()) + 1))


def test_statements() -> None:
    """Statements are split at semicolons, without comments; nothing is left over."""
    text = "-- one; two\nCREATE TABLE a\n(\n    x UInt8 -- a; b\n);\n\n-- three\nCREATE TABLE b (y UInt8);\n-- end"
    statements = Migration(1, "x", text).statements
    assert [" ".join(one.split()) for one in statements] == ["CREATE TABLE a ( x UInt8 )", "CREATE TABLE b (y UInt8)"]


def test_shipped_statements_can_be_run_again() -> None:
    """Each takes IF NOT EXISTS, or sets settings or codecs: an interrupted migration runs them again."""
    for migration in shipped():
        for statement in migration.statements:
            is_create = statement.startswith(("CREATE TABLE ", "CREATE MATERIALIZED VIEW ", "CREATE VIEW "))
            is_set = re.match(r"ALTER TABLE \w+ MODIFY (SETTING|COLUMN \w+ (CODEC|MODIFY SETTING))\b", statement)
            assert is_create or is_set


def test_every_table_is_synced() -> None:
    """A table that keeps rows has them on the disk when an insert returns, and merged ones before their parts go."""
    text = "\n".join(statement for one in shipped() for statement in one.statements)
    kept = {
        name for name, engine in re.findall(r"CREATE TABLE (\w+).*?ENGINE = (\w+)", text, re.DOTALL) if engine != "Null"
    }
    settings = "fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1"
    synced = set(re.findall(rf"ALTER TABLE (\w+) MODIFY SETTING {settings}", text))
    assert synced == kept | {"migrations"}
