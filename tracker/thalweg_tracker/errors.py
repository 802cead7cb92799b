"""The server's errors: one class per reaction.

TrackerError
├── SettingError         a setting is wrong: mend it
├── RejectedError        the request is wrong: HTTP 400 / 422, gRPC INVALID_ARGUMENT
│   ├── NotFoundError    it names something that is not there: HTTP 404
│   └── ExpressionError  an expression in it is wrong: HTTP 400, with the place
├── AccessError          who asks may not have it
│   ├── UnauthenticatedError  the token is missing, wrong, expired or revoked: HTTP 401, gRPC UNAUTHENTICATED
│   ├── ForbiddenError        the token is not good for that: HTTP 403, gRPC PERMISSION_DENIED
│   └── LimitedError          too much in too little time: HTTP 429, gRPC RESOURCE_EXHAUSTED, with a delay
├── EngineError          the database answered with an error: our fault, or its state
│   ├── EngineBusyError      out of reach or out of room for now: try again
│   └── EngineOwnedError     another process has the data folder
└── ObjectStoreError     the store of checkpoints refuses or is out of reach: the operator mends it, HTTP 502
    └── ObjectStoreFullError     it has no room: make some, HTTP 507
"""

from __future__ import annotations


class TrackerError(Exception):
    """Any error of the server."""


class SettingError(TrackerError):
    """A setting has a value that cannot be used."""

    def __init__(self, key: str, value: object, wanted: str) -> None:
        super().__init__(f"cannot use {key}={value!r}: wanted {wanted}")
        self.key = key
        self.wanted = wanted


class RejectedError(TrackerError):
    """A request cannot be answered as it is. `code` is for programs, the message and `hint` for people."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class NotFoundError(RejectedError):
    """A request names something that is not there."""


class ExpressionError(RejectedError):
    """An expression that cannot be used. `span`: the place in `text`, in characters; `fix`: what to write there."""

    def __init__(self, message: str, span: tuple[int, int], fix: str = "", text: str = "") -> None:
        super().__init__("bad_expression", message, f"Write {fix}" if fix else "")
        self.span = span
        self.fix = fix
        self.text = text


class AccessError(TrackerError):
    """Who asks may not have what is asked for. The answer is the same whether or not it is there."""


class UnauthenticatedError(AccessError):
    """A token is needed, and there is none that is good. Which of its faults it has is not told."""


class ForbiddenError(AccessError):
    """The token's role or project does not allow that."""


class LimitedError(AccessError):
    """A limit of the token or its project is reached; the same may go after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineError(TrackerError):
    """The database answered with an error. `code` is ClickHouse's number, 0 if there is none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class EngineBusyError(EngineError):
    """The database cannot be reached, or has no room, for now."""


class EngineOwnedError(EngineError):
    """The data folder belongs to another process.

    `http`: the address that it serves, if it told one; `instance`: what that server says of itself to whom asks for
    it with a token, and no other server does.
    """

    def __init__(self, message: str, http: str | None = None, instance: str | None = None) -> None:
        super().__init__(message)
        self.http = http
        self.instance = instance


class ObjectStoreError(TrackerError):
    """The object store cannot be used as it is set up, or not for now. The message says where and what to mend."""


class ObjectStoreFullError(ObjectStoreError):
    """The object store has no room left. What was uploaded so far is kept."""
