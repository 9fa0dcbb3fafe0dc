"""A fuzzer for the data plane: ``python -m tests.compliance.fuzz --seconds 600 [--seed N]``.

Each round takes one seed and plays one client connection against a real edge over transports in memory: valid and
broken requests, cut anywhere, in any order of events, to backends that answer well or badly, refuse, reset or close.
Afterwards two independent readings of what crossed the wires must agree. Every thirtieth round goes over real sockets.
A fault prints its seed; ``--seed`` plays that round alone.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from contextlib import suppress
from random import Random

from router.config.settings import Backends, Native, Settings
from router.edge import Edge
from router.metrics.counters import Metrics
from router.pool import Endpoint
from router.registry.records import EndpointRecord
from router.table import RouteTable
from tests.compliance.memory import Fault, MemoryLoop, MemoryTransport
from tests.compliance.strict_reader import Incomplete, Malformed, Read, read_request, read_response
from tests.router.wire import RunningEdge, Wire, backend, running_edge

SETTINGS = Settings(
    backends=Backends(max_attempts=3), millrace=Native(pipeline_buffer_bytes=4096, retry_buffer_bytes=256)
)
STEPS = 3000
SOCKET_EVERY = 30

CHANGED = frozenset(
    b"host connection keep-alive proxy-connection proxy-authenticate proxy-authorization te upgrade http2-settings"
    b" x-forwarded-for x-forwarded-proto x-request-start x-vcap-request-id x-cf-applicationid x-cf-instanceid"
    b" x-cf-instanceindex content-length".split()
)
"""Fields of a request that may differ behind the router."""

FIELDS = (
    b"X-A: 1",
    b"x-b:\t2 ",
    b"Connection: close",
    b"Connection: keep-alive, X-A",
    b"Expect: 100-continue",
    b"TE: trailers",
    b"X-Forwarded-For: 1.1.1.1",
    b"Connection: upgrade\r\nUpgrade: websocket",
    b"Idempotency-Key: 1",
    b"Cookie: a=b",
)
SHRAPNEL = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"0", b"5", b"-1", b"\xff", b"chunked", b"HTTP/1.1"),
    *(
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
    ),
)
REFUSAL = b"malformed_request"
"""Marks the answer to a request that was not understood: it has a body whatever the method, and is the last."""
STATUSES = (200, 200, 200, 200, 204, 304, 500)


def tag(random: Random) -> bytes:
    """A target that can be told from a damaged one."""
    number = b"%d" % random.randrange(1_000_000)
    return b"/t%b-%08x" % (number, zlib.crc32(number))


def is_tag(text: bytes) -> bool:
    number, dash, check = text.removeprefix(b"/t").partition(b"-")
    return text.startswith(b"/t") and bool(dash) and check == b"%08x" % zlib.crc32(number)


def chunked(random: Random, body: bytes) -> bytes:
    parts = []
    while body:
        size = random.randint(1, len(body))
        parts.append(b"%x%b\r\n%b\r\n" % (size, random.choice((b"", b";a=b")), body[:size]))
        body = body[size:]
    return b"".join(parts) + b"0\r\n" + random.choice((b"", b"X-T: 1\r\n")) + b"\r\n"


def framed(random: Random, body: bytes) -> tuple[bytes, bytes]:
    """The framing field line and the body on the wire."""
    if random.random() < 0.5:
        return b"Content-Length: %d\r\n" % len(body), body
    return b"Transfer-Encoding: chunked\r\n", chunked(random, body)


def some_body(random: Random) -> bytes:
    return random.randbytes(random.choice((0, 1, 5, 40, 300, 9000)))


def request(random: Random) -> bytes:
    method = random.choice((b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"BREW"))
    target = random.choice((b"", b"", b"", b"", b"http://app.test")) + tag(random)
    version = random.choice((b"1.1", b"1.1", b"1.1", b"1.1", b"1.0"))
    host = random.choice((b"app.test",) * 8 + (b"no.test", b""))
    lines = b"".join(line + b"\r\n" for line in random.sample(FIELDS, random.randrange(3)))
    framing, body = framed(random, some_body(random)) if method in (b"POST", b"PUT") else (b"", b"")
    return b"%b %b HTTP/%b\r\nHost: %b\r\n%b%b\r\n%b" % (method, target, version, host, lines, framing, body)


def response(random: Random, asked: Read) -> bytes:
    """A good answer, with the tag of the request that it belongs to; 101 only where an upgrade was asked for."""
    early = random.choice((b"", b"", b"", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n"))
    status = random.choice(STATUSES)
    options = random.choice((b"", b"", b"Connection: close\r\n", b"Connection: X-A\r\nX-A: 1\r\n"))
    head = b"HTTP/1.1 %d X\r\nX-Tag: %b\r\n%b" % (status, asked.first[1].removeprefix(b"http://app.test"), options)
    if status in (204, 304) or asked.first[0] == b"HEAD":
        return early + head + b"\r\n"
    framing, body = framed(random, some_body(random))
    return early + head + framing + b"\r\n" + body


def mutated(random: Random, message: bytes) -> bytes:
    for _ in range(random.randint(1, 3)):
        start = random.randint(0, min(len(message), 300))
        end = min(len(message), start + random.choice((0, 0, 1, 1, 2, 8)))
        message = message[:start] + random.choice((b"", *SHRAPNEL)) + message[end:]
    return message


def pieces(random: Random, data: bytes) -> list[bytes]:
    if random.random() < 0.3:
        return [data]
    size = random.choice((1, 3, 20, 200, 5000))
    cuts, position = [], 0
    while position < len(data):
        step = random.randint(1, max(size, len(data) // 100))
        cuts.append(data[position : position + step])
        position += step
    return cuts


class BackendScript:
    """What sits behind one backend transport: reads requests strictly, answers well or badly."""

    def __init__(self, world: World, transport: MemoryTransport) -> None:
        self.world = world
        self.transport = transport
        self.requests: list[Read] = []
        self.position = 0
        self.queue: list[bytes] = []
        self.closes = False
        self.tunnel = False

    def look(self) -> None:
        """Read what has arrived and get an answer ready. Raises Fault: the router sent no valid request."""
        random = self.world.random
        if self.tunnel:
            return
        with suppress(Incomplete):
            try:
                asked = read_request(bytes(self.transport.written), self.position)
            except Malformed as malformed:
                raise Fault(f"backend got {bytes(self.transport.written[self.position :])[:300]!r}") from malformed
            self.position = asked.end
            self.requests.append(asked)
            dice = random.random()
            if dice < 0.06:
                self.closes = True
                return
            answer = response(random, asked)
            if asked.all(b"upgrade") and dice < 0.5:
                answer = b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + random.randbytes(9)
            elif dice < 0.3:
                answer = mutated(random, answer)
                self.closes = True
            elif dice < 0.35:
                self.closes = True
            self.tunnel = b" 101 " in answer
            self.world.opaque |= self.tunnel
            self.queue += pieces(random, answer)

    @property
    def busy(self) -> bool:
        return not self.transport.closing and (bool(self.queue) or self.closes)

    def act(self) -> None:
        if self.queue:
            if self.transport.reading:
                self.transport.deliver(self.queue.pop(0))
        elif self.closes:
            self.closes = False
            self.world.random.choice((self.transport.end_of_peer, self.transport.reset_by_peer))()


class World:
    """One round."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.loop = MemoryLoop(random, random.choice((1, 1, 0.05)))
        self.loop.refusing = random.choice((0, 0, 0.3))
        self.loop.dialled = lambda transport: self.backends.append(BackendScript(self, transport))
        self.metrics = Metrics()
        self.table = RouteTable()
        self.edge = Edge(SETTINGS, self.table, self.metrics, None, self.loop)  # type: ignore[arg-type]
        for port in range(1, random.randint(2, 4)):
            self.table.upsert("app.test", EndpointRecord(host="192.0.2.9", port=port))
        pool = self.table.lookup("app.test", "")
        assert pool is not None
        self.endpoints: tuple[Endpoint, ...] = pool.endpoints
        self.backends: list[BackendScript] = []
        self.opaque = False
        """Bytes may have crossed a tunnel: they are nobody's messages."""
        self.sent = b"".join(
            mutated(random, message) if random.random() < 0.2 else message
            for message in (request(random) for _ in range(random.randint(1, 6)))
        )
        self.queue = pieces(random, self.sent)
        self.leaves_early = random.random() < 0.1

    def play(self) -> None:
        client = self.edge.client()
        transport = self.client = MemoryTransport(self.loop, client, "client")
        client.connection_made(transport)  # type: ignore[arg-type]
        for _ in range(STEPS):
            if not self.step():
                break
        else:
            raise Fault(f"no rest after {STEPS} steps")
        self.compare(complete=not self.leaves_early)
        transport.reset_by_peer()
        for other in list(self.loop.transports):
            other.reset_by_peer()
        while self.loop.due:
            self.loop.run_one()
        self.settled()

    def step(self) -> bool:
        """Let one thing happen that can. Returns False if there is none."""
        random = self.random
        client = self.client
        for script in self.backends:
            script.look()
        choices = []
        if self.loop.due:
            choices.append(self.loop.run_one)
        if self.queue and client.reading and not client.closing:
            choices.append(lambda: client.deliver(self.queue.pop(0)))
        choices += [
            script.act for script in self.backends if script.busy and (script.transport.reading or not script.queue)
        ]
        choices += [transport.drain for transport in self.loop.transports if transport.unsent and not transport.closing]
        if not choices:
            return False
        if self.leaves_early and random.random() < 0.01:
            client.reset_by_peer()
        random.choice(choices)()
        return True

    def compare(self, complete: bool) -> None:
        """What the client sent and got against what the backends got, as the strict reader reads it."""
        asked: list[Read] = []
        position = 0
        with suppress(Incomplete, Malformed):
            while position < len(self.sent):
                asked.append(read_request(self.sent, position))
                position = asked[-1].end
        if self.opaque or any(one.first[0] == b"CONNECT" for one in asked):
            return
        meanings = [meaning(one) for one in asked]
        for script in self.backends:
            for got in script.requests:
                if meaning(got) not in meanings:
                    raise Fault(f"nobody sent {got}, but {asked}")
        answers = self.answers(asked)
        if len(answers) > len(asked) + 1:
            raise Fault(f"{len(answers)} answers to {len(asked)} requests")
        for one, answer in zip(asked, answers, strict=False):
            tags = [value for value in answer.all(b"x-tag") if is_tag(value)]
            target = one.first[1].removeprefix(b"http://app.test")
            if tags and is_tag(target) and tags != [target]:
                raise Fault(f"{target!r} got the answer to {tags}")
        if complete and not self.client.closing and not self.client.ended and len(answers) != len(asked):
            raise Fault(f"{len(answers)} answers to {len(asked)} requests, and the connection is open")

    def answers(self, asked: list[Read]) -> list[Read]:
        """Final responses. Raises Fault: the client got something else, other than an end cut off by a reset."""
        data = bytes(self.client.written)
        answers: list[Read] = []
        position = 0
        while position < len(data):
            to_head = len(answers) < len(asked) and asked[len(answers)].first[0] == b"HEAD"
            to_head = to_head and REFUSAL not in data[position:].partition(b"\r\n\r\n")[0]
            try:
                read = read_response(data, position, to_head, self.client.ended or self.client.closing)
            except Incomplete:
                if self.client.aborted or self.leaves_early:
                    break
                raise Fault(f"half an answer: {data[position:][:300]!r}") from None
            except Malformed as malformed:
                raise Fault(f"client got {data[position:][:300]!r}") from malformed
            position = read.end
            if int(read.first[1]) >= 200:
                answers.append(read)
        return answers

    def settled(self) -> None:
        """Raises Fault: something is left over after all connections ended."""
        left = {endpoint.address: endpoint.in_flight for endpoint in self.endpoints if endpoint.in_flight}
        metrics = self.metrics
        if left or metrics.client_connections or metrics.tunnels:
            raise Fault(f"left over: in flight {left}, {metrics.client_connections} clients, {metrics.tunnels} tunnels")
        if metrics.requests != sum(metrics.statuses):
            raise Fault(f"{metrics.requests} requests, {sum(metrics.statuses)} outcomes")
        if len(self.backends) != metrics.backend_connections_opened:
            raise Fault(f"{len(self.backends)} connections, {metrics.backend_connections_opened} counted")


def meaning(message: Read) -> tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]]]:
    """What must be the same in front of the router and behind it. X-A may have been named by Connection."""
    method, target, _ = message.first
    return method, target, message.body, [pair for pair in message.fields if pair[0] not in CHANGED | {b"x-a"}]


def over_sockets(seed: int, edge: RunningEdge) -> None:
    """One client's bytes over real sockets: the edge survives them, and its backends read nothing malformed."""
    random = Random(seed)
    faults: list[str] = []

    def script(wire: Wire) -> None:
        position = 0
        while True:
            try:
                asked = read_request(wire.seen, position)
            except Malformed:
                faults.append(f"backend got {wire.seen[position:][:300]!r}")
                return
            except Incomplete:
                if not wire._more():
                    return
                continue
            position = asked.end
            answer = response(random, asked)
            wire.send(mutated(random, answer) if random.random() < 0.2 else answer)

    with backend(script) as app:
        edge.register("app.test", app.port)
        client = edge.connect()
        client.socket.settimeout(0.05)
        with suppress(OSError):
            for piece in pieces(random, b"".join(mutated(random, request(random)) for _ in range(3))):
                client.send(piece)
            client.read_to_end()
        client.close()
        edge.unregister("app.test", app.port)
    if faults or edge.errors:
        raise Fault(f"{faults} {edge.errors}")


def run(first: int, rounds: int, seconds: float) -> int:
    """Play rounds from seed ``first`` on until either bound is reached; returns how many.

    Raises Fault, which names the seed of the round that failed.
    """
    until = time.monotonic() + seconds
    played = 0
    with running_edge(SETTINGS) as edge:
        while played < rounds and time.monotonic() < until:
            seed = first + played
            world = World(seed)
            try:
                world.play()
                if seed % SOCKET_EVERY == 0:
                    over_sockets(seed, edge)
            except Exception as error:
                raise Fault(f"seed {seed}: {error!r}\n  the client sent {world.sent[:700]!r}") from error
            played += 1
    return played


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.compliance.fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long to play")
    parser.add_argument("--seed", type=int, help="play this one round only")
    arguments = parser.parse_args()
    started = time.monotonic()
    if arguments.seed is not None:
        rounds = run(arguments.seed, 1, arguments.seconds)
    else:
        rounds = run(time.time_ns() % 1_000_000_000, sys.maxsize, arguments.seconds)
    sys.stdout.write(f"{rounds} rounds in {time.monotonic() - started:.1f} s, no fault\n")


if __name__ == "__main__":
    main()
