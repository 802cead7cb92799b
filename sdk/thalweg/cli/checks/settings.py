"""The settings of the SDK: are there any that nobody reads, or that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from thalweg import variables
from thalweg.cli.checks.addresses import is_loopback
from thalweg.cli.checks.finding import FAIL, OK, WARN, Finding
from thalweg.errors import SettingError
from thalweg.settings import Settings

CHECK = "settings"
_VARIABLE_OF = {"run_id": "THALWEG_RUN_ID"}


def check_settings(environ: Mapping[str, str], url: str | None) -> tuple[list[Finding], Settings]:
    """Findings, and the settings without those that cannot be used. Raises SettingError where `url`, given, is bad."""
    wrong, settings = _read(dict(environ), url)
    findings = [*wrong, *_unknown(environ), *_odd(settings)]
    if not findings:
        given = sorted(name for name in variables.OF_SDK if environ.get(name))
        findings.append(Finding(CHECK, OK, f"set: {', '.join(given)}" if given else "all are at their defaults"))
    return findings, settings


def _read(environ: dict[str, str], url: str | None) -> tuple[list[Finding], Settings]:
    findings: list[Finding] = []
    while True:
        try:
            return findings, Settings.read(environ, url=url)
        except SettingError as error:
            variable = _VARIABLE_OF.get(error.key, error.key)
            if environ.pop(variable, None) is None:
                raise
            findings.append(Finding(CHECK, FAIL, str(error), f"Set {variable} to that, or unset it."))


def _unknown(environ: Mapping[str, str]) -> list[Finding]:
    findings = []
    for name in variables.unknown(environ):
        meant = variables.nearest(name)
        then = f"Did you mean {meant}?" if meant else "Unset it, if it was meant for Thalweg."
        findings.append(Finding(CHECK, WARN, f"{name} is set, which nothing reads", then))
    return findings


def _odd(settings: Settings) -> list[Finding]:
    findings = []
    if settings.mode != "online":
        then = "Deliver later: thalweg sync" if settings.mode == "offline" else "Unset it to log."
        findings.append(Finding(CHECK, WARN, f"THALWEG_MODE is {settings.mode}: runs are not sent", then))
    token = settings.token
    if token and urlsplit(settings.url).scheme == "http" and not is_loopback(urlsplit(settings.url).hostname or ""):
        told = "the token goes to THALWEG_URL without encryption"
        findings.append(Finding(CHECK, WARN, told, "Use an https:// address."))
    return findings
