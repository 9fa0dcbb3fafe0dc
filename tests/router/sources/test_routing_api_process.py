"""A whole router that learns its routes from a Routing API: real servers, and what fails (gorouter reference 1.7)."""

from __future__ import annotations

import json
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.router import wire
from tests.router.registry.conftest import free_port
from tests.router.sources.nats import Registrar, running_nats
from tests.router.sources.routing_api import (
    EVENTS,
    ROUTES,
    TCP_EVENTS,
    TCP_ROUTES,
    TOKEN,
    RoutingApi,
    event,
    json_answer,
    raw_answer,
    running_api,
    silence,
)
from tests.router.supervised import Router, children, kill, running_router
from tests.router.wire import Backend, Wire, answering, wait_until

URI = "app.example.com"
GONE = 503
"""What is answered for a route that has just lost its last endpoint (empty_pool_timeout)."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def api() -> Iterator[RoutingApi]:
    with running_api() as running:
        yield running


@pytest.fixture
def backend() -> Iterator[Backend]:
    with wire.backend(answering(wire.OK)) as server:
        yield server


@pytest.fixture(scope="module")
def start(folder: Path) -> Callable[..., Any]:
    @contextmanager
    def started(api: RoutingApi, *, healthy: bool = True, **settings: Any) -> Iterator[Router]:
        """A router that follows this API and nothing else; it lists every 0.5 s."""
        changes = {name: settings.pop(name, {}) for name in ("routing_api", "oauth")}
        how = {
            "millrace": {"workers": 1, **settings.pop("millrace", {})},
            "logging": {"level": "debug"},
            "prune_stale_droplets_interval": "1s",
            "token_fetcher_retry_interval": "20ms",
            **api.settings(folder, **changes),
            **settings,
        }
        with running_router("", **how) as router:
            if healthy:
                router.until_healthy()
            yield router

    return started


def status(router: Router) -> int:
    return router.get().status


def endpoints(router: Router, route: str = URI) -> list[dict[str, Any]]:
    """As /routes shows them."""
    found: list[dict[str, Any]] = json.loads(router.status("/routes").body).get(route, [])
    return found


class TestRoutes:
    def test_are_there_from_the_first_request_on_and_follow_every_event(
        self, api: RoutingApi, start: Any, backend: Backend
    ) -> None:
        api.put(URI, backend.port, log_guid="app-guid")
        with start(api, start_response_delay_interval="60s") as router:
            assert status(router) == 200
            assert router.said("route-registered") == [{"uri": URI}]
            assert [(each["tls"], each["server_cert_domain_san"]) for each in endpoints(router)] == [
                (False, "app-guid")
            ]
            api.until_subscribed()
            began = time.monotonic()
            api.put("other.example.com/path", backend.port)
            wait_until(lambda: endpoints(router, "other.example.com/path"), "the other route")
            api.delete(URI, backend.port)
            wait_until(lambda: status(router) == GONE, "its end")
            assert time.monotonic() - began < 1.0
            assert router.said("route-unregistered") == [{"uri": URI}]

    def test_lists_bring_what_no_event_said_and_take_what_they_lack(
        self, api: RoutingApi, start: Any, backend: Backend
    ) -> None:
        api.put("silent.example.com", backend.port)
        with start(api) as router:
            api.until_subscribed()
            api.put(URI, backend.port, event=False)
            wait_until(lambda: status(router) == 200, "a route by list")
            api.put("loud.example.com", backend.port)
            wait_until(lambda: endpoints(router, "loud.example.com"), "a route by event")
            for uri in (URI, "loud.example.com", "silent.example.com"):
                api.delete(uri, backend.port, event=False)
                wait_until(lambda uri=uri: not endpoints(router, uri), "its end")  # type: ignore[misc]

    def test_route_services_and_ttls_are_the_registrars(self, api: RoutingApi, start: Any, backend: Backend) -> None:
        api.put(URI, backend.port, route_service_url="https://rs.example.com")
        api.put("plain.example.com", backend.port, route_service_url="http://rs.example.com")
        api.put("short.example.com", backend.port, ttl=1)
        with start(api, prune_stale_droplets_interval="6s") as router:
            assert [each["route_service_url"] for each in endpoints(router)] == ["https://rs.example.com"]
            assert not endpoints(router, "plain.example.com")
            [refused] = router.said("validation-error")
            assert refused["error"].startswith("route_service_url: must be https")
            [pruned] = router.until_said("pruned-route")
            assert pruned["uri"] == "short.example.com"
            # It is still in the list, and comes back with it, as in Gorouter.
            wait_until(lambda: endpoints(router, "short.example.com"), "the route again")

    def test_segments_that_are_not_ours_are_not_there(self, api: RoutingApi, start: Any, backend: Backend) -> None:
        api.put(URI, backend.port)
        with start(api, routing_table_sharding_mode="segments", isolation_segments=["east"]) as router:
            assert status(router) == 404


class TestTcpRoutes:
    def test_lead_to_their_endpoints(self, api: RoutingApi, start: Any) -> None:
        with (
            wire.backend(lambda wire: wire.send(b"one")) as one,
            wire.backend(lambda wire: wire.send(b"two")) as two,
        ):
            port = free_port()
            api.put_tcp(port, one.port, isolation_segment="east")
            api.put_tcp(port, 9, isolation_segment="west")
            api.put_tcp(port, two.port, backend_sni_hostname="TLS.example.com", terminate_frontend_tls=True)
            segments = {"routing_table_sharding_mode": "shared-and-segments", "isolation_segments": ["east"]}
            with start(api, millrace={"tcp_ports": f"{port}-{port}"}, **segments) as router:
                said = {asked.target for asked in api.asked if asked.path == TCP_ROUTES}
                assert said == {f"{TCP_ROUTES}?isolation_segment=&isolation_segment=east"}

                def answers() -> bytes:
                    client = Wire(socket.create_connection(("127.0.0.1", port), wire.PATIENCE))
                    try:
                        return client.read_to_end()
                    except ConnectionError:
                        return b""
                    finally:
                        client.close()

                assert answers() == b"one"
                assert router.until_said("validation-error")[0]["error"].startswith("terminate_frontend_tls: ")
                api.until_subscribed(TCP_EVENTS)
                api.put_tcp(port, two.port)
                wait_until(lambda: answers() == b"two", "the new endpoint")
                api.put_tcp(port, 9, isolation_segment="west")
                api.put_tcp(port, two.port, backend_sni_hostname="a.example.com")
                wait_until(lambda: endpoints(router, f"tcp:{port}/a.example.com"), "a route by name")
                assert [each["address"] for each in endpoints(router, f"tcp:{port}")] == [
                    f"127.0.0.1:{one.port}",
                    f"127.0.0.1:{two.port}",
                ]
                for backend_port in (one.port, two.port):
                    api.delete_tcp(port, backend_port)
                wait_until(lambda: answers() == b"", "their end")

    def test_are_not_asked_for_where_there_are_no_ports(self, api: RoutingApi, start: Any) -> None:
        with start(api):
            api.until_subscribed()
            api.until_asked(ROUTES, 2)
            assert api.count(TCP_ROUTES) == 0


class TestStart:
    def test_needs_the_uaa_and_the_api(self, api: RoutingApi, start: Any) -> None:
        """What else it needs, and what it says of it, is in test_routing_api_source.py."""
        for settings in ({"oauth": {"client_secret": "wrong"}}, {"routing_api": {"port": free_port()}}):
            with start(api, healthy=False, **settings) as router:
                assert router.exit_code() == 1
                [said] = router.said("routing-api-connection-failed")
                assert said["error"]

    def test_needs_no_token_where_none_is_asked_for(self, api: RoutingApi, start: Any, backend: Backend) -> None:
        said = {
            "route": URI,
            "port": backend.port,
            "ip": "127.0.0.1",
            "ttl": 60,
            "log_guid": "",
            "modification_tag": {},
        }
        api.answers[ROUTES] = json_answer([said])
        with start(api, routing_api={"auth_disabled": True}, oauth={"port": 0}) as router:
            assert status(router) == 200
            assert router.said("using-noop-token-fetcher")
            assert api.count(TOKEN) == 0
            assert not any("authorization" in asked.fields for asked in api.asked)


class TestBesideOthers:
    def test_nats(self, api: RoutingApi, start: Any, folder: Path, backend: Backend) -> None:
        api.put(URI, backend.port)
        with (
            running_nats(folder) as nats,
            Registrar(nats) as registrar,
            start(api, nats={"hosts": [nats.host]}, start_response_delay_interval="0s") as router,
        ):
            assert status(router) == 200
            registrar.register(backend.port, "nats.example.com")
            wait_until(lambda: endpoints(router, "nats.example.com"), "a route by NATS")
            api.until_asked(ROUTES, 3)
            assert endpoints(router, "nats.example.com")
            api.delete(URI, backend.port)
            wait_until(lambda: status(router) == GONE, "its end")

    def test_redis(self, api: RoutingApi, start: Any, registry_url: str, backend: Backend) -> None:
        """What the API says is written there, for all routers."""
        api.put(URI, backend.port)
        with start(api, millrace={"redis": registry_url, "namespace": "rapi"}) as router:
            wait_until(lambda: status(router) == 200, "a route")
            api.until_subscribed()
            api.delete(URI, backend.port)
            wait_until(lambda: status(router) == GONE, "its end")


class TestFaults:
    def test_an_api_that_goes_and_comes_back_costs_no_request(
        self, api: RoutingApi, start: Any, backend: Backend
    ) -> None:
        api.put(URI, backend.port, ttl=1)
        with start(api, suspend_pruning_if_nats_unavailable=True) as router:
            with asking(router) as statuses:
                api.until_subscribed()
                api.kill()
                router.until_said("failed-to-fetch-routes")
                router.until_said("failed-to-subscribe")
                time.sleep(2.5)  # more than its TTL and a tick of the pruner
                api.put("new.example.com", backend.port, event=False)
                api.start()
                router.until_said("fetched-routes-again")
                assert endpoints(router, "new.example.com")
            assert set(statuses) == {200}
            api.until_subscribed()
            api.delete(URI, backend.port)
            wait_until(lambda: status(router) == GONE, "its end")

    def test_without_that_routes_leave_by_their_ttls_as_in_gorouter(
        self, api: RoutingApi, start: Any, backend: Backend
    ) -> None:
        api.put(URI, backend.port, ttl=1)
        with start(api) as router:
            api.kill()
            wait_until(lambda: status(router) != 200, "its end")
            assert [said["uri"] for said in router.said("pruned-route")] == [URI]

    def test_tokens_that_no_longer_open_are_replaced(self, api: RoutingApi, start: Any, backend: Backend) -> None:
        with start(api) as router:
            api.until_subscribed()
            assert api.count(TOKEN) == 1
            api.forget_tokens()
            api.put(URI, backend.port, event=False)
            wait_until(lambda: status(router) == 200, "a route by list")
            api.cut()
            api.until_asked(EVENTS)
            assert api.count(TOKEN) == 2
            assert not router.said("failed-to-fetch-routes")

    def test_a_uaa_that_is_away_is_waited_for(self, api: RoutingApi, start: Any, backend: Backend) -> None:
        api.put(URI, backend.port)
        with start(api) as router, asking(router) as statuses:
            api.until_subscribed()
            api.answers[TOKEN] = json_answer({}, 503)
            api.forget_tokens()
            router.until_said("unable-to-fetch-token")
            wait_until(lambda: router.metrics()["token_fetch_errors"] >= 1.0, "its count")
            del api.answers[TOKEN]
            router.until_said("fetched-routes-again")
        assert set(statuses) == {200}

    def test_an_event_that_is_cut_off_is_made_up_for_by_a_list(
        self, api: RoutingApi, start: Any, backend: Backend
    ) -> None:
        with start(api, prune_stale_droplets_interval="60s") as router:
            api.until_subscribed()
            said = api.put(URI, backend.port, event=False)
            api.cut(after=event("Upsert", said)[:-9])
            wait_until(lambda: status(router) == 200, "the route")
            assert "ended" in router.said("failed-getting-next-event")[0]["error"]
            assert len(router.said("Successfully-subscribed-to-routing-api-event-stream")) == 2
            wait_until(lambda: router.metrics()["subscribe_events_errors"] == 1.0, "its count")

    @pytest.mark.parametrize(
        "garbage",
        [
            b"event: Upsert\ndata: {\n\n",
            b"data: \xff\n\n",
            b"data: " + b"x" * 100_000,
        ],
    )
    def test_a_stream_of_rubbish_is_left_for_a_new_one(
        self, api: RoutingApi, start: Any, backend: Backend, garbage: bytes
    ) -> None:
        with start(api, prune_stale_droplets_interval="60s") as router:
            api.until_subscribed()
            api.put(URI, backend.port, event=False)
            api.say(garbage)
            wait_until(lambda: status(router) == 200, "the route")
            assert router.said("failed-getting-next-event")

    def test_answers_that_are_no_lists_change_nothing(self, api: RoutingApi, start: Any, backend: Backend) -> None:
        api.put(URI, backend.port)
        with start(api) as router, asking(router) as statuses:
            for answer in (
                json_answer({"name": "DBCommunicationError", "message": "gone"}, 500),
                raw_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]"),
                raw_answer(b"<html>"),
                json_answer(b"[" + b" " * (65 * 1024 * 1024) + b"]", piece=1024 * 1024),
                silence,
            ):
                before = len(router.said("failed-to-fetch-routes"))
                api.answers[ROUTES] = answer
                if answer is silence:
                    api.until_asked(ROUTES)
                else:
                    router.until_said("failed-to-fetch-routes", before + 1)
            del api.answers[ROUTES]
            assert "longer than 67108864 bytes" in router.said("failed-to-fetch-routes")[-1]["error"]
        assert set(statuses) == {200}

    def test_the_process_may_die_and_no_request_fails(self, api: RoutingApi, start: Any, backend: Backend) -> None:
        api.put(URI, backend.port)
        with start(api) as router, asking(router) as statuses:
            api.until_subscribed()
            kill(sources_of(router))
            router.until_said("routes-source-back")
            router.until_said("Successfully-subscribed-to-routing-api-event-stream", 2)
            # A process that is not the router's first does not need the API.
            api.kill()
            kill(sources_of(router))
            router.until_said("routes-source-back", 2)
            router.until_said("failed-to-fetch-routes", 1)
            assert status(router) == 200
            api.start()
            api.until_subscribed()
        assert set(statuses) == {200}

    def test_a_router_that_starts_again_serves_what_is_there_now(
        self, api: RoutingApi, start: Any, folder: Path, backend: Backend
    ) -> None:
        data = {"data": str(folder / "again")}
        api.put(URI, backend.port)
        api.put("kept.example.com", backend.port)
        with start(api, millrace=data):
            api.until_subscribed()
        api.delete(URI, backend.port)
        with start(api, millrace=data) as router:
            assert router.said("routes-restored")[0]["routes"] == 2
            assert status(router) == GONE
            assert endpoints(router, "kept.example.com")

    def test_a_roll_keeps_the_routes(self, api: RoutingApi, start: Any, backend: Backend) -> None:
        api.put(URI, backend.port)
        with start(api) as router, asking(router) as statuses:
            api.until_subscribed()
            router.configure(droplet_stale_threshold="77s")
            router.signal(signal.SIGHUP)
            router.until_said("rolled")
            router.until_said("Successfully-subscribed-to-routing-api-event-stream", 2)
        assert set(statuses) == {200}


class TestManyRoutes:
    def test_ten_megabytes_of_them(self, api: RoutingApi, start: Any, backend: Backend) -> None:
        """A list of this size is all right; its changes arrive while it is worked on."""
        count = 40_000
        pad = "x" * 60
        for number in range(count):
            api.put(f"a{number}.{pad}.example.com", backend.port, event=False)
        with start(api, logging={"level": "info"}) as router:
            assert router.metrics()['millrace_routes{worker="0"}'] == count
            api.until_subscribed()
            api.put(URI, backend.port)
            wait_until(lambda: status(router) == 200, "a route")
            api.until_asked(ROUTES, 3)
            assert not router.said("failed-to-fetch-routes")


@contextmanager
def asking(router: Router) -> Iterator[list[int]]:
    """Requests all the time; gives the statuses of their answers."""
    statuses: list[int] = []
    over = threading.Event()

    def client() -> None:
        while not over.is_set():
            statuses.append(status(router))
            over.wait(0.01)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join(wire.PATIENCE)
    assert len(statuses) > 20


def sources_of(router: Router) -> int:
    """The pid of the sources process."""
    [found] = [
        pid for pid in children(router.process.pid) if b"router.sources" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return found
