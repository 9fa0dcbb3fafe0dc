"""The gorouter.yml of a BOSH deployment, put under this router: NATS with mutual TLS, every port, a request, a drain.

Only addresses, ports, paths and the longest waits are other ones than in the file.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.router.gorouter.test_config import bosh
from tests.router.sources.nats import Registrar, running_nats
from tests.router.supervised import Router
from tests.router.tls.authority import CA, HOST, chain_of, issue
from tests.router.wire import OK, PATIENCE, Message, Wire, answering, backend, wait_until

LOOPBACK = "127.0.0.1"
MACHINE = issue(LOOPBACK)


@dataclass
class Deployment:
    router: Router
    registrar: Registrar
    folder: Path

    def ask(self, port: str, request: bytes, context: ssl.SSLContext | None = None, name: str = HOST) -> Message:
        wire = Wire(socket.create_connection((LOOPBACK, self.router.place[port]), PATIENCE))
        try:
            if context is not None:
                wire.socket = context.wrap_socket(wire.socket, server_hostname=name)
            wire.send(request)
            return wire.message()
        finally:
            wire.close()


def client(*, shows: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    if shows:
        MACHINE.configure_cert(context)
    return context


def files(folder: Path) -> dict[str, str]:
    """Certificate, key and CA of this machine, as files."""
    (folder / "cert.pem").write_text(chain_of(MACHINE))
    (folder / "key.pem").write_bytes(MACHINE.private_key_pem.bytes())
    (folder / "ca.pem").write_bytes(CA.cert_pem.bytes())
    return {name: str(folder / f"{name}.pem") for name in ("cert", "key", "ca")}


def moved(tree: dict[str, Any], folder: Path, nats: dict[str, Any]) -> dict[str, Any]:
    """The deployment's file for this machine."""
    pem = files(folder)
    (folder / "error.html").write_text("<p>{{ .Status }}</p>")
    tree |= {
        "port": 0,
        "ssl_port": 0,
        "debug_addr": f"{LOOPBACK}:0",
        "access_log": {"file": str(folder / "access.log"), "enable_streaming": False},
        "html_error_template_file": str(folder / "error.html"),
        "start_response_delay_interval": "300ms",
        "drain_wait": "0s",
        "route_services_internal_server_port": 0,
    }
    tree["status"] |= {"port": 0, "tls": {**tree["status"]["tls"], "port": 0}, "routes": {"port": 0}}
    tree["prometheus"] |= {"port": 0, "cert_path": pem["cert"], "key_path": pem["key"], "ca_path": pem["ca"]}
    tree["nats"]["hosts"] = [nats]
    del tree["routing_api"]
    return tree


@pytest.fixture(scope="module")
def deployed() -> Iterator[Deployment]:
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    pem = files(folder)
    tls = {"cert_file": pem["cert"], "key_file": pem["key"], "ca_file": pem["ca"], "verify": True}
    account = {"user": "nats", "password": "secret"}
    try:
        with running_nats(folder, tls=tls, authorization=account) as nats:
            tree = moved(yaml.safe_load(bosh()), folder, nats.host)
            router = Router(folder, "", **tree)
            try:
                said = {"user": "nats", "pass": "secret"}
                with Registrar(nats, client(shows=True), **said) as registrar:
                    router.until_said("gorouter.started")
                    yield Deployment(router, registrar, folder)
            finally:
                router.end()
    finally:
        shutil.rmtree(folder)


def test_starts_with_it_and_ignores_what_gorouter_ignores(deployed: Deployment) -> None:
    [ignored] = deployed.router.said("config-keys-ignored")
    assert {key["meant"] for key in ignored["keys"]} == {""}
    assert all(str(line["source"]).startswith("vcap.gorouter") for line in deployed.router.lines())
    assert all(isinstance(line["timestamp"], str) for line in deployed.router.lines())


def test_what_is_announced_is_served_by_http_and_https_and_shown(deployed: Deployment) -> None:
    request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    with backend(answering(OK)) as app:
        deployed.registrar.register(app.port, HOST, app="guid")
        wait_until(lambda: deployed.ask("port", request).status == 200, "the route")
        assert deployed.ask("https_port", request, client()).status == 200
        shown = deployed.ask(
            "routes_port", b"GET /routes HTTP/1.1\r\nAuthorization: Basic cm91dGVyLXN0YXR1czoxMjM0NQ==\r\n\r\n"
        )
        [endpoint] = json.loads(shown.body)[HOST]
        assert (endpoint["address"], endpoint["ttl"], endpoint["tls"]) == (f"{LOOPBACK}:{app.port}", 120, False)
        assert deployed.ask("routes_port", b"GET /routes HTTP/1.1\r\n\r\n").status == 401
        log = deployed.folder / "access.log"
        wait_until(lambda: log.exists() and log.read_text().count('app_id:"guid"') >= 2, "two lines in the access log")
        deployed.registrar.unregister(app.port, HOST)
        wait_until(lambda: deployed.ask("port", request).status == 404, "the route's end")


def test_health_on_every_port_that_load_balancers_ask(deployed: Deployment) -> None:
    ask = b"GET /health HTTP/1.1\r\n\r\n"
    assert deployed.ask("status_port", ask).body == b"ok\n"
    assert deployed.ask("status_tls_port", ask, client()).body == b"ok\n"
    check = b"GET / HTTP/1.1\r\nHost: any\r\nUser-Agent: HTTP-Monitor/1.1\r\n\r\n"
    assert deployed.ask("port", check).body == b"ok\n"


def test_metrics_for_who_shows_a_certificate(deployed: Deployment) -> None:
    ask = b"GET /metrics HTTP/1.1\r\n\r\n"
    page = deployed.ask("prometheus_port", ask, client(shows=True), LOOPBACK)
    assert (page.status, page.get("content-type")) == (200, b"text/plain; version=0.0.4; charset=utf-8")
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        deployed.ask("prometheus_port", ask, client(), LOOPBACK)


def test_errors_are_shown_by_the_deployments_own_page(deployed: Deployment) -> None:
    answer = deployed.ask("port", b"GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n")
    assert (answer.status, answer.body) == (404, b"<p>404</p>")


def test_stacks_of_the_process_that_listens_to_nats_as_well(deployed: Deployment) -> None:
    body = deployed.ask("debug_port", b"GET /debug/pprof/goroutine HTTP/1.1\r\n\r\n").body
    assert b"==== sources, process " in body


def test_a_level_holds_for_the_process_that_listens_to_nats_as_well(deployed: Deployment) -> None:
    def set_level(level: bytes) -> Message:
        put = b"PUT /log-level HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(level), level)
        return deployed.ask("debug_port", put)

    router = deployed.router
    assert set_level(b"error").status == 200
    before = len([line for line in router.lines() if line["log_level"] < 3])
    deployed.registrar.register(1, "quiet.test")
    request = b"GET / HTTP/1.1\r\nHost: quiet.test\r\n\r\n"
    wait_until(lambda: deployed.ask("port", request).status != 404, "the route")
    assert len([line for line in router.lines() if line["log_level"] < 3]) == before
    assert set_level(b"debug").status == 200
    deployed.registrar.register(1, "told.test")
    wait_until(lambda: any("told.test" in str(line["data"]) for line in router.lines()), "its registration in the log")


def test_and_drains_at_the_end(deployed: Deployment) -> None:
    deployed.router.signal(signal.SIGUSR1)
    assert deployed.router.exit_code() == 0
    assert deployed.router.said("gorouter-draining") == [{"wait_seconds": 0.0, "timeout_seconds": 900.0}]
    assert deployed.router.said("gorouter.exited")
