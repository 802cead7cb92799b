"""The files of `deploy/`, as those who run them read them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
OVERLAYS: Final = sorted((DEPLOY / "kubernetes" / "overlays").iterdir())
COMPOSE_FILES: Final = sorted(DEPLOY.glob("compose*.yaml"))
UNITS: Final = sorted((DEPLOY / "systemd").glob("*.service"))

_VARIABLE: Final = re.compile(r"\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<text>[^}]*))?\}")


def tool(name: str) -> str:
    """A program that a package of the test requirements has put beside Python."""
    path = Path(sys.executable).with_name(name)
    assert path.exists(), f"{name} is not there: pip install --editable '.[test]'"
    return str(path)


def run(*command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """A program and what it said."""
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)


def files() -> list[Path]:
    """All files of `deploy/` that are in the repository or could get into it."""
    hidden = {DEPLOY / ".env", DEPLOY / "secrets", DEPLOY / "tls"}  # what a developer's own compose reads
    return [
        path
        for path in sorted(DEPLOY.rglob("*"))
        if path.is_file() and not hidden & {path, *path.parents} and "__pycache__" not in path.parts
    ]


def fill_in(value: Any, variables: Mapping[str, str]) -> Any:
    """The value with `${NAME}`, `${NAME:-default}` and `${NAME:?message}` as Compose puts them in."""
    if isinstance(value, dict):
        return {key: fill_in(one, variables) for key, one in value.items()}
    if isinstance(value, list):
        return [fill_in(one, variables) for one in value]
    if not isinstance(value, str):
        return value

    def put_in(match: re.Match[str]) -> str:
        if match["name"] in variables:
            return variables[match["name"]]
        assert match["kind"] == ":-", f"{match[0]} is not set"
        return str(match["text"])

    return _VARIABLE.sub(put_in, value).replace("$$", "$")


def variables_of(value: Any) -> set[str]:
    """Names that `fill_in` would look for."""
    if isinstance(value, dict):
        return set().union(*(variables_of(one) for one in value.values()))
    if isinstance(value, list):
        return set().union(*(variables_of(one) for one in value))
    return {match["name"] for match in _VARIABLE.finditer(value)} if isinstance(value, str) else set()


def compose(path: Path, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A compose file, anchors resolved and variables put in: those that must be set are `set`."""
    raw = yaml.safe_load(path.read_text())
    given = dict.fromkeys(variables_of(raw) & required(path), "set") if variables is None else variables
    return dict(fill_in(raw, given))


def required(path: Path) -> set[str]:
    """Variables without which Compose refuses the file."""
    return {match["name"] for match in _VARIABLE.finditer(path.read_text()) if match["kind"] == ":?"}


def kustomize(overlay: Path) -> list[dict[str, Any]]:
    """What an overlay becomes: the objects that `kubectl apply -k` sends."""
    built = run(tool("kubectl"), "kustomize", str(overlay))
    assert built.returncode == 0, built.stderr
    return [one for one in yaml.safe_load_all(built.stdout) if one]


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and pod template of all that runs."""
    for one in objects:
        if "template" in one.get("spec", {}):
            yield one["metadata"]["name"], one["spec"]["template"]


def unit(path: Path, *, with_examples: bool = False) -> dict[str, list[str]]:
    """Keys of a unit file, each with its values in order. `with_examples`: with the settings that its comments show."""
    found: dict[str, list[str]] = {}
    text = path.read_text()
    for line in (text.replace("\n#   ", "\n") if with_examples else text).splitlines():
        if line and line[0] not in "#[":
            key, mark, value = line.partition("=")
            assert mark, f"{path.name}: {line!r} is no setting"
            found.setdefault(key, []).append(value)
    return found


def addresses_told(process: subprocess.Popen[str]) -> dict[str, str]:
    """What a server command says on standard output when it is ready, by its first words; less if it ends before."""
    assert process.stdout is not None
    told = {}
    for line in process.stdout:
        if match := re.fullmatch(r"  (\w+) +(\S+).*\n", line):
            told[match[1]] = match[2]
        if line.startswith("Ctrl-C"):
            break
    return told


def dockerfile() -> list[tuple[str, str]]:
    """Instructions and arguments, continued lines joined."""
    joined = re.sub(r"\\\n", "", (DEPLOY / "Dockerfile").read_text())
    lines = [line.strip() for line in joined.splitlines()]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")]


def image_environment() -> dict[str, str]:
    """What ENV of the last stage sets."""
    last = [number for number, (word, _) in enumerate(dockerfile()) if word == "FROM"][-1]
    pairs = (pair for word, rest in dockerfile()[last:] if word == "ENV" for pair in rest.split())
    return dict(pair.split("=", 1) for pair in pairs)
