"""Failures of an endpoint: whose fault, where, and what to mend."""

from __future__ import annotations

import pytest

from thalweg_tracker.errors import NotFoundError, ObjectStoreError, RejectedError
from thalweg_tracker.objects.s3_failures import answer_failure, reach_failure


@pytest.mark.parametrize(
    ("code", "status", "mend"),
    [
        ("SignatureDoesNotMatch", 403, "AWS_SECRET_ACCESS_KEY"),
        ("InvalidAccessKeyId", 403, "AWS_ACCESS_KEY_ID"),
        ("403", 403, "a wrong secret looks alike"),
        ("AccessDenied", 403, "s3:AbortMultipartUpload"),
        ("Unheard", 403, "s3:ListBucket"),
        ("NoSuchBucket", 404, "Make the bucket"),
        ("PermanentRedirect", 301, "THALWEG_S3_REGION"),
        ("301", 301, "THALWEG_S3_REGION"),
        ("RequestTimeTooSkewed", 403, "clock"),
        ("KMS.NotFoundException", 400, "THALWEG_S3_ENCRYPTION"),
        ("SlowDown", 503, "try again"),
        ("500", 500, "try again"),
        ("Unheard", 429, "try again"),
        ("Unheard", 400, "Unheard: said."),
    ],
)
def test_the_operators_fault(code: str, status: int, mend: str) -> None:
    """It names the place, the code and the remedy, in one sentence each."""
    error = answer_failure("bucket 'b' of http://e", "begin an upload", code, status, "said")
    assert isinstance(error, ObjectStoreError)
    assert str(error).startswith(f"cannot begin an upload at bucket 'b' of http://e: {code}: said.")
    assert mend in str(error)
    assert ".." not in str(error)


@pytest.mark.parametrize("code", ["InvalidPart", "InvalidPartOrder", "EntityTooSmall"])
def test_the_callers_fault(code: str) -> None:
    """Parts that are wrong or missing."""
    error = answer_failure("here", "complete an upload", code, 400, "said")
    assert isinstance(error, RejectedError)
    assert error.code == "bad_parts"


def test_an_upload_that_is_gone() -> None:
    """The client begins again."""
    error = answer_failure("here", "list the parts", "NoSuchUpload", 404, "said")
    assert isinstance(error, NotFoundError)
    assert error.code == "upload_not_found"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("EndpointConnectionError", "THALWEG_S3_ENDPOINT"),
        ("ReadTimeoutError", "did not answer in time"),
        ("SSLError", "AWS_CA_BUNDLE"),
        ("NoCredentialsError", "AWS_ACCESS_KEY_ID"),
        ("UnheardError", "UnheardError"),
    ],
)
def test_the_way_there(kind: str, words: str) -> None:
    """Failures without an answer."""
    assert words in str(reach_failure("here", "look at an object", kind))


def test_a_long_answer_is_cut() -> None:
    """A page of HTML does not fill the log."""
    assert len(str(answer_failure("here", "list objects", "X", 400, "x" * 10_000))) < 500
