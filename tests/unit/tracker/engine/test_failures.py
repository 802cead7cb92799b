"""ClickHouse's numbers decide whether trying again makes sense."""

import pytest

from thalweg_tracker.engine.failures import engine_error, host_is_gone, is_of_the_host, read_too_much, took_too_long
from thalweg_tracker.errors import EngineBusyError, EngineError


@pytest.mark.parametrize("code", [159, 202, 209, 210, 236, 241, 242, 243, 252, 279, 285, 286, 319, 999])
def test_busy(code: int) -> None:
    """Out of time, room, connections or reach: try again."""
    error = engine_error(code, "text")
    assert isinstance(error, EngineBusyError)
    assert (error.code, str(error)) == (code, "text")


@pytest.mark.parametrize("code", [0, 47, 60, 62, 81, 469, 497, 516])
def test_not_busy(code: int) -> None:
    """A wrong statement, a missing table, no access: trying again changes nothing."""
    error = engine_error(code, "text")
    assert type(error) is EngineError
    assert (error.code, str(error)) == (code, "text")


@pytest.mark.parametrize(("code", "names"), [(158, (True, False)), (159, (False, True)), (241, (False, False))])
def test_limits_that_were_reached(code: int, names: tuple[bool, bool]) -> None:
    """Callers learn which of their limits ended a query."""
    error = engine_error(code, "text")
    assert (read_too_much(error), took_too_long(error)) == names


@pytest.mark.parametrize(
    ("code", "is_repeated", "is_gone"),
    [
        (210, True, True),
        (236, True, True),
        (242, True, True),
        (279, True, False),
        (999, True, False),
        (209, False, False),
        (252, False, False),
        (0, False, False),
    ],
)
def test_what_another_host_may_do(code: int, is_repeated: bool, is_gone: bool) -> None:
    """What is late, or full, is so everywhere; what went away is not, nor what one host cannot reach."""
    error = engine_error(code, "text")
    assert (is_of_the_host(error), host_is_gone(error)) == (is_repeated, is_gone)
