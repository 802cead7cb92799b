"""The log of a server process on standard error: lines for people, or one JSON object a line for programs.

Whatever is logged while a request is answered carries its id, also in the threads that work for it: the id lies in a
context variable. A record's own facts are given as `extra=facts(route=..., status=...)`: in JSON they are fields, as
text the message says them. Neither headers nor bodies, nor the query of an address, are ever among them.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any, Final, Literal, TextIO

LogFormat = Literal["text", "json"]
LOG_FORMATS: Final = ("text", "json")

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is being answered; empty outside of one."""

_WELL_FORMED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_FACTS: Final = "thalweg_facts"
_OTHERS: Final = ("aiobotocore", "asyncio", "botocore", "grpc", "opentelemetry", "urllib3", "uvicorn")
"""Libraries of which only warnings are logged."""


def take_request_id(given: str | None) -> str:
    """The id that a client or proxy gave, if it may stand in a log; else a new one."""
    return given if given and _WELL_FORMED.fullmatch(given) else secrets.token_hex(8)


def facts(**fields: object) -> dict[str, Any]:
    """What a record is about, for `extra=`: values are text, numbers or None."""
    return {_FACTS: fields}


def set_up_logs(log_format: LogFormat, *, verbose: bool, stream: TextIO | None = None) -> None:
    """Sends the log of the whole process there, instead of where it went before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    for other in _OTHERS:
        logging.getLogger(other).setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """Time, level, logger and message on one line, then the request's id; tracebacks on lines of their own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # the name is logging's
        """The line: nothing in it can begin another one."""
        told = request_id.get()
        line = super().formatMessage(record) + (f" [{told}]" if told else "")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class JsonFormatter(logging.Formatter):
    """One object: time (RFC 3339, UTC), level, logger, message; request_id, exception and facts where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        document: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if told := request_id.get():
            document["request_id"] = told
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            document["exception"] = record.exc_text
        for name, value in getattr(record, _FACTS, {}).items():
            document.setdefault(name, value)
        return json.dumps(document, default=str)
