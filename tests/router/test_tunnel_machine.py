"""The tunnel as a state machine: whatever two transports do, in any order, nothing is lost, doubled or left over."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.metrics.counters import Metrics
from router.tunnel import IDLE, LIFETIME, LOOKS, STALLED, Tunnel, TunnelEnd


class FakeSide:
    """A transport without a socket; ``take`` is its peer reading. Keeps asyncio's promises; notes who breaks them."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.sent = b""
        """What the peer has sent, as far as the tunnel was given it."""
        self.taken = b""
        """What the peer has read."""
        self.unsent = b""
        self.eof = self.closing = self.lost = self.aborted = self.paused = self.full = False
        self.peer_ended = False

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol

    def get_extra_info(self, _name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        assert not self.lost, "asked after its end"
        return len(self.unsent)

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        assert not self.eof, "bytes after the end"
        if self.closing:
            return
        self.unsent += data
        if not self.full:
            self.full = True
            self.protocol.pause_writing()

    def write_eof(self) -> None:
        assert not self.lost
        assert not self.eof, "ended twice"
        self.eof = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    # What happens outside ---------------------------------------------------------------------------------------

    def take(self, count: int) -> None:
        if self.aborted or self.lost:
            return
        self.taken += self.unsent[:count]
        self.unsent = self.unsent[count:]
        if self.full and not self.unsent:
            self.full = False
            self.protocol.resume_writing()

    def say(self, data: bytes) -> None:
        if not (self.paused or self.closing or self.peer_ended):
            self.sent += data
            self.protocol.data_received(data)

    def end(self, *, even_paused: bool) -> None:
        """The peer ends; a TLS layer may have read that already when it is told to pause."""
        if self.closing or self.peer_ended or (self.paused and not even_paused):
            return
        self.peer_ended = True
        if not self.protocol.eof_received():
            self.closing = True

    def break_off(self) -> None:
        if not self.lost:
            self.closing = self.lost = True
            self.protocol.connection_lost(ConnectionResetError())

    def settle(self) -> None:
        """A turn of the loop: a transport that is closed and has nothing to send is gone."""
        if self.closing and not self.lost and (self.aborted or not self.unsent):
            self.lost = True
            self.protocol.connection_lost(None)


class FakeEdge:
    def __init__(self, idle: float = inf, lifetime: float = inf) -> None:
        self.metrics = Metrics()
        self.tunnel_idle_timeout = idle
        self.tunnel_max_lifetime = lifetime
        self.progress_timeout = 60.0
        self.minded: list[Tunnel] = []

    def mind_tunnel(self, tunnel: Tunnel) -> None:
        self.minded.append(tunnel)

    def forget_tunnel(self, tunnel: Tunnel) -> None:
        self.minded.remove(tunnel)


class World:
    """One tunnel between two fakes, and what was said of it when it was over."""

    def __init__(self, **limits: float) -> None:
        self.edge = FakeEdge(**limits)
        self.client, self.backend = self.sides = FakeSide(), FakeSide()
        self.gone: list[FakeSide] = []
        self.over: list[tuple[int, int, str]] = []
        ends = [TunnelEnd(side, lambda side=side: self.gone.append(side)) for side in self.sides]  # type: ignore[misc]
        self.tunnel = Tunnel(self.edge, self, *ends)  # type: ignore[arg-type]

    def tunnel_over(self, from_client: int, from_backend: int, outcome: str) -> None:
        self.over.append((from_client, from_backend, outcome))

    def settle(self) -> None:
        for _ in range(4):
            for side in self.sides:
                side.settle()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["say", "say", "take", "take", "end", "end early", "break off", "settle"]),
        st.booleans(),
        st.binary(min_size=1, max_size=8),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_bytes_arrive_in_order_and_the_end_is_told_once(
    steps: list[tuple[str, bool, bytes]],
) -> None:
    world = World()
    broken = False
    for step, which, data in steps:
        side, other = world.sides if which else reversed(world.sides)
        match step:
            case "say":
                side.say(data)
            case "take":
                side.take(len(data))
            case "end" | "end early":
                side.end(even_paused=step == "end early")
            case "break off":
                broken = broken or not (side.lost or other.lost)
                side.break_off()
            case _:
                world.settle()
        assert other.sent.startswith(side.taken)
        if not (side.closing or other.closing or other.peer_ended):
            assert other.paused == side.full, "a side is read exactly while the other side takes its bytes"
    for side in world.sides:
        side.take(10_000)
        side.end(even_paused=True)
    for side in world.sides:
        side.take(10_000)
    world.settle()
    assert world.over == [(len(world.client.sent), len(world.backend.sent), world.over[0][2])]
    assert sorted(map(id, world.gone)) == sorted(map(id, world.sides))
    assert world.edge.minded == []
    if not broken:
        assert world.client.taken == world.backend.sent
        assert world.backend.taken == world.client.sent
        assert world.over[0][2] == ""


@given(st.lists(st.sampled_from(["", "client says", "backend says", "client takes", "backend takes"]), max_size=30))
def test_it_is_idle_once_nothing_moved_for_as_many_looks_as_make_up_the_timeout(looks: list[str]) -> None:
    world = World(idle=100.0)
    quiet = 0
    for look in looks:
        before = (world.client.sent, world.backend.sent, world.client.taken, world.backend.taken)
        name, _, act = look.partition(" ")
        if act == "says":
            getattr(world, name).say(b"x")
        elif act == "takes":
            getattr(world, name).take(1)
        moved = before != (world.client.sent, world.backend.sent, world.client.taken, world.backend.taken)
        quiet = 0 if moved else quiet + 1
        world.tunnel.expired(world.tunnel.deadline)
        world.settle()
        assert bool(world.over) == (quiet == LOOKS)
        if world.over:
            assert world.over[0][2] == IDLE
            return


def test_at_the_end_of_its_life_a_busy_tunnel_is_cut() -> None:
    world = World(idle=100.0, lifetime=60.0)
    while not world.over:
        world.client.say(b"x")
        world.backend.take(1)
        world.tunnel.expired(world.tunnel.deadline)
        world.settle()
    assert world.over[0][2] == LIFETIME
    assert all(side.aborted for side in world.sides)


def test_a_side_that_never_takes_the_rest_of_a_closed_tunnel_is_cut() -> None:
    world = World()
    world.backend.say(b"the rest")
    for side in world.sides:
        side.end(even_paused=True)
    world.settle()
    assert world.over == []
    world.client.take(4)
    world.tunnel.expired(world.tunnel.deadline)
    world.settle()
    assert world.over == [], "it still moved"
    world.tunnel.expired(world.tunnel.deadline)
    world.settle()
    assert world.over == [(0, 8, STALLED)]
    assert world.client.aborted
