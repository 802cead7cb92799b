"""The server's settings in the environment, read as the server's commands read them: all mistakes, not only the first.

Not THALWEG_STORE, of which store.py tells.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from thalweg_tracker.cli import serve
from thalweg_tracker.cli.checks.finding import FAIL, Finding
from thalweg_tracker.errors import SettingError
from thalweg_tracker.model.access import parse_access
from thalweg_tracker.model.settings import EmbeddedStore, parse_address, parse_objects, parse_store

CHECK: Final = "settings"
_ADDRESSES: Final = ("THALWEG_LISTEN_GRPC", "THALWEG_LISTEN_HTTP", "THALWEG_OPS")
_OF_TLS: Final = {
    "--tls-cert": "THALWEG_TLS_CERT",
    "--tls-key": "THALWEG_TLS_KEY",
    "--tls-client-ca": "THALWEG_TLS_CLIENT_CA",
}
_OF_OPTIONS: Final = _OF_TLS | {"--cors-origins": "THALWEG_CORS_ORIGINS"}


def check_settings(environ: Mapping[str, str]) -> list[Finding]:
    """What the server would not take."""
    given = {name: text for name, text in environ.items() if text}
    return [*_choices(given), *_parsed(given)]


def _choices(given: Mapping[str, str]) -> Iterator[Finding]:
    """What the options themselves refuse: choices, and numbers out of their range."""
    options = {
        option.envvar: (option, click.Context(command))
        for command in (serve.up, serve.ingest, serve.api)
        for option in command.params
        if isinstance(option.envvar, str)
    }
    for name, (option, context) in options.items():
        if name in given:
            try:
                option.type.convert(given[name], option, context)
            except click.BadParameter as error:
                told = f"cannot use {name}={given[name]!r}: {error.message.rstrip('.')}"
                yield Finding(CHECK, FAIL, told, f"Correct {name}, or unset it.")


def _parsed(given: dict[str, str]) -> list[Finding]:
    """What the parsers refuse, one after the other: each mistake is put right for the next look."""
    findings: list[Finding] = []
    while True:
        try:
            _parse(given)
            return findings
        except SettingError as error:
            told, name = str(error), _OF_OPTIONS.get(error.key, error.key)
            for option, variable in _OF_OPTIONS.items():
                told = told.replace(option, variable)
            then = f"Set {name} to that, or unset it." if name in given else f"Set {name} too, or unset the others."
            findings.append(Finding(CHECK, FAIL, told, then))
            _put_right(given, name)


def _parse(given: Mapping[str, str]) -> None:
    """Raises SettingError."""
    for name in _ADDRESSES:
        if name in given:
            parse_address(name, given[name])
    if "THALWEG_DATA" in given:
        parse_store("THALWEG_DATA", given["THALWEG_DATA"])
    anywhere = EmbeddedStore(Path())
    parse_objects("THALWEG_OBJECTS", None, given, anywhere)
    parse_objects("THALWEG_OBJECTS", "s3://bucket", given, anywhere)  # how a bucket is reached: backups need it too
    parse_access(
        given,
        auth="none",
        certificate=given.get("THALWEG_TLS_CERT"),
        key=given.get("THALWEG_TLS_KEY"),
        client_ca=given.get("THALWEG_TLS_CLIENT_CA"),
        origins=given.get("THALWEG_CORS_ORIGINS", ""),
    )


def _put_right(given: dict[str, str], name: str) -> None:
    if name not in _OF_TLS.values():
        del given[name]
    elif name in given:
        given[name] = os.devnull  # stands for a file that can be read, so that the others are looked at
    else:
        for one in _OF_TLS.values():
            given.pop(one, None)
