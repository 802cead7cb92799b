"""`thalweg doctor`: what is wrong between this host and the server, and what to do. checks/ looks; this tells."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from thalweg.cli import formats, output
from thalweg.cli.checks.data import check_data
from thalweg.cli.checks.finding import FAIL, WARN, Finding
from thalweg.cli.checks.ingest import check_ingest
from thalweg.cli.checks.of_server import check_server_settings, check_store
from thalweg.cli.checks.server import check_server
from thalweg.cli.checks.settings import check_settings
from thalweg.cli.checks.spool import check_spool
from thalweg.cli.options import json_option, url_option

_COLORS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@url_option
@click.option(
    "--data",
    "data_dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Check the folder of an embedded database too, on the server's host.",
)
@click.option(
    "--store",
    metavar="URL",
    help="Check ClickHouse servers too: hosts, rights, schema. Needs the server's package.  [default: THALWEG_STORE]",
)
@json_option
@click.pass_context
def doctor(context: click.Context, url: str | None, data_dir: Path | None, store: str | None, as_json: bool) -> None:
    """Check settings, spool, server, versions, clock and token, and say what to do.

    Changes nothing. The exit status is 1 if anything fails.

    \b
    Example: thalweg doctor
             thalweg doctor --url http://tracker:7412 --json
             thalweg doctor --store clickhouse://localhost:9000/thalweg
    """
    findings = examine(url, data_dir, store)
    failed = any(one.state == FAIL for one in findings)
    if as_json:
        output.print_json({"ok": not failed, "findings": [asdict(one) for one in findings]})
    else:
        _print(findings)
    context.exit(1 if failed else 0)


def examine(url: str | None, data_dir: Path | None, store: str | None) -> list[Finding]:
    """All findings, in the order in which they are best mended. Raises SettingError for a bad `url`."""
    findings, settings = check_settings(os.environ, url)
    findings += check_server_settings(os.environ)
    findings += check_spool(settings)
    answered = check_server(settings)
    findings += answered.findings
    findings += check_ingest(settings, answered.health, os.environ.get("THALWEG_GRPC") or None)
    findings += check_data(data_dir) if data_dir is not None else []
    return findings + check_store(store, os.environ)


def _print(findings: list[Finding]) -> None:
    width = max(len(one.check) for one in findings)
    for one in findings:
        state = click.style(f"{one.state:<4}", fg=_COLORS[one.state], bold=one.state != "ok")
        click.echo(f"{state}  {one.check:<{width}}  {formats.plain(one.told)}")
        if one.then:
            click.echo(f"{'':<{width + 8}}-> {formats.plain(one.then)}")
    counts = {state: sum(one.state == state for one in findings) for state in (FAIL, WARN)}
    failing, warning = formats.count(counts[FAIL], "failure"), formats.count(counts[WARN], "warning")
    output.note(f"\n{failing}, {warning}." if any(counts.values()) else "\nAll is well.")
