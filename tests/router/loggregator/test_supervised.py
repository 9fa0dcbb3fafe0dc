"""What Loggregator is told of by a whole router: reference 8.6 (dropsonde) row by row, and 8.5 (copies of lines)."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from tests.router.http2.peer import connect
from tests.router.loggregator.dropsonde import CLIENT, SERVER, Agent, Envelope, agent
from tests.router.registered import Registered, at, registered_router
from tests.router.supervised import running_router
from tests.router.wire import OK, Backend, Wire, answering, backend, wait_until

APP = "0f6f7d8a-3a0e-4b8e-9a46-2d8cbd1f3b5d"
INSTANCE = "instance-1"
TAGS = {"component": "route-emitter", "space_name": "s p", "source_id": APP}


@dataclass
class Scene:
    made: Registered
    agent: Agent
    app: Backend

    def request(
        self, target: str, *lines: str, host: str = "app.test", method: str = "GET"
    ) -> tuple[Envelope, Envelope]:
        """Ask, and give back the server and the client event of it; ``target`` must be new."""
        path = target.partition("?")[0]
        self.made.ask(host, target, *lines, method=method)
        return self.server(path), self.client(path)

    def server(self, path: str) -> Envelope:
        return self._event(SERVER, path)

    def client(self, path: str) -> Envelope:
        return self._event(CLIENT, path)

    def _event(self, peer: int, path: str) -> Envelope:
        def found() -> list[Envelope]:
            return [e for e in self.agent.events(peer) if e.httpStartStop.uri.endswith(path)]

        self.agent.until(found, f"event of {path}")
        [event] = found()
        return event


@contextmanager
def told_of(registry_url: str, namespace: str, **settings: Any) -> Iterator[Scene]:
    logging = {"loggregator_enabled": True, **settings.pop("logging", {})}
    with (
        agent() as listening,
        backend(answering(OK)) as app,
        registered_router(
            registry_url, namespace, logging={**logging, "metron_address": listening.address}, index=3, **settings
        ) as made,
    ):
        made.register(
            ("app.test", at(app, INSTANCE, app=APP, private_instance_index="7", tags=TAGS)),
            ("other.test", at(app, "", port=app.port)),
        )
        yield Scene(made, listening, app)


@pytest.fixture(scope="module")
def scene(registry_url: str) -> Iterator[Scene]:
    with told_of(registry_url, "loggregator", prune_stale_droplets_interval="2s", backends={"max_attempts": 3}) as made:
        yield made


def uuid_of(message: Any) -> str:
    return str(UUID(bytes=struct.pack("<QQ", message.low, message.high)))


class TestStartStopEvents:
    def test_server(self, scene: Scene) -> None:
        before = time.time_ns()
        lines = ("User-Agent: curl/8", "X-Forwarded-For: 192.0.2.1, 192.0.2.2")
        scene.made.ask("app.test", "/server%20x/%C3%BC?q=1", *lines)
        envelope = scene.server("/server x/ü")
        after = time.time_ns()
        event = envelope.httpStartStop
        assert (envelope.origin, envelope.eventType) == ("gorouter", 4)
        assert before <= event.startTimestamp <= event.stopTimestamp <= after
        assert envelope.timestamp == event.stopTimestamp
        assert event.uri == "http://app.test/server x/ü", "decoded, without the query"
        assert (event.method, event.statusCode, event.contentLength) == (1, 200, 2)
        assert event.remoteAddress.startswith("127.0.0.1:")
        assert event.userAgent == "curl/8"
        assert uuid_of(event.applicationId) == APP
        assert (event.instanceIndex, event.instanceId) == (7, INSTANCE)
        assert list(event.forwarded) == ["192.0.2.1", "192.0.2.2"]
        assert TAGS.items() <= dict(envelope.tags).items()

    def test_server_event_has_the_request_id_and_the_trace_of_it(self, scene: Scene) -> None:
        answer = scene.made.ask("app.test", "/traced")
        envelope = scene.server("/traced")
        request_id = (answer.get("X-Vcap-Request-Id") or b"").decode()
        assert uuid_of(envelope.httpStartStop.requestId) == request_id
        assert envelope.tags["trace_id"] == request_id.replace("-", "")
        assert envelope.tags["span_id"] == request_id.replace("-", "")[16:]

    def test_client_is_of_the_attempt(self, scene: Scene) -> None:
        server, client = scene.request("/client", "X-Forwarded-For: 192.0.2.1")
        event, whole = client.httpStartStop, server.httpStartStop
        assert event.requestId == whole.requestId
        assert whole.startTimestamp <= event.startTimestamp <= event.stopTimestamp <= whole.stopTimestamp
        assert (event.uri, event.statusCode, event.contentLength) == ("http://app.test/client", 200, 2)
        assert (uuid_of(event.applicationId), event.instanceIndex, event.instanceId) == (APP, 7, INSTANCE)
        assert list(event.forwarded) == ["192.0.2.1", "127.0.0.1"], "as it was sent"
        assert not client.tags

    def test_an_endpoint_that_is_no_app_has_its_address_as_instance(self, scene: Scene) -> None:
        server, _ = scene.request("/no-app", host="other.test")
        event = server.httpStartStop
        assert not event.HasField("applicationId")
        assert not event.HasField("instanceIndex")
        assert event.instanceId == f"127.0.0.1:{scene.app.port}"

    def test_a_request_without_a_route_has_a_server_event_alone(self, scene: Scene) -> None:
        scene.made.ask("nowhere.test", "/no-route")
        event = scene.server("/no-route").httpStartStop
        assert event.statusCode == 404
        assert not event.HasField("instanceId")
        assert not [e for e in scene.agent.events(CLIENT) if "/no-route" in e.httpStartStop.uri]

    def test_a_method_that_the_protocol_does_not_know_is_0(self, scene: Scene) -> None:
        server, _ = scene.request("/method", method="BREW")
        assert server.httpStartStop.method == 0

    def test_bytes_that_are_no_utf8_are_replaced(self, scene: Scene) -> None:
        server, _ = scene.request("/agent", "User-Agent: caf\xe9")
        assert server.httpStartStop.userAgent == "caf\ufffd"

    def test_a_retried_request_has_a_client_event_for_each_attempt(self, scene: Scene) -> None:
        def refuses_once(wire: Wire) -> None:
            wire.head()

        with backend(refuses_once) as failing:
            entries = [("retried.test", at(failing, "failing")), ("retried.test", at(scene.app, "sound"))]
            scene.made.register(*entries)
            for number in range(2):
                assert scene.made.ask("retried.test", f"/retried-{number}").status == 200

            assert failing.connections, "one of two requests meets it first"

            def attempts() -> list[tuple[str, int]]:
                found = [e.httpStartStop for e in scene.agent.events(CLIENT) if "/retried-" in e.httpStartStop.uri]
                return sorted((event.instanceId, event.statusCode) for event in found)

            expected = [("failing", 0)] * failing.connections + [("sound", 200)] * 2
            scene.agent.until(lambda: attempts() == expected, "every attempt")

    def test_a_response_that_comes_in_parts(self, scene: Scene) -> None:
        def in_parts(wire: Wire) -> None:
            wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
            wire.socket.settimeout(0.2)
            with pytest.raises(TimeoutError):
                wire.socket.recv(1)
            wire.send(b"def")

        with backend(in_parts) as app:
            scene.made.register(("parts.test", at(app, "parts")))
            scene.made.ask("parts.test", "/parts")
            server, client = scene.server("/parts").httpStartStop, scene.client("/parts").httpStartStop
            assert (server.contentLength, client.contentLength) == (6, 6)
            assert server.stopTimestamp - server.startTimestamp >= 190_000_000
            assert client.stopTimestamp - client.startTimestamp < 190_000_000, "up to the head"

    def test_requests_by_http2(self, scene: Scene) -> None:
        peer = connect(scene.made.router.port)
        assert peer.exchange("/h2?q=1", ("user-agent", "curl/8")).status == 200
        server, client = scene.server("/h2").httpStartStop, scene.client("/h2").httpStartStop
        for event in (server, client):
            assert (event.uri, event.userAgent) == ("http://app.test/h2", "curl/8")
            assert event.remoteAddress.startswith("127.0.0.1:")
            assert (event.statusCode, event.contentLength) == (200, 2)
        peer.close()

    def test_a_client_that_leaves_before_the_response(self, scene: Scene) -> None:
        with backend(lambda app: app.read_to_end() and None) as app:
            scene.made.register(("left.test", at(app, "left")))
            leaving = scene.made.router.connect()
            leaving.send(b"GET /leaving HTTP/1.1\r\nHost: left.test\r\n\r\n")
            wait_until(lambda: app.connections, "the attempt")
            leaving.close()
            assert scene.server("/leaving").httpStartStop.statusCode == 499
            assert scene.client("/leaving").httpStartStop.statusCode == 0

    def test_a_websocket_ends_with_its_tunnel(self, scene: Scene) -> None:
        def script(wire: Wire) -> None:
            wire.head()
            wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
            wire.read_to_end()

        with backend(script) as app:
            scene.made.register(("ws.test", at(app, "ws")))
            with scene.made.waiting("ws.test", "/ws", "Connection: Upgrade", "Upgrade: websocket") as wire:
                assert wire.head().status == 101
                assert scene.client("/ws").httpStartStop.statusCode == 101
                assert not [e for e in scene.agent.events(SERVER) if "/ws" in e.httpStartStop.uri]
            assert scene.server("/ws").httpStartStop.statusCode == 101


class TestLogMessages:
    def test_are_the_lines_of_requests_to_apps(self, scene: Scene) -> None:
        scene.made.ask("app.test", "/logged?q=1")
        scene.made.ask("other.test", "/not-logged")
        scene.made.ask("app.test", "/logged-last")

        def lines() -> list[Envelope]:
            return [e for e in scene.agent.envelopes if b"logged" in e.logMessage.message]

        scene.agent.until(lambda: any(b"last" in e.logMessage.message for e in lines()), "the last line")
        first = lines()[0]
        message = first.logMessage
        assert message.message.startswith(b"app.test - [")
        assert b'"GET /logged?q=1 HTTP/1.1" 200 ' in message.message
        assert not message.message.endswith(b"\n")
        assert (message.message_type, message.app_id, message.source_type) == (1, APP, "RTR")
        assert message.source_instance == "3"
        assert dict(first.tags) == TAGS
        assert abs(message.timestamp - time.time_ns()) < 60e9
        assert not any(b"/not-logged" in e.logMessage.message for e in lines())


class TestValues:
    @pytest.mark.parametrize(
        ("name", "unit"),
        [
            ("uptime", "seconds"),
            ("file_descriptors", "file"),
            ("buffered_messages", "message"),
            ("total_dropped_messages", "message"),
            ("total_routes", ""),
            ("ms_since_last_registry_update", "ms"),
            ("numCPUS", "count"),
            ("numGoRoutines", "count"),
            ("memoryStats.numBytesAllocatedHeap", "count"),
            ("memoryStats.numBytesAllocatedStack", "count"),
            ("memoryStats.numBytesAllocated", "count"),
            ("memoryStats.numMallocs", "count"),
            ("memoryStats.numFrees", "count"),
            ("memoryStats.lastGCPauseTimeNS", "count"),
        ],
    )
    def test_of_the_router(self, scene: Scene, name: str, unit: str) -> None:
        may_be_0 = any(part in name for part in ("buffered", "dropped", "numFrees", "lastGC", "ms_since"))
        wait_longer(lambda: any(value > 0 or may_be_0 for value in scene.agent.values(name)), name)
        assert scene.agent.unit(name) == unit

    def test_uptime_comes_every_second(self, scene: Scene) -> None:
        wait_longer(lambda: len(scene.agent.values("uptime")) >= 3, "three of them")
        steps = scene.agent.values("uptime")
        assert all(0.9 < later - earlier < 5 for earlier, later in pairwise(steps))

    @pytest.mark.parametrize(
        ("name", "unit"),
        [("latency", "ms"), ("latency.route-emitter", "ms"), ("gorouter_time", "ms"), ("route_lookup_time", "ns")],
    )
    def test_of_every_request(self, scene: Scene, name: str, unit: str) -> None:
        scene.agent.until(lambda: settled(scene.agent, name), "a quiet router")
        before = len(scene.agent.values(name))
        for _ in range(5):
            scene.made.ask("app.test", "/value")
        scene.agent.until(lambda: len(scene.agent.values(name)) >= before + 5, name)
        assert len(scene.agent.values(name)) == before + 5
        assert scene.agent.unit(name) == unit

    def test_latency_is_in_whole_milliseconds(self, scene: Scene) -> None:
        scene.made.ask("app.test", "/whole")
        scene.agent.until(lambda: scene.agent.values("latency"), "latency")
        assert all(value == int(value) and 0 <= value < 60_000 for value in scene.agent.values("latency"))


def settled(listening: Agent, name: str) -> bool:
    """Whether for a moment no more of these come."""
    before = len(listening.values(name))
    time.sleep(0.6)
    return len(listening.values(name)) == before


def wait_longer(condition: Any, what: str) -> None:
    """Some figures come every ten seconds only."""
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class TestCounters:
    @pytest.mark.parametrize(
        "name",
        [
            *("total_requests", "responses", "responses.2xx", "responses.3xx", "responses.4xx", "responses.5xx"),
            *("responses.xxx", "rejected_requests", "bad_gateways", "backend_exhausted_conns", "backend_invalid_id"),
            *("backend_invalid_tls_cert", "backend_tls_handshake_failed", "routed_app_requests", "routes_pruned"),
            *("websocket_upgrades", "websocket_failures"),
        ],
    )
    def test_that_come_also_where_nothing_was_counted(self, scene: Scene, name: str) -> None:
        wait_longer(lambda: scene.agent.counted(name) is not None, name)

    @pytest.mark.parametrize("name", ["empty_content_length_header", "token_fetch_errors", "registry_message"])
    def test_that_do_not(self, scene: Scene, name: str) -> None:
        wait_longer(lambda: scene.agent.counted("total_requests") is not None, "counters")
        assert scene.agent.counted(name) is None

    def test_deltas_add_up_to_what_the_page_shows(self, scene: Scene) -> None:
        for _ in range(7):
            scene.made.ask("app.test", "/counted")
        scene.made.ask("nowhere.test", "/counted")
        page = scene.made.router.metrics()
        shown = {
            "total_requests": sum(value for name, value in page.items() if name.startswith("total_requests{")),
            "requests.route-emitter": page['total_requests{component="route-emitter"}'],
            "rejected_requests": page["rejected_requests"],
            "responses.2xx": page['responses{status_group="2xx"}'],
        }
        wait_longer(lambda: {name: scene.agent.counted(name) for name in shown} == shown, f"{shown}")


class TestSwitches:
    def test_nothing_without_loggregator_enabled(self, registry_url: str) -> None:
        with told_of(registry_url, "loggregator-off", logging={"loggregator_enabled": False}) as scene:
            scene.made.ask("app.test")
            wait_until(lambda: scene.made.router.metrics()["millrace_requests_total"] >= 1)
            time.sleep(1.2)  # longer than anything would wait to be sent
            assert not scene.agent.datagrams

    def test_no_metrics_without_enable_envelope_v1_metrics(self, registry_url: str) -> None:
        with told_of(registry_url, "loggregator-v1", enable_envelope_v1_metrics=False) as scene:
            scene.request("/events")
            time.sleep(1.2)
            assert not [e for e in scene.agent.envelopes if e.HasField("valueMetric") or e.HasField("counterEvent")]

    def test_no_values_of_requests_without_per_request_metrics_reporting(self, registry_url: str) -> None:
        with told_of(registry_url, "loggregator-pr", per_request_metrics_reporting=False) as scene:
            scene.request("/events")
            scene.agent.until(lambda: scene.agent.values("uptime"), "values of the router")
            names = {e.valueMetric.name for e in scene.agent.envelopes if e.HasField("valueMetric")}
            assert not names & {"latency", "latency.route-emitter", "gorouter_time", "route_lookup_time"}

    @pytest.mark.parametrize(("server", "client"), [(True, False), (False, True), (False, False)])
    def test_events_one_by_one(self, registry_url: str, server: bool, client: bool) -> None:
        switches = {"send_http_start_stop_server_event": server, "send_http_start_stop_client_event": client}
        with told_of(registry_url, "loggregator-events", **switches) as scene:
            scene.made.ask("app.test", "/only")
            scene.agent.until(lambda: any(e.HasField("logMessage") for e in scene.agent.envelopes), "the log line")
            scene.agent.until(lambda: scene.agent.values("latency"), "what comes after the events")
            found = {peer: bool(scene.agent.events(peer)) for peer in (SERVER, CLIENT)}
            assert found == {SERVER: server, CLIENT: client}


def test_an_address_that_is_none_is_told_at_the_start(registry_url: str) -> None:
    with (
        pytest.raises(AssertionError, match=r"logging\.metron_address: 'nonsense' is not host:port"),
        running_router(registry_url, logging={"loggregator_enabled": True, "metron_address": "nonsense"}),
    ):
        pass
