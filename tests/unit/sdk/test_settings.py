"""Settings: every variable, what takes precedence, and errors that say what to mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thalweg.errors import SettingError
from thalweg.settings import DEFAULT_SPOOL_LIMIT_BYTES, DEFAULT_URL, Settings


def read(environ: dict[str, str] | None = None, **arguments: Any) -> Settings:
    """Settings from these variables and arguments alone."""
    return Settings.read({"HOME": "/nowhere", **(environ or {})}, **arguments)


def test_a_token_is_taken_out_of_its_file_s_line() -> None:
    """A newline at its end is no part of it; what no header can carry is told, without the token."""
    assert read({"THALWEG_TOKEN": "thalweg_x\n"}).token == "thalweg_x"
    for bad in ("two words", "caf\u00e9", "a\nb"):
        with pytest.raises(SettingError, match="THALWEG_TOKEN") as caught:
            read({"THALWEG_TOKEN": bad})
        assert bad not in str(caught.value)


def test_defaults() -> None:
    """Without any word there is a default for everything."""
    settings = read({"XDG_CACHE_HOME": "/cache"})
    assert settings == Settings(
        url=DEFAULT_URL, project="default", mode="online", spool_dir=Path("/cache/thalweg/spool")
    )
    assert settings.spool_limit_bytes == DEFAULT_SPOOL_LIMIT_BYTES
    assert (settings.rank, settings.run_id, settings.token, settings.system_interval_s) == (0, None, None, 10.0)


def test_default_spool_is_in_the_users_cache() -> None:
    """Without XDG_CACHE_HOME the spool is below the home folder."""
    assert read().spool_dir == Path.home() / ".cache" / "thalweg" / "spool"


@pytest.mark.parametrize(
    ("field", "variable", "text", "value", "argument"),
    [
        ("url", "THALWEG_URL", "https://h:1/", "https://h:1", "http://other"),
        ("project", "THALWEG_PROJECT", "p q", "p q", "other"),
        ("token", "THALWEG_TOKEN", "t", "t", "other"),
        ("mode", "THALWEG_MODE", "offline", "offline", "disabled"),
        ("run_id", "THALWEG_RUN_ID", "r", "r", "other"),
        ("spool_dir", "THALWEG_SPOOL_DIR", "/s", Path("/s"), "/other"),
        ("spool_dir", "THALWEG_SPOOL_DIR", "~/s", Path.home() / "s", Path("/other")),
        ("system_interval_s", "THALWEG_SYSTEM_INTERVAL_S", "0.5", 0.5, 0),
        ("rank", "RANK", "3", 3, 7),
    ],
)
def test_argument_then_variable_then_default(
    field: str, variable: str, text: str, value: object, argument: Any
) -> None:
    """An argument wins over the variable, the variable over the default; an empty variable counts as not set."""
    assert getattr(read({variable: text}), field) == value
    given = getattr(read({variable: text}, **{field: argument}), field)
    assert given == (Path(argument) if field == "spool_dir" else argument)
    empty, default = getattr(read({variable: ""}), field), getattr(read(), field)
    assert empty == default


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"RANK": "5", "SLURM_PROCID": "6"}, 5),
        ({"SLURM_PROCID": "6", "OMPI_COMM_WORLD_RANK": "7"}, 6),
        ({"OMPI_COMM_WORLD_RANK": "7", "PMI_RANK": "8"}, 7),
        ({"PMI_RANK": "8", "PMIX_RANK": "9"}, 8),
        ({"PMIX_RANK": "9"}, 9),
        ({"RANK": "", "SLURM_PROCID": "6"}, 6),
        ({"RANK": "65535"}, 65_535),
    ],
)
def test_rank_comes_from_the_launcher(variables: dict[str, str], rank: int) -> None:
    """The launchers' variables are asked in their order."""
    assert read(variables).rank == rank


def test_spool_limit() -> None:
    """The quota is a number of bytes of at least two segments."""
    assert read({"THALWEG_SPOOL_LIMIT_BYTES": str(64 << 20)}).spool_limit_bytes == 64 << 20


ERRORS: list[tuple[str, dict[str, str], dict[str, Any], str]] = [
    ("THALWEG_URL", {"THALWEG_URL": "127.0.0.1:7412"}, {}, "HTTP address"),
    ("THALWEG_URL", {"THALWEG_URL": "ftp://h"}, {}, "HTTP address"),
    ("THALWEG_URL", {"THALWEG_URL": "http://"}, {}, "HTTP address"),
    ("THALWEG_URL", {"THALWEG_URL": "http://[::1"}, {}, "HTTP address"),
    ("THALWEG_URL", {"THALWEG_URL": "http://h:99999"}, {}, "HTTP address"),
    ("THALWEG_URL", {"THALWEG_URL": "http://h:port"}, {}, "HTTP address"),
    ("THALWEG_PROJECT", {"THALWEG_PROJECT": "a/b"}, {}, "1 to 128 bytes"),
    ("THALWEG_PROJECT", {}, {"project": ""}, "1 to 128 bytes"),
    ("THALWEG_PROJECT", {}, {"project": "x" * 129}, "1 to 128 bytes"),
    ("THALWEG_PROJECT", {}, {"project": "a\nb"}, "1 to 128 bytes"),
    ("THALWEG_PROJECT", {}, {"project": "\udc80"}, "1 to 128 bytes"),
    ("THALWEG_PROJECT", {}, {"project": 7}, "1 to 128 bytes"),
    ("run_id", {"THALWEG_RUN_ID": "é" * 65}, {}, "1 to 128 bytes"),
    ("run_id", {}, {"run_id": "a/b"}, "1 to 128 bytes"),
    ("THALWEG_MODE", {"THALWEG_MODE": "Online"}, {}, "one of online, offline, disabled"),
    ("RANK", {"RANK": "-1"}, {}, "0..65535"),
    ("SLURM_PROCID", {"SLURM_PROCID": "65536"}, {}, "0..65535"),
    ("rank", {}, {"rank": 1.5}, "0..65535"),
    ("rank", {}, {"rank": True}, "0..65535"),
    ("THALWEG_SPOOL_LIMIT_BYTES", {"THALWEG_SPOOL_LIMIT_BYTES": "20GB"}, {}, "whole number of bytes"),
    ("THALWEG_SPOOL_LIMIT_BYTES", {"THALWEG_SPOOL_LIMIT_BYTES": "1"}, {}, "at least 67108864"),
    ("THALWEG_SYSTEM_INTERVAL_S", {"THALWEG_SYSTEM_INTERVAL_S": "often"}, {}, "at least 0.1"),
    ("THALWEG_SYSTEM_INTERVAL_S", {"THALWEG_SYSTEM_INTERVAL_S": "nan"}, {}, "at least 0.1"),
    ("THALWEG_SYSTEM_INTERVAL_S", {}, {"system_interval_s": 0.01}, "at least 0.1"),
    ("THALWEG_SYSTEM_INTERVAL_S", {}, {"system_interval_s": -1}, "at least 0.1"),
]


@pytest.mark.parametrize(("key", "environ", "arguments", "wanted"), ERRORS)
def test_error_names_key_value_and_wanted_form(
    key: str, environ: dict[str, str], arguments: dict[str, Any], wanted: str
) -> None:
    """A setting that cannot be used is an error of one kind that tells key, value and wanted form."""
    with pytest.raises(SettingError) as caught:
        read(environ, **arguments)
    value = next(iter({**environ, **arguments}.values()))
    assert caught.value.key == key
    assert wanted in caught.value.wanted
    assert str(caught.value).startswith(f"cannot use {key}=")
    assert (repr(value) in str(caught.value)) or (repr(str(value)) in str(caught.value))


def test_token_is_not_in_the_repr() -> None:
    """Secrets never reach a log by way of `repr`."""
    settings = read(token="tok-secret")
    assert settings.token == "tok-secret"
    assert "tok-secret" not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "attempt"),
    [
        ({}, None),
        ({"RANK": "3", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, None),
        ({"THALWEG_ATTEMPT": "x"}, "x"),
        ({"THALWEG_ATTEMPT": "x", "SLURM_JOB_ID": "1"}, "x"),
        ({"THALWEG_ATTEMPT": "", "SLURM_JOB_ID": "1"}, "slurm:1::"),
        ({"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "2", "SLURM_RESTART_COUNT": "3"}, "slurm:1:2:3"),
        ({"SLURM_STEP_ID": "2", "SLURM_RESTART_COUNT": "3"}, None),
        ({"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0"}, "torchrun:none:0::"),
        (
            {
                "TORCHELASTIC_RUN_ID": "job",
                "TORCHELASTIC_RESTART_COUNT": "1",
                "MASTER_ADDR": "h",
                "MASTER_PORT": "29500",
                "SLURM_JOB_ID": "1",
            },
            "torchrun:job:1:h:29500 slurm:1::",
        ),
        ({"PMIX_NAMESPACE": "ns"}, "pmix:ns"),
        ({"TORCHELASTIC_RESTART_COUNT": "1"}, None),
    ],
)
def test_attempt_comes_from_the_launcher(variables: dict[str, str], attempt: str | None) -> None:
    """What every launcher tells of this start; another restart has another name, each rank the same."""
    assert read(variables).attempt == attempt
    assert read({**variables, "RANK": "7"}).attempt == attempt
