"""Failover: real sentinels, a real master that dies, and writes that the replica never got."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from router.registry.writer import RegistryUnavailable, RegistryWriter
from tests.router.registry.conftest import RedisServer, eventually, free_port, redis_binary
from tests.router.registry.routers import Router
from tests.router.registry.test_follower import StartRedis, entries, hosts


@dataclass
class Trio:
    """A master, its replica, and the sentinel that watches them."""

    master: RedisServer
    replica: RedisServer
    sentinel_port: int

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel_port}/main"

    def sentinel(self) -> redis.Redis:
        return redis.Redis(port=self.sentinel_port, decode_responses=True, protocol=2)

    def replica_has(self, version: str) -> bool:
        with self.replica.client() as client:
            return client.hget("{millrace}:meta", "version") == version.encode()


def eventually_true(work: Callable[[], bool], within: float = 20.0) -> None:
    """As a registrar does: what Redis cannot take now is tried again."""

    def attempt() -> bool:
        try:
            return work()
        except RegistryUnavailable:
            return False

    eventually(attempt, within)


@pytest.fixture
def trio(start_redis: StartRedis, folder: Path) -> Iterator[Trio]:
    at_once = ("--save", "", "--repl-diskless-sync-delay", "0")
    master = start_redis(*at_once, port=free_port())
    replica = start_redis(*at_once, "--replicaof", "127.0.0.1", str(master.port), port=free_port())
    port = free_port()
    configuration = folder / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor main 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
    )
    with (
        (folder / "sentinel.log").open("wb") as log,
        subprocess.Popen([redis_binary(), str(configuration), "--sentinel"], stdout=log) as process,
    ):
        found = Trio(master, replica, port)
        with found.sentinel() as sentinel:
            eventually(lambda: _knows_the_replica(sentinel))
        yield found
        process.kill()


def _knows_the_replica(sentinel: redis.Redis) -> bool:
    try:
        known = sentinel.sentinel_slaves("main")
    except redis.RedisError:
        return False
    return bool(known) and known[0]["flags"] == "slave" and known[0]["master-link-status"] == "ok"


def test_failover_heals_lost_writes_within_one_renewal(trio: Trio) -> None:
    with RegistryWriter(trio.url) as writer, Router(trio.url) as router:
        lease = writer.lease("cell", ttl=60)
        version = lease.register(entries("a", "b"))
        eventually(lambda: router.follower.version == version and trio.replica_has(version))
        with trio.replica.client() as client:
            client.replicaof("127.0.0.1", "1")  # nobody: from here on writes do not reach it
        version = lease.register(entries("a", "b", "lost"))
        eventually(lambda: router.follower.version == version)
        trio.master.kill()
        eventually(lambda: router.follower.unconfirmed == 1, within=20)
        assert router.routes() == hosts("a", "b", "lost")
        renewed: list[bool] = []
        eventually_true(lambda: renewed.append(lease.renew()) or True)
        assert renewed == [False], "the first renewal tells that writes were lost"
        lease.replace(entries("a", "b", "lost"))
        eventually(lambda: router.follower.unconfirmed == 0)
        assert router.routes() == hosts("a", "b", "lost")
        assert router.sink.removals == 0
        assert lease.renew()


def test_a_router_leaves_a_master_that_the_sentinels_gave_up(trio: Trio) -> None:
    with RegistryWriter(trio.url) as writer, Router(trio.url) as router:
        version = writer.lease("cell", ttl=60).register(entries("a"))
        eventually(lambda: router.follower.version == version and trio.replica_has(version))
        # As behind a partition: the old master goes on as if nothing had happened.
        with trio.replica.client() as client, trio.sentinel() as sentinel:
            client.replicaof("NO", "ONE")
            sentinel.execute_command("SENTINEL", "REMOVE", "main")
            sentinel.execute_command("SENTINEL", "MONITOR", "main", "127.0.0.1", trio.replica.port, 1)
        with RegistryWriter(trio.url) as other:
            eventually_true(lambda: bool(other.lease("new", ttl=60).register(entries("a", "b"))))
        eventually(lambda: router.routes() == hosts("a", "b"), within=20)
        assert router.follower.counters.reconnects >= 1
        with trio.master.client() as client:
            assert client.role()[0] == b"master"


def test_sentinels_that_know_no_such_master_are_named(trio: Trio) -> None:
    with (
        RegistryWriter(trio.url.replace("/main", "/other")) as writer,
        pytest.raises(RegistryUnavailable, match="correct their addresses or the name of the master"),
    ):
        writer.version()
