"""Every error in one shape: {"error": {"code", "message", "hint"}}, of an expression with its place."""

from __future__ import annotations

import logging
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from thalweg_tracker.api.models import ErrorAnswer
from thalweg_tracker.engine.failures import CANNOT_COMPILE_REGEXP, read_too_much, took_too_long
from thalweg_tracker.errors import (
    EngineBusyError,
    EngineError,
    ExpressionError,
    NotFoundError,
    ObjectStoreError,
    ObjectStoreFullError,
    RejectedError,
)
from thalweg_tracker.model import limits
from thalweg_tracker.telemetry.logs import request_id

log = logging.getLogger(__name__)

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in (
        (400, "The request cannot be answered as it is."),
        (401, "A token is needed, and there is none that is good."),
        (403, "The token is not good for that."),
        (404, "It names something that is not there."),
        (413, "The body is too large."),
        (422, "A parameter or field has a wrong type or is out of range."),
        (429, "A limit of the token or project is reached; Retry-After tells for how long."),
        (502, "The object store failed, or is out of reach."),
        (503, "The database is out of reach, out of room, or took too long."),
    )
}


def error_answer(status: int, code: str, message: str, hint: str = "", **more: Any) -> JSONResponse:
    """An error in the one shape."""
    return JSONResponse({"error": {"code": code, "message": message, "hint": hint, **more}}, status)


def _defect(code: str, message: str) -> JSONResponse:
    """500 with what finds its lines in the log."""
    found = request_id.get()
    more = {"hint": f"Look for {found} there.", "request_id": found} if found else {}
    return error_answer(500, code, message, **more)


def busy_answer(code: str, message: str, hint: str) -> JSONResponse:
    """The answer where the same request may succeed a little later."""
    answer = error_answer(503, code, message, hint)
    answer.headers["Retry-After"] = "1"
    return answer


def add_handlers(app: FastAPI) -> None:
    """Makes an app answer all errors in the one shape."""

    @app.exception_handler(RejectedError)
    def rejected(request: Request, error: RejectedError) -> JSONResponse:
        status = 404 if isinstance(error, NotFoundError) else 400
        return error_answer(status, error.code, error.message, error.hint)

    @app.exception_handler(ExpressionError)
    def misspelt(request: Request, error: ExpressionError) -> JSONResponse:
        return error_answer(400, error.code, error.message, error.hint, span=list(error.span), expression=error.text)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        parts = [] if first["type"] == "json_invalid" else first["loc"]  # a place in a text, not in a document
        where = ".".join(str(part) for part in parts if part != "body")
        return error_answer(422, "invalid", f"{where or 'body'}: {first['msg']}", "See /docs for the API.")

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 413: "too_large"}.get(error.status_code, "http_error")
        return error_answer(
            error.status_code, code, f"{request.method} {request.url.path}: {error.detail}", "See /docs."
        )

    @app.exception_handler(EngineBusyError)
    def busy(request: Request, error: EngineBusyError) -> JSONResponse:
        log.warning("%s %s: %s", request.method, request.url.path, error)
        if took_too_long(error):
            hint = "Ask for less: fewer runs, metrics or points. Or give it more time: ?timeout_s=, at most 60."
            return error_answer(503, "query_timeout", "the question took longer than its time limit", hint)
        return busy_answer("database_busy", "the database is out of reach, or out of room", "Try again.")

    @app.exception_handler(ObjectStoreError)
    def no_object(request: Request, error: ObjectStoreError) -> JSONResponse:
        log.warning("%s %s: %s", request.method, request.url.path, error)
        is_full = isinstance(error, ObjectStoreFullError)
        return error_answer(507 if is_full else 502, "store_full" if is_full else "object_store_error", str(error))

    @app.exception_handler(EngineError)
    def failed(request: Request, error: EngineError) -> JSONResponse:
        if error.code == CANNOT_COMPILE_REGEXP:
            return error_answer(400, "bad_regex", "cannot use a regular expression: it is none (RE2 syntax)")
        if read_too_much(error):
            message = f"the expressions read more than {limits.EXPRESSION_ROWS_MAX:,} stored rows"
            return error_answer(
                400, "too_many_points", message, "Ask for fewer runs, with a filter, or for fewer metrics."
            )
        log.error("%s %s", request.method, request.url.path, exc_info=error)
        return _defect("database_error", "the database could not answer; the server's log says why")

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> JSONResponse:
        answer = _defect("internal_error", "this is a defect of the server; its log says where")
        answer.headers["Connection"] = "close"  # uvicorn closes it after an exception
        return answer
