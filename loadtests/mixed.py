"""A minute of locust's users on a server of their own: writers, forks, dashboards, mixed. `make loadtest`.

It listens on loopback only. Ends with exit status 1 if anything failed: a request, an acknowledgement, or a point that
is not read back as it was logged. Options, where there are any, are locust's, instead of those of DEFAULTS: `python -m
loadtests.mixed -u 100 -t 5m --metrics 10,1000 --ranks 4` opens locust's page.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from thalweg.testing import running_server

DEFAULTS = ("--headless", "-u", "60", "-r", "20", "-t", "60s", "--only-summary")


def main() -> None:
    """Starts the server, then locust."""
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
        arguments = sys.argv[1:] or list(DEFAULTS)
        locustfile = Path(__file__).with_name("locustfile.py")
        command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--host", server.url, *arguments]
        done = subprocess.run(command, check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
