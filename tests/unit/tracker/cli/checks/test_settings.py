"""The server's settings as the doctor looks at them: every mistake is found, by the name of its variable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thalweg import variables
from thalweg_tracker.cli.checks.settings import check_settings

SECRET = "s3cr3t"
WRONG = {
    "THALWEG_ADMIN_TOKEN": SECRET,
    "THALWEG_ADMIN_TOKEN_FILE": "/no/such/file",
    "THALWEG_AUTH": "token",
    "THALWEG_CHECKPOINT_PLACES": "/shared",
    "THALWEG_CORS_ORIGINS": "tracker.example",
    "THALWEG_DATA": "http://x",
    "THALWEG_DRAIN_S": "soon",
    "THALWEG_LIMIT_METRICS_PER_RUN": "-1",
    "THALWEG_LIMIT_POINTS_PER_S": "many",
    "THALWEG_LIMIT_QUERY_SECONDS_PER_S": "inf",
    "THALWEG_LIMIT_REQUESTS_PER_S": "1/s",
    "THALWEG_LIMIT_STREAMS": "x",
    "THALWEG_LISTEN_GRPC": "7411",
    "THALWEG_LISTEN_HTTP": "localhost:http",
    "THALWEG_LOG_FORMAT": "xml",
    "THALWEG_OBJECTS": "gs://bucket",
    "THALWEG_OPS": ":9464",
    "THALWEG_S3_ENDPOINT": "minio:9000",
    "THALWEG_S3_ENCRYPTION": "yes",
    "THALWEG_S3_PATH_STYLE": "1",
    "THALWEG_S3_REGION": "EU West",
    "THALWEG_TLS_CERT": "/no/such.pem",
    "THALWEG_TLS_CLIENT_CA": "/no/such/ca.pem",
    "THALWEG_TLS_KEY": "/no/such/key.pem",
}


def test_each_variable_is_looked_at() -> None:
    """But for the store, which store.py looks at."""
    assert WRONG.keys() == variables.OF_SERVER - {"THALWEG_STORE"}


@pytest.mark.parametrize("name", WRONG)
def test_one_mistake(name: str) -> None:
    """It is told with the variable, never an option, and with the next step."""
    (found,) = check_settings({name: WRONG[name], "PATH": "x"})
    assert found.state == "fail"
    assert f"cannot use THALWEG_{'TLS_' if 'TLS' in name else ''}" in found.told
    assert name in found.told + found.then or "TLS" in name
    assert "--" not in found.told + found.then
    assert found.then
    assert SECRET not in str(found)


def test_all_mistakes_at_once() -> None:
    """Each once; of the two ways to give a token the file counts."""
    told = [one.told for one in check_settings(WRONG)]
    named = [name for name in WRONG if sum(f"cannot use {name}=" in text for text in told) == 1]
    assert len(told) == len(named) == len(WRONG)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (("CERT",), "KEY"),
        (("KEY",), "CERT"),
        (("CLIENT_CA",), "CERT"),
        (("CERT", "CLIENT_CA"), "KEY"),
    ],
)
def test_half_of_tls(tmp_path: Path, given: tuple[str, ...], missing: str) -> None:
    """What is missing is named, once."""
    (tmp_path / "pem").write_text("")
    (found,) = check_settings({f"THALWEG_TLS_{one}": str(tmp_path / "pem") for one in given})
    assert found.told == f"cannot use THALWEG_TLS_{missing}='': wanted both THALWEG_TLS_CERT and THALWEG_TLS_KEY"
    assert found.then == f"Set THALWEG_TLS_{missing} too, or unset the others."


def test_settings_that_are_right(tmp_path: Path) -> None:
    """Nothing is found; empty variables are none."""
    (tmp_path / "pem").write_text("")
    right = {
        "THALWEG_ADMIN_TOKEN": "x" * 40,
        "THALWEG_AUTH": "tokens",
        "THALWEG_CORS_ORIGINS": "https://tracker.example",
        "THALWEG_DATA": str(tmp_path),
        "THALWEG_DRAIN_S": "30",
        "THALWEG_LIMIT_STREAMS": "9",
        "THALWEG_LISTEN_HTTP": "0.0.0.0:7412",
        "THALWEG_LOG_FORMAT": "json",
        "THALWEG_OBJECTS": "s3://bucket/prefix",
        "THALWEG_OPS": "127.0.0.1:0",
        "THALWEG_S3_PATH_STYLE": "true",
        "THALWEG_TLS_CERT": str(tmp_path / "pem"),
        "THALWEG_TLS_KEY": str(tmp_path / "pem"),
    }
    assert check_settings(right) == []
    assert check_settings(dict.fromkeys(WRONG, "")) == []
    assert check_settings(os.environ | dict.fromkeys(WRONG, "")) == []
