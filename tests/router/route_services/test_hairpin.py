"""Route services that are applications behind the router itself: reached without DNS, TLS and a port."""

from __future__ import annotations

import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from router.config.settings import Native
from router.route_services.hairpin import Allowlist
from tests.router.route_services.bound import APP, GET, Bound, bound, register, sent_back, with_settings
from tests.router.tls.authority import CA_PEM, OWN, client_context, connect, issue
from tests.router.wire import OK, PATIENCE, Backend, Message, Wire, answering, backend, wait_until

SERVICE = "service.apps.example.com"
HAIRPINS = {"route_services_hairpinning": True}


@contextmanager
def hairpinned(
    *,
    url: str = f"https://{SERVICE}:4443/hook?key=1",
    at: str = SERVICE,
    service: Callable[[Wire], None] | None = None,
    **settings: Any,
) -> Iterator[tuple[Bound, Backend, list[Message]]]:
    """app.example.com is bound to a service that is a route of the same router."""
    seen: list[Message] = []
    with bound(with_settings(**{**HAIRPINS, **settings})) as it:
        script = service or answering(lambda request: sent_back(request, it.edge.port), seen)
        with backend(script) as hosted:
            register(it.edge, at, hosted, app="service-guid")
            register(it.edge, APP, it.app, url, app="app-guid")
            yield it, hosted, seen


class TestAServiceBehindThisRouter:
    def test_is_reached_without_its_name_being_looked_up(self) -> None:
        with hairpinned() as (it, _, seen):
            assert it.ask().body == b"ok"
            (request,) = seen
            assert request.first == b"GET /hook?key=1 HTTP/1.1"
            assert request.get("Host") == f"{SERVICE}:4443".encode()
            assert request.get("X-CF-ApplicationID") == b"service-guid"
            assert request.get("X-CF-Forwarded-Url") == b"http://app.example.com/where?q=1"
            assert len(it.at_app) == 1

    def test_sees_the_router_as_the_last_of_the_clients(self) -> None:
        with hairpinned() as (it, _, seen):
            it.ask(GET[:-2] + b"X-Forwarded-For: 192.0.2.1\r\n\r\n")
            assert seen[0].get("X-Forwarded-For") == b"192.0.2.1, 127.0.0.1, 127.0.0.1"
            assert seen[0].get("X-Forwarded-Proto") == b"http"

    def test_is_told_the_scheme_of_the_first_way_whatever_the_settings(self) -> None:
        with hairpinned(sanitize_forwarded_proto=True) as (it, _, seen):
            it.ask(GET[:-2] + b"X-Forwarded-Proto: gopher\r\n\r\n")
            assert seen[0].get("X-Forwarded-Proto") == b"http"

    @pytest.mark.parametrize("mode", ["always_forward", "forward", "sanitize_set"])
    def test_is_told_of_the_clients_certificate_what_any_service_is(self, mode: str) -> None:
        """Elsewhere, a connection on which no certificate was shown says nothing of one (gorouter reference 6.4)."""
        settings = {
            "forwarded_client_cert": mode,
            "enable_ssl": True,
            "tls_pem": (OWN,),
            "client_cert_validation": "request",
            "client_ca_certs": CA_PEM,
        }
        ours = issue("client")
        shown = b64encode(ssl.PEM_cert_to_DER_cert(ours.cert_chain_pems[0].bytes().decode()))
        request = GET[:-2] + b"X-Forwarded-Client-Cert: made-up\r\n\r\n"
        with hairpinned(**settings) as (it, _, seen):
            wire = connect(it.edge.tls_port, client_context(cert=ours))
            wire.send(request)
            assert wire.message().status == 200
            wire.close()
            assert it.ask(request).status == 200
            certs = [message.get("X-Forwarded-Client-Cert") for message in seen]
            assert (
                certs
                == {
                    "always_forward": [b"made-up", b"made-up"],
                    "forward": [b"made-up", None],
                    "sanitize_set": [shown, None],
                }[mode]
            )

    def test_is_routed_as_others_are(self) -> None:
        """By path and wildcard, and with an answer where it has no endpoint."""
        with hairpinned(url="https://any.wild.example.com/deep/er", at="*.example.com/deep") as (it, _, seen):
            assert it.ask().status == 200
            assert seen[0].first == b"GET /deep/er HTTP/1.1"

    def test_that_is_down_is_a_failure_of_its_own(self) -> None:
        with hairpinned() as (it, hosted, _):
            hosted.close()
            answer = it.ask()
            assert answer.status == 502
            assert (answer.get("X-Cf-RouterError") or b"").startswith(b"endpoint_failure (dial tcp 127.0.0.1:")

    def test_is_passed_by_in_strict_mode_too(self) -> None:
        with hairpinned(route_services={"strict_signature_validation": True}) as (it, _, seen):
            assert it.ask().status == 200
            assert len(seen) == 1

    def test_by_connections_that_are_kept(self) -> None:
        with hairpinned() as (it, _, _):
            for _ in range(3):
                assert it.ask().status == 200
            opened = it.edge.metrics.backend_connections_opened
            assert opened == 3  # to the router itself, to the service, to the application
            register(it.edge, APP, it.app)
            mine = len(it.wires)
            wait_until(lambda: it.edge.metrics.client_connections <= mine + 1, "the end of the inner connection")

    def test_with_bodies_of_any_size_both_ways(self) -> None:
        megabytes = 16
        block = bytes(range(256)) * 4096

        def echo(wire: Wire) -> None:
            wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (megabytes * len(block)))
            for _ in range(megabytes):
                wire.send(wire.read_exactly(len(block)))

        with hairpinned(service=echo) as (it, _, _):
            wire = it.send(b"POST / HTTP/1.1\r\nHost: %b\r\n" % APP.encode())
            length = megabytes * len(block)

            def upload() -> None:
                wire.send(b"Content-Length: %d\r\n\r\n" % length)
                for _ in range(megabytes):
                    wire.send(block)

            sender = threading.Thread(target=upload)
            sender.start()
            assert wire.message().body == block * megabytes
            sender.join(PATIENCE)

    def test_where_no_further_client_is_admitted(self) -> None:
        with hairpinned(service=answering(OK), millrace=Native(max_connections=1)) as (it, _, _):
            assert it.ask().status == 200
            assert it.send(GET).message().status == 503

    def test_that_breaks_off_breaks_off(self) -> None:
        def half(wire: Wire) -> None:
            wire.message()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")

        with hairpinned(service=half) as (it, _, _):
            wire = it.send(GET)
            assert wire.head().status == 200
            assert wire.read_to_end() == b"5\r\nhello\r\n"

    def test_whose_client_leaves_is_left(self) -> None:
        left = threading.Event()

        def wait(wire: Wire) -> None:
            wire.message()
            assert wire.is_closed()
            left.set()

        with hairpinned(service=wait) as (it, hosted, _):
            wire = it.send(GET)
            wait_until(lambda: hosted.connections, "the request at the service")
            wire.close()
            assert left.wait(PATIENCE)


class TestWhoGoesOutside:
    def test_everybody_where_it_is_switched_off(self) -> None:
        with bound() as it, backend(answering(OK)) as hosted:
            register(it.edge, "localhost", hosted)
            assert it.ask().status == 200
            assert len(it.at_service) == 1
            assert not hosted.connections

    def test_services_that_are_no_routes(self) -> None:
        with bound(with_settings(**HAIRPINS)) as it:
            assert it.ask().status == 200
            assert len(it.at_service) == 1

    def test_services_that_the_allowlist_does_not_name(self) -> None:
        allowlist = ("*.apps.example.com",)
        settings = with_settings(**HAIRPINS, route_services_hairpinning_allowlist=allowlist)
        with bound(settings) as it, backend(answering(OK)) as hosted:
            register(it.edge, "localhost", hosted)
            assert it.ask().status == 200
            assert len(it.at_service) == 1
            assert not hosted.connections

    def test_others_do_not(self) -> None:
        with hairpinned(route_services_hairpinning_allowlist=("*.APPS.example.com",)) as (it, _, seen):
            assert it.ask().status == 200
            assert len(seen) == 1

    def test_a_service_that_becomes_a_route_or_ceases_to_be_one(self) -> None:
        with bound(with_settings(**HAIRPINS)) as it, backend(answering(OK)) as hosted:
            it.ask()
            register(it.edge, "localhost", hosted)
            it.ask()
            assert (len(it.at_service), hosted.connections) == (1, 1)
            it.edge.do(it.edge.table.remove, "localhost", f"127.0.0.1:{hosted.port}")
            it.edge.do(it.edge.table.forget_emptied, 1e12)
            it.ask()
            assert (len(it.at_service), hosted.connections) == (2, 1)


class TestAllowlist:
    @pytest.mark.parametrize(
        ("host", "allowed"),
        [
            ("exact.example.com", True),
            ("one.wild.example.com", True),
            ("*.wild.example.com", True),
            ("wild.example.com", False),
            ("two.labels.wild.example.com", False),
            ("other.example.com", False),
            ("example.com", False),
            ("localhost", False),
        ],
    )
    def test_names_hosts_exactly_or_by_one_label(self, host: str, allowed: bool) -> None:
        assert Allowlist(("Exact.example.com", "*.wild.example.com")).allows(host) is allowed

    def test_an_empty_one_allows_all(self) -> None:
        assert Allowlist(()).allows("any.example.com")

    @pytest.mark.parametrize(
        "entry",
        ["", "*", "*.", "example", "a.*.example.com", "*.*.example.com", "?!.example.com", "a.example.com:443", "a..b"],
    )
    def test_an_entry_that_is_none_is_refused(self, entry: str) -> None:
        with pytest.raises(ValueError, match="is no name such as"):
            Allowlist(("fine.example.com", entry))
