"""Objects in a bucket of S3 or of what speaks like it, through aiobotocore.

One client from `open` to `close`. aiobotocore is imported by `open`: it takes a third of a second and 40 MB,
which servers with the store of files do not pay.

Checksums of botocore's own are asked for only where S3 demands them: other stores refuse them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from typing import Any, Final

from thalweg_tracker.errors import NotFoundError, ObjectStoreError, RejectedError, TrackerError
from thalweg_tracker.model.settings import S3Objects
from thalweg_tracker.objects import keys
from thalweg_tracker.objects.contract import MIB, URL_LIFETIME_S, ObjectInfo, Part
from thalweg_tracker.objects.s3_failures import answer_failure, reach_failure

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 60.0
"""Between two pieces of an answer."""
ATTEMPTS: Final = 4
"""The pauses between them are botocore's: random, up to 1, 2 and 4 s."""
CONNECTIONS: Final = 32

MAX_PARTS: Final = 10_000
PART_MIN_BYTES: Final = 16 * MIB
PART_MAX_BYTES: Final = 5 << 30
DELETE_BATCH: Final = 1000

_ABSENT: Final = ("404", "NoSuchKey", "NotFound")


class S3Store:
    """Objects in a bucket. See contract."""

    def __init__(
        self,
        settings: S3Objects,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._settings = settings
        self._begin = f"{settings.prefix}/" if settings.prefix else ""
        self._timeouts_s = (connect_timeout_s, answer_timeout_s)
        self._attempts = attempts
        self._client: Any = None  # aiobotocore makes its classes at run time
        self._stack = AsyncExitStack()

    @property
    def max_parts(self) -> int:
        """See contract."""
        return MAX_PARTS

    def describe(self) -> str:
        """See contract."""
        return f"bucket {self._settings.bucket!r} of {self._settings.endpoint or 'AWS S3'}, {self._settings}"

    def covers(self, uri: str) -> bool:
        """See contract."""
        key = keys.s3_key(self._settings.bucket, uri)
        return key is not None and key.startswith(self._begin) and key != self._begin

    def readable(self, uri: str) -> bool:
        """See contract."""
        return keys.s3_key(self._settings.bucket, uri) is not None

    def downloadable(self, uri: str) -> bool:
        """See contract."""
        return self.covers(uri) and not uri.endswith("/")

    def uri_for(self, *parts: str) -> str:
        """See contract."""
        return f"s3://{self._settings.bucket}/{self._begin}{keys.join_key(parts)}"

    def part_bytes(self, size_bytes: int) -> int:
        """See contract. Whole MiB, as large as 10,000 parts make it."""
        needed = -(-size_bytes // MAX_PARTS)
        if needed > PART_MAX_BYTES:
            most = MAX_PARTS * PART_MAX_BYTES
            raise RejectedError("too_large", f"cannot store {size_bytes} bytes in one object: at most {most}")
        return max(PART_MIN_BYTES, -(-needed // MIB) * MIB)

    async def __aenter__(self) -> S3Store:
        """Makes the client. Raises ObjectStoreError where AWS' own settings are wrong."""
        await asyncio.to_thread(_import)
        from aiobotocore.config import AioConfig  # type: ignore[import-untyped]  # ships no types
        from aiobotocore.session import get_session  # type: ignore[import-untyped]
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

        for talkative in ("botocore", "aiobotocore"):  # they would log signed URLs
            logging.getLogger(talkative).setLevel(logging.WARNING)
        config = AioConfig(
            signature_version="s3v4",  # the default for URLs is still an older one
            connect_timeout=self._timeouts_s[0],
            read_timeout=self._timeouts_s[1],
            retries={"mode": "standard", "total_max_attempts": self._attempts},
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": "path" if self._settings.path_style else "virtual"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            client = get_session().create_client(
                "s3", region_name=self._settings.region, endpoint_url=self._settings.endpoint, config=config
            )
            self._client = await self._stack.enter_async_context(client)
        except BotoCoreError as error:
            raise reach_failure(self.describe(), "set up the client", type(error).__name__) from error
        self._client.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Closes the connections."""
        await self._stack.aclose()

    async def check(self) -> None:
        """See contract."""
        await self._call("head_bucket", "use the bucket")

    async def begin_upload(self, uri: str) -> str:
        """See contract."""
        key = self._covered(uri)
        answer = await self._call("create_multipart_upload", "begin an upload", Key=key, **self._encryption())
        return str(answer["UploadId"])

    def _encryption(self) -> dict[str, str]:
        asked = self._settings.encryption
        if asked is None:
            return {}
        key = {"SSEKMSKeyId": asked.kms_key_id} if asked.kms_key_id else {}
        return {"ServerSideEncryption": asked.algorithm, **key}

    async def list_parts(self, uri: str, upload_id: str) -> list[Part]:
        """See contract."""
        found: list[Part] = []
        place = {"Key": self._covered(uri), "UploadId": upload_id}
        more: dict[str, int] = {}
        while True:
            answer = await self._call("list_parts", "list the parts of an upload", **place, **more)
            for part in answer.get("Parts", ()):
                found.append(Part(part["PartNumber"], _bare(part["ETag"]), part["Size"]))
            if not answer.get("IsTruncated"):
                return found
            more = {"PartNumberMarker": answer["NextPartNumberMarker"]}

    async def presign_part(self, uri: str, upload_id: str, number: int) -> str:
        """See contract."""
        if not 1 <= number <= MAX_PARTS:
            raise RejectedError("bad_parts", f"there is no part {number}: parts are 1..{MAX_PARTS}")
        return await self._presign("upload_part", Key=self._covered(uri), UploadId=upload_id, PartNumber=number)

    async def presign_get(self, uri: str) -> str:
        """See contract."""
        return await self._presign("get_object", Key=self._covered(uri))

    async def _presign(self, operation: str, **parameters: Any) -> str:
        parameters["Bucket"] = self._settings.bucket
        url: str = await self._caught(
            self._client.generate_presigned_url(operation, Params=parameters, ExpiresIn=URL_LIFETIME_S), "sign a URL"
        )
        return url

    async def complete_upload(self, uri: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> ObjectInfo:
        """See contract."""
        key = self._covered(uri)
        if [number for number, _ in parts] != list(range(1, len(parts) + 1)) or not parts:
            why = f"the parts are to be 1, 2 .. in order, all of them; {len(parts)} were named"
            raise RejectedError("bad_parts", why)
        named = [{"PartNumber": number, "ETag": f'"{_bare(etag)}"'} for number, etag in parts]
        try:
            await self._call(
                "complete_multipart_upload",
                "complete an upload",
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": named},
            )
        except NotFoundError:
            found = await self.head(uri)
            if found is None or found.etag != _etag_of([_bare(etag) for _, etag in parts]):
                raise
            return found  # it was completed, and the answer got lost
        if found := await self.head(uri):
            return found
        raise ObjectStoreError(f"cannot find {uri} after its upload was completed at {self.describe()}")

    async def abort_upload(self, uri: str, upload_id: str) -> None:
        """See contract."""
        try:
            await self._call("abort_multipart_upload", "abort an upload", Key=self._covered(uri), UploadId=upload_id)
        except NotFoundError:
            return

    async def head(self, uri: str) -> ObjectInfo | None:
        """See contract."""
        answer = await self._call("head_object", "look at an object", Key=self._object(uri))
        if answer is None:
            await self._call("head_bucket", "use the bucket")  # a HEAD does not tell which of the two is absent
            return None
        version = answer.get("VersionId", "")
        return ObjectInfo(
            uri,
            answer["ContentLength"],
            _bare(answer["ETag"]),
            "" if version == "null" else version,
            _utc(answer["LastModified"]),
        )

    async def list_objects(self, uri: str, limit: int) -> list[ObjectInfo]:
        """See contract."""
        key = keys.s3_key(self._settings.bucket, uri)
        if key is None or not uri.endswith("/") or not self.covers(uri):
            raise RejectedError("not_readable", f"cannot list {uri[:200]!r}: wanted a folder of {self.describe()}")
        found: list[ObjectInfo] = []
        async for one in self._listed(key, limit):
            if len(found) >= limit:
                break
            if not one["Key"].endswith("/"):  # consoles make such objects to show a folder
                found_uri = f"s3://{self._settings.bucket}/{one['Key']}"
                found.append(ObjectInfo(found_uri, one["Size"], _bare(one["ETag"]), "", _utc(one["LastModified"])))
        return found

    async def _listed(self, prefix: str, page: int) -> AsyncIterator[dict[str, Any]]:
        more: dict[str, str] = {}
        while True:
            answer = await self._call(
                "list_objects_v2", "list objects", Prefix=prefix, MaxKeys=max(1, min(page, 1000)), **more
            )
            for one in answer.get("Contents", ()):
                yield one
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    async def put(self, uri: str, content: bytes) -> None:
        """Stores an object whose bytes are here, such as a file of a backup."""
        await self._call("put_object", "store an object", Key=self._covered(uri), Body=content, **self._encryption())

    async def fetch(self, uri: str) -> bytes:
        """The bytes of an object. Raises NotFoundError."""
        answer = await self._call("get_object", "read an object", Key=self._covered(uri))
        if answer is None:
            raise NotFoundError("no_object", f"{uri} is not there")
        async with answer["Body"] as body:
            content: bytes = await self._caught(body.read(), "read an object")
            return content

    async def delete(self, uris: Sequence[str]) -> dict[str, str]:
        """See contract."""
        found = {self._covered(uri): uri for uri in uris}
        failed: dict[str, str] = {}
        todo = list(found)
        for first in range(0, len(todo), DELETE_BATCH):
            batch = {"Objects": [{"Key": key} for key in todo[first : first + DELETE_BATCH]], "Quiet": True}
            answer = await self._call("delete_objects", "delete objects", Delete=batch)
            for error in answer.get("Errors", ()):
                if error.get("Code") not in _ABSENT:
                    failed[found[error["Key"]]] = f"{error.get('Code')}: {error.get('Message')}"
        return failed

    def _covered(self, uri: str) -> str:
        """The key of an object that may be written and fetched. Raises RejectedError."""
        if not self.covers(uri) or uri.endswith("/"):
            raise RejectedError(
                "not_covered",
                f"{uri[:200]!r} is no object of this store: {self.describe()}",
                "Take the URI that was given.",
            )
        return uri.removeprefix(f"s3://{self._settings.bucket}/")

    def _object(self, uri: str) -> str:
        """The key of an object that may be looked at. Raises RejectedError."""
        key = keys.s3_key(self._settings.bucket, uri)
        if key is None or uri.endswith("/"):
            raise RejectedError("not_readable", f"cannot look at {uri[:200]!r}: wanted an object of {self.describe()}")
        return key

    async def _call(self, operation: str, verb: str, **parameters: Any) -> Any:
        """The answer to one operation; None where a HEAD or GET of an object finds nothing."""
        call = getattr(self._client, operation)
        none_if_absent = operation in ("head_object", "get_object")
        return await self._caught(call(Bucket=self._settings.bucket, **parameters), verb, none_if_absent)

    async def _caught(self, call: Any, verb: str, none_if_absent: bool = False) -> Any:
        from aiohttp import ClientError as HttpError
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return await call
        except ClientError as error:
            if none_if_absent and error.response.get("Error", {}).get("Code") in _ABSENT:
                return None
            raise self._failure(verb, error.response) from error
        except (BotoCoreError, HttpError, OSError, asyncio.TimeoutError) as error:
            raise reach_failure(self.describe(), verb, type(error).__name__) from error

    def _failure(self, verb: str, response: dict[str, Any]) -> TrackerError:
        told = response.get("Error", {})
        code, status = str(told.get("Code", "")), response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "404":
            code = "NoSuchBucket"  # of a HEAD of the bucket, the only one that comes here
        return answer_failure(self.describe(), verb, code, status, str(told.get("Message", "")))


def _import() -> None:
    """In a thread: the event loop goes on meanwhile."""
    import aiobotocore.session  # type: ignore[import-untyped]  # noqa: F401  # for its side effect


def _add_md5(params: dict[str, Any], **_: object) -> None:
    """Stores that follow an older S3 refuse a deletion of many without it."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def _etag_of(etags: Sequence[str]) -> str:
    """The etag that S3 gives an object of parts with these, unless KMS encrypts it."""
    try:
        joined = b"".join(bytes.fromhex(etag) for etag in etags)
    except ValueError:
        return ""
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(etags)}"


def _bare(etag: str) -> str:
    return etag.strip('"')


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc)
