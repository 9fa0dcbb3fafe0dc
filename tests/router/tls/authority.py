"""Certificates for tests, made once, and ends of TLS connections that can do what `ssl.SSLSocket` cannot."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import trustme

from router.config.settings import TlsPem
from tests.router.wire import PATIENCE, Wire

CA = trustme.CA()
OTHER_CA = trustme.CA()
CA_PEM = CA.cert_pem.bytes().decode()
HOST = "app.example.com"


def issue(
    *names: str, ecdsa: bool = True, ca: trustme.CA = CA, days: int = 30, cn: str | None = None
) -> trustme.LeafCert:
    """``days`` below 0: expired so long ago."""
    kind = trustme.KeyType.ECDSA if ecdsa else trustme.KeyType.RSA
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    return ca.issue_cert(
        *names, common_name=cn, key_type=kind, not_before=until - datetime.timedelta(days=60), not_after=until
    )


def entry(cert: trustme.LeafCert) -> TlsPem:
    return TlsPem(cert_chain=chain_of(cert), private_key=cert.private_key_pem.bytes().decode())


def chain_of(cert: trustme.LeafCert) -> str:
    return "".join(part.bytes().decode() for part in cert.cert_chain_pems)


CERT = issue(HOST)
OWN = entry(CERT)


def client_context(
    *protocols: str, version: ssl.TLSVersion | None = None, cert: trustme.LeafCert | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if cert is not None:
        cert.configure_cert(context)
    return context


def connect(
    port: int,
    context: ssl.SSLContext | None = None,
    *,
    name: str | None = HOST,
    session: ssl.SSLSession | None = None,
) -> Wire:
    raw = socket.create_connection(("127.0.0.1", port), PATIENCE)
    context = context or client_context()
    try:
        return Wire(context.wrap_socket(raw, server_hostname=name, session=session))
    except BaseException:
        raw.close()
        raise


def tls_of(wire: Wire) -> ssl.SSLSocket:
    assert isinstance(wire.socket, ssl.SSLSocket)
    return wire.socket


def server_context(cert: trustme.LeafCert = CERT, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def over_tls(script: Callable[[Wire], None], context: ssl.SSLContext | None = None) -> Callable[[Wire], None]:
    """The script of a backend that speaks TLS; a handshake that fails ends the connection."""
    context = context or server_context()

    def secured(wire: Wire) -> None:
        with suppress(ssl.SSLError, ConnectionError):
            wire.socket = context.wrap_socket(wire.socket, server_side=True)
        if isinstance(wire.socket, ssl.SSLSocket):
            try:
                script(wire)
            except (ssl.SSLError, ConnectionError):
                return
            if isinstance(wire.socket, ssl.SSLSocket):
                with suppress(OSError, ValueError):  # ValueError: the client's alert has ended it already
                    wire.socket.unwrap()

    return secured


@dataclass
class HalfCloser:
    """A TLS client that can say that it sends no more and read on, and that sees whether the end was said."""

    socket: socket.socket

    def __post_init__(self) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(self._incoming, self._outgoing, server_hostname=HOST)
        self.said_end = False
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._incoming.write(self.socket.recv(65536))
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.socket.sendall(self._outgoing.read())

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self._flush()

    def end(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._flush()

    def recv(self) -> bytes:
        """Some bytes, or none at the end; ``said_end`` then tells whether there was a close_notify."""
        while True:
            try:
                data = self.tls.read(65536)
                self.said_end = not data
                return data
            except ssl.SSLZeroReturnError:
                self.said_end = True
                return b""
            except ssl.SSLWantReadError:
                more = self.socket.recv(65536)
                if not more:
                    return b""
                self._incoming.write(more)

    def read_to_end(self) -> bytes:
        parts = []
        while data := self.recv():
            parts.append(data)
        return b"".join(parts)
