"""What the server says of the token: what it is good for, for how long, and whether it is the project's."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from urllib.error import HTTPError

from thalweg.api_client import ApiClient, segment
from thalweg.cli import formats
from thalweg.cli.checks.finding import FAIL, OK, WARN, Finding
from thalweg.errors import NotFoundError, ServerError
from thalweg.settings import Settings

CHECK: Final = "token"
_SOON: Final = timedelta(days=3)
_TOLD: Final = frozenset({"required", "id", "role", "project", "name", "expires_at"})


def check_token(client: ApiClient, settings: Settings, now: datetime) -> list[Finding]:
    """Findings on the token of these settings, or on having none, at the server of `client`."""
    try:
        told = client.get("/token")
    except NotFoundError:
        told = None
    except ServerError as error:
        other = Finding(CHECK, FAIL, f"cannot ask what the token is good for: {error}", "See the server's log.")
        return [refused(error, settings) or other]
    if not isinstance(told, dict) or not told.keys() >= _TOLD:
        untold = "cannot tell role, project and end of the token: this server is older than that question"
        return [Finding(CHECK, OK, untold), _reading(client, settings)]
    if told["required"]:
        findings = _good_for(told, settings, now)
    else:
        unused = ", and does not look at THALWEG_TOKEN" if settings.token else ""
        findings = [Finding(CHECK, OK, f"the server asks for no token{unused}")]
    is_elsewhere = any(one.state == FAIL for one in findings)  # a read would fail too, and tell less
    return findings if is_elsewhere else [*findings, _reading(client, settings)]


def refused(error: ServerError, settings: Settings, also: int = 403) -> Finding | None:
    """What a 401 or 403 means, or a status that is `also` one of refusal; None for anything else."""
    status = error.__cause__.code if isinstance(error.__cause__, HTTPError) else 0
    if status == 401 and not settings.token:
        return Finding(
            CHECK, FAIL, "the server wants a token, and THALWEG_TOKEN is not set", "Ask its operator for one."
        )
    if status == 401:
        told = "the server does not take this token: it is wrong, revoked, or has expired"
        return Finding(CHECK, FAIL, told, "Ask the server's operator for a new one.")
    if status in (403, also):
        told = f"this token may not read project {settings.project!r}"
        return Finding(CHECK, FAIL, told, "Correct THALWEG_PROJECT, or ask for a token of that project.")
    return None


def _good_for(told: dict[str, Any], settings: Settings, now: datetime) -> list[Finding]:
    """What a token is good for, and what is wrong with that."""
    project, role = told["project"], told["role"]
    named = f"{told['id']} ({told['name']})" if told["name"] else told["id"]
    where = "all projects" if project is None else f"project {project!r}"
    ends = formats.parse_time(told["expires_at"]) if told["expires_at"] else None
    until = f"until {formats.local_time(told['expires_at'])}" if ends else "without an end"
    findings = [Finding(CHECK, OK, f"{named} has the role {role} for {where}, {until}")]
    if project not in (None, settings.project):
        told_too = f"the token is for project {project!r}, and THALWEG_PROJECT is {settings.project!r}"
        then = f"Set THALWEG_PROJECT to {project!r}, or ask for a token of {settings.project!r}."
        findings.append(Finding(CHECK, FAIL, told_too, then))
    if role == "read":
        then = "Ask for one with the role write, unless this host only reads."
        findings.append(Finding(CHECK, WARN, "the token is for reading only: training cannot log with it", then))
    if ends and ends - now <= _SOON:
        soon = f"the token expires in {formats.duration(ends - now)}"
        findings.append(Finding(CHECK, WARN, soon, "Ask the server's operator for a new one before."))
    return findings


def _reading(client: ApiClient, settings: Settings) -> Finding:
    """What the server says to a read of the project."""
    try:
        client.get(f"/projects/{segment(settings.project)}/runs", limit=1)
    except ServerError as error:
        other = Finding(CHECK, FAIL, f"cannot read project {settings.project!r}: {error}", "See the server's log.")
        return refused(error, settings, also=404) or other
    if settings.token:
        return Finding(CHECK, OK, f"the token reads project {settings.project!r}")
    return Finding(CHECK, OK, f"project {settings.project!r} can be read without a token")
