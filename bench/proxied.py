"""One request through a proxy: to know that it serves, in the protocol that is asked for, before it is measured.

It must never be used to measure: it opens a connection per request.
"""

from __future__ import annotations

import http.client
import socket
import ssl

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from bench.proxy import Site
from bench.scenarios import HOST, SMALL_PATH
from director.local_ca import Identity

TIMEOUT_SECONDS = 5.0


def trusting(identity: Identity, *protocols: str) -> ssl.SSLContext:
    """A client's context that trusts the bench's own authority and offers ``protocols`` by ALPN."""
    context = ssl.create_default_context(cafile=str(identity.authority))
    context.set_alpn_protocols(protocols)
    return context


def status_of(port: int, host: str = HOST, path: str = SMALL_PATH, identity: Identity | None = None) -> int:
    """The status that ``port`` of the loopback address answers for ``host``; 0 when it does not answer HTTP/1.1."""
    if identity:
        context = trusting(identity, "http/1.1")
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=TIMEOUT_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def http2_status_of(port: int, host: str = HOST, path: str = SMALL_PATH, identity: Identity | None = None) -> int:
    """As `status_of`, over HTTP/2: agreed by ALPN with TLS, else by prior knowledge (RFC 9113 section 3)."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as plain:
            if identity is None:
                return _ask_http2(plain, host, path, b"http")
            with trusting(identity, "h2").wrap_socket(plain, server_hostname=host) as secure:
                return _ask_http2(secure, host, path, b"https") if secure.selected_alpn_protocol() == "h2" else 0
    except (OSError, h2.exceptions.H2Error):
        return 0


def _ask_http2(connection: socket.socket, host: str, path: str, scheme: bytes) -> int:
    protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    protocol.initiate_connection()
    head = [(b":method", b"GET"), (b":scheme", scheme), (b":authority", host.encode()), (b":path", path.encode())]
    protocol.send_headers(1, head, end_stream=True)
    connection.sendall(protocol.data_to_send())
    while received := connection.recv(65536):
        for event in protocol.receive_data(received):
            if isinstance(event, h2.events.ResponseReceived):
                return int(dict(event.headers)[b":status"])
    return 0


def answers(port: int, host: str = HOST) -> bool:
    """Whether ``host`` is served with 200 over HTTP/1.1 without TLS."""
    return status_of(port, host) == 200


def serves(site: Site) -> bool:
    """Whether a proxy serves its route with 200 in the way its site asks for."""
    ask = http2_status_of if site.http2 else status_of
    return ask(site.port, identity=site.identity) == 200
