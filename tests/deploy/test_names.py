"""Every setting, command, option and metric that `deploy/` names is one that the code knows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
import tomllib

from tests.support.deployment import (
    COMPOSE_FILES,
    DEPLOY,
    OVERLAYS,
    ROOT,
    UNITS,
    compose,
    dockerfile,
    files,
    kustomize,
    pods,
    unit,
)

_VARIABLE = re.compile(r"\bTHALWEG_[A-Z0-9_]*[A-Z0-9]\b")
_METRIC = re.compile(r"\bthalweg_[a-z0-9_]+_(?:seconds|bytes|total|points|rows)(?=_bucket|_count|_sum|\b)")
# Not where `thalweg` is the service that `docker compose exec` is told, or a namespace of Kubernetes.
_COMMAND = re.compile(r"(?<!exec)(?<!-n)(?:^|[\s/])thalweg ([a-z][a-z-]*(?: [^\s|>#&;'\"]+)*)")
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
_CITED = re.compile(r"deploy/README\.md, (?:\"([^\"]+)\"|(\w+))")
# Of Compose and of ClickHouse in these files, not of Thalweg.
_OTHERS = {
    "THALWEG_CLICKHOUSE_PASSWORD",
    "THALWEG_CLICKHOUSE_PASSWORD_SHA256",
    "THALWEG_PASSWORD_SHA256",
    "THALWEG_PORT",
}
_MADE_HERE = {"thalweg_commit_p95_seconds"}  # by the rule of the adapter


def sources() -> Iterator[str]:
    for folder in (ROOT / "sdk", ROOT / "tracker"):
        for path in folder.rglob("*.py"):
            yield path.read_text()


def commands() -> dict[str, click.Command]:
    """The server's commands as pyproject.toml lists them, and those of the SDK."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    places = {name: place for name, (place, _) in import_module("thalweg.cli.main")._COMMANDS.items()}
    places |= project["entry-points"]["thalweg.commands"]
    found = {}
    for name, place in places.items():
        module, _, attribute = place.partition(":")
        found[name] = getattr(import_module(module), attribute)
    return found


def known() -> set[str]:
    """Variables and metrics in the sources; commands, and each with each of its options."""
    names: set[str] = set()
    for text in sources():
        names |= set(_VARIABLE.findall(text)) | set(_METRIC.findall(text))

    def add(name: str, command: click.Command) -> None:
        names.add(name)
        for parameter in command.params:
            if parameter.param_type_name == "option":
                names.update(f"{name} {text}" for text in (*parameter.opts, *parameter.secondary_opts))
        for below, other in getattr(command, "commands", {}).items():
            add(f"{name} {below}", other)

    for name, command in commands().items():
        add(name, command)
    return names


def names_of(words: list[str], groups: set[str]) -> set[str]:
    """`ingest --workers 2` names the command and its option; words after them are values."""
    command = words[0]
    if command in groups and len(words) > 1:
        command += f" {words[1]}"
    options = {word.partition("=")[0] for word in words if re.match(r"--[a-z]|-[a-zA-Z]$", word)}
    return {command} | {f"{command} {option}" for option in options - {"--help", "--version"}}


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Where a command of Thalweg is run, and its words after `thalweg`."""
    for path in COMPOSE_FILES:
        for service in compose(path)["services"].values():
            if service.get("image", "").startswith("thalweg:"):
                yield path.name, service["command"]
    for overlay in OVERLAYS:
        for _, pod in pods(kustomize(overlay)):
            yield overlay.name, pod["spec"]["containers"][0]["args"]
    for path in UNITS:
        yield path.name, shlex.split(unit(path)["ExecStart"][0])[1:]
    (default,) = [rest for word, rest in dockerfile() if word == "CMD"]
    yield "Dockerfile", re.findall(r'"([^"]+)"', default)
    for line in shell_lines(DEPLOY / "README.md"):
        for match in _COMMAND.finditer(line.partition("  #")[0]):
            yield f"README.md: {line}", match[1].split()


def shell_lines(document: Path) -> Iterator[str]:
    """Lines of the shell in a document's code blocks, continued ones joined."""
    for block in re.findall(r"```(?:bash|console)\n(.*?)```", document.read_text(), re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()


KNOWN = known()
GROUPS = {name for name, command in commands().items() if isinstance(command, click.Group)} | {"token"}


def test_every_setting_is_read_somewhere() -> None:
    """A variable with a slip of the pen is accepted by everything and heeded by nothing."""
    named = {name: path for path in files() for name in _VARIABLE.findall(path.read_text())}
    assert {"THALWEG_STORE", "THALWEG_DATA"} <= named.keys()
    unknown = {name: path for name, path in named.items() if name not in KNOWN | _OTHERS}
    assert not unknown


def test_every_command_and_option_is_there() -> None:
    """As they are run in compose files, overlays, units, the image, and code blocks of the README."""
    seen: set[str] = set()
    for where, words in command_lines():
        names = names_of(words, GROUPS)
        assert names <= KNOWN, where
        seen |= names
    assert {"up", "ingest", "api", "migrate", "api --ingest"} <= seen


def test_every_metric_is_counted() -> None:
    """Those of the autoscaler, the rule of the adapter and the README."""
    named = {name for path in files() if "grafana" not in path.parts for name in _METRIC.findall(path.read_text())}
    assert named
    assert named - _MADE_HERE <= KNOWN


@pytest.mark.parametrize("words", [["ingest", "--wrokers", "2"], ["serve"], ["token", "make"], ["api", "--json", "-x"]])
def test_a_slip_is_found(words: list[str]) -> None:
    """The checks above can fail."""
    assert not names_of(words, GROUPS) <= KNOWN


def test_links_lead_somewhere() -> None:
    """Of the README, to files of the repository."""
    links = set(_LINK.findall((DEPLOY / "README.md").read_text()))
    assert links
    assert not {link for link in links if not (DEPLOY / link).exists()}


def test_headings_that_are_cited_are_there() -> None:
    """Of the README: by name in the files of `deploy/`, and by its own links."""
    text = (DEPLOY / "README.md").read_text()
    headings = {heading.lower() for heading in re.findall(r"^##+ (.+)$", text, re.MULTILINE)}
    cited = {
        (quoted or word).lower() for path in files() for quoted, word in _CITED.findall(path.read_text(errors="ignore"))
    }
    assert {"sizing", "a machine with systemd"} <= cited
    assert cited <= headings
    anchors = {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
