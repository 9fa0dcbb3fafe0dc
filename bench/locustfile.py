"""Users for Locust: ``millrace bench load`` runs them, and so does ``locust -f bench/locustfile.py --host URL``.

The route under load is the environment's MILLRACE_BENCH_HOST, else the bench's own. They must never follow a link out
of the host that they were given.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators
# (Locust comes with an extra: types are checked where it is not installed, too.)

from __future__ import annotations

import os
from random import randrange
from typing import Final

from locust import FastHttpUser, between, task

from bench.scenarios import HOST, LARGE_PATH

ROUTE: Final = os.environ.get("MILLRACE_BENCH_HOST", HOST)
PAGES: Final = 1000
UPLOAD: Final = "x" * 10 * 1024


class Visitor(FastHttpUser):
    """Reads page after page with a session cookie, and now and then a large file."""

    weight = 9
    wait_time = between(0.05, 0.5)

    def on_start(self) -> None:
        self.headers = {"Host": ROUTE, "Cookie": f"session=s{randrange(10**9)}"}

    @task(20)
    def page(self) -> None:
        self.client.get(f"/pages/{randrange(PAGES)}", headers=self.headers, name="/pages/[number]")

    @task(1)
    def large_file(self) -> None:
        self.client.get(LARGE_PATH, headers=self.headers)


class Uploader(FastHttpUser):
    """Posts forms of 10 KiB."""

    weight = 1
    wait_time = between(0.1, 1.0)

    @task
    def upload(self) -> None:
        self.client.post("/forms", data=UPLOAD, headers={"Host": ROUTE})
