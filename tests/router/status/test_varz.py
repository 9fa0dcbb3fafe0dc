"""/varz, and the other old ways to watch a router: gorouter reference 8.2 and 1.1."""

from __future__ import annotations

import base64
import json
import re
import socket
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.metrics.app_counts import BOUNDS
from router.metrics.histogram import Histogram
from router.status.varz import PERCENTILES, TICK, Rates, percentile, uptime
from tests.router.registered import at, registered_router
from tests.router.sources.nats import NatsServer, Registrar, running_nats
from tests.router.supervised import Router, running_router
from tests.router.wire import OK, Message, Wire, answering, backend, wait_until

STATUS = {"enable_deprecated_varz_healthz_endpoints": True, "user": "u", "pass": "p", "port": 0, "host": "127.0.0.1"}
FAILED = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
OF_REQUESTS = {
    *(
        "requests",
        "rate",
        "responses_2xx",
        "responses_3xx",
        "responses_4xx",
        "responses_5xx",
        "responses_xxx",
        "latency",
    )
}
OF_THE_ROUTER = {
    *("type", "index", "host", "credentials", "uuid", "start", "num_cores", "mem", "cpu", "uptime", "log_counts"),
    *("tags", "urls", "droplets", "bad_requests", "bad_gateways", "requests_per_sec", "top10_app_requests"),
    "ms_since_last_registry_update",
}


def ask(router: Router, path: str = "/varz", password: str = "u:p") -> Message:
    wire = Wire(socket.create_connection(("127.0.0.1", int(router.place["status_port"])), 10))
    secret = base64.b64encode(password.encode()).decode()
    wire.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {secret}\r\n\r\n".encode())
    try:
        return wire.message()
    finally:
        wire.close()


def page(router: Router) -> dict[str, Any]:
    answer = ask(router)
    assert answer.status == 200
    told: dict[str, Any] = json.loads(answer.body)
    return told


def test_the_page(registry_url: str) -> None:
    with (
        backend(answering(OK)) as ok,
        backend(answering(FAILED)) as failing,
        registered_router(registry_url, "varz", status=STATUS, index=5, millrace={"workers": 2}) as made,
    ):
        made.register(
            ("ok.test", at(ok, "ok", app="app-1", tags={"component": "api"})),
            ("fails.test", at(failing, "fails", app="app-2")),
        )
        began = time.monotonic()
        for _ in range(6):
            assert made.ask("ok.test").status == 200
        assert made.ask("fails.test").status == 503
        assert made.ask("nowhere.test").status == 404
        told = page(made.router)
        assert set(told) == OF_THE_ROUTER | OF_REQUESTS
        assert (told["type"], told["index"], told["credentials"]) == ("Router", 5, ["u", "p"])
        assert re.fullmatch(r"[0-9.]+:[0-9]+", told["host"])
        assert re.fullmatch(r"5-[0-9a-f-]{36}", told["uuid"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000", told["start"])
        assert re.fullmatch(r"0d:0h:\d+m:\d+s", told["uptime"])
        assert told["requests"] >= 7, "attempts, those of the test's own marker routes among them"
        assert told["responses_2xx"] == 6
        assert told["bad_requests"] >= 1
        assert told["responses_5xx"] >= 1
        assert (told["urls"], told["droplets"]) == (3, 3)
        assert told["mem"] > 1000
        assert told["log_counts"]["info"] > 0
        assert {app["application_id"]: app["rpm"] for app in told["top10_app_requests"]} == {"app-1": 6, "app-2": 1}
        assert [app["rps"] for app in told["top10_app_requests"]] == [0, 0]
        assert 0 <= told["ms_since_last_registry_update"] < 60_000
        api = told["tags"]["component"]["api"]
        assert set(api) == OF_REQUESTS
        assert (api["requests"], api["responses_2xx"], api["responses_5xx"]) == (6, 6, 0)
        assert set(told["tags"]["component"]) == {"api"}, "endpoints without the tag are in no component"
        assert set(api["latency"]) == {"50", "75", "90", "95", "99", "value", "samples"}
        assert 0 < api["latency"]["50"] <= api["latency"]["99"] <= time.monotonic() - began, "seconds"
        wait_until(lambda: page(made.router)["requests_per_sec"] > 0, "a rate")


def test_is_for_who_knows_the_password(registry_url: str) -> None:
    with registered_router(registry_url, "varz-auth", status=STATUS) as made:
        assert ask(made.router, password="u:wrong").status == 401
        assert ask(made.router).status == 200


def test_is_not_there_unless_asked_for(registry_url: str) -> None:
    status = {**STATUS, "enable_deprecated_varz_healthz_endpoints": False}
    with registered_router(registry_url, "varz-off", status=status) as made:
        assert ask(made.router).status == 404


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder, running_nats(Path(folder)) as server:
        yield server


class TestNats:
    def test_the_component_is_announced_and_answers_who_looks_for_it(self, nats: NatsServer) -> None:
        with Registrar(nats) as listening, Registrar(nats) as asking:
            listening.listen("vcap.component.announce")
            with routing(nats, status=STATUS, index=2):
                announced = json.loads(listening.receive())
                found = json.loads(asking.ask("vcap.component.discover"))
        for told in (announced, found):
            assert set(told) == {"type", "index", "host", "credentials", "uuid", "start", "uptime"}
            assert (told["type"], told["index"], told["credentials"]) == ("Router", 2, ["u", "p"])
        assert announced["uuid"] == found["uuid"]

    def test_active_apps_are_published(self, nats: NatsServer) -> None:
        with (
            Registrar(nats) as listening,
            Registrar(nats) as registrar,
            backend(answering(OK)) as app,
            routing(nats, publish_active_apps_interval="200ms", millrace={"workers": 2}) as router,
        ):
            listening.listen("router.active_apps")
            registrar.register(app.port, "app.example.com", app="guid-1")
            registrar.register(app.port, "other.example.com", app="guid-2")
            wait_until(lambda: router.get().status == 200, "the route")

            def until(expected: list[str]) -> None:
                for _ in range(50):
                    if json.loads(zlib.decompress(listening.receive())) == expected:
                        return
                raise AssertionError(f"never {expected}")

            until(["guid-1"])
            until([])
            assert router.get().status == 200
            until(["guid-1"])


@contextmanager
def routing(nats: NatsServer, **settings: Any) -> Iterator[Router]:
    native = {"workers": 1, **settings.pop("millrace", {})}
    how = {"nats": {"hosts": [nats.host]}, "start_response_delay_interval": "0s", **settings}
    with running_router("", millrace=native, **how) as router:
        yield router.until_healthy()


# Figures --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(100e-6, 100), min_size=1, max_size=500))
def test_percentiles_are_close(values: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    histogram.add(list(values))
    ordered = sorted(values)
    for percent in PERCENTILES:
        exact = ordered[max(0, -(-len(values) * percent // 100) - 1)]
        assert exact / 1.11 <= percentile(histogram, percent) <= exact * 1.11


def test_percentiles_of_nothing_are_0() -> None:
    assert [percentile(Histogram(BOUNDS), percent) for percent in PERCENTILES] == [0] * 5


def test_what_is_above_all_bounds_counts_as_the_last() -> None:
    histogram = Histogram(BOUNDS)
    histogram.add([1e6])
    assert percentile(histogram, 50) == BOUNDS[-1]


def test_rates_move_towards_what_comes_the_short_one_fastest() -> None:
    rates = Rates()
    assert rates.shown == [0, 0, 0]
    count = 0
    for _ in range(12):
        count += int(10 * TICK)
        rates.tick(count)
    assert rates.shown == pytest.approx([10, 10, 10])
    for _ in range(12):  # a minute of nothing
        rates.tick(count)
    assert rates.shown == pytest.approx([10 / 2.718, 10 / 1.221, 10 / 1.069], rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0d:0h:0m:0s"), (12_151.9, "0d:3h:22m:31s"), (86_400 * 400 + 61, "400d:0h:1m:1s")]
)
def test_uptime(seconds: float, text: str) -> None:
    assert uptime(seconds) == text
