"""Entry of the command line. Owns the list of commands, how errors are told, and the exit status.

Nothing but click is imported before a command is known: `thalweg --help` stays quick.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import click

from thalweg.errors import ThalwegError
from thalweg.version import __version__

ENTRY_POINT_GROUP: Final = "thalweg.commands"
EXIT_ERROR: Final = 1
EXIT_INTERRUPTED: Final = 130

# name -> where it is, and its line in `thalweg --help`, which must not import it
_COMMANDS: Final = {
    "runs": ("thalweg.cli.runs:runs", "List runs: of one project, or the newest of all."),
    "show": ("thalweg.cli.show:show", "Show one run: config, health, metrics."),
    "tail": ("thalweg.cli.tail:tail", "Print the last points of a run, and new ones as they come."),
    "query": ("thalweg.cli.query:query", "Compute expressions over runs: series, or a value a run."),
    "metric": ("thalweg.cli.metric:metric", "Make, list and remove custom metrics."),
    "tree": ("thalweg.cli.tree:tree", "Draw which runs of a project continue which."),
    "fork": ("thalweg.cli.fork:fork", "Make a run that continues another one after a step."),
    "checkpoints": ("thalweg.cli.checkpoints:checkpoints", "List a run's checkpoints, check them, delete old ones."),
    "restore": ("thalweg.cli.restore:restore", "Download a checkpoint of a run."),
    "sync": ("thalweg.cli.sync:sync", "Deliver what waits in the spool, such as offline runs."),
    "token": ("thalweg.cli.token:token", "Make, list and revoke tokens."),
    "doctor": ("thalweg.cli.doctor:doctor", "Check settings, spool, server and token, and say what to do."),
    "bench": ("thalweg.cli.bench:bench", "Put loads on a server, and measure what it takes."),
    "delete": ("thalweg.cli.delete:delete", "Delete a run, or all of a project; for a week it can be brought back."),
    "undelete": ("thalweg.cli.delete:undelete", "Bring a deleted run back."),
    "retention": ("thalweg.cli.delete:retention", "Say for how long a project keeps its runs."),
    "export": ("thalweg.cli.export:export", "Write a run's points to a Parquet or CSV file."),
}
_SERVER_COMMANDS: Final = {
    "up": "Serve everything in one process, on the embedded engine.",
    "ingest": "Take records in, into ClickHouse servers.",
    "api": "Answer queries over HTTP, from ClickHouse servers.",
    "migrate": "Apply the migrations that a database lacks.",
    "backup": "Back up a whole database, while everything goes on.",
    "restore-database": "Restore a backup into an empty database, and verify it.",
    "move": "Move an embedded database to ClickHouse servers.",
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports them when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, the server's last."""
        return [*_COMMANDS, *_plugins()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name. Raises ClickException where its dependencies are missing."""
        if cmd_name in _COMMANDS:
            module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
            return _as_command(cmd_name, getattr(import_module(module), attribute))
        plugin = _plugins().get(cmd_name)
        return None if plugin is None else _as_command(cmd_name, _load(plugin))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the lists of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])
        plugins = _plugins()
        if plugins:
            order = sorted(plugins, key=lambda name: (*_SERVER_COMMANDS, name).index(name))
            with formatter.section("Commands of the server (pip install 'thalweg[server]')"):
                formatter.write_dl([(name, _SERVER_COMMANDS.get(name, plugins[name].value)) for name in order])


def _plugins() -> dict[str, EntryPoint]:
    """Commands that installed distributions add, by name. Ours cannot be replaced."""
    found = entry_points(group=ENTRY_POINT_GROUP)
    return {entry.name: entry for entry in found if entry.name not in _COMMANDS}


def _load(plugin: EntryPoint) -> object:
    try:
        return plugin.load()
    except ImportError as error:
        raise click.ClickException(
            f"cannot load the command {plugin.name!r}: {error}. It needs: pip install 'thalweg[server]'"
        ) from error


def _as_command(name: str, loaded: object) -> click.Command:
    if not isinstance(loaded, click.Command):
        raise click.ClickException(f"cannot load the command {name!r}: {loaded!r} is not a click command")
    return loaded


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="thalweg", message="%(prog)s %(version)s")
def thalweg() -> None:
    """Thalweg: experiment tracking for teams that train large models.

    The server's address comes from --url or THALWEG_URL, the token from THALWEG_TOKEN, and where no
    project is named, THALWEG_PROJECT names it.

    \b
    Example: thalweg runs digits --limit 10
             thalweg show digits/20260101-abcdefgh
    """


def run_command(arguments: list[str]) -> int:
    """Runs one command and gives its exit status. Errors are told on stderr, one line each."""
    try:
        status = thalweg.main(arguments, prog_name="thalweg", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except BrokenPipeError:
        _discard_stdout()
        return EXIT_ERROR
    except (KeyboardInterrupt, click.Abort) as error:
        interrupted = isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)
        return EXIT_INTERRUPTED if interrupted else EXIT_ERROR
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (ThalwegError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        return EXIT_ERROR


def _discard_stdout() -> None:
    """Nobody reads on: what is still buffered must not become an error when the interpreter flushes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """The `thalweg` command: runs it and leaves the process."""
    sys.exit(run_command(sys.argv[1:]))


if __name__ == "__main__":
    main()
