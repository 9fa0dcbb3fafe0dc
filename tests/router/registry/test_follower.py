"""What a router can count on: a complete table before it is ready, no gaps, and no lost route when Redis fails."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from router.registry.records import EndpointRecord
from router.registry.scripts import REGISTER, UNREGISTER, Keys
from router.registry.writer import RegistryWriter
from tests.router.registry.conftest import RedisServer, eventually, free_port
from tests.router.registry.routers import Router
from tests.router.registry.test_writer import KEYS, endpoint

StartRedis = Callable[..., RedisServer]
AOF = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")


def entries(*names: str) -> list[tuple[str, EndpointRecord]]:
    return [(f"{name}.example.com", endpoint(number)) for number, name in enumerate(names)]


def hosts(*names: str) -> set[str]:
    return {f"{name}.example.com" for name in names}


def test_an_empty_registry_makes_a_ready_router(server: RedisServer) -> None:
    with Router(server.url) as router:
        eventually(lambda: router.follower.ready)
        assert router.routes() == set()
        assert router.follower.connected
    assert router.became_ready == 1


def test_ready_means_complete(server: RedisServer, writer: RegistryWriter) -> None:
    version = writer.lease("cell", ttl=60).register((f"r{n}.example.com", endpoint(n)) for n in range(3000))
    with Router(server.url) as router:
        eventually(lambda: router.follower.ready)
        assert len(router.routes()) == 3000
        assert router.follower.version == version
        assert router.follower.lag == 0


def test_changes_arrive_in_order(server: RedisServer, writer: RegistryWriter) -> None:
    lease = writer.lease("cell", ttl=60)
    with Router(server.url) as router:
        eventually(lambda: router.follower.ready)
        lease.register(entries("a", "b"))
        lease.register([("a.example.com", endpoint(0, app="new"))])
        lease.unregister([("b.example.com", endpoint(1).address)])
        version = lease.register(entries("c"))
        eventually(lambda: router.follower.version == version)
        assert {route: r.app for (route, _), r in router.sink.flat().items()} == {
            "a.example.com": "new",
            "c.example.com": "",
        }
        assert router.follower.counters.resyncs == 1, "only the first load"


def test_expired_leases_leave_every_router(server: RedisServer, writer: RegistryWriter) -> None:
    dead, alive = writer.lease("dead", ttl=1), writer.lease("alive", ttl=60)
    dead.register(entries("a"))
    alive.register(entries("b"))
    with Router(server.url) as one, Router(server.url) as other:
        eventually(lambda: one.routes() == other.routes() == hosts("b"))
    assert one.follower.counters.pruned + other.follower.counters.pruned == 1


def test_a_trimmed_log_is_made_good_without_flapping(server: RedisServer, writer: RegistryWriter) -> None:
    lease = writer.lease("cell", ttl=60)
    lease.register((f"r{n}.example.com", endpoint(n)) for n in range(2000))
    with Router(server.url) as router, server.client() as client:
        eventually(lambda: router.follower.ready)
        keys = Keys("millrace").of_lease("cell")
        with client.pipeline(transaction=True) as together:
            # In one transaction, so that the follower cannot read the log before it is trimmed.
            together.eval(UNREGISTER.text, len(keys), *keys, "cell", 0, f"r0.example.com {endpoint(0).address}")
            together.xtrim(KEYS + "log", maxlen=0, approximate=False)
            together.execute()
        lease.register(entries("new"))
        eventually(lambda: "new.example.com" in router.routes() and "r0.example.com" not in router.routes())
        assert router.follower.counters.resyncs == 2
        assert (router.sink.upserts, router.sink.removals) == (2001, 1), "only the differences touch the table"
        assert router.follower.unconfirmed == 0, "a trimmed log is no lost write"


def test_a_wiped_redis_costs_no_route(server: RedisServer, writer: RegistryWriter) -> None:
    lease = writer.lease("cell", ttl=60)
    lease.register(entries("a", "b", "c"))
    with Router(server.url) as router, server.client() as client:
        eventually(lambda: router.follower.ready)
        client.flushall()
        eventually(lambda: router.follower.unconfirmed == 3)
        assert router.routes() == hosts("a", "b", "c")
        assert not lease.renew()
        lease.replace(entries("a", "b"))
        eventually(lambda: router.follower.unconfirmed == 1)
        assert router.routes() == hosts("a", "b", "c")
        assert router.sink.removals == 0


def test_what_nobody_confirms_leaves_in_the_end(server: RedisServer, writer: RegistryWriter) -> None:
    writer.lease("cell", ttl=1).register(entries("a"))
    with Router(server.url, settle=0.5) as router, server.client() as client:
        eventually(lambda: router.follower.ready)
        client.flushall()
        eventually(lambda: router.follower.unconfirmed == 1)
        eventually(lambda: router.routes() == set())
        assert router.follower.unconfirmed == 0


def test_a_goodbye_ends_what_is_unconfirmed(server: RedisServer, writer: RegistryWriter) -> None:
    lease = writer.lease("cell", ttl=60)
    lease.register(entries("a", "b"))
    with Router(server.url) as router, server.client() as client:
        eventually(lambda: router.follower.ready)
        client.flushall()
        eventually(lambda: router.follower.unconfirmed == 2)
        lease.unregister([("a.example.com", endpoint(0).address)])
        eventually(lambda: router.routes() == hosts("b"))


def test_a_wipe_followed_by_new_entries_is_seen_by_the_chain(server: RedisServer, writer: RegistryWriter) -> None:
    writer.lease("old", ttl=60).register(entries("a"))
    with Router(server.url) as router, server.client() as client:
        eventually(lambda: router.follower.ready)
        client.flushall()
        writer.lease("new", ttl=60).register([("n.example.com", endpoint(7))])
        eventually(lambda: "n.example.com" in router.routes())
        assert router.routes() == hosts("a", "n")
        assert router.follower.unconfirmed == 1


def test_bad_entries_are_skipped_and_counted(server: RedisServer, writer: RegistryWriter) -> None:
    with Router(server.url) as router, server.client() as client:
        eventually(lambda: router.follower.ready)
        keys = Keys("millrace").of_lease("odd")
        good = endpoint(1)
        pairs = {
            "A.example.com 10.0.0.1:8080": good.to_json(),
            "a.example.com 10.9.9.9:8080": good.to_json(),
            "b.example.com 10.0.0.1:8080": b"no json",
            "c.example.com 10.0.0.1:8080": good.to_json().replace(b"{", b"{\n"),
            "\xff 10.0.0.1:8080": good.to_json(),
            "no-address": good.to_json(),
            "good.example.com 10.0.0.1:8080": good.to_json(),
        }
        flat = [part for pair in pairs.items() for part in pair]
        client.eval(REGISTER.text, len(keys), *keys, "odd", 60000, "", 0, *flat)
        eventually(lambda: router.routes() == hosts("good"))
        eventually(lambda: router.follower.skipped == 6)
    with Router(server.url) as late:
        eventually(lambda: late.follower.ready)
        assert late.routes() == hosts("good")
        assert late.follower.skipped == 6


def test_killed_redis_with_its_log_on_disk(start_redis: StartRedis) -> None:
    server = start_redis(*AOF)
    with RegistryWriter(server.url) as writer, Router(server.url) as router:
        lease = writer.lease("cell", ttl=60)
        lease.register(entries("a", "b"))
        eventually(lambda: router.routes() == hosts("a", "b"))
        server.kill()
        eventually(lambda: not router.follower.connected)
        assert router.routes() == hosts("a", "b")
        server.start()
        eventually(lambda: router.follower.connected)
        assert lease.renew(), "nothing was lost"
        version = lease.register(entries("a", "b", "c"))
        eventually(lambda: router.follower.version == version)
        assert router.routes() == hosts("a", "b", "c")
        assert router.follower.counters.resyncs == 1, "the same version needs no load"
        assert router.follower.counters.reconnects == 1
        assert router.sink.removals == 0


def test_killed_redis_that_comes_back_empty(start_redis: StartRedis) -> None:
    server = start_redis("--save", "")
    with RegistryWriter(server.url) as writer, Router(server.url) as router:
        lease = writer.lease("cell", ttl=60)
        lease.register(entries("a", "b"))
        eventually(lambda: router.routes() == hosts("a", "b"))
        server.restart()
        eventually(lambda: router.follower.unconfirmed == 2)
        assert not lease.renew()
        lease.replace(entries("a", "b"))
        eventually(lambda: router.follower.unconfirmed == 0)
        assert (router.sink.upserts, router.sink.removals) == (2, 0)


def test_redis_that_comes_back_older_keeps_what_it_lost(start_redis: StartRedis) -> None:
    server = start_redis("--save", "")
    with RegistryWriter(server.url) as writer, Router(server.url) as router:
        lease = writer.lease("cell", ttl=60)
        lease.register(entries("a"))
        with server.client() as client:
            client.save()
        lease.register(entries("a", "b"))
        eventually(lambda: router.routes() == hosts("a", "b"))
        server.restart()
        eventually(lambda: router.follower.unconfirmed == 1)
        assert router.routes() == hosts("a", "b")
        assert not lease.renew()
        lease.replace(entries("a", "b"))
        eventually(lambda: router.follower.unconfirmed == 0)
        assert router.sink.removals == 0


def test_paused_redis_prunes_nobody_when_it_wakes(start_redis: StartRedis) -> None:
    server = start_redis("--save", "")
    with RegistryWriter(server.url) as writer, Router(server.url) as router:
        writer.lease("cell", ttl=1).register(entries("a"))
        eventually(lambda: router.routes() == hosts("a"))
        server.signal(signal.SIGSTOP)
        eventually(lambda: not router.follower.connected, within=12)
        server.signal(signal.SIGCONT)
        eventually(lambda: router.follower.connected)
        lease = writer.leases()[0]
        assert lease.seconds_left is not None
        assert lease.seconds_left < 0
        assert router.routes() == hosts("a"), "it is overdue, but it could not renew"


def test_a_router_that_lost_redis_does_not_prune_for_a_while(start_redis: StartRedis) -> None:
    server = start_redis(*AOF)
    with RegistryWriter(server.url) as writer, Router(server.url, settle=3) as router:
        eventually(lambda: router.follower.ready)
        server.restart()
        eventually(lambda: router.follower.counters.reconnects == 1)
        writer.lease("cell", ttl=1).register(entries("a"))
        eventually(lambda: router.routes() == hosts("a"))
        eventually(lambda: (writer.leases()[0].seconds_left or 0) < -0.5)
        assert router.routes() == hosts("a")
        eventually(lambda: router.routes() == set())


def test_starting_without_redis_serves_the_snapshot(start_redis: StartRedis, folder: Path) -> None:
    server, snapshot = start_redis("--save", ""), folder / "data" / "routes"
    with RegistryWriter(server.url) as writer:
        lease = writer.lease("cell", ttl=60)
        lease.register(entries("a", "b"))
        with Router(server.url, snapshot) as router:
            eventually(lambda: router.follower.ready)
        server.kill()
        with Router(server.url, snapshot, grace=0.2) as router:
            eventually(lambda: router.follower.ready)
            assert router.routes() == hosts("a", "b")
            assert not router.follower.connected
            server.start()
            eventually(lambda: router.follower.unconfirmed == 2)
            assert router.became_ready == 1
        with Router(server.url, snapshot) as router:
            eventually(lambda: router.follower.ready)
            assert router.follower.unconfirmed == 2, "a restart does not turn what is unconfirmed into the truth"
            lease.replace(entries("a", "b"))
            eventually(lambda: router.follower.unconfirmed == 0)


def test_a_snapshot_of_the_current_version_needs_no_load(
    server: RedisServer, writer: RegistryWriter, folder: Path
) -> None:
    lease = writer.lease("cell", ttl=60)
    lease.register(entries("a"))
    with Router(server.url, folder / "routes") as router:
        eventually(lambda: router.follower.ready)
    lease.register(entries("a", "b"))
    with Router(server.url, folder / "routes") as router:
        eventually(lambda: router.follower.ready)
        assert router.routes() == hosts("a", "b")
        assert router.follower.counters.resyncs == 0


def test_without_redis_and_snapshot_a_router_is_not_ready(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Router(f"unix://{folder}/none.sock", grace=0.1) as router:
        eventually(lambda: "start Redis there" in caplog.text)
        eventually(lambda: router.follower.silence is None)
        assert not router.follower.ready
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1, "said once, not at every attempt"


def test_a_redis_that_is_not_there_yet_is_waited_for(start_redis: StartRedis, caplog: pytest.LogCaptureFixture) -> None:
    master = start_redis("--save", "", port=free_port())
    server = start_redis("--save", "", "--requirepass", "secret", port=free_port())
    with Router(server.url) as router:
        eventually(lambda: "user name and password in the Redis URL" in caplog.text)
        with redis.Redis(port=server.port, password="secret", protocol=2) as client:
            client.config_set("requirepass", "")
            client.replicaof("127.0.0.1", str(master.port))
            eventually(lambda: "this Redis is a replica" in caplog.text)
            assert not router.follower.ready
            client.replicaof("NO", "ONE")
            eventually(lambda: router.follower.ready)


def test_a_redis_that_may_not_write_is_followed_all_the_same(
    start_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis("--save", "")
    with RegistryWriter(server.url) as writer, server.client() as client:
        writer.lease("cell", ttl=60).register(entries("a"))
        client.config_set("min-replicas-to-write", 1)
        with Router(server.url) as router:
            eventually(lambda: router.follower.ready)
            assert router.routes() == hosts("a")
            eventually(lambda: "expired leases stay for now" in caplog.text)
            assert router.follower.connected
