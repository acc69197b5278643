"""Ask the server on this machine whether it scores a pair; ends with 1 and a line if it does not."""

from __future__ import annotations

import http.client
import os
import sys


def main() -> None:
    """Ask `GET /health` on `UVICORN_PORT`.

    Raises:
        SystemExit: with one line, if there is no answer, or another than 200.
    """
    # Not urllib, which would ask a proxy that the environment names.
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(os.environ.get("UVICORN_PORT", "8000")), timeout=10
    )
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        text = answer.read(1000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise SystemExit(f"unhealthy: {error}") from None
    if answer.status != 200:
        raise SystemExit(f"unhealthy: {answer.status} {text}")
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
