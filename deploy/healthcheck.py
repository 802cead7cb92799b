"""Exit status 0 if the server in this container is ready: /readyz at the port of THALWEG_OPS. Needs only Python."""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_S = 4
DEFAULT_OPS = "127.0.0.1:7413"


def main() -> int:
    """Asks once. Not through `urllib`, which would ask a proxy that the environment names."""
    port = int(os.environ.get("THALWEG_OPS", DEFAULT_OPS).rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(2000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        print(f"not ready: 127.0.0.1:{port} does not answer: {error}")
        return 1
    finally:
        connection.close()
    print(text)
    return 0 if answer.status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main())
