"""The options of a server process that say how it tells of itself: probes and metrics, and its log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, NoReturn

import click

from thalweg_tracker.errors import TrackerError
from thalweg_tracker.model.settings import Address, parse_address
from thalweg_tracker.telemetry.logs import LOG_FORMATS, LogFormat, set_up_logs

log = logging.getLogger(__name__)

_ops = click.option(
    "--ops",
    envvar="THALWEG_OPS",
    metavar="HOST:PORT",
    help="Serve /healthz, /readyz and /metrics there too; port 0: any.  [default: with the API alone]",
)
_log_format = click.option(
    "--log-format",
    envvar="THALWEG_LOG_FORMAT",
    type=click.Choice(LOG_FORMATS),
    default="text",
    show_default=True,
    help="Log lines for people, or one JSON object a line.",
)
_verbose = click.option("--verbose", is_flag=True, help="Log each commit.")


@dataclass(frozen=True, slots=True)
class Observing:
    """What these options say."""

    ops_text: str | None
    log_format: LogFormat
    verbose: bool

    def set_up_logs(self) -> None:
        """Before anything is logged."""
        set_up_logs(self.log_format, verbose=self.verbose)

    def fail(self, error: TrackerError) -> NoReturn:
        """Says why the server ends, in the form of its log, and ends it with exit status 1."""
        if self.log_format == "json":
            log.critical("%s", error)
        else:
            print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)

    def ops(self) -> Address | None:
        """Where probes and metrics are served. Raises SettingError."""
        return parse_address("--ops", self.ops_text) if self.ops_text else None


def observing(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options; the command gets them as its argument `observed`."""

    @wraps(command)
    def taking(*, ops: str | None, log_format: LogFormat, verbose: bool, **others: Any) -> None:
        command(observed=Observing(ops, log_format, verbose), **others)

    return _ops(_log_format(_verbose(taking)))
