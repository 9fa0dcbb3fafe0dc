"""A whole router with routes of a real registry, and backends that say which instance was asked and what it saw."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from router.registry.records import EndpointRecord
from router.registry.writer import RegistryWriter
from tests.router.supervised import Router, running_router
from tests.router.wire import Backend, Message, Wire, wait_until

Entry = tuple[str, EndpointRecord]
_numbers = count()


@dataclass
class Seen:
    """One request as its backend saw it; ``instance`` is what the router called the backend."""

    instance: str
    target: str
    fields: list[tuple[str, str]]
    answer: Message

    def all(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field.lower() == name.lower()]


def telling(*lines: str) -> Callable[[Wire], None]:
    """A script that answers with what it was asked; ``lines`` are added to every response.

    For /hold it says who it is in a 103 and keeps the request until the router closes; for /stream it says so in a head
    and never ends the body. Lines that a request names in X-Say are added to its response.
    """

    def script(wire: Wire) -> None:
        while True:
            while b"\r\n\r\n" not in wire.pending:
                if not wire._more():
                    return
            request = wire.message()
            target = request.first.split(b" ")[1].decode("latin-1")
            fields = [(name.decode(), value.decode("latin-1")) for name, value in request.fields]
            who = "X-Instance: " + next(value for name, value in fields if name.lower() == "x-cf-instanceid")
            if target.endswith("/hold"):
                wire.send(head("103 Early Hints", who))
            elif target.endswith("/stream"):
                wire.send(head("200 OK", who, "Transfer-Encoding: chunked") + b"1\r\nx\r\n")
            else:
                body = json.dumps({"target": target, "fields": fields}).encode()
                say = [value for name, value in fields if name.lower() == "x-say"]
                wire.send(head("200 OK", who, f"Content-Length: {len(body)}", *lines, *say) + body)
                continue
            wire.read_to_end()
            return

    return script


def head(status: str, *lines: str) -> bytes:
    return "".join(line + "\r\n" for line in [f"HTTP/1.1 {status}", *lines, ""]).encode("latin-1")


def resetting(wire: Wire) -> None:
    """A script that says nothing to its first request and resets the connection: that marks an endpoint as failed."""
    wire.head()
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def silent_end(wire: Wire) -> None:
    """A script that says nothing to its first request and closes: that marks nothing."""
    wire.head()


class Registered:
    """The router, and the lease that its routes are registered under. It has one worker, so that turns can be told."""

    def __init__(self, router: Router, writer: RegistryWriter) -> None:
        self.router = router
        self._lease = writer.lease("tables", ttl=0)

    def register(self, *entries: Entry) -> None:
        """Returns once the router knows them."""
        self._lease.register(entries)
        self._settle()

    def unregister(self, *entries: Entry) -> None:
        """As ``register``: the endpoints have left when it returns."""
        self._lease.unregister([(route, record.address) for route, record in entries])
        self._settle()

    def _settle(self) -> None:
        """The router takes changes in their order: once it has a newer one it has them all."""
        marker = f"marker-{next(_numbers)}.test"
        self._lease.register([(marker, EndpointRecord(host="127.0.0.1", port=1))])
        wait_until(lambda: self.ask(marker).status != 404, "the newest route")

    def ask(
        self, host: str | None, target: str | bytes = "/", *lines: str, method: str = "GET", body: str = ""
    ) -> Message:
        """One request on a connection of its own; without a host it is one of HTTP/1.0."""
        raw = target if isinstance(target, bytes) else target.encode()
        version, first = ("1.0", []) if host is None else ("1.1", [f"Host: {host}"])
        if body or method in ("POST", "PUT"):
            first.append(f"Content-Length: {len(body)}")
        text = "".join(line + "\r\n" for line in [f" HTTP/{version}", *first, *lines, ""])
        wire = self.router.connect()
        try:
            wire.send(method.encode() + b" " + raw + text.encode("latin-1") + body.encode())
            return wire.message(bodiless=method == "HEAD")
        finally:
            wire.close()

    def see(self, host: str, target: str | bytes = "/", *lines: str, **more: str) -> Seen:
        """As ``ask``, of a backend that tells."""
        return told(self.ask(host, target, *lines, **more))

    def instances(self, count: int, host: str, target: str = "/", *lines: str) -> list[str]:
        """Who answers so many requests, in order."""
        return [self.see(host, target, *lines).instance for _ in range(count)]

    def series(self, host: str, lines: Iterable[str]) -> list[str]:
        """Who answers requests with these lines, one each, on one connection."""
        wire = self.router.connect()
        try:
            answers = []
            for line in lines:
                wire.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n{line}\r\n\r\n".encode())
                answers.append(told(wire.message()).instance)
            return answers
        finally:
            wire.close()

    @contextmanager
    def held(self, host: str, *lines: str, target: str = "/hold") -> Iterator[str]:
        """A request that its backend keeps for as long as this lasts; gives the instance."""
        with self.waiting(host, target, *lines) as wire:
            yield (wire.head().get("X-Instance") or b"").decode()

    @contextmanager
    def waiting(self, host: str, target: str = "/", *lines: str) -> Iterator[Wire]:
        """A request whose response may be read."""
        wire = self.router.connect()
        try:
            wire.send("".join(x + "\r\n" for x in [f"GET {target} HTTP/1.1", f"Host: {host}", *lines, ""]).encode())
            yield wire
        finally:
            wire.close()


def told(answer: Message) -> Seen:
    assert answer.status == 200, (answer.first, answer.fields, answer.body)
    saw = json.loads(answer.body)
    fields = [(name, value) for name, value in saw["fields"]]
    return Seen((answer.get("X-Instance") or b"").decode(), saw["target"], fields, answer)


@contextmanager
def registered_router(redis_url: str, namespace: str, **settings: Any) -> Iterator[Registered]:
    """Healthy, with an empty table of this namespace."""
    native = {"workers": 1, "namespace": namespace, **settings.pop("millrace", {})}
    with RegistryWriter(redis_url, namespace=namespace) as writer:
        with running_router(redis_url, millrace=native, **settings) as router:
            yield Registered(router.until_healthy(), writer)
        writer.lease("tables", ttl=0).release()


def at(where: Backend | int, instance: str = "", **fields: Any) -> EndpointRecord:
    """The record of a backend, under this private_instance_id."""
    port = where if isinstance(where, int) else where.port
    if not fields.get("tls_port"):
        fields = {"port": port, **fields}
    return EndpointRecord(host="127.0.0.1", private_instance_id=instance, **fields)


@contextmanager
def backends(count: int, *lines: str) -> Iterator[list[Backend]]:
    """So many that tell."""
    running = [Backend(telling(*lines)) for _ in range(count)]
    try:
        yield running
    finally:
        for app in running:
            app.close()
