"""The registry in a Redis Cluster: all keys on one shard, found by URL."""

from __future__ import annotations

import pytest

from router.registry.writer import RegistryWriter
from tests.router.registry.conftest import RedisServer, eventually, free_port
from tests.router.registry.routers import Router
from tests.router.registry.test_follower import StartRedis, entries, hosts

BUS_OFFSET = 10_000


@pytest.fixture
def shard(start_redis: StartRedis) -> RedisServer:
    """A cluster of one node that holds all slots."""
    port = next(port for port in iter(free_port, 0) if port + BUS_OFFSET <= 65535)
    server = start_redis("--save", "", "--cluster-enabled", "yes", port=port)
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
    return server


def test_writing_following_and_pruning_in_a_cluster(shard: RedisServer) -> None:
    url = f"redis+cluster://127.0.0.1:{shard.port}"
    with RegistryWriter(url) as writer, Router(url) as router:
        lease = writer.lease("cell", ttl=60)
        lease.register(entries("a", "b"))
        eventually(lambda: router.routes() == hosts("a", "b"))
        assert lease.renew()
        lease.replace(entries("b", "c"))
        eventually(lambda: router.routes() == hosts("b", "c"))
        assert {found.route for found in writer.list()} == hosts("b", "c")
        assert [lease.name for lease in writer.leases()] == ["cell"]
        assert {change.route for change in writer.changes("0-0", wait=1)} == hosts("a", "b", "c")
        writer.lease("short", ttl=1).register(entries("short"))
        eventually(lambda: router.follower.counters.pruned == 1)
        lease.release()
        eventually(lambda: router.routes() == set())
