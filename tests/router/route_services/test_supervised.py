"""A route service in front of an application of a whole router: real processes, a registry, both protocols."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.registry.embedded import EmbeddedRedis
from router.registry.records import EndpointRecord
from router.registry.writer import RegistryWriter
from router.route_services.signature import Signer
from tests.router.route_services.bound import APP, GET, SERVICE_CERT, sent_back
from tests.router.supervised import Router, running_router
from tests.router.tls.authority import CA_PEM, over_tls, server_context
from tests.router.wire import OK, PATIENCE, Backend, Message, Wire, answering, backend, wait_until

SECRET = {"route_services_secret": "the secret", "route_services_recommend_https": True, "ca_certs": [CA_PEM]}


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    with EmbeddedRedis(folder) as server:
        yield server.url
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def strict(redis_url: str) -> Iterator[Running]:
    with running(redis_url, namespace="strict", route_services={"strict_signature_validation": True}) as it:
        yield it


@dataclass
class Running:
    router: Router
    app: Backend
    service: Backend
    at_app: list[Message]
    at_service: list[Message]


@contextmanager
def running(redis_url: str, *, url: str = "", namespace: str = "millrace", **settings: Any) -> Iterator[Running]:
    """app.example.com is bound to a service that sends everything back; so is hosted.example.com, an application."""
    at_app: list[Message] = []
    at_service: list[Message] = []
    ports: list[int] = []

    def echo(request: Message) -> bytes:
        head = OK.partition(b"Content-Length")[0]
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(request.body), request.body)

    relay = answering(lambda request: sent_back(request, ports[0]), at_service)
    with (
        backend(answering(echo, at_app)) as app,
        backend(over_tls(relay, server_context(SERVICE_CERT))) as service,
        backend(relay) as hosted,
        RegistryWriter(redis_url, namespace=namespace) as writer,
    ):
        url = url or f"https://localhost:{service.port}/hook?key=value"
        lease = writer.lease("tests", ttl=600)
        lease.replace(
            [
                (APP, EndpointRecord(host="127.0.0.1", port=app.port, app="app-guid", route_service_url=url)),
                ("hosted.example.com", EndpointRecord(host="127.0.0.1", port=hosted.port, app="service-guid")),
            ]
        )
        with running_router(redis_url, **{**SECRET, **settings}, millrace={"namespace": namespace}) as router:
            ports.append(router.until_healthy().port)
            yield Running(router, app, service, at_app, at_service)
        lease.replace([])


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize(
    "url", ["", "https://hosted.example.com/hook?key=value"], ids=["elsewhere", "behind this router"]
)
def test_requests_of_every_kind_pass_through_the_service(redis_url: str, url: str, http2: bool) -> None:
    def chunks() -> Iterator[bytes]:
        yield from (b"one", b"two")

    with (
        running(redis_url, url=url, route_services_hairpinning=True) as it,
        httpx.Client(http1=not http2, http2=http2, base_url=f"http://127.0.0.1:{it.router.port}") as client,
    ):
        headers = {"Host": APP}
        assert client.get("/where?q=1", headers=headers).status_code == 200
        assert client.head("/where?q=1", headers=headers).status_code == 200
        assert client.post("/where?q=1", headers=headers, content=b"body" * 1000).content == b"body" * 1000
        assert client.put("/where?q=1", headers=headers, content=chunks()).content == b"onetwo"
        methods = [b"GET", b"HEAD", b"POST", b"PUT"]
        assert [request.first for request in it.at_service] == [b"%b /hook?key=value HTTP/1.1" % m for m in methods]
        assert [request.first for request in it.at_app] == [b"%b /where?q=1 HTTP/1.1" % m for m in methods]
        for request in it.at_app:
            assert request.get("Host") == APP.encode()
            assert request.get("X-CF-Proxy-Signature") is None
            assert request.get("X-CF-ApplicationID") == b"app-guid"
        for request in it.at_service:
            assert request.get("X-CF-Forwarded-Url") == b"https://app.example.com/where?q=1"


def test_the_secret_is_changed_while_a_request_is_with_the_service(redis_url: str) -> None:
    """SIGHUP rolls the workers; the new ones still read what the old ones signed."""
    with running(redis_url) as it:
        gate = threading.Event()
        arrived = threading.Event()

        def slow(wire: Wire) -> None:
            request = wire.message()
            arrived.set()
            assert gate.wait(PATIENCE)
            wire.send(sent_back(request, it.router.port))

        with backend(over_tls(slow, server_context(SERVICE_CERT))) as service, RegistryWriter(redis_url) as writer:
            lease = writer.lease("more", ttl=600)
            url = f"https://localhost:{service.port}/"
            record = EndpointRecord(host="127.0.0.1", port=it.app.port, route_service_url=url)
            lease.replace([("slow.example.com", record)])
            request = GET.replace(APP.encode(), b"slow.example.com")
            wait_until(lambda: status_of(it.router, request, only_route=True) != 404, "the new route")
            wire = it.router.connect()
            wire.send(request)
            assert arrived.wait(PATIENCE)
            it.router.configure(route_services_secret="new", route_services_secret_decrypt_only="the secret")
            it.router.signal(signal.SIGHUP)
            it.router.until_said("worker-ready", times=4)
            gate.set()
            assert wire.message().status == 200
            wire.close()
            lease.replace([])


def status_of(router: Router, request: bytes, *, only_route: bool = False) -> int:
    """``only_route``: by CONNECT, which is refused before anything reaches the service."""
    if only_route:
        host = request.partition(b"Host: ")[2].partition(b"\r\n")[0]
        request = b"CONNECT %b:80 HTTP/1.1\r\nHost: %b:80\r\n\r\n" % (host, host)
    return ask(router, request).status


def test_a_service_that_dies_fails_its_requests_and_no_others(redis_url: str) -> None:
    with running(redis_url) as it:
        begun = threading.Event()

        def endless(wire: Wire) -> None:
            wire.message()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                wire.send(b"5\r\nbytes\r\n")
                begun.set()

        with backend(over_tls(endless, server_context(SERVICE_CERT))) as service, RegistryWriter(redis_url) as writer:
            lease = writer.lease("more", ttl=600)
            url = f"https://localhost:{service.port}/"
            record = EndpointRecord(host="127.0.0.1", port=it.app.port, route_service_url=url)
            lease.replace([("dying.example.com", record)])
            request = GET.replace(APP.encode(), b"dying.example.com")
            wait_until(lambda: status_of(it.router, request, only_route=True) != 404, "the new route")
            wire = it.router.connect()
            wire.send(request)
            assert wire.head().status == 200
            assert begun.wait(PATIENCE)
            service.close()
            assert not wire.read_to_end().endswith(b"0\r\n\r\n")
            wire.close()
            answer = it.router.connect()
            answer.send(request)
            refused = answer.message()
            assert refused.status == 502
            assert (refused.get("X-Cf-RouterError") or b"").startswith(b"endpoint_failure (dial tcp localhost:")
            answer.close()
            assert status_of(it.router, GET) == 200
            lease.replace([])


def test_what_is_logged(redis_url: str) -> None:
    with running(redis_url) as it:
        assert status_of(it.router, GET[:-2] + b"X-CF-Proxy-Signature: made-up\r\n\r\n") == 502
        (line,) = it.router.until_said("signature-validation-failed")
        assert line["error"] == "No metadata found"
        assert line["route"] == APP


FAILED = "Failed to validate Route Service Signature: "
LONG_AGO = Signer("the secret", clock=lambda: time.time_ns() - 120 * 1_000_000_000)
ANSWERS: dict[str, tuple[str, Callable[[], bytes], int, str | None, str]] = {
    "websocket": (
        APP,
        lambda: b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        503,
        "route_service_unsupported",
        "Websocket requests are not supported for routes bound to Route Services.",
    ),
    "no metadata": (APP, lambda: b"X-CF-Proxy-Signature: c2ln\r\n", 502, None, FAILED + "No metadata found"),
    "another secret": (
        APP,
        lambda: claimed(Signer("another")),
        502,
        None,
        FAILED + "cipher: message authentication failed",
    ),
    "another route": (
        APP,
        lambda: claimed(Signer("the secret"), "https://hosted.example.com/x"),
        502,
        None,
        FAILED
        + "route service forwarded URL app.example.com does not match the original request URL hosted.example.com/x",
    ),
    "an unknown route": (
        APP,
        lambda: claimed(Signer("the secret"), "https://unknown.example.com/x"),
        502,
        None,
        FAILED + "original request URL unknown.example.com/x does not exist in the routing table",
    ),
    "too old": (APP, lambda: claimed(LONG_AGO), 504, None, FAILED + "route service request expired"),
    "strict": (
        "hosted.example.com",
        lambda: claimed(Signer("another")),
        400,
        "invalid_route_service_signature",
        "invalid route service signature detected",
    ),
    "strict, too old": (
        "hosted.example.com",
        lambda: claimed(LONG_AGO),
        504,
        "expired_route_service_signature",
        FAILED + "route service request expired",
    ),
    "a loop": (
        APP,
        lambda: b"CDN-Loop: %b\r\n" % b", ".join([b"millrace"] * 9),
        508,
        "route_service_loop",
        "This request has passed 9 times through route services, which lead back here.",
    ),
}


def claimed(signer: Signer, url: str = f"https://{APP}/") -> bytes:
    return b"X-CF-Proxy-Signature: %b\r\nX-CF-Proxy-Metadata: %b\r\n" % signer.sign(url)


class TestAnswers:
    """The rows of gorouter reference 4.3 that are about route services, and the loop guard's."""

    @pytest.mark.parametrize("name", ANSWERS)
    def test_of_a_router_with_a_secret(self, strict: Running, name: str) -> None:
        host, lines, status, error, text = ANSWERS[name]
        answer = ask(strict.router, GET.replace(APP.encode(), host.encode())[:-2] + lines() + b"\r\n")
        assert answer.status == status
        assert answer.get("X-Cf-RouterError") == (error.encode() if error is not None else None)
        assert answer.body.decode() == f"{status} {answer.first.split(b' ', 2)[2].decode()}: {text}\n"
        assert answer.get("Content-Type") == b"text/plain; charset=utf-8"
        assert answer.get("X-Content-Type-Options") == b"nosniff"
        assert answer.get("Cache-Control") is None
        assert not strict.at_app
        assert not strict.at_service

    def test_of_a_router_without_one(self, redis_url: str) -> None:
        with running(redis_url, route_services_secret="") as it:
            answer = ask(it.router, GET)
            assert (answer.status, answer.get("X-Cf-RouterError")) == (502, b"route_service_unsupported")
            assert answer.body == b"502 Bad Gateway: Support for route services is disabled.\n"

    def test_where_the_url_leads_nowhere(self, redis_url: str) -> None:
        with running(redis_url, url="https://host:port/") as it:
            answer = ask(it.router, GET)
            assert (answer.status, answer.get("X-Cf-RouterError")) == (500, None)
            assert answer.body == b"500 Internal Server Error: Route service request failed.\n"


def ask(router: Router, request: bytes) -> Message:
    wire = router.connect()
    try:
        wire.send(request)
        return wire.message()
    finally:
        wire.close()


def test_a_bad_entry_of_the_allowlist_ends_the_start(redis_url: str, tmp_path: Path) -> None:
    settings = {"route_services_hairpinning_allowlist": ["*.*.example.com"], "millrace": {"redis": redis_url}}
    (tmp_path / "router.yml").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "router", "-c", str(tmp_path / "router.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "route_services_hairpinning_allowlist: '*.*.example.com' is no name such as" in done.stdout + done.stderr
