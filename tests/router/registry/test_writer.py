"""What a registrar can count on: leases, batches, ownership, and being told when Redis forgot."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from router.registry.records import EndpointRecord, InvalidRecord
from router.registry.scripts import InvalidName, version_order
from router.registry.writer import Lease, RegistryUnavailable, RegistryWriter
from tests.router.registry.conftest import RedisServer

KEYS = "{millrace}:"


def endpoint(number: int, **more: object) -> EndpointRecord:
    return EndpointRecord.from_mapping({"host": f"10.0.{number >> 8}.{number & 255}", "port": 8080, **more})


def held(writer: RegistryWriter) -> set[tuple[str, str, str]]:
    return {(found.route, found.record.address, found.lease) for found in writer.list()}


def log_length(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.xlen(KEYS + "log"))


@pytest.fixture
def lease(writer: RegistryWriter) -> Lease:
    return writer.lease("cell-1", ttl=10, registrar="tests")


def test_registering_shows_in_the_list_under_its_lease(writer: RegistryWriter, lease: Lease) -> None:
    version = lease.register([("App.Example.com/V1/", endpoint(1)), ("*.example.com", endpoint(2))])
    assert held(writer) == {
        ("app.example.com/v1", "10.0.0.1:8080", "cell-1"),
        ("*.example.com", "10.0.0.2:8080", "cell-1"),
    }
    assert writer.version() == version


def test_list_can_be_narrowed_to_one_route(writer: RegistryWriter, lease: Lease) -> None:
    lease.register([("a.example.com", endpoint(1)), ("*.example.com", endpoint(2)), ("b.example.com", endpoint(3))])
    assert [found.record.address for found in writer.list("*.example.com")] == ["10.0.0.2:8080"]


def test_batches_of_any_size_are_written_whole(writer: RegistryWriter, lease: Lease) -> None:
    lease.register((f"r{n}.example.com", endpoint(n)) for n in range(1234))
    assert len(held(writer)) == 1234
    assert lease.unregister((f"r{n}.example.com", endpoint(n).address) for n in range(1200)) == 1200
    assert len(held(writer)) == 34


def test_one_bad_entry_refuses_the_whole_call(writer: RegistryWriter, lease: Lease) -> None:
    with pytest.raises(InvalidRecord, match="not a host"):
        lease.register([("a.example.com", endpoint(1)), ("not a host", endpoint(2))])
    assert held(writer) == set()


def test_unchanged_registration_costs_the_log_nothing(server: RedisServer, lease: Lease) -> None:
    first = lease.register([("a.example.com", endpoint(1))])
    assert lease.register([("a.example.com", endpoint(1))]) == first
    assert log_length(server) == 1
    assert version_order(lease.register([("a.example.com", endpoint(1, app="x"))])) > version_order(first)
    assert log_length(server) == 2


def test_the_last_to_register_owns_the_endpoint(writer: RegistryWriter, server: RedisServer, lease: Lease) -> None:
    other = writer.lease("cell-2", ttl=10)
    lease.register([("a.example.com", endpoint(1))])
    other.register([("a.example.com", endpoint(1))])
    assert log_length(server) == 1, "the routers have nothing to learn from a new owner"
    assert held(writer) == {("a.example.com", "10.0.0.1:8080", "cell-2")}
    assert lease.unregister([("a.example.com", "10.0.0.1:8080")]) == 0
    lease.release()
    assert held(writer) == {("a.example.com", "10.0.0.1:8080", "cell-2")}
    assert other.unregister([("a.example.com", "10.0.0.1:8080")]) == 1


def test_replace_leaves_exactly_what_it_names(writer: RegistryWriter, lease: Lease) -> None:
    lease.register([("a.example.com", endpoint(1)), ("b.example.com", endpoint(2))])
    version = lease.replace([("b.example.com", endpoint(2)), ("c.example.com", endpoint(3))])
    assert {route for route, _, _ in held(writer)} == {"b.example.com", "c.example.com"}
    assert writer.version() == version
    assert lease.renew()


def test_replace_takes_over_what_an_earlier_run_left(writer: RegistryWriter, lease: Lease) -> None:
    lease.register([("a.example.com", endpoint(1))])
    restarted = writer.lease("cell-1", ttl=10)
    restarted.replace([("b.example.com", endpoint(2))])
    assert {route for route, _, _ in held(writer)} == {"b.example.com"}
    assert restarted.renew()


def test_release_takes_everything_along(writer: RegistryWriter, lease: Lease) -> None:
    lease.register((f"r{n}.example.com", endpoint(n)) for n in range(1100))
    lease.release()
    assert held(writer) == set()
    assert writer.leases() == []


def test_leases_tell_who_holds_what(writer: RegistryWriter, lease: Lease) -> None:
    lease.register([("a.example.com", endpoint(1)), ("b.example.com", endpoint(1))])
    writer.lease("static", ttl=0).register([("s.example.com", endpoint(9))])
    cell, static = writer.leases()
    assert (cell.name, cell.registrar, cell.ttl, cell.endpoints) == ("cell-1", "tests", 10, 2)
    assert cell.seconds_left is not None
    assert 9 < cell.seconds_left <= 10
    assert (static.name, static.ttl, static.seconds_left, static.endpoints) == ("static", 0, None, 1)


def test_renewing_moves_the_expiry(server: RedisServer, writer: RegistryWriter, lease: Lease) -> None:
    lease.register([("a.example.com", endpoint(1))])
    with server.client() as client:
        client.zincrby(KEYS + "leases", -9000, "cell-1")
        before = writer.leases()[0].seconds_left
        assert lease.renew()
        after = writer.leases()[0].seconds_left
    assert before is not None
    assert before < 2
    assert after is not None
    assert after > 9


def test_a_lease_that_redis_does_not_know_must_be_replaced(lease: Lease) -> None:
    assert not lease.renew()
    lease.replace([])
    assert lease.renew()


def test_a_wiped_redis_asks_for_everything_again(server: RedisServer, writer: RegistryWriter, lease: Lease) -> None:
    lease.register([("a.example.com", endpoint(1))])
    with server.client() as client:
        client.flushall()
    assert not lease.renew()
    lease.register([("b.example.com", endpoint(2))])
    assert not lease.renew(), "a later registration does not hide that earlier ones are gone"
    lease.replace([("a.example.com", endpoint(1)), ("b.example.com", endpoint(2))])
    assert lease.renew()
    assert len(held(writer)) == 2


@pytest.mark.parametrize("lost", ["table", "log", "meta"])
def test_a_damaged_registry_starts_a_new_epoch(server: RedisServer, lease: Lease, lost: str) -> None:
    lease.register([("a.example.com", endpoint(1))])
    with server.client() as client:
        epoch = client.hget(KEYS + "meta", "epoch")
        client.delete(KEYS + lost)
        assert not lease.renew()
        assert client.hget(KEYS + "meta", "epoch") != epoch
    lease.replace([("a.example.com", endpoint(1))])
    assert lease.renew()


def test_an_older_state_of_redis_is_noticed(server: RedisServer, writer: RegistryWriter, lease: Lease) -> None:
    lease.register([("a.example.com", endpoint(1))])
    with server.client() as client:
        dump = {key: client.dump(key) for key in client.scan_iter()}
        lease.register([("b.example.com", endpoint(2))])
        client.flushall()
        for key, value in dump.items():
            client.restore(key, 0, value)
    assert not lease.renew()
    lease.register([("c.example.com", endpoint(3))])
    lease.register([("d.example.com", endpoint(4))])
    assert not lease.renew(), "catching up in number does not hide the loss"


def test_a_goodbye_for_what_redis_forgot_reaches_the_log(server: RedisServer, lease: Lease) -> None:
    lease.register([("a.example.com", endpoint(1))])
    lease.unregister([("b.example.com", "10.0.0.9:1")])
    assert log_length(server) == 1, "unknown endpoints are nobody's business"
    with server.client() as client:
        client.flushall()
        assert lease.unregister([("a.example.com", endpoint(1).address)]) == 0
        ((_, fields),) = client.xrange(KEYS + "log")
    assert fields == {b"prev": b"0-0", b"-a.example.com 10.0.0.1:8080": b""}


def test_every_log_entry_names_the_one_before(server: RedisServer, lease: Lease) -> None:
    for number in range(5):
        lease.register([("a.example.com", endpoint(number))])
    with server.client() as client:
        entries = client.xrange(KEYS + "log")
    ids = [b"0-0", *(entry_id for entry_id, _ in entries)]
    assert [fields[b"prev"] for _, fields in entries] == ids[:-1]


def test_changes_follow_the_log(writer: RegistryWriter, lease: Lease) -> None:
    start = lease.register([("a.example.com", endpoint(1))])
    assert writer.changes(start, wait=0.01) == []
    lease.unregister([("a.example.com", endpoint(1).address)])
    (change,) = writer.changes(start, wait=1)
    assert (change.route, change.address, change.record) == ("a.example.com", "10.0.0.1:8080", None)


def test_threads_share_writer_and_lease(writer: RegistryWriter, lease: Lease) -> None:
    def register(first: int) -> None:
        for n in range(first, first + 25):
            lease.register([(f"r{n}.example.com", endpoint(n))])

    threads = [threading.Thread(target=register, args=(first,)) for first in range(0, 200, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held(writer)) == 200
    assert lease.renew()


def test_no_redis_says_where_and_what_to_do(folder: Path) -> None:
    writer = RegistryWriter(f"unix://:secret@{folder}/none.sock")
    with pytest.raises(RegistryUnavailable) as caught:
        writer.version()
    assert str(folder) in str(caught.value)
    assert "start Redis" in str(caught.value)
    assert "secret" not in str(caught.value) + repr(writer)


def test_a_script_that_redis_flushed_is_sent_again(server: RedisServer, lease: Lease) -> None:
    lease.register([("a.example.com", endpoint(1))])
    with server.client() as client:
        client.script_flush()
    assert lease.renew()


def test_foreign_entries_are_left_out_of_the_list(server: RedisServer, writer: RegistryWriter, lease: Lease) -> None:
    lease.register([("a.example.com", endpoint(1))])
    with server.client() as client:
        client.hset(KEYS + "table", "b.example.com 10.0.0.2:80", "x not json")
    assert [found.route for found in writer.list()] == ["a.example.com"]


@pytest.mark.parametrize("ttl", [-1, 0.5, 3601])
def test_ttl_has_bounds(writer: RegistryWriter, ttl: float) -> None:
    with pytest.raises(ValueError, match="from 1 to 3600"):
        writer.lease("x", ttl=ttl)


@pytest.mark.parametrize("name", ["", "a b", "x" * 201, "é"])
def test_lease_names_have_bounds(writer: RegistryWriter, name: str) -> None:
    with pytest.raises(InvalidName, match="lease name"):
        writer.lease(name, ttl=10)


def test_keys_of_a_namespace_share_one_hash_tag(server: RedisServer) -> None:
    with RegistryWriter(server.url, namespace="blue") as writer:
        writer.lease("x", ttl=10).register([("a.example.com", endpoint(1))])
    with server.client() as client:
        assert {key.split(b":")[0] for key in client.scan_iter()} == {b"{blue}"}
