"""A browser: Chromium, headless, loads a page over HTTP/2 with TLS, and talks over a WebSocket on the same connection.

The page reports what it saw by a request of its own. What leaves the machine is nothing: names are mapped to it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, Request, TextMessage

from router.registry.records import EndpointRecord
from tests.router.registry.conftest import RedisServer, shared_redis
from tests.router.secured import NAME, SecuredRouter, secured_router
from tests.router.wire import Wire, backend, wait_until

__all__ = ["shared_redis"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECONDS = 60

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="neither chromium nor google-chrome is on PATH")

PAGE = """<!doctype html><title>page</title><link rel="icon" href="data:,"><script>
async function look() {
  const seen = {errors: []};
  try {
    const parts = await Promise.all([...Array(30).keys()].map(n => fetch("/part/" + n).then(r => r.text())));
    seen.parts = parts.every((text, n) => text === "part " + n);
    const big = await (await fetch("/big")).arrayBuffer();
    seen.big = big.byteLength;
    const echoed = await fetch("/echo", {method: "POST", body: "x".repeat(300000)});
    seen.echo = (await echoed.text()).length;
    seen.protocols = [...new Set(performance.getEntries().map(e => e.nextHopProtocol).filter(p => p))];
    await new Promise((resolve, reject) => {
      const socket = new WebSocket("wss://" + location.host + "/socket", ["chat"]);
      const long = "hello ".repeat(50000);
      socket.onopen = () => { seen.subprotocol = socket.protocol; socket.send("short"); socket.send(long); };
      seen.heard = [];
      socket.onmessage = message => {
        seen.heard.push(message.data === long.toUpperCase() ? "LONG" : message.data);
        if (seen.heard.length == 2) socket.close(4001, "enough");
      };
      socket.onclose = event => { seen.close = event.code; seen.clean = event.wasClean; resolve(); };
      socket.onerror = () => { seen.errors.push("websocket"); resolve(); };
    });
  } catch (error) { seen.errors.push(String(error)); }
  await fetch("/report", {method: "POST", body: JSON.stringify(seen)});
}
look();
</script>"""


class Site:
    """The backend: pages, and an upper-casing echo over WebSockets."""

    def __init__(self) -> None:
        self.report: dict[str, Any] = {}
        self.reported = threading.Event()

    def serve(self, wire: Wire) -> None:
        while True:
            while b"\r\n\r\n" not in wire.pending:
                if not wire._more():
                    return
            if b"upgrade: websocket" in wire.pending.lower():
                self._talk(wire)
                return
            request = wire.message()
            kind, body = self._answer(request.first.split(b" ")[1].decode(), request.body)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
            wire.send(head % (kind, len(body)) + body)

    def _answer(self, path: str, body: bytes) -> tuple[bytes, bytes]:
        part = re.fullmatch(r"/part/(\d+)", path)
        if part:
            return b"text/plain", b"part %d" % int(part[1])
        if path == "/big":
            return b"application/octet-stream", bytes(2_000_000)
        if path == "/echo":
            return b"text/plain", body
        if path == "/report":
            self.report = json.loads(body)
            self.reported.set()
        return b"text/html", PAGE.encode()

    def _talk(self, wire: Wire) -> None:
        server = WSConnection(ConnectionType.SERVER)
        data, wire.pending = wire.pending, b""
        while True:
            server.receive_data(data)
            for event in server.events():
                if isinstance(event, Request):
                    wire.send(server.send(AcceptConnection(subprotocol=event.subprotocols[0])))
                elif isinstance(event, TextMessage):
                    wire.send(server.send(Message(event.data.upper(), message_finished=event.message_finished)))
                elif isinstance(event, Ping | CloseConnection):
                    wire.send(server.send(event.response()))
            data = wire.socket.recv(65536)
            if not data:
                return


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def router(shared_redis: RedisServer, site: Site, log: Path) -> Iterator[SecuredRouter]:
    with backend(site.serve) as app:
        route = {NAME: EndpointRecord(host="127.0.0.1", port=app.port)}
        with secured_router(shared_redis.url, route, access_log={"file": str(log)}) as running:
            yield running


def spki_hash(router: SecuredRouter) -> str:
    """What names the one certificate that the browser is to accept without its CA being installed."""
    certificate = x509.load_pem_x509_certificate((router.ca_file.parent / "own.pem").read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


def test_a_page_and_a_websocket_over_http_2(router: SecuredRouter, site: Site, log: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp", ignore_cleanup_errors=True) as profile:
        options = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            "--remote-debugging-port=0",  # or headless Chromium may end before the page has
            f"--user-data-dir={profile}",
            f"--host-resolver-rules=MAP {NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--ignore-certificate-errors-spki-list={spki_hash(router)}",
        ]
        said = Path(profile) / "said"
        with said.open("wb") as output:
            url = f"https://{NAME}:{router.tls_port}/page"
            browser = subprocess.Popen([str(CHROMIUM), *options, url], stdout=output, stderr=output)
            try:
                reported = site.reported.wait(SECONDS)
            finally:
                browser.terminate()
                browser.wait(SECONDS)
        assert reported, said.read_text()[-3000:]
    assert site.report == {
        "errors": [],
        "parts": True,
        "big": 2_000_000,
        "echo": 300_000,
        "protocols": ["h2"],
        "subprotocol": "chat",
        "heard": ["SHORT", "LONG"],
        "close": 4001,
        "clean": True,
    }
    wait_until(lambda: "/socket" in log.read_text(), "the WebSocket's line in the access log")
    (line,) = [line for line in log.read_text().splitlines() if "/socket" in line]
    assert "HTTP/2.0" in line
