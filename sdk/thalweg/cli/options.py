"""Options that commands share, and the client of the server that they name."""

from __future__ import annotations

import os
from typing import Final

import click

from thalweg.api_client import ApiClient
from thalweg.settings import Settings

url_option: Final = click.option(
    "--url", metavar="URL", help="The server's HTTP address.  [default: THALWEG_URL, else http://127.0.0.1:7412]"
)
project_option: Final = click.option(
    "--project", "-p", envvar="THALWEG_PROJECT", metavar="P", help="Project of the run.  [default: THALWEG_PROJECT]"
)
needed_project_option: Final = click.option(
    "--project", "-p", envvar="THALWEG_PROJECT", metavar="P", required=True, help="Project.  [default: THALWEG_PROJECT]"
)
branch_option: Final = click.option(
    "--branch", type=click.IntRange(0), metavar="N", help="Branch of a run that was rewound.  [default: the newest]"
)
json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")


def settings(url: str | None) -> Settings:
    """The SDK's settings for a command. Raises SettingError."""
    return Settings.read(os.environ, url=url, rank=0)  # rank 0: the launcher's variables do not concern commands


def connect(url: str | None) -> ApiClient:
    """A client of the server that the option or the environment names. Raises SettingError."""
    chosen = settings(url)
    return ApiClient(chosen.url, chosen.token)
