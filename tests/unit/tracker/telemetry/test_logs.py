"""What a line of the log looks like, and which requests' ids may stand in it."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from thalweg_tracker.telemetry.logs import (
    JsonFormatter,
    LogFormat,
    TextFormatter,
    facts,
    request_id,
    set_up_logs,
    take_request_id,
)


def record(message: str, *arguments: object, **more: object) -> logging.LogRecord:
    """As a logger makes it."""
    made = logging.LogRecord("thalweg_tracker.x", logging.INFO, __file__, 1, message, arguments, None)
    for name, value in more.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("given", ["a", "0f3b", "req-1", "01J.x:y_z", "a" * 128])
def test_ids_that_are_taken(given: str) -> None:
    """As clients and proxies make them."""
    assert take_request_id(given) == given


@pytest.mark.parametrize("given", [None, "", "a b", "-a", "a\nb", "a" * 129, "ü", '"', "<b>", "a\x1b[2J"])
def test_ids_that_are_replaced(given: str | None) -> None:
    """Nothing that could not stand in any line, header or shell gets in; each replacement is another one."""
    one, other = take_request_id(given), take_request_id(given)
    assert re.fullmatch("[0-9a-f]{16}", one)
    assert one != other


def test_a_line_of_json() -> None:
    """Time in UTC, level, logger, message; no field that says nothing."""
    made = record("took %d of %s", 3, "x")
    made.created = 1_700_000_000.25
    assert json.loads(JsonFormatter().format(made)) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "INFO",
        "logger": "thalweg_tracker.x",
        "message": "took 3 of x",
    }


def test_facts_are_fields() -> None:
    """They add to a line, and replace nothing of it."""
    made = record("m", **facts(route="/a", status=200, message="other", level="other"))
    line = json.loads(JsonFormatter().format(made))
    assert (line["route"], line["status"], line["message"], line["level"]) == ("/a", 200, "m", "INFO")


def test_an_exception_is_one_field() -> None:
    """The traceback does not break the line."""
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        made = record("failed")
        made.exc_info = (type(error), error, error.__traceback__)
    text = JsonFormatter().format(made)
    assert "\n" not in text
    assert json.loads(text)["exception"].endswith("ValueError: two\nlines")


def in_request(given: str, formatter: logging.Formatter, made: logging.LogRecord) -> str:
    """A line that is written while a request is answered."""

    def write() -> str:
        request_id.set(given)
        return formatter.format(made)

    return copy_context().run(write)


def test_the_request_is_named() -> None:
    """In both forms, within the request alone."""
    assert json.loads(in_request("r1", JsonFormatter(), record("m")))["request_id"] == "r1"
    assert in_request("r1", TextFormatter(), record("m")).endswith(" INFO thalweg_tracker.x: m [r1]")
    assert TextFormatter().format(record("m")).endswith(": m")
    assert "request_id" not in json.loads(JsonFormatter().format(record("m")))


def test_no_message_begins_a_line_of_its_own() -> None:
    """What somebody named a run cannot forge a line, move the cursor or colour the screen."""
    line = TextFormatter().format(record("run %s", "a\n2026-01-01 00:00:00 INFO x: forged\x1b[2J"))
    assert "\n" not in line
    assert "\\n2026-01-01" in line
    assert "\x1b" not in line


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    logger = logging.getLogger()
    level, handlers = logger.level, list(logger.handlers)
    yield logger
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.mark.parametrize(("log_format", "verbose"), [("text", False), ("json", False), ("json", True)])
def test_the_log_of_a_process(root: logging.Logger, log_format: LogFormat, verbose: bool) -> None:
    """Ours from INFO on, or from DEBUG on; of the libraries only warnings, whatever is asked for."""
    stream = io.StringIO()
    set_up_logs(log_format, verbose=verbose, stream=stream)
    logging.getLogger("thalweg_tracker.x").debug("detail")
    logging.getLogger("thalweg_tracker.x").info("news")
    logging.getLogger("botocore.auth").debug("a signature")
    logging.getLogger("urllib3").info("an address")
    logging.getLogger("grpc").warning("trouble")
    lines = stream.getvalue().splitlines()
    told = [json.loads(line)["message"] if log_format == "json" else line.rpartition(": ")[2] for line in lines]
    assert told == [*(["detail"] if verbose else []), "news", "trouble"]
