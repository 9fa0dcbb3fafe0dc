"""A whole router that learns its routes by NATS: real servers, real sockets, and what fails (gorouter reference 1)."""

from __future__ import annotations

import json
import re
import signal
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from router.sources.message import NO_SECURE_ROUTE_SERVICE
from tests.router import wire
from tests.router.sources.nats import NatsServer, Registrar, registration, running_nats
from tests.router.supervised import Router, children, is_alive, kill, running_router
from tests.router.wire import Backend, answering, wait_until

URI = "app.example.com"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def nats(folder: Path) -> Iterator[NatsServer]:
    with running_nats(folder) as server:
        yield server


@pytest.fixture
def registrar(nats: NatsServer) -> Iterator[Registrar]:
    with Registrar(nats) as connected:
        yield connected


@contextmanager
def following(*servers: NatsServer, healthy: bool = True, **settings: Any) -> Iterator[Router]:
    """A router that needs no Redis; it begins to serve at once, unless told otherwise."""
    native = {"workers": 1, **settings.pop("millrace", {})}
    nats = {"hosts": [server.host for server in servers], **settings.pop("nats", {})}
    how: dict[str, Any] = {"start_response_delay_interval": "0s", "logging": {"level": "debug"}, **settings}
    with running_router("", nats=nats, millrace=native, **how) as router:
        if healthy:
            router.until_healthy()
        yield router


def status(router: Router) -> int:
    return router.get().status


def sources_of(router: Router) -> int:
    """The pid of the sources process."""
    found = [pid for pid in children(router.process.pid) if b"router.sources" in cmdline(pid)]
    assert len(found) == 1
    return found[0]


def cmdline(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


@pytest.fixture
def backend() -> Iterator[Backend]:
    with wire.backend(answering(wire.OK)) as server:
        yield server


class TestRegistration:
    def test_a_route_is_there_within_milliseconds_and_leaves_as_fast(
        self, nats: NatsServer, registrar: Registrar, backend: Backend
    ) -> None:
        with following(nats) as router:
            assert status(router) == 404
            registrar.register(backend.port, URI)
            began = time.monotonic()
            wait_until(lambda: status(router) == 200, "a route")
            assert time.monotonic() - began < 1.0
            registrar.unregister(backend.port, URI)
            wait_until(lambda: status(router) != 200, "its end")
            assert router.said("route-registered") == [{"uri": URI}]
            assert router.said("endpoint-unregistered")[0]["backend"] == f"127.0.0.1:{backend.port}"

    def test_every_worker_knows_it(self, nats: NatsServer, registrar: Registrar, backend: Backend) -> None:
        with following(nats, millrace={"workers": 2}) as router:
            registrar.register(backend.port, URI, app="guid")
            for worker in ("0", "1"):
                name = f'millrace_endpoints{{worker="{worker}"}}'
                wait_until(lambda name=name: router.metrics()[name] == 1.0, "an endpoint")  # type: ignore[misc]

    def test_greetings_are_answered_with_what_a_registrar_needs(self, nats: NatsServer, registrar: Registrar) -> None:
        with following(nats, index=7, start_response_delay_interval="0.6s", droplet_stale_threshold="90s"):
            said = json.loads(registrar.ask("router.greet"))
        assert set(said) == {"id", "hosts", "minimumRegisterIntervalInSeconds", "pruneThresholdInSeconds"}
        assert re.fullmatch(r"7-[0-9a-f-]{36}", said["id"])
        assert len(said["hosts"]) == 1
        assert (said["minimumRegisterIntervalInSeconds"], said["pruneThresholdInSeconds"]) == (0, 90)

    def test_what_cannot_be_used_is_reported_once_and_the_rest_stands(
        self, nats: NatsServer, registrar: Registrar, backend: Backend
    ) -> None:
        with following(nats) as router:
            for _ in range(3):
                registrar.publish("router.register", b"{", b'{"host":"10.0.0.1","port":70000,"uris":["a.com"]}')
            registrar.publish("router.other", b"no JSON")
            registrar.publish("router.active_apps", b"x\x9c zlib")
            registrar.publish("router.start", b'{"id":"other"}')
            registrar.register(backend.port, "no such.host", URI)
            registrar.register(backend.port, "b.com", route_service_url="http://rs.example.com")
            wait_until(lambda: status(router) == 200, "a route")
            said = router.until_said("validation-error", 5)
            assert [(each["subject"], each["error"].partition(":")[0]) for each in said] == [
                ("router.register", "not JSON"),
                ("router.register", "port"),
                ("router.other", "not JSON"),
                ("router.register", "route 'no such.host'"),
                ("router.register", NO_SECURE_ROUTE_SERVICE),
            ]
            assert said[1]["payload"] == '{"host":"10.0.0.1","port":70000,"uris":["a.com"]}'

    def test_segments_that_are_not_ours_are_not_there(
        self, nats: NatsServer, registrar: Registrar, backend: Backend
    ) -> None:
        ours = {"routing_table_sharding_mode": "segments", "isolation_segments": ["east"]}
        with following(nats, **ours) as router:
            registrar.register(backend.port, URI)
            registrar.register(backend.port, "other.example.com", isolation_segment="east")
            wait_until(lambda: router.metrics()['millrace_endpoints{worker="0"}'] == 1.0, "an endpoint")
            assert status(router) == 404


class TestStart:
    def test_traffic_waits_for_the_delay_and_is_served_then(
        self, nats: NatsServer, registrar: Registrar, backend: Backend
    ) -> None:
        began = time.monotonic()
        with following(nats, healthy=False, start_response_delay_interval="1500ms") as router:
            router.until_said("Successfully-connected-to-nats")
            assert router.health()[0] == 503
            registrar.register(backend.port, URI)
            assert status(router) == 200  # it waited in the backlog
            assert time.monotonic() - began > 1.5
            router.until_healthy()
            assert router.until_said("gorouter.started")

    def test_is_announced(self, nats: NatsServer, registrar: Registrar) -> None:
        registrar.listen("router.start")
        with following(nats, index=3):
            assert json.loads(registrar.receive())["id"].startswith("3-")

    def test_without_nats_there_is_no_router(self, folder: Path) -> None:
        nobody = NatsServer(folder, "nobody")
        with following(nobody, healthy=False) as router:
            assert router.exit_code() == 1
            [said] = router.said("nats-connection-error")
            assert "refused" in said["error"].lower() or "connect" in said["error"].lower()

    def test_wrong_credentials_are_as_good_as_no_nats(self, folder: Path) -> None:
        login = {"authorization": {"user": "u", "password": "p"}}
        with running_nats(folder, "login", **login) as server:
            with following(server, nats={"user": "u", "pass": "p"}) as router:
                assert router.health()[0] == 200
            with following(server, nats={"user": "u", "pass": "q"}, healthy=False) as router:
                assert router.exit_code() == 1
                assert "authorization" in router.said("nats-connection-error")[0]["error"].lower()


class TestTls:
    """nats.tls_enabled (reference 1.5)."""

    def server(self, folder: Path, name: str, authority: trustme.CA, **tls: Any) -> NatsServer:
        cert = authority.issue_cert("127.0.0.1")
        pem = folder / f"{name}.pem"
        cert.private_key_and_cert_chain_pem.write_to_path(str(pem))
        ca = folder / f"{name}.ca.pem"
        authority.cert_pem.write_to_path(str(ca))
        files = {"cert_file": str(pem), "key_file": str(pem), "ca_file": str(ca)}
        return NatsServer(folder, name, tls={**files, **tls})

    def ours(self, authority: trustme.CA, signer: trustme.CA | None = None) -> dict[str, Any]:
        cert = (signer or authority).issue_cert("gorouter.example.com")
        return {
            "tls_enabled": True,
            "ca_certs": authority.cert_pem.bytes().decode(),
            "cert_chain": cert.cert_chain_pems[0].bytes().decode(),
            "private_key": cert.private_key_pem.bytes().decode(),
        }

    def test_both_sides_show_certificates(self, folder: Path, backend: Backend) -> None:
        authority = trustme.CA()
        server = self.server(folder, "mtls", authority, verify=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(context)
        authority.issue_cert("registrar.example.com").configure_cert(context)
        try:
            server.start()
            with following(server, nats=self.ours(authority)) as router, Registrar(server, context) as registrar:
                registrar.register(backend.port, URI)
                wait_until(lambda: status(router) == 200, "a route")
            with following(server, nats=self.ours(authority, trustme.CA()), healthy=False) as router:
                assert router.exit_code() == 1
            with following(server, nats=self.ours(trustme.CA(), authority), healthy=False) as router:
                assert router.exit_code() == 1
                assert "certificate" in router.said("nats-connection-error")[0]["error"].lower()
        finally:
            server.stop()

    def test_a_server_that_speaks_no_tls_is_not_told_a_password(self, nats: NatsServer) -> None:
        with following(nats, nats={**self.ours(trustme.CA()), "user": "u", "pass": "p"}, healthy=False) as router:
            assert router.exit_code() == 1
            assert router.said("nats-connection-error") == [{"error": "nats: secure connection not available"}]


SHORT: dict[str, Any] = {"droplet_stale_threshold": "2s", "prune_stale_droplets_interval": "200ms"}


class TestPruning:
    def test_who_is_not_announced_again_leaves(self, nats: NatsServer, registrar: Registrar, backend: Backend) -> None:
        with following(nats, **SHORT) as router:
            registrar.register(backend.port, URI)
            wait_until(lambda: status(router) == 200, "a route")
            until = time.monotonic() + 4.0
            while time.monotonic() < until:
                registrar.register(backend.port, URI)
                assert status(router) == 200
                time.sleep(0.1)
            wait_until(lambda: status(router) != 200, "its end")
            assert router.said("pruned-route") == [
                {"uri": URI, "endpoints": [f"127.0.0.1:{backend.port}"], "isolation_segment": ""}
            ]

    def test_who_speaks_tls_leaves_only_when_dead(
        self, nats: NatsServer, registrar: Registrar, backend: Backend
    ) -> None:
        with following(nats, **SHORT) as router:
            registrar.register(1, "alive.example.com", tls_port=backend.port)
            registrar.register(1, "dead.example.com", tls_port=2)
            said = router.until_said("pruned-route")
            assert [each["uri"] for each in said] == ["dead.example.com"]
            wait_until(lambda: backend.connections, "a dial to the other one")
            assert router.metrics()['millrace_endpoints{worker="0"}'] == 1.0

    def test_who_fails_tls_leaves_at_once_where_so_configured(
        self, nats: NatsServer, registrar: Registrar, backend: Backend
    ) -> None:
        with following(nats, millrace={"prune_failed_tls_endpoints": True}) as router:
            registrar.register(1, URI, tls_port=2)
            wait_until(lambda: status(router) == 502, "a route")
            router.until_said("prune-failed-endpoint")
            wait_until(lambda: status(router) in (404, 503), "its end")
            registrar.register(backend.port, URI)
            registrar.register(1, URI, tls_port=2)  # the same again brings it back
            wait_until(lambda: router.metrics()['millrace_endpoints{worker="0"}'] == 2.0, "both")

    def test_is_suspended_without_nats_and_everything_has_its_time_again_after(
        self, folder: Path, backend: Backend
    ) -> None:
        how: dict[str, Any] = {"suspend_pruning_if_nats_unavailable": True, **SHORT}
        with running_nats(folder, "pruning") as server, following(server, **how) as router:
            with Registrar(server) as registrar:
                registrar.register(backend.port, URI)
                wait_until(lambda: status(router) == 200, "a route")
            server.kill()
            router.until_said("nats-connection-disconnected")
            router.until_said("prune-suspended", 8)
            assert status(router) == 200
            server.start()
            router.until_said("nats-connection-reconnected")
            began = time.monotonic()
            wait_until(lambda: status(router) != 200, "its end")
            assert 1.0 < time.monotonic() - began < 8.0

    def test_goes_on_without_nats_where_so_configured(self, folder: Path, backend: Backend) -> None:
        with running_nats(folder, "pruning") as server, following(server, **SHORT) as router:
            with Registrar(server) as registrar:
                registrar.register(backend.port, URI)
                wait_until(lambda: status(router) == 200, "a route")
            server.kill()
            wait_until(lambda: status(router) != 200, "its end")


class TestFailures:
    def test_nats_comes_back(self, folder: Path, backend: Backend) -> None:
        with running_nats(folder, "back") as server, following(server, nats_client_ping_interval="300ms") as router:
            server.kill()
            router.until_said("nats-connection-still-disconnected", 2)
            server.start()
            router.until_said("nats-connection-reconnected")
            with Registrar(server) as registrar:
                registrar.register(backend.port, URI)
                wait_until(lambda: status(router) == 200, "a route")

    def test_another_server_takes_over(self, folder: Path, backend: Backend) -> None:
        with running_nats(folder, "one") as one, running_nats(folder, "two") as two, following(one, two) as router:
            port = int(router.until_said("Successfully-connected-to-nats")[0]["host"].rpartition(":")[2])
            used, other = (one, two) if port == one.port else (two, one)
            with Registrar(other) as registrar:
                registrar.listen("router.start")
                used.kill()
                assert json.loads(registrar.receive())["hosts"]
                registrar.register(backend.port, URI)
                wait_until(lambda: status(router) == 200, "a route")
            used.start()

    def test_the_sources_process_may_die_and_no_request_fails(
        self, nats: NatsServer, registrar: Registrar, backend: Backend
    ) -> None:
        with following(nats) as router:
            registrar.register(backend.port, URI)
            wait_until(lambda: status(router) == 200, "a route")
            statuses: list[int] = []
            over = threading.Event()

            def client() -> None:
                while not over.is_set():
                    statuses.append(status(router))

            thread = threading.Thread(target=client)
            thread.start()
            try:
                for life in range(1, 4):
                    old = sources_of(router)
                    kill(old)
                    wait_until(lambda pid=old: not is_alive(pid), "its end")  # type: ignore[misc]
                    router.until_said("routes-source-back", life)
                    router.until_said("Successfully-connected-to-nats", life + 1)
            finally:
                over.set()
                thread.join()
            assert len(statuses) > 50
            assert set(statuses) == {200}
            registrar.unregister(backend.port, URI)  # of which the new process, being young, knows nothing
            wait_until(lambda: status(router) != 200, "its end")

    def test_a_worker_that_starts_again_has_the_table_at_once(
        self, nats: NatsServer, registrar: Registrar, backend: Backend
    ) -> None:
        with following(nats) as router:
            registrar.register(backend.port, URI)
            wait_until(lambda: status(router) == 200, "a route")
            [worker] = [pid for pid in router.workers if pid != sources_of(router)]
            kill(worker)
            router.until_said("worker-died")
            assert status(router) == 200

    def test_a_roll_keeps_the_routes_and_takes_new_settings(
        self, nats: NatsServer, registrar: Registrar, backend: Backend
    ) -> None:
        with following(nats) as router:
            registrar.register(backend.port, URI)
            wait_until(lambda: status(router) == 200, "a route")
            before = sources_of(router)
            router.configure(droplet_stale_threshold="77s")
            router.signal(signal.SIGHUP)
            router.until_said("rolled")
            router.until_said("Successfully-connected-to-nats", 2)
            assert status(router) == 200
            assert sources_of(router) != before
            assert json.loads(registrar.ask("router.greet"))["pruneThresholdInSeconds"] == 77

    def test_a_router_that_starts_again_is_warm(
        self, folder: Path, nats: NatsServer, registrar: Registrar, backend: Backend
    ) -> None:
        data = {"data": str(folder / "warm")}
        with following(nats, millrace=data) as router:
            registrar.register(backend.port, URI)
            wait_until(lambda: status(router) == 200, "a route")
        with following(nats, millrace=data) as router:
            assert status(router) == 200
            assert router.said("routes-restored")[0]["routes"] == 1

    def test_everything_ends_with_the_supervisor(self, nats: NatsServer) -> None:
        with following(nats) as router:
            family = [*router.workers]
            assert len(family) == 2
            kill(router.process.pid)
            wait_until(lambda: not any(map(is_alive, family)), "the end of all")


class TestBurst:
    def test_none_of_many_is_lost(self, nats: NatsServer, registrar: Registrar) -> None:
        count = 20_000
        with following(nats, logging={"level": "info"}) as router:
            registrar.publish(
                "router.register",
                *(registration(1000 + number % 60_000, [f"a{number}.com"]) for number in range(count)),
            )
            wait_until(lambda: router.metrics()['millrace_routes{worker="0"}'] == count, "all routes")
