"""Failures of an S3 endpoint as our errors: what went wrong, where, and what to mend. Pure.

Codes are those of AWS and of the stores that follow it; a HEAD has no body, so its codes are statuses.
"""

from __future__ import annotations

from typing import Final

from thalweg_tracker.errors import NotFoundError, ObjectStoreError, RejectedError, TrackerError

_TEXT_MAX_CHARS: Final = 300
_CREDENTIALS: Final = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or another source of AWS' credential chain"
_CLOCK: Final = "Set the clock of the server's machine"
_KEY: Final = f"The access key or its secret is wrong for this endpoint. {_CREDENTIALS}, for the server's process"
_REGION: Final = "Set THALWEG_S3_REGION to the region of the bucket"
_ENCRYPTION: Final = "Set THALWEG_S3_ENCRYPTION to what the bucket takes, and allow the server the KMS key"

_MEND: Final = {
    "403": "Allow the server's credentials s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload,"
    " s3:ListMultipartUploadParts and s3:ListBucket there; a wrong secret looks alike",
    "AccessDenied": "Allow the server's credentials s3:GetObject, s3:PutObject, s3:DeleteObject,"
    " s3:AbortMultipartUpload, s3:ListMultipartUploadParts and s3:ListBucket there",
    "AllAccessDisabled": "The account or bucket is locked: ask its owner",
    "AuthorizationHeaderMalformed": _REGION,
    "ExpiredToken": "The credentials have expired: renew them",
    "IllegalLocationConstraintException": _REGION,
    "InvalidAccessKeyId": _KEY,
    "InvalidToken": "AWS_SESSION_TOKEN does not belong to the access key",
    "KMS.DisabledException": _ENCRYPTION,
    "KMS.NotFoundException": _ENCRYPTION,
    "NoSuchBucket": "Make the bucket, or name another one with --objects or THALWEG_OBJECTS",
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "RequestTimeTooSkewed": _CLOCK,
    "ServerSideEncryptionConfigurationNotFoundError": _ENCRYPTION,
    "SignatureDoesNotMatch": _KEY,
    "TokenRefreshRequired": "The credentials have expired: renew them",
    "QuotaExceeded": "The bucket is full: make room, or raise its quota",
    "XMinioStorageFull": "The endpoint has no room left: make some",
}
_BAD_PARTS: Final = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML", "EntityTooLarge"})
_BUSY: Final = "The endpoint is overloaded or broken for now: look at it, and try again"


def answer_failure(where: str, verb: str, code: str, status: int, text: str) -> TrackerError:
    """Of an error that the endpoint answered with. `verb` says what could not be done."""
    if code == "NoSuchUpload":
        return NotFoundError(
            "upload_not_found", f"cannot {verb}: the upload was completed, aborted or removed", "Begin again."
        )
    if code in _BAD_PARTS:
        return RejectedError(
            "bad_parts", f"cannot {verb}: {code}: {text[:_TEXT_MAX_CHARS]}", "Send the missing parts again."
        )
    mend = _MEND.get(code) or (_BUSY if status >= 500 or status == 429 else _MEND.get(str(status), ""))
    said = f"{code or status}: {text[:_TEXT_MAX_CHARS]}".rstrip(": ")
    return ObjectStoreError(f"cannot {verb} at {where}: {said}. {mend}".rstrip(". ") + ".")


def reach_failure(where: str, verb: str, kind: str) -> ObjectStoreError:
    """Of an error on the way; `kind` is the name of botocore's, aiohttp's or Python's class."""
    why, mend = _WAYS.get(kind, (kind, "Look at the endpoint and at the network between"))
    return ObjectStoreError(f"cannot {verb} at {where}: {why}. {mend}.")


_NETWORK: Final = "See that THALWEG_S3_ENDPOINT is right and that the server reaches it"
_WAYS: Final = {
    "EndpointConnectionError": ("the endpoint is out of reach", _NETWORK),
    "ProxyConnectionError": ("the HTTP proxy is out of reach", "See that HTTP_PROXY and HTTPS_PROXY are right"),
    "ConnectTimeoutError": ("the endpoint did not take the connection in time", _NETWORK),
    "ReadTimeoutError": ("the endpoint did not answer in time", "Look at the endpoint, and try again"),
    "TimeoutError": ("the endpoint did not answer in time", "Look at the endpoint, and try again"),
    "ConnectionClosedError": ("the endpoint closed the connection", "Look at the endpoint, and try again"),
    "SSLError": ("its certificate is not trusted", "Set AWS_CA_BUNDLE, or http:// in THALWEG_S3_ENDPOINT"),
    "ResponseParserError": ("its answer is none of S3", "See that THALWEG_S3_ENDPOINT is an S3 endpoint"),
    "NoCredentialsError": ("there are no credentials", _CREDENTIALS),
    "PartialCredentialsError": ("the credentials are not whole", _CREDENTIALS),
    "CredentialRetrievalError": ("the credentials could not be had", _CREDENTIALS),
    "ProfileNotFound": ("there is no such AWS profile", "Set AWS_PROFILE to one of the profiles"),
}
