"""A Routing API and its UAA for tests: real HTTPS servers in a thread, as faithful as a client can tell, and breakable.

Mutual TLS at the API, tokens that expire, lists in chunks, an event for each change, modification tags that count up.
What a test wants to go wrong it says: connections that are cut, answers that are somebody else's, silence.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import trustme

from tests.router.wire import PATIENCE, wait_until

ROUTES = "/routing/v1/routes"
EVENTS = "/routing/v1/events"
TCP_ROUTES = "/routing/v1/tcp_routes"
TCP_EVENTS = "/routing/v1/tcp_routes/events"
TOKEN = "/oauth/token"
CLIENT = ("gorouter", "s3cret+ /%")
"""Name and secret."""
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: keep-alive\r\n"
    b"Cache-Control: no-cache, no-store, must-revalidate\r\nTransfer-Encoding: chunked\r\n\r\n"
)

Answering = Callable[[asyncio.StreamWriter], Awaitable[None]]
Certificates = tuple[str, str, str]


class Asked(NamedTuple):
    """A request that came."""

    method: str
    target: str
    fields: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


class RoutingApi:
    """Both servers, on ports that they keep when they are started again."""

    authority = trustme.CA()

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        """All requests so far, to either server."""
        self.lifetime = 3600.0
        """Of the tokens that are given out, seconds."""
        self.answers: dict[str, Answering] = {}
        """By path: what is answered instead of what should be, until the test takes it away."""
        self.port = self.uaa_port = 0
        self._routes: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._tcp_routes: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._tokens: set[str] = set()
        self._issued = 0
        self._guids = 0
        self._event = 0
        self._streams: dict[str, set[asyncio.StreamWriter]] = {EVENTS: set(), TCP_EVENTS: set()}
        self._writers: set[asyncio.StreamWriter] = set()
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: None)  # clients come and go as they like
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    # What a test does -----------------------------------------------------------------------------------------

    def __enter__(self) -> RoutingApi:
        self._thread.start()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)

    def start(self) -> None:
        self._do(self._start())

    def kill(self) -> None:
        """As a machine that fails: nothing listens, and every connection is reset."""
        self._do(self._kill())

    def put(self, route: str, port: int, *, event: bool = True, **fields: Any) -> dict[str, Any]:
        """Registers an endpoint on this machine, or renews it: its tag counts up."""
        said = {"route": route, "port": port, "ip": "127.0.0.1", "ttl": 120, "log_guid": "guid", **fields}
        return self._put(self._routes, (route, said["ip"], port), said, EVENTS if event else "")

    def delete(self, route: str, port: int, *, event: bool = True, ip: str = "127.0.0.1") -> None:
        self._delete(self._routes, (route, ip, port), EVENTS if event else "")

    def put_tcp(self, port: int, backend_port: int, *, event: bool = True, **fields: Any) -> dict[str, Any]:
        said = {
            "router_group_guid": "group",
            "port": port,
            "backend_ip": "127.0.0.1",
            "backend_port": backend_port,
            "backend_tls_port": 0,
            "instance_id": "instance",
            "isolation_segment": "",
            "ttl": 120,
            **fields,
        }
        name = (port, said.get("backend_sni_hostname"), backend_port)
        return self._put(self._tcp_routes, name, said, TCP_EVENTS if event else "")

    def delete_tcp(self, port: int, backend_port: int, *, name: str | None = None) -> None:
        self._delete(self._tcp_routes, (port, name, backend_port), TCP_EVENTS)

    def wind_back(self, route: str, port: int, index: int, **fields: Any) -> None:
        """The endpoint's tag is an earlier one, as after the restore of a backup; nobody is told."""
        said = self._routes[route, "127.0.0.1", port]
        self._routes[route, "127.0.0.1", port] = {
            **said,
            **fields,
            "modification_tag": {**said["modification_tag"], "index": index},
        }

    def say(self, text: bytes, path: str = EVENTS) -> None:
        """These bytes to everybody who follows the events."""
        self._do(self._say(path, text))

    def cut(self, path: str = EVENTS, *, after: bytes = b"") -> None:
        """Every event stream ends, after these bytes, without a word."""
        self._do(self._cut(path, after))

    def forget_tokens(self) -> None:
        """No token that was given out so far opens anything."""
        self._tokens.clear()

    @property
    def subscribers(self) -> int:
        return len(self._streams[EVENTS])

    def until_subscribed(self, path: str = EVENTS) -> None:
        wait_until(lambda: self._streams[path], "a subscription")

    def count(self, path: str) -> int:
        """Requests for this path so far."""
        return sum(asked.path == path for asked in list(self.asked))

    def until_asked(self, path: str, more: int = 1) -> None:
        """Until ``more`` requests for this path have come from now on."""
        before = self.count(path)
        wait_until(lambda: self.count(path) >= before + more, f"{more} requests for {path}")

    def settings(self, folder: Path, **changes: Any) -> dict[str, Any]:
        """The sections of a router's file that lead here."""
        authorities = folder / "uaa.pem"
        self.authority.cert_pem.write_to_path(str(authorities))
        authority, chain, key = self.certificates()
        return {
            "routing_api": {
                "uri": "https://127.0.0.1",
                "port": self.port,
                "ca_certs": authority,
                "cert_chain": chain,
                "private_key": key,
                **changes.get("routing_api", {}),
            },
            "oauth": {
                "token_endpoint": "127.0.0.1",
                "port": self.uaa_port,
                "client_name": CLIENT[0],
                "client_secret": CLIENT[1],
                "ca_certs": str(authorities),
                **changes.get("oauth", {}),
            },
        }

    def certificates(self, signer: trustme.CA | None = None) -> Certificates:
        """For a client: whom to trust, and the certificate and key to show."""
        pair = (signer or self.authority).issue_cert("gorouter.example.com")
        chain = "".join(pem.bytes().decode() for pem in pair.cert_chain_pems)
        return self.authority.cert_pem.bytes().decode(), chain, pair.private_key_pem.bytes().decode()

    # The servers ----------------------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _start(self) -> None:
        api = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context(clients=True))
        uaa = await asyncio.start_server(self._serve, "127.0.0.1", self.uaa_port, ssl=self._context(clients=False))
        self._servers = [api, uaa]
        self.port, self.uaa_port = (server.sockets[0].getsockname()[1] for server in self._servers)

    def _context(self, *, clients: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        if clients:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    async def _kill(self) -> None:
        for server in self._servers:
            server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await self._answer(await self._read(reader), reader, writer)
        self._writers.discard(writer)
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Asked:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        method, target, _ = first.split(" ")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        asked = Asked(method, target, fields, await reader.readexactly(int(fields.get("content-length", "0"))))
        self.asked.append(asked)
        return asked

    async def _answer(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if asked.path in self.answers:
            await self.answers[asked.path](writer)
        elif asked.path == TOKEN:
            await self._give_token(asked, writer)
        elif asked.fields.get("authorization", "").removeprefix("bearer ") not in self._tokens:
            said = {"name": "UnauthorizedError", "message": "token contains an invalid number of segments"}
            await json_answer(said, 401)(writer)
        elif asked.path == ROUTES:
            await json_answer(list(self._routes.values()))(writer)
        elif asked.path == TCP_ROUTES:
            wanted = [value for _, value in parse_qsl(urlsplit(asked.target).query, keep_blank_values=True)]
            found = [each for each in self._tcp_routes.values() if not wanted or each["isolation_segment"] in wanted]
            await json_answer(found)(writer)
        elif asked.path in self._streams:
            await self._stream(asked.path, reader, writer)
        else:
            await json_answer({"name": "ResourceNotFoundError", "message": ""}, 404)(writer)

    async def _give_token(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        given = base64.b64decode(asked.fields["authorization"].removeprefix("Basic ")).decode()
        if asked.fields.get("x-cf-encoded-credentials") == "true":
            given = ":".join(map(unquote_plus, given.split(":", 1)))
        if given != ":".join(CLIENT):
            await json_answer({"error": "unauthorized", "error_description": "Bad credentials"}, 401)(writer)
        elif dict(parse_qsl(asked.body.decode())).get("grant_type") != "client_credentials":
            await json_answer({"error": "unsupported_grant_type"}, 400)(writer)
        else:
            self._issued += 1
            token = f"token-{self._issued}"
            self._tokens.add(token)
            said = {"access_token": token, "token_type": "bearer", "expires_in": self.lifetime, "jti": "x"}
            await json_answer(said)(writer)

    async def _stream(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        self._streams[path].add(writer)
        try:
            await reader.read()
        finally:
            self._streams[path].discard(writer)

    def _put(self, routes: dict[Any, Any], name: Any, said: dict[str, Any], path: str) -> dict[str, Any]:
        before = routes.get(name)
        if before is None:
            self._guids += 1
            tag = {"guid": f"guid-{self._guids}", "index": 0}
        else:
            tag = {**before["modification_tag"], "index": before["modification_tag"]["index"] + 1}
        routes[name] = {**said, "modification_tag": tag}
        if path:
            self._tell(path, "Upsert", routes[name])
        return dict(routes[name])

    def _delete(self, routes: dict[Any, Any], name: Any, path: str) -> None:
        said = routes.pop(name)
        if path:
            self._tell(path, "Delete", said)

    def _tell(self, path: str, action: str, said: dict[str, Any]) -> None:
        self.say(event(action, said, self._event), path)
        self._event += 1

    async def _say(self, path: str, text: bytes) -> None:
        for writer in list(self._streams[path]):
            writer.write(b"%x\r\n%b\r\n" % (len(text), text))

    async def _cut(self, path: str, after: bytes) -> None:
        if after:
            await self._say(path, after)
        for writer in list(self._streams[path]):
            with suppress(ConnectionError):
                await writer.drain()
            writer.close()


def event(action: str, said: dict[str, Any], number: int = 0) -> bytes:
    """As a Routing API writes it."""
    return f"id: {number}\nevent: {action}\ndata: {json.dumps(said)}\n\n".encode()


def json_answer(said: Any, status: int = 200, *, piece: int = 4096) -> Answering:
    """An answer in chunks of so many bytes."""
    body = said if isinstance(said, bytes) else json.dumps(said).encode()

    async def answer(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        for start in range(0, len(body), piece):
            part = body[start : start + piece]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return answer


def raw_answer(text: bytes, *, pause: float = 0.0) -> Answering:
    """These bytes, one by one with pauses if so asked, and then the end of the connection."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for byte in (text[place : place + 1] for place in range(len(text))) if pause else (text,):
            writer.write(byte)
            await writer.drain()
            await asyncio.sleep(pause)

    return answer


async def silence(writer: asyncio.StreamWriter) -> None:
    """No answer, for as long as the client waits."""
    with suppress(ConnectionError):
        await writer.wait_closed()


@contextmanager
def running_api() -> Iterator[RoutingApi]:
    with RoutingApi() as api:
        yield api
