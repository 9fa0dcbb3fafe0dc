"""Pruning by Redis's own clock: who is removed, who is spared, and how much at a time.

Redis's clock cannot be set; what the scripts remember of it can.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from router.registry.scripts import PRUNE, Keys
from router.registry.writer import RegistryWriter
from tests.router.registry.conftest import RedisServer
from tests.router.registry.test_writer import KEYS, endpoint

META, LEASES = KEYS + "meta", KEYS + "leases"


@pytest.fixture
def client(server: RedisServer) -> redis.Redis:
    return server.client()


def prune(client: redis.Redis, budget: int = 1000) -> tuple[bool, int]:
    keys = Keys("millrace").shared()
    more, removed, *_ = client.eval(PRUNE.text, len(keys), *keys, budget)
    return bool(more), removed


def now(client: redis.Redis) -> int:
    seconds, microseconds = client.time()
    return int(seconds * 1000 + microseconds // 1000)


def settled(client: redis.Redis) -> None:
    """As if scripts had been running for long, without a gap."""
    client.hset(META, mapping={"seen": now(client), "guard": 0})


def expired(client: redis.Redis, name: str, ago: int = 1) -> None:
    client.zadd(LEASES, {name: now(client) - ago})


def routes(writer: RegistryWriter) -> set[str]:
    return {found.route for found in writer.list()}


def test_only_expired_leases_leave(writer: RegistryWriter, client: redis.Redis) -> None:
    for name in ("gone", "alive"):
        writer.lease(name, ttl=10).register([(f"{name}.example.com", endpoint(1))])
    writer.lease("static", ttl=0).register([("static.example.com", endpoint(1))])
    settled(client)
    expired(client, "gone")
    assert prune(client) == (False, 1)
    assert routes(writer) == {"alive.example.com", "static.example.com"}
    assert [lease.name for lease in writer.leases()] == ["alive", "static"]
    assert prune(client) == (False, 0)


def test_pruning_is_bounded_and_says_that_there_is_more(writer: RegistryWriter, client: redis.Redis) -> None:
    writer.lease("gone", ttl=10).register((f"r{n}.example.com", endpoint(n)) for n in range(250))
    settled(client)
    expired(client, "gone")
    assert [prune(client, 100) for _ in range(4)] == [(True, 100), (True, 100), (False, 50), (False, 0)]


def test_many_empty_leases_are_bounded_too(writer: RegistryWriter, client: redis.Redis) -> None:
    for n in range(25):
        writer.lease(f"l{n}", ttl=10).replace([])
    settled(client)
    for n in range(25):
        expired(client, f"l{n}")
    while prune(client, 10)[0] or writer.leases():
        assert client.zcard(LEASES) >= 0
    assert writer.leases() == []


def test_an_endpoint_that_moved_away_does_not_leave_with_its_old_lease(
    writer: RegistryWriter, client: redis.Redis
) -> None:
    writer.lease("gone", ttl=10).register([("a.example.com", endpoint(1))])
    writer.lease("alive", ttl=10).register([("a.example.com", endpoint(1))])
    settled(client)
    expired(client, "gone")
    assert prune(client) == (False, 0)
    assert routes(writer) == {"a.example.com"}


@pytest.mark.parametrize("seen_ago", [6_000, 3_600_000], ids=["away", "restored from an old backup"])
def test_after_an_absence_every_lease_gets_one_ttl(writer: RegistryWriter, client: redis.Redis, seen_ago: int) -> None:
    writer.lease("cell", ttl=2).register([("a.example.com", endpoint(1))])
    settled(client)
    expired(client, "cell")
    client.hset(META, "seen", now(client) - seen_ago)
    assert prune(client) == (False, 0)
    (lease,) = writer.leases()
    assert lease.seconds_left is not None
    assert 1.5 < lease.seconds_left <= 2
    # One TTL later, with scripts running all along:
    client.hset(META, "guard", int(client.hget(META, "guard") or 0) - 2000)
    expired(client, "cell")
    client.hset(META, "seen", now(client))
    assert prune(client) == (False, 1)


def test_a_lease_that_waits_for_the_guard_hides_no_other(writer: RegistryWriter, client: redis.Redis) -> None:
    for n in range(5):
        writer.lease(f"long{n}", ttl=3600).register([(f"l{n}.example.com", endpoint(1))])
    writer.lease("short", ttl=1).register([("s.example.com", endpoint(1))])
    client.hset(META, mapping={"seen": now(client), "guard": now(client) - 2000})
    for n in range(5):
        expired(client, f"long{n}", 100_000)
    expired(client, "short", 10)
    removed = sum(prune(client, 2)[1] for _ in range(4))
    assert removed == 1
    assert "s.example.com" not in routes(writer)


def test_a_clock_that_went_back_keeps_nobody_forever(writer: RegistryWriter, client: redis.Redis) -> None:
    writer.lease("cell", ttl=10).register([("a.example.com", endpoint(1))])
    writer.lease("static", ttl=0).register([("s.example.com", endpoint(1))])
    day = 86_400_000
    client.hset(META, mapping={"seen": now(client) + day, "guard": now(client) + day})
    client.zadd(LEASES, {"cell": now(client) + day})
    assert prune(client) == (False, 0)
    cell, static = writer.leases()
    assert cell.seconds_left is not None
    assert 9 < cell.seconds_left <= 10
    assert static.seconds_left is None
    assert int(client.hget(META, "guard") or 0) <= now(client)


def test_scripts_that_run_all_along_set_no_guard(writer: RegistryWriter, client: redis.Redis) -> None:
    lease = writer.lease("cell", ttl=10)
    lease.register([("a.example.com", endpoint(1))])
    guard = client.hget(META, "guard")
    for ago in (400, 4000):
        client.hset(META, "seen", now(client) - ago)
        assert lease.renew()
    assert client.hget(META, "guard") == guard
    assert now(client) - int(client.hget(META, "seen") or 0) < 400, "renewing counts as being there"


def test_the_longest_ttl_is_known_to_routers(writer: RegistryWriter, client: redis.Redis) -> None:
    for name, ttl in (("a", 5), ("b", 90), ("c", 30)):
        writer.lease(name, ttl=ttl).replace([])
    keys = Keys("millrace").shared()
    assert client.eval(PRUNE.text, len(keys), *keys, 0)[4] == 90_000


def test_old_generations_of_the_log_are_trimmed(server: RedisServer, client: redis.Redis) -> None:
    """With a generation of 100 changes instead of 250,000."""
    from router.registry.scripts import REGISTER

    text = REGISTER.text.replace("LOG_GENERATION = 250000", "LOG_GENERATION = 100")
    assert text != REGISTER.text
    keys = Keys("millrace").of_lease("cell")
    started = time.monotonic()
    for n in range(2000):
        args: list[Any] = [
            "cell",
            10_000,
            "",
            0,
            "a.example.com 10.0.0.1:80",
            f'{{"host":"10.0.0.1","port":80,"app":"{n}"}}',
        ]
        client.eval(text, len(keys), *keys, *args)
        assert time.monotonic() - started < 20
    assert 100 <= client.xlen(KEYS + "log") < 400
