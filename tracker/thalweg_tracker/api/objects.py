"""The routes behind the presigned URLs of the store of files: PUT of a part, GET of an object.

Their URLs are the permission, as with S3: a wrong or old one gets 403.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.requests import ClientDisconnect

from thalweg_tracker.errors import ObjectStoreError, ObjectStoreFullError, RejectedError
from thalweg_tracker.objects.files import ROUTES, FileStore

_STATUSES: Final = {"bad_signature": 403, "url_expired": 403, "part_too_large": 413, "part_too_slow": 408}
_CONTENT: Final = "application/octet-stream"

Expires = Annotated[int, Query(ge=0, le=1 << 53)]
Signature = Annotated[str, Query(max_length=64)]


def make_object_router(store: FileStore) -> APIRouter:
    """The routes of one store. Without them in the documentation: their URLs are given out whole."""
    router = APIRouter(prefix=ROUTES, include_in_schema=False)

    @router.put("/uploads/{upload_id}/{number}")
    async def put_part(
        upload_id: str,
        number: int,
        expires: Expires,
        signature: Signature,
        request: Request,
        content_md5: Annotated[str | None, Header(max_length=64)] = None,
    ) -> Response:
        """Takes a part in. Answers when it is on the disk, with its MD5 as ETag."""
        try:
            etag = await store.receive_part(upload_id, number, expires, signature, content_md5, request.stream())
        except (RejectedError, ObjectStoreError) as error:
            return _refusal(error)
        except ClientDisconnect:
            return Response(status_code=400)  # read by nobody
        return Response(headers={"ETag": f'"{etag}"'})

    @router.get("/content")
    async def get_object(
        uri: Annotated[str, Query(max_length=16_384)], expires: Expires, signature: Signature
    ) -> Response:
        """An object, or a range of it."""
        try:
            path, found = await store.content(uri, expires, signature)
        except (RejectedError, ObjectStoreError) as error:
            return _refusal(error)
        name = path.rpartition("/")[2].encode("utf-8", "replace").decode()
        return FileResponse(path, headers={"ETag": f'"{found.etag}"'}, media_type=_CONTENT, filename=name)

    return router


def _refusal(error: RejectedError | ObjectStoreError) -> Response:
    """In the one shape. RejectedErrors without a status of their own are answered as everywhere."""
    if isinstance(error, ObjectStoreError):
        is_full = isinstance(error, ObjectStoreFullError)
        return _answer(507 if is_full else 502, "store_full" if is_full else "object_store_error", str(error), "")
    if error.code not in _STATUSES:
        raise error
    return _answer(_STATUSES[error.code], error.code, error.message, error.hint)


def _answer(status: int, code: str, message: str, hint: str) -> Response:
    headers = {"Connection": "close"}  # the rest of a body may be under way
    return JSONResponse({"error": {"code": code, "message": message, "hint": hint}}, status, headers)
