"""How a registrar writes: leases, and the endpoints they hold. Also what a person asks: what is registered, by whom.

Blocking and thread-safe; from trio through ``trio.to_thread.run_sync``. Every change is one atomic script and may be
repeated without harm, which the client does when a connection breaks. A writer never renews by itself: that its process
still lives, and wants its endpoints to live, only the registrar can say.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Final, TypeAlias, TypeVar, cast

import redis

from router.registry import connect
from router.registry.records import EndpointRecord, InvalidRecord, route_key
from router.registry.scripts import (
    MAX_BATCH,
    NO_VERSION,
    REGISTER,
    RELEASE,
    RENEW,
    UNREGISTER,
    Keys,
    Script,
    checked_lease_name,
)

MIN_TTL: Final = 1.0
MAX_TTL: Final = 3600.0
_SCAN_SLICE: Final = 500

T = TypeVar("T")
Reply: TypeAlias = list[Any]


class RegistryUnavailable(Exception):
    """Redis cannot be reached or refused; the message says where (without passwords), why, and what to do."""


@dataclass(frozen=True, slots=True)
class Registration:
    """One endpoint of one route, and the lease that holds it."""

    route: str
    record: EndpointRecord
    lease: str


@dataclass(frozen=True, slots=True)
class LeaseInfo:
    """One lease as Redis knows it."""

    name: str
    registrar: str
    ttl: float
    """Seconds; 0 for a static lease."""
    seconds_left: float | None
    """Until it expires unless renewed, below 0 if it waits to be pruned; None for a static lease."""
    endpoints: int


@dataclass(frozen=True, slots=True)
class Change:
    """One change from the log."""

    version: str
    route: str
    address: str
    record: EndpointRecord | None
    """None: the endpoint left."""


Leases: TypeAlias = list[LeaseInfo]
Changes: TypeAlias = list[Change]


def field_of(route: str, address: str) -> str:
    """The table's field of an endpoint: route and address with a space between, which neither can hold.

    Raises InvalidRecord.
    """
    if not address or " " in address or not address.isprintable():
        raise InvalidRecord(f"address {address!r}: give host:port")
    return f"{route_key(route)} {address}"


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, MAX_BATCH)):
        yield batch


class RegistryWriter:
    """The registry in one Redis, to write to and to look at. Connects on first use."""

    def __init__(self, url: str, *, namespace: str = "millrace") -> None:
        """Raises InvalidRedisUrl or InvalidName; does no I/O."""
        self._where = connect.redacted(url)
        self._location = connect.parse(url)
        self._keys = Keys(namespace)
        self._connecting = threading.Lock()
        self._client: Any = None

    def __repr__(self) -> str:
        return f"RegistryWriter({self._where!r})"

    def __enter__(self) -> RegistryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def lease(self, name: str, *, ttl: float, registrar: str = "") -> Lease:
        """A lease to write under; does no I/O. One name belongs to one running program.

        `ttl` is seconds from 1 to 3600; renew about three times as often. 0 makes it static: it never expires.
        `registrar` is free text that tells people who holds it. Raises ValueError.
        """
        if ttl and not MIN_TTL <= ttl <= MAX_TTL:
            raise ValueError(f"ttl {ttl!r} of lease {name!r}: give seconds from {MIN_TTL:g} to {MAX_TTL:g}, or 0")
        return Lease(self, self._keys.of_lease(checked_lease_name(name)), name, round(ttl * 1000), registrar)

    def list(self, route: str | None = None) -> Iterator[Registration]:
        """What is registered, of one route or of all, read in slices while others write: what changes meanwhile may
        show or not. Entries that no program of ours could have written are left out. Raises RegistryUnavailable."""
        pattern = None if route is None else f"{_escaped(route_key(route))} *"
        cursor, seen = -1, set[bytes]()
        while cursor:
            cursor, part = self._slice(max(cursor, 0), pattern)
            for field, value in part.items():
                registration = None if field in seen else _registration(field, value)
                seen.add(field)
                if registration is not None:
                    yield registration

    def leases(self) -> Leases:
        """Every lease, by name. Raises RegistryUnavailable."""

        def read(client: Any) -> Leases:
            seconds, microseconds = client.time()
            now = seconds + microseconds / 1e6
            found = []
            for raw_name, expiry in client.zrange(self._keys.leases, 0, -1, withscores=True):
                name = raw_name.decode()
                ttl, registrar = client.hmget(self._keys.lease(name), "ttl", "registrar")
                if ttl is None:  # released since
                    continue
                left = round(expiry / 1000 - now, 3) if int(ttl) else None
                endpoints = client.scard(self._keys.owned(name))
                found.append(LeaseInfo(name, registrar.decode(), int(ttl) / 1000, left, endpoints))
            return sorted(found, key=lambda lease: lease.name)

        return self.call(read)

    def version(self) -> str:
        """The table's version: the id of the newest log entry. Raises RegistryUnavailable."""
        version = self.call(lambda client: client.hget(self._keys.meta, "version"))
        return version.decode() if version else NO_VERSION

    def changes(self, after: str, *, wait: float) -> Changes:
        """What the log holds after a version, waiting up to `wait` seconds (below 4) for the first.

        Raises RegistryUnavailable.
        """
        reply = self.call(
            lambda client: client.xread({self._keys.log: after}, count=100, block=max(1, round(wait * 1000)))
        )
        return [
            Change(version.decode(), route.decode(), address.decode(), _record(value) if op == b"+" else None)
            for _, entries in reply
            for version, fields in entries
            for op, route, address, value in _operations(fields)
        ]

    def close(self) -> None:
        """Connections are closed; the endpoints stay until their leases expire."""
        with self._connecting:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def call(self, work: Callable[[Any], T]) -> T:
        """`work` with a connected client; what goes wrong becomes RegistryUnavailable."""
        try:
            with self._connecting:
                if self._client is None:
                    self._client = connect.pooled_client(self._location)
                client = self._client
            return work(client)
        except (redis.RedisError, OSError) as error:
            raise RegistryUnavailable(f"registry at {self._where}: {connect.explained(error)}") from error

    def run(self, script: Script, keys: tuple[str, ...], arguments: Iterable[str | bytes | int]) -> Reply:
        """One script call. Raises RegistryUnavailable."""
        sent = (*keys, *arguments)

        def evaluate(client: Any) -> Reply:
            try:
                return cast(Reply, client.evalsha(script.sha, len(keys), *sent))
            except redis.exceptions.NoScriptError:
                return cast(Reply, client.eval(script.text, len(keys), *sent))

        return self.call(evaluate)

    def owned(self, name: str) -> set[str]:
        """The table's fields that a lease holds. Raises RegistryUnavailable."""
        key = self._keys.owned(name)
        return self.call(lambda client: {field.decode() for field in client.sscan_iter(key, count=_SCAN_SLICE)})

    def _slice(self, cursor: int, pattern: str | None) -> tuple[int, dict[bytes, bytes]]:
        reply: tuple[int, dict[bytes, bytes]] = self.call(
            lambda client: client.hscan(self._keys.table, cursor, match=pattern, count=_SCAN_SLICE)
        )
        return reply


class Lease:
    """What one registrar holds. Calls from several threads are taken one after the other."""

    def __init__(self, writer: RegistryWriter, keys: tuple[str, ...], name: str, ttl_ms: int, registrar: str) -> None:
        self.name = name
        self._writer = writer
        self._keys = keys
        self._ttl_ms = ttl_ms
        self._registrar = registrar
        self._turn = threading.RLock()
        self._seq = 0
        """The count of changes that Redis confirmed; what Redis must still hold when it is asked again."""

    def __repr__(self) -> str:
        return f"Lease({self.name!r}, ttl={self._ttl_ms / 1000:g})"

    def register(self, entries: Iterable[tuple[str, EndpointRecord]]) -> str:
        """The endpoints are now these, whoever held them before, and the lease runs for another TTL.

        Returns the table's version after. What is registered already, equal, costs the routers nothing.
        Raises InvalidRecord (nothing was written), RegistryUnavailable (some of it may be; do it again).
        """
        checked = [(f"{route_key(route)} {record.address}", record.to_json()) for route, record in entries]
        with self._turn:
            return self._register(checked)

    def unregister(self, entries: Iterable[tuple[str, str]]) -> int:
        """The endpoints (route, address) leave, where this lease holds them. Returns how many did.

        Raises InvalidRecord, RegistryUnavailable.
        """
        fields = [field_of(route, address) for route, address in entries]
        with self._turn:
            return self._unregister(fields)

    def register_packed(self, entries: Iterable[tuple[str, bytes]]) -> None:
        """As `register`, for fields and records that are checked and packed already, as the table holds them.

        Raises RegistryUnavailable.
        """
        with self._turn:
            self._register(entries)

    def unregister_fields(self, fields: Iterable[str]) -> int:
        """As `unregister`, for fields as the table holds them. Raises RegistryUnavailable."""
        with self._turn:
            return self._unregister(fields)

    def adopt(self) -> None:
        """The caller goes on with this lease, and will write everything that it wants registered.

        Raises RegistryUnavailable.
        """
        with self._turn:
            _, self._seq, _ = self._renew(adopt=True)

    def owned(self) -> set[str]:
        """The table's fields that it holds. Raises RegistryUnavailable."""
        return self._writer.owned(self.name)

    def size(self) -> int:
        """How many these are. Raises RegistryUnavailable."""
        return self._writer.call(lambda client: int(client.scard(self._keys[-1])))

    def renew(self) -> bool:
        """The lease runs for another TTL. False: Redis has forgotten some of what this lease wrote, and the caller must
        `replace` with everything that it wants registered. Raises RegistryUnavailable."""
        with self._turn:
            known, _, _ = self._renew(adopt=False)
            return known

    def replace(self, entries: Iterable[tuple[str, EndpointRecord]]) -> str:
        """The lease then holds exactly these; new ones come before old ones leave. Returns the table's version after.

        Raises as `register` does.
        """
        wanted = {f"{route_key(route)} {record.address}": record.to_json() for route, record in entries}
        with self._turn:
            # Adopted first, so that what a failover loses from here on shows at the next renewal.
            _, self._seq, version = self._renew(adopt=True)
            stale = self._writer.owned(self.name) - wanted.keys()
            if wanted:
                version = self._register(wanted.items())
            if stale:
                self._unregister(sorted(stale))
                version = self._writer.version()
            return version

    def release(self) -> None:
        """All endpoints of the lease leave, and the lease with them. Raises RegistryUnavailable."""
        with self._turn:
            while not self._writer.run(RELEASE, self._keys, (self.name, MAX_BATCH))[0]:
                continue
            self._seq = 0

    def _register(self, entries: Iterable[tuple[str, bytes]]) -> str:
        version = None
        for batch in _batches(entries):
            pairs = [part for entry in batch for part in entry]
            seq, behind, version, _ = self._writer.run(
                REGISTER, self._keys, (self.name, self._ttl_ms, self._registrar, self._seq, *pairs)
            )
            self._note(seq, behind)
        return self._writer.version() if version is None else version.decode()

    def _unregister(self, fields: Iterable[str]) -> int:
        total = 0
        for batch in _batches(fields):
            seq, behind, _, left = self._writer.run(UNREGISTER, self._keys, (self.name, self._seq, *batch))
            self._note(seq, behind)
            total += left
        return total

    def _renew(self, *, adopt: bool) -> tuple[bool, int, str]:
        known, seq, version = self._writer.run(
            RENEW, self._keys, (self.name, self._ttl_ms, self._registrar, self._seq, int(adopt))
        )
        return bool(known), seq, version.decode()

    def _note(self, seq: int, behind: int) -> None:
        # While Redis is behind, what it should hold stays remembered: renewing must go on answering False.
        if not behind:
            self._seq = seq


def _escaped(glob: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in glob)


def _operations(fields: dict[bytes, bytes]) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    for key, value in fields.items():
        route, space, address = key[1:].partition(b" ")
        if key[:1] in (b"+", b"-") and space:
            yield key[:1], route, address, value


def _record(text: bytes) -> EndpointRecord | None:
    try:
        return EndpointRecord.from_json(text)
    except InvalidRecord:
        return None


def _registration(field: bytes, value: bytes) -> Registration | None:
    route = field.partition(b" ")[0]
    lease, _, text = value.partition(b" ")
    record = _record(text)
    return None if record is None else Registration(route.decode(), record, lease.decode())
