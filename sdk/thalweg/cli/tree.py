"""`thalweg tree`: which runs of a project continue which. forest.py says what is drawn; here it becomes columns."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click
from rich.cells import cell_len

from thalweg.api_client import ApiClient, segment
from thalweg.cli import formats, output
from thalweg.cli.forest import ASCII, SIBLINGS_MAX, UNICODE, Forest, Limits, Line, Marks, Node, beginning
from thalweg.cli.locate import split
from thalweg.cli.options import connect, json_option, url_option
from thalweg.errors import NotFoundError

DEPTH_DEFAULT: Final = 50
PAGE_NODES: Final = 20_000
"""Branches asked for at once: the most that a server gives."""
_FALLING: Final = ("loss", "error", "perplexity")
_MAY_LACK: Final = ("begins", "name")
"""Columns that are left out where they are empty."""
_NAME_CHARS: Final = 60
_STATUS: Final = 2
"""Its column."""
_ALIGNED_CHARS: Final = 120
"""Columns of a line that is indented further are not aligned with those of others."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn of a project."""

    limits: Limits
    wanted: str | None  # a run, whose tree alone is drawn
    metric: str | None
    best: str  # min or max
    marks: Marks


@click.command()
@click.argument("project", envvar="THALWEG_PROJECT")
@click.option("--metric", "-m", metavar="NAME", help="Show the last and the best value of a metric.")
@click.option(
    "--best",
    type=click.Choice(("min", "max")),
    help="Which value is the best.  [default: min for names that end in loss, error or perplexity, else max]",
)
@click.option("--run", "run", metavar="RUN", help="Only the tree that RUN is in.")
@click.option(
    "--depth", type=click.IntRange(0), default=DEPTH_DEFAULT, show_default=True, metavar="N", help="Levels to draw."
)
@click.option("--all", "show_all", is_flag=True, help=f"Draw all siblings, not {SIBLINGS_MAX} at most.")
@url_option
@json_option
def tree(
    project: str,
    metric: str | None,
    best: str | None,
    run: str | None,
    depth: int,
    show_all: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Draw which runs of PROJECT continue which.

    A fork stands below the run that it continues; a run that was rewound has a line for each of its
    branches. Runs that nothing continues come last. Values are those of a branch's own points, without
    inherited ones. --json gives all branches, however many are drawn.

    \b
    Example: thalweg tree digits --metric train/loss
             thalweg tree digits --run 20260101-abcdefgh --depth 3
    """
    wanted = None if run is None else _in_project(run, project)
    client = connect(url)
    forest = Forest(_nodes(client, project, metric))
    if wanted is not None and forest.tree_of(wanted) is None:
        raise NotFoundError(f"there is no run {wanted!r} in project {project!r}")
    chosen = best or best_of(metric or "")
    if as_json:
        nodes = forest.known(wanted)
        output.print_json({"project": project, "metric": metric, "best": metric and chosen, "nodes": nodes})
        return
    if not forest.nodes:
        output.note(f"There are no runs in project {project!r}.")
        return
    limits = Limits(None if show_all else SIBLINGS_MAX, depth)
    click.echo(draw(forest, Drawing(limits, wanted, metric, chosen, _marks())))
    if wanted is not None and forest.level(wanted) > depth:
        output.note(
            f"{wanted} is on level {forest.level(wanted):,}: --depth shows it. `thalweg show` has the way to it."
        )


def _in_project(run: str, project: str) -> str:
    named, run_id = split(run, project)
    if named != project:
        raise click.UsageError(f"cannot draw {run!r}: it is not in project {project!r}")
    return run_id


def best_of(metric: str) -> str:
    """Whether the least or the greatest value of a metric is its best, by its name."""
    return "min" if metric.lower().endswith(_FALLING) else "max"


def _nodes(client: ApiClient, project: str, metric: str | None) -> Iterator[Node]:
    """All branches of a project, oldest first."""
    cursor = None
    while True:
        page = client.get(f"/projects/{segment(project)}/lineage", metric=metric, limit=PAGE_NODES, cursor=cursor)
        yield from page["nodes"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _marks() -> Marks:
    """Lines of the drawing: plain ones where it is not a person's terminal that shows them."""
    try:
        UNICODE.child.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE if sys.stdout.isatty() else ASCII


def draw(forest: Forest, drawing: Drawing) -> str:
    """The whole picture."""
    metric = (drawing.metric, "at step", drawing.best, "at step") if drawing.metric else ()
    heads = ("run", "begins", "status", *map(formats.plain, metric), "name")
    rows = [
        (line.prefix + formats.plain(line.text), *(_cells(line.node, drawing) if line.node else ()))
        for line in _lines(forest, drawing)
    ]
    full = [row for row in rows if row[1:]]
    shown = [place for place, head in enumerate(heads) if head not in _MAY_LACK or any(row[place] for row in full)]
    widths = [max(map(_width, [head, *(row[place] for row in full)])) for place, head in enumerate(heads)]
    widths[0] = min(widths[0], _ALIGNED_CHARS)
    picture = [click.style(_joined(heads, shown, widths, {}), bold=True)]
    for row in rows:
        picture.append(_joined(row, shown, widths, output.STATUS_STYLES) if row[1:] else row[0])
    return "\n".join(picture)


def _lines(forest: Forest, drawing: Drawing) -> Iterator[Line]:
    """Trees, that with the newest branch first, then single runs, the newest first."""
    if drawing.wanted is not None:
        root = forest.tree_of(drawing.wanted)
        assert root is not None, drawing.wanted
        yield from forest.draw(root, drawing.limits, drawing.marks, drawing.wanted)
        return
    trees, singles = forest.trees(), forest.singles()
    most = drawing.limits.siblings
    for root in trees[:most]:
        yield from forest.draw(root, drawing.limits, drawing.marks)
    if left := [] if most is None else trees[most:]:
        branches = sum(map(forest.size, left))
        yield Line("", f"... and {len(left):,} older trees of {branches:,} branches: --all shows them", None)
    if trees and singles:
        yield Line("", "", None)
    for root in singles[:most]:
        yield from forest.draw(root, drawing.limits, drawing.marks)
    if left := [] if most is None else singles[most:]:
        yield Line("", f"... and {len(left):,} older runs that nothing continues: --all shows them", None)


def _cells(node: Node, drawing: Drawing) -> tuple[str, ...]:
    """What stands beside a branch."""
    name = formats.shorten(formats.plain(node["name"]), _NAME_CHARS)
    return (formats.plain(beginning(node)), node["status"], *_values(node["metric"], drawing), name)


def _values(metric: Mapping[str, Any] | None, drawing: Drawing) -> tuple[str, ...]:
    if not drawing.metric:
        return ()
    if metric is None:
        return ("", "", "", "")
    return (
        formats.number(metric["last"]),
        formats.step(metric["last_step"]),
        formats.number(metric[drawing.best]),
        formats.step(metric[f"arg{drawing.best}"]),
    )


def _joined(row: Sequence[str], shown: Sequence[int], widths: Sequence[int], styles: Mapping[str, str]) -> str:
    """The columns of a line, padded; those of numbers, between status and name, on the left."""
    cells = []
    for place in shown:
        text, gap = row[place], " " * (widths[place] - _width(row[place]))
        is_number = _STATUS < place < len(widths) - 1
        styled = click.style(text, fg=styles[text]) if place == _STATUS and text in styles else text
        cells.append(gap + styled if is_number else styled + gap)
    return "  ".join(cells).rstrip()


def _width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return len(text) if text.isascii() else cell_len(text)
