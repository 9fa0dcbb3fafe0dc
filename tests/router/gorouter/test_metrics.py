"""Gorouter's metrics for Prometheus: reference 8.6, name by name, by a whole router that is made to count each.

Every row says what is done, and by how much which samples rise then; nothing else of the same family may.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import time_ns

import pytest

from tests.router.prometheus_text import Family, families
from tests.router.registered import Registered, at, registered_router
from tests.router.supervised import kill
from tests.router.tls.authority import CA_PEM, HOST, OTHER_CA, issue, over_tls, server_context
from tests.router.wire import OK, Backend, Wire, answering, backend, wait_until

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
FAILED = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
FOUND = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Scene:
    """A router with its backends; every test has routes of its own names in it."""

    made: Registered
    ok: Backend

    def families(self) -> dict[str, Family]:
        return families(self.made.router.status("/metrics").body.decode())

    def rises(self, name: str, act: Callable[[], object], **labels: str) -> float:
        """By how much the sample rises when ``act`` is done, and that no other one of its family does."""
        before = self.families()
        act()
        after = self.families()
        others = {
            key: value
            for key, value in after[name].samples.items()
            if value != before[name].samples.get(key, 0) and dict(key[1]) != labels
        }
        assert not others, others
        return after[name].value(**labels) - before[name].value(**labels)

    def takes_in(self, name: str, act: Callable[[], object], **labels: str) -> float:
        """As ``rises``, of how many values a histogram has taken in. Exchanges are put into buckets a little later."""
        before = self.families()[name].count(**labels)
        act()
        return self.families()[name].count(**labels) - before

    @contextmanager
    def route(self, host: str, script: Callable[[Wire], None], **fields: object) -> Iterator[Backend]:
        with backend(script) as app:
            if fields.get("tls_port"):
                fields["tls_port"] = app.port
            entry = (host, at(app, host, **fields))
            self.made.register(entry)
            yield app
            self.made.unregister(entry)


@pytest.fixture(scope="module")
def scene(registry_url: str) -> Iterator[Scene]:
    settings = {
        "ca_certs": [CA_PEM],
        "backends": {"max_conns": 1, "max_attempts": 3},
        "per_app_prometheus_http_metrics_reporting": True,
        "route_latency_metric_muzzle_duration": "0s",
        "prometheus": {"meters": {"gorouter_time_histogram_buckets": [0.001, 60_000]}},
    }
    with (
        backend(answering(OK)) as ok,
        registered_router(registry_url, "gorouter-metrics", **settings) as made,
    ):
        made.register(
            ("ok.test", at(ok, "ok", tags={"component": "api", "source_id": "app-1"})),
            ("plain.test", at(ok, "plain", app="x")),
        )
        yield Scene(made, ok)


def closing(wire: Wire) -> None:
    wire.head()


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class TestRequests:
    def test_total_requests_by_component(self, scene: Scene) -> None:
        assert scene.rises("total_requests", lambda: scene.made.ask("ok.test"), component="api") == 1

    def test_total_requests_of_endpoints_without_the_tag(self, scene: Scene) -> None:
        assert scene.rises("total_requests", lambda: scene.made.ask("plain.test"), component="") == 1

    def test_total_requests_counts_attempts(self, scene: Scene) -> None:
        entries = [("tries.test", at(dead_port(), tags={"component": "dead"})) for _ in range(3)]
        scene.made.register(*entries)
        assert scene.rises("total_requests", lambda: scene.made.ask("tries.test"), component="dead") == 3

    def test_total_requests_not_of_what_has_no_endpoint(self, scene: Scene) -> None:
        assert scene.rises("total_requests", lambda: scene.made.ask("nowhere.test"), component="x") == 0

    @pytest.mark.parametrize(
        ("host", "lines"),
        [
            ("", ()),
            ("nowhere.test", ()),
            ("ok.test", ("X-CF-App-Instance: nonsense",)),
            ("ok.test", ("X-CF-Process-Instance: nonsense",)),
            ("ok.test", ("X-CF-App-Instance: aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:0",)),
        ],
    )
    def test_rejected_requests(self, scene: Scene, host: str, lines: tuple[str, ...]) -> None:
        assert scene.rises("rejected_requests", lambda: scene.made.ask(host, "/", *lines)) == 1

    def test_rejected_requests_not_of_a_route_without_endpoints(self, scene: Scene) -> None:
        entry = ("left.test", at(scene.ok, "left"))
        scene.made.register(entry)
        scene.made.unregister(entry)

        def ask() -> None:
            assert scene.made.ask("left.test").status == 503

        assert scene.rises("rejected_requests", ask) == 0

    def test_empty_content_length_header(self, scene: Scene) -> None:
        def ask() -> None:
            assert scene.made.ask("ok.test", "/", "Content-Length:").status == 400

        assert scene.rises("empty_content_length_header", ask) == 1

    @pytest.mark.parametrize(
        ("answer", "group"), [(OK, "2xx"), (FOUND, "3xx"), (FAILED, "5xx"), (OK.replace(b"200", b"404"), "4xx")]
    )
    def test_responses_by_status_group(self, scene: Scene, answer: bytes, group: str) -> None:
        with scene.route("group.test", answering(answer)):
            assert scene.rises("responses", lambda: scene.made.ask("group.test"), status_group=group) == 1

    def test_responses_of_the_router_itself_once_an_endpoint_was_chosen(self, scene: Scene) -> None:
        with scene.route("closing.test", closing):
            assert scene.rises("responses", lambda: scene.made.ask("closing.test"), status_group="5xx") == 1

    def test_responses_not_where_no_endpoint_was_chosen(self, scene: Scene) -> None:
        assert scene.rises("responses", lambda: scene.made.ask("nowhere.test"), status_group="4xx") == 0

    def test_responses_101_is_in_no_group(self, scene: Scene) -> None:
        def upgrade() -> None:
            with scene.made.waiting("ws.test", "/", *UPGRADE) as wire:
                assert wire.head().status == 101

        def script(wire: Wire) -> None:
            wire.head()
            wire.send(SWITCHED)

        with scene.route("ws.test", script):
            before = scene.families()["responses"].value(status_group="xxx")
            upgrade()
            wait_until(lambda: scene.families()["responses"].value(status_group="xxx") == before + 1)

    def test_responses_route_services_are_there(self, scene: Scene) -> None:
        shown = scene.families()["responses_route_services"]
        assert [dict(labels)["status_group"] for _, labels in shown.samples] == ["2xx", "3xx", "4xx", "5xx", "xxx"]


class TestFailuresOfEndpoints:
    def test_bad_gateways(self, scene: Scene) -> None:
        with scene.route("bad.test", closing):
            assert scene.rises("bad_gateways", lambda: scene.made.ask("bad.test")) == 1

    @pytest.mark.parametrize(
        ("metric", "status", "script"),
        [
            ("backend_invalid_id", 503, over_tls(answering(OK), server_context(issue("other.test")))),
            ("backend_invalid_tls_cert", 526, over_tls(answering(OK), server_context(issue(HOST, ca=OTHER_CA)))),
            ("backend_tls_handshake_failed", 525, answering(OK)),
        ],
    )
    def test_tls(self, scene: Scene, metric: str, status: int, script: Callable[[Wire], None]) -> None:
        if status == 525:

            def script(wire: Wire) -> None:
                wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        with scene.route("tls.test", script, tls_port=1, server_cert_domain_san=HOST):

            def ask() -> None:
                assert scene.made.ask("tls.test").status == status

            before = scene.families()["bad_gateways"].value()
            assert scene.rises(metric, ask) == 1
            assert scene.families()["bad_gateways"].value() == before

    def test_backend_exhausted_conns(self, scene: Scene) -> None:
        def holding(wire: Wire) -> None:
            wire.head()
            wire.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            wire.read_to_end()

        def ask() -> None:
            answer = scene.made.ask("full.test")
            assert (answer.status, answer.get("X-Cf-RouterError")) == (503, b"Connection Limit Reached")

        with scene.route("full.test", holding), scene.made.waiting("full.test") as wire:
            assert wire.head().status == 103
            assert scene.rises("backend_exhausted_conns", ask) == 1

    def test_websocket_upgrades(self, scene: Scene) -> None:
        def script(wire: Wire) -> None:
            wire.head()
            wire.send(SWITCHED)
            wire.read_to_end()

        def upgrade() -> None:
            with scene.made.waiting("ws-ok.test", "/", *UPGRADE) as wire:
                assert wire.head().status == 101

        with scene.route("ws-ok.test", script):
            assert scene.rises("websocket_upgrades", upgrade) == 1

    def test_websocket_failures(self, scene: Scene) -> None:
        with scene.route("ws-bad.test", closing):
            assert scene.rises("websocket_failures", lambda: scene.made.ask("ws-bad.test", "/", *UPGRADE)) == 1

    def test_websocket_failures_not_where_the_application_says_no(self, scene: Scene) -> None:
        with scene.route("ws-no.test", answering(FAILED)):
            assert scene.rises("websocket_failures", lambda: scene.made.ask("ws-no.test", "/", *UPGRADE)) == 0


class TestGauges:
    def test_total_routes(self, scene: Scene) -> None:
        before = scene.families()["total_routes"].value()
        scene.made.register(("one-more.test", at(scene.ok, "one-more")))
        assert scene.families()["total_routes"].value() == before + 2, "its own marker is a route, too"

    def test_ms_since_last_registry_update(self, scene: Scene) -> None:
        assert 0 <= scene.families()["ms_since_last_registry_update"].value() < 60_000

    def test_file_descriptors(self, scene: Scene) -> None:
        before = scene.families()["file_descriptors"].value()
        wires = [scene.made.router.connect() for _ in range(20)]
        for wire in wires:
            wire.send(b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n")
            assert wire.message().status == 200
        assert scene.families()["file_descriptors"].value() >= before + 20
        for wire in wires:
            wire.close()

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("registry_message", "counter"),
            ("unregistry_message", "counter"),
            ("routes_pruned", "counter"),
            ("buffered_messages", "gauge"),
            ("total_dropped_messages", "gauge"),
            ("promhttp_metric_handler_errors_total", "counter"),
        ],
    )
    def test_what_nothing_happened_for_is_there_and_0(self, scene: Scene, name: str, kind: str) -> None:
        family = scene.families()[name]
        assert family.kind == kind
        assert set(family.samples.values()) <= {0}


class TestHistograms:
    def test_latency_by_component_in_ms(self, scene: Scene) -> None:
        assert scene.takes_in("latency", lambda: scene.made.ask("ok.test"), component="api") == 1
        bounds = ["1", "2", "4", "6", "8", "10", "20", "40", "50", "100", "500", "1000", "+Inf"]
        assert list(scene.families()["latency"].buckets(component="api")) == bounds

    def test_latency_is_the_whole_time_in_ms(self, scene: Scene) -> None:
        def slow(wire: Wire) -> None:
            wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            wire.socket.settimeout(0.25)
            with pytest.raises(TimeoutError):
                wire.socket.recv(1)
            wire.send(b"ok")

        with scene.route("slow.test", slow, tags={"component": "slow"}):
            scene.made.ask("slow.test")
            latency = scene.families()["latency"]
            assert 250 <= latency.sum(component="slow") < 5000
            assert latency.buckets(component="slow")["100"] == 0

    def test_gorouter_time_in_seconds_with_bounds_read_as_ms(self, scene: Scene) -> None:
        assert scene.takes_in("gorouter_time", lambda: scene.made.ask("ok.test")) == 1
        shown = scene.families()["gorouter_time"]
        assert list(shown.buckets()) == ["1e-06", "60", "+Inf"]
        assert shown.buckets()["60"] == shown.count()
        assert 0 < shown.sum() < shown.count(), "seconds"

    def test_gorouter_time_not_where_nothing_was_sent(self, scene: Scene) -> None:
        assert scene.takes_in("gorouter_time", lambda: scene.made.ask("nowhere.test")) == 0

    def test_route_lookup_time_of_every_request_that_is_routed(self, scene: Scene) -> None:
        def twice() -> None:
            scene.made.ask("ok.test", "/a")
            scene.made.ask("ok.test", "/a")

        assert scene.takes_in("route_lookup_time", twice) == 2
        bounds = [str(10_000 * number) for number in range(1, 11)]
        assert list(scene.families()["route_lookup_time"].buckets()) == [*bounds, "+Inf"]

    def test_route_lookup_time_not_of_what_was_refused_before(self, scene: Scene) -> None:
        assert scene.takes_in("route_lookup_time", lambda: scene.made.ask("bad host.test")) == 0

    def test_http_latency_seconds_by_source(self, scene: Scene) -> None:
        assert scene.takes_in("http_latency_seconds", lambda: scene.made.ask("ok.test"), source_id="app-1") == 1
        buckets = scene.families()["http_latency_seconds"].buckets(source_id="app-1")
        assert list(buckets) == ["0.1", "0.2", "0.4", "0.8", "1.6", "3.2", "6.4", "12.8", "25.6", "+Inf"]
        assert buckets["25.6"] > 0

    @pytest.mark.parametrize("host", ["plain.test", "nowhere.test"])
    def test_http_latency_seconds_without_the_tag(self, scene: Scene, host: str) -> None:
        assert scene.takes_in("http_latency_seconds", lambda: scene.made.ask(host), source_id="gorouter") == 1

    def test_route_registration_latency_in_ms(self, scene: Scene) -> None:
        def register() -> None:
            made = at(scene.ok, "timed", endpoint_updated_at_ns=time_ns() - 3_000_000_000)
            scene.made.register(("timed.test", made))

        before = scene.families()["route_registration_latency"].sum()
        assert scene.takes_in("route_registration_latency", register) == 1
        assert 3000 <= scene.families()["route_registration_latency"].sum() - before < 30_000


def test_per_request_metrics_can_be_switched_off(registry_url: str) -> None:
    settings = {"per_request_metrics_reporting": False}
    with (
        backend(answering(OK)) as app,
        registered_router(registry_url, "gorouter-metrics-off", **settings) as made,
    ):
        made.register(("ok.test", at(app, "ok", tags={"component": "api"})))
        assert made.ask("ok.test").status == 200
        shown = families(made.router.status("/metrics").body.decode())
        assert shown["total_requests"].value(component="api") == 1
        assert [shown[name].count() for name in ("gorouter_time", "route_lookup_time")] == [0, 0]
        assert not shown["latency"].samples
        assert "http_latency_seconds" not in shown, "only with per_app_prometheus_http_metrics_reporting"
        assert shown["millrace_request_duration_seconds"].count() >= 1


def test_workers_are_summed_those_that_died_too(registry_url: str) -> None:
    with (
        backend(answering(OK)) as app,
        registered_router(registry_url, "gorouter-metrics-sums", millrace={"workers": 2}) as made,
    ):
        made.register(("ok.test", at(app, "ok", tags={"component": "api"})))
        for _ in range(20):
            assert made.ask("ok.test").status == 200

        def total() -> float:
            return families(made.router.status("/metrics").body.decode())["total_requests"].value(component="api")

        assert total() == 20
        made.router.signal(signal.SIGHUP)
        made.router.until_said("rolled")
        assert total() == 20, "what workers that were rolled had counted stays"
        assert made.ask("ok.test").status == 200
        assert total() == 21
        for pid in made.router.workers:
            kill(pid)
        made.router.until_said("worker-died", 2)
        assert total() == 21
