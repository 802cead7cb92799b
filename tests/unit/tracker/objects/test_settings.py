"""Settings of the store of objects: what is taken, and what a person is told of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalweg_tracker.errors import SettingError
from thalweg_tracker.model.settings import (
    EmbeddedStore,
    Encryption,
    FileObjects,
    ObjectSettings,
    S3Objects,
    ServerStore,
    parse_objects,
)

EMBEDDED = EmbeddedStore(Path("/data"))
SERVERS = ServerStore((("h", 9000),), "thalweg", "default", "")
PLAIN = S3Objects("bucket", "", None, None, False, None)


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        (None, {}, FileObjects(Path("/data/objects"))),
        (None, {"THALWEG_OBJECTS": ""}, FileObjects(Path("/data/objects"))),
        (None, {"THALWEG_OBJECTS": "/elsewhere"}, FileObjects(Path("/elsewhere"))),
        ("/told", {"THALWEG_OBJECTS": "/elsewhere"}, FileObjects(Path("/told"))),
        ("s3://bucket", {}, PLAIN),
        ("s3://bucket/", {}, PLAIN),
        ("s3://bucket/a/b/", {}, S3Objects("bucket", "a/b", None, None, False, None)),
        (None, {"THALWEG_OBJECTS": "s3://bucket"}, PLAIN),
        (
            "s3://bucket",
            {"THALWEG_S3_ENDPOINT": "http://minio:9000/"},
            S3Objects("bucket", "", "http://minio:9000", None, True, None),
        ),
        (
            "s3://bucket",
            {"THALWEG_S3_ENDPOINT": "https://[::1]:1", "THALWEG_S3_PATH_STYLE": "false"},
            S3Objects("bucket", "", "https://[::1]:1", None, False, None),
        ),
        (
            "s3://bucket",
            {"THALWEG_S3_PATH_STYLE": "true", "THALWEG_S3_REGION": "eu-west-1"},
            S3Objects("bucket", "", None, "eu-west-1", True, None),
        ),
    ],
)
def test_what_is_taken(text: str | None, environ: dict[str, str], expected: ObjectSettings) -> None:
    """The option before the environment before the default; an endpoint of one's own has the bucket in the path."""
    assert parse_objects("--objects", text, environ, EMBEDDED) == expected


def test_servers_have_no_default() -> None:
    """Several processes serve them: a folder of one of them is no place for all."""
    assert parse_objects("--objects", None, {}, SERVERS) is None
    assert parse_objects("--objects", "s3://bucket", {}, SERVERS) == PLAIN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("none", None),
        ("AES256", Encryption("AES256")),
        ("aws:kms", Encryption("aws:kms")),
        ("aws:kms:alias/x", Encryption("aws:kms", "alias/x")),
        ("aws:kms:arn:aws:kms:eu-west-1:1:key/a-b", Encryption("aws:kms", "arn:aws:kms:eu-west-1:1:key/a-b")),
    ],
)
def test_encryption(text: str, expected: Encryption | None) -> None:
    """None, S3's own key, the account's KMS key, or a named one."""
    found = parse_objects("--objects", "s3://bucket", {"THALWEG_S3_ENCRYPTION": text}, EMBEDDED)
    assert isinstance(found, S3Objects)
    assert found.encryption == expected


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3:///prefix",
        "s3://a",
        "s3://bucket/a//b",
        "s3://bucket//a",
        "s3://bucket/../a",
        "s3://bucket/a/.",
        "s3://bucket/a b",
        "s3://bucket/a?b",
        f"s3://bucket/{'x' * 257}",
        "s3://key:SECRET@bucket/a",
        "gs://bucket",
        "http://host/bucket",
        "file:///data",
    ],
)
def test_places_that_are_refused(text: str) -> None:
    """The error names the setting and the wanted form, and no secret."""
    with pytest.raises(SettingError, match=r"cannot use --objects=.*wanted a folder, or s3://") as caught:
        parse_objects("--objects", text, {}, EMBEDDED)
    assert "SECRET" not in str(caught.value)
    with pytest.raises(SettingError, match="cannot use THALWEG_OBJECTS="):
        parse_objects("--objects", None, {"THALWEG_OBJECTS": text}, EMBEDDED)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("THALWEG_S3_ENDPOINT", "minio:9000"),
        ("THALWEG_S3_ENDPOINT", "ftp://minio"),
        ("THALWEG_S3_ENDPOINT", "http://"),
        ("THALWEG_S3_ENDPOINT", "http://h:port"),
        ("THALWEG_S3_ENDPOINT", "http://h/path"),
        ("THALWEG_S3_ENDPOINT", "http://h?x=1"),
        ("THALWEG_S3_ENDPOINT", "http://[::1"),
        ("THALWEG_S3_ENDPOINT", "http://user:SECRET@h"),
        ("THALWEG_S3_REGION", "Europe 1"),
        ("THALWEG_S3_PATH_STYLE", "False"),
        ("THALWEG_S3_PATH_STYLE", "1"),
        ("THALWEG_S3_ENCRYPTION", "aes256"),
        ("THALWEG_S3_ENCRYPTION", "aws:kms:"),
        ("THALWEG_S3_ENCRYPTION", "aws:kms:a b"),
    ],
)
def test_details_that_are_refused(name: str, text: str) -> None:
    """Strictly: a setting that is nearly right is an error, and not its default."""
    with pytest.raises(SettingError, match=f"cannot use {name}=") as caught:
        parse_objects("--objects", "s3://bucket", {name: text}, EMBEDDED)
    assert "SECRET" not in str(caught.value)
