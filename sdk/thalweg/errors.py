"""The SDK's errors: one class per reaction.

ThalwegError
├── SettingError         a setting is wrong: mend it
├── InputError           a value given to the SDK is wrong (raised at init, and by log() where strict)
├── CheckpointError      a checkpoint did not get to its place, or is not what it should be: try again, or another
└── ServerError          the server answered with an error, or not at all
    ├── NotFoundError    there is no such thing on the server
    └── UnreachableError there was no answer: try again later
"""

from __future__ import annotations


class ThalwegError(Exception):
    """Any error of the SDK."""


class SettingError(ThalwegError):
    """A setting has a value that cannot be used."""

    def __init__(self, key: str, value: object, wanted: str) -> None:
        super().__init__(f"cannot use {key}={value!r}: wanted {wanted}")
        self.key = key
        self.wanted = wanted


class InputError(ThalwegError):
    """A value given to the SDK cannot be used."""


class CheckpointError(ThalwegError):
    """A checkpoint could not be uploaded or restored. What was done so far is kept, and gone on with the next time."""


class ServerError(ThalwegError):
    """The server's answer was an error, or there was none.

    `code`: the server's name for it, which programs may rely on; empty where there was no answer. Of an expression
    that cannot be used also its text, `expression`, and the part of that it is about: `span`, from and up to which
    character. `retry_after_s`: so many seconds later the same may go, where a limit was reached and the server told;
    else 0.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        span: tuple[int, int] | None = None,
        expression: str = "",
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.span = span
        self.expression = expression
        self.retry_after_s = retry_after_s


class NotFoundError(ServerError):
    """The server has no such project, run or metric."""


class UnreachableError(ServerError):
    """The server could not be reached."""
