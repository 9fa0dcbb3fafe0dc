"""The registry against a model: whatever several registrars do, table, log and routers agree.

After every step the table equals the model, replaying the log gives the table, and a follower's sink equals both.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.registry.records import EndpointRecord
from router.registry.scripts import PRUNE, Keys
from router.registry.writer import Lease, RegistryWriter
from tests.router.registry.conftest import RedisServer, eventually
from tests.router.registry.routers import Router
from tests.router.registry.test_writer import KEYS

names = st.sampled_from(["one", "two", "three"])
endpoints = st.tuples(
    st.sampled_from(["a.example.com", "a.example.com/v1", "*.example.com", "tcp:5432/a.example.com"]),
    st.builds(
        EndpointRecord,
        host=st.sampled_from(["10.0.0.1", "10.0.0.2"]),
        port=st.just(80),
        app=st.sampled_from(["x", "y"]),
    ),
)
Key = tuple[str, str]


class Registrars(RuleBasedStateMachine):
    server: RedisServer
    router: Router
    writer: RegistryWriter

    @initialize()
    def start_empty(self) -> None:
        self.client = self.server.client()
        for lease in self.writer.leases():
            self.writer.lease(lease.name, ttl=0).release()
        self.leases: dict[str, Lease] = {name: self.writer.lease(name, ttl=3600) for name in ("one", "two", "three")}
        self.table: dict[Key, tuple[str, EndpointRecord]] = {}
        self.seq: dict[str, int] = {}
        """What Redis counts, of the leases that it knows."""
        self.expected = dict.fromkeys(self.leases, 0)
        """What each registrar was last told."""

    def _behind(self, name: str) -> bool:
        return self.seq.get(name, 0) < self.expected[name]

    def _wrote(self, name: str, *, changed: bool) -> None:
        if not self._behind(name):
            self.seq[name] = self.expected[name] = self.seq.get(name, 0) + changed

    def _write(self, name: str, entries: list[tuple[str, EndpointRecord]]) -> None:
        wanted = {(route, record.address): record for route, record in entries}
        # Of several records for one address in one call the last one stays, but each is a change.
        steps = [((route, record.address), (name, record)) for route, record in entries]
        before = dict(self.table)
        changed = False
        for key, held in steps:
            changed = changed or before.get(key) != held
            before[key] = held
        self.seq.setdefault(name, 0)
        self._wrote(name, changed=changed)
        self.table |= {key: (name, record) for key, record in wanted.items()}

    def _forget(self, name: str) -> None:
        self.table = {key: held for key, held in self.table.items() if held[0] != name}
        self.seq.pop(name, None)

    @rule(name=names, entries=st.lists(endpoints, min_size=1, max_size=4))
    def register(self, name: str, entries: list[tuple[str, EndpointRecord]]) -> None:
        self.leases[name].register(entries)
        self._write(name, entries)

    @rule(name=names, entries=st.lists(endpoints, min_size=1, max_size=3))
    def unregister(self, name: str, entries: list[tuple[str, EndpointRecord]]) -> None:
        keys = {(route, record.address) for route, record in entries}
        owned = {key for key in keys if self.table.get(key, ("",))[0] == name}
        assert self.leases[name].unregister(sorted(keys)) == len(owned)
        for key in owned:
            del self.table[key]
        if name in self.seq:
            self._wrote(name, changed=bool(owned))

    @rule(name=names, entries=st.lists(endpoints, max_size=3))
    def replace(self, name: str, entries: list[tuple[str, EndpointRecord]]) -> None:
        self.leases[name].replace(entries)
        wanted = {(route, record.address): (name, record) for route, record in entries}
        stale = {key for key, held in self.table.items() if held[0] == name} - wanted.keys()
        self.seq[name] = self.expected[name] = max(self.seq.get(name, 0), self.expected[name]) + 1
        self._wrote(name, changed=any(self.table.get(key) != held for key, held in wanted.items()))
        self._wrote(name, changed=bool(stale))
        self.table = {key: held for key, held in self.table.items() if key not in stale} | wanted

    @rule(name=names)
    def renew(self, name: str) -> None:
        assert self.leases[name].renew() == (name in self.seq and not self._behind(name))

    @rule(name=names)
    def release(self, name: str) -> None:
        self.leases[name].release()
        self._forget(name)
        self.expected[name] = 0

    @rule(name=names)
    def restart_the_registrar(self, name: str) -> None:
        self.leases[name] = self.writer.lease(name, ttl=3600)
        self.expected[name] = 0

    @rule(name=names)
    def expire(self, name: str) -> None:
        if name not in self.seq:
            return
        self.client.zadd(KEYS + "leases", {name: 1})
        self.client.hset(KEYS + "meta", "guard", 0)
        keys = Keys("millrace").shared()
        self.client.eval(PRUNE.text, len(keys), *keys, 1000)
        self._forget(name)

    @invariant()
    def table_equals_the_model(self) -> None:
        listed = {(one.route, one.record.address): (one.lease, one.record) for one in self.writer.list()}
        assert listed == self.table
        assert {lease.name for lease in self.writer.leases()} == set(self.seq)

    @invariant()
    def replaying_the_log_gives_the_table(self) -> None:
        replayed: dict[str, bytes] = {}
        for _, fields in self.client.xrange(KEYS + "log"):
            for operation, record in fields.items():
                if operation.startswith(b"+"):
                    replayed[operation[1:].decode()] = record
                elif operation.startswith(b"-"):
                    replayed.pop(operation[1:].decode(), None)
        assert replayed == {f"{route} {address}": r.to_json() for (route, address), (_, r) in self.table.items()}

    @invariant()
    def routers_serve_the_table(self) -> None:
        version = self.writer.version()
        eventually(lambda: self.router.follower.version == version)
        assert self.router.sink.flat() == {key: record for key, (_, record) in self.table.items()}
        assert self.router.follower.counters.resyncs == 1


@pytest.fixture
def registrars(server: RedisServer, writer: RegistryWriter) -> type[Registrars]:
    class Here(Registrars):
        pass

    Here.server, Here.writer = server, writer
    return Here


def test_registrars_and_routers_agree(registrars: type[Registrars]) -> None:
    with Router(registrars.server.url) as router:
        eventually(lambda: router.follower.ready)
        registrars.router = router
        machine = registrars.TestCase
        machine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
        machine().runTest()
