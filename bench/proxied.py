"""One request through a proxy: to know that it serves before it is measured.

It must never be used to measure: it opens a connection per request.
"""

from __future__ import annotations

import http.client

from bench.scenarios import HOST, SMALL_PATH


def status_of(port: int, host: str = HOST, path: str = SMALL_PATH) -> int:
    """The status that ``port`` of the loopback address answers for ``host``; 0 when it does not answer HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def answers(port: int, host: str = HOST) -> bool:
    """Whether ``host`` is served with 200."""
    return status_of(port, host) == 200
