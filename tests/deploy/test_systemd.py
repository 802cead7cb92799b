"""The units: what systemd makes of them where it is, and what holds anywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.deployment import DEPLOY, UNITS, run, unit

EXPOSURE_AT_MOST = 20
"""In tenths, as `--threshold` takes it. systemd calls anything up to 4 OK."""

each_unit = pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
with_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")


@pytest.fixture
def here(path: Path, tmp_path: Path) -> Path:
    """All units in a folder, with a program that is there: systemd looks whether it is."""
    for other in UNITS:
        text = other.read_text().replace("/opt/thalweg/bin/thalweg", shutil.which("true") or "/bin/true")
        (tmp_path / other.name).write_text(text)
    return tmp_path / path.name


@with_systemd
@each_unit
def test_systemd_finds_no_mistake(path: Path, here: Path) -> None:
    """No unknown key, no dependency that is not there."""
    checked = run("systemd-analyze", "verify", "--recursive-errors=yes", str(here))
    assert path.stem not in checked.stderr, checked.stderr
    assert checked.returncode == 0, checked.stderr


@with_systemd
@pytest.mark.parametrize("path", UNITS[:1], ids=lambda path: path.name)
def test_systemd_would_find_a_mistake(here: Path) -> None:
    """The check above can fail."""
    here.write_text(here.read_text().replace("ProtectHome=yes", "ProtectHomes=yes"))
    assert "ProtectHomes" in run("systemd-analyze", "verify", "--recursive-errors=yes", str(here)).stderr


@with_systemd
@each_unit
def test_little_is_exposed(path: Path, here: Path) -> None:
    """By systemd's own count."""
    checked = run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_AT_MOST}", str(here))
    assert checked.returncode == 0, checked.stdout[-300:] + checked.stderr


@each_unit
def test_it_has_a_user_of_its_own_and_secrets_as_credentials(path: Path) -> None:
    """No root, no secret in the unit, and each credential that a variable names is loaded."""
    keys = unit(path)
    assert keys["DynamicUser"] == ["yes"]
    loaded = {value.split(":")[0] for value in keys.get("LoadCredential", [])}
    settings = [pair for value in keys.get("Environment", []) for pair in value.split()]
    used = {pair.rpartition("/")[2] for pair in settings if "=%d/" in pair}
    assert used == loaded
    assert all(value.startswith(("/etc/thalweg/", "-/etc/thalweg/")) for value in keys["EnvironmentFile"])


@each_unit
def test_it_has_time_to_drain(path: Path) -> None:
    """systemd kills what has not stopped in time."""
    keys = unit(path)
    if keys["Type"] != ["oneshot"]:
        (drain_s,) = [pair.split("=")[1] for v in keys["Environment"] for pair in v.split() if "DRAIN_S" in pair]
        assert int(keys["TimeoutStopSec"][0]) > int(drain_s) + 20


def test_all_are_hardened_alike() -> None:
    """What one may not do, none may; but the embedded engine compiles to memory that it then executes."""
    bars = (
        "Protect",
        "Private",
        "Restrict",
        "SystemCall",
        "Lock",
        "NoNew",
        "Capability",
        "Ambient",
        "RemoveIPC",
        "UMask",
    )
    found = [{key: tuple(v) for key, v in unit(path).items() if key.startswith(bars)} for path in UNITS]
    assert len(found) == 4
    assert all(one == found[0] for one in found)
    deny = {path.stem for path in UNITS if "MemoryDenyWriteExecute" in unit(path)}
    assert deny == {"thalweg-ingest", "thalweg-api", "thalweg-migrate"}


def test_roles_on_one_machine_do_not_want_the_same_address() -> None:
    """Ingest and API have an address each for probes."""
    addresses = [
        pair.partition("=")[2]
        for name in ("ingest", "api")
        for value in unit(DEPLOY / "systemd" / f"thalweg-{name}.service")["Environment"]
        for pair in value.split()
        if pair.startswith(("THALWEG_LISTEN", "THALWEG_OPS"))
    ]
    assert len(addresses) == len(set(addresses)) == 4
