"""From a Redis URL to connections: pooled and thread-safe for who writes, one pinned for a router that follows.

Schemes: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` and ``redis+cluster://``. A password never
appears in an error, a log line or a repr that starts here: what people see of a URL went through ``redacted``.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
import redis.asyncio as aioredis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

SOCKET_TIMEOUT: Final = 5.0
"""Seconds that Redis may take for one reply; longer than any XREAD waits."""
CONNECT_TIMEOUT: Final = 2.0
_RETRIES: Final = 3
_DEFAULT_PORT: Final = 6379
_DEFAULT_SENTINEL_PORT: Final = 26379

_TLS_FILES = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}
_QUERY = {
    "redis": frozenset[str](),
    "rediss": frozenset(_TLS_FILES),
    "unix": frozenset({"db"}),
    "redis+sentinel": frozenset({"tls", "sentinel_username", "sentinel_password", *_TLS_FILES}),
    "redis+cluster": frozenset({"tls", *_TLS_FILES}),
}
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>\d{1,5}))?")
_SECRET = re.compile(r"://(?:(?P<user>[^:/@?]*):)?[^/?].*@|://[^/?@]*@")
_SECRET_PARAMETER = re.compile(r"(?<=password=)[^&]*")

_SENTINEL_ADVICE: Final = "start the sentinels, or correct their addresses or the name of the master"
_SLOW_ADVICE: Final = "Redis did not answer in time; is it overloaded, or behind a firewall?"
_ADVICE: Final[tuple[tuple[type[Exception], str], ...]] = (
    (redis.AuthenticationError, "give the right user name and password in the Redis URL"),
    (redis.exceptions.BusyLoadingError, "Redis is loading its data from disk; it will answer when that is done"),
    (redis.ReadOnlyError, "this Redis is a replica; point the URL at the master, or use redis+sentinel://"),
    (redis.exceptions.NoPermissionError, "this Redis user may not do that; see the ACL in docs/route-registry.md"),
    (redis.exceptions.OutOfMemoryError, "Redis is full; raise its maxmemory"),
    (MasterNotFoundError, _SENTINEL_ADVICE),
    (AsyncMasterNotFoundError, _SENTINEL_ADVICE),
    (redis.ConnectionError, "start Redis there, or correct the Redis URL"),
    (redis.TimeoutError, _SLOW_ADVICE),
    (TimeoutError, _SLOW_ADVICE),
)
_ADVICE_BY_WORD: Final = {
    "NOAUTH": "give the user name and password in the Redis URL",
    "MASTERDOWN": "this Redis is a replica that lost its master",
    "NOREPLICAS": "Redis misses the replicas that its min-replicas-to-write asks for",
    "MISCONF": "Redis cannot save to its disk",
}


class InvalidRedisUrl(ValueError):
    """A Redis URL that cannot be used; the message names the part that is wrong."""


def redacted(url: str) -> str:
    """The URL with every password replaced by ``***``; also safe for text that is no URL at all."""

    def without_secret(match: re.Match[str]) -> str:
        user = match.group("user")
        return "://***@" if user is None else f"://{user}:***@"

    return _SECRET_PARAMETER.sub("***", _SECRET.sub(without_secret, url, count=1))


def explained(error: Exception) -> str:
    """What Redis, or the way to it, said, and what to do about it."""
    said = str(error) or type(error).__name__
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return f"{said} ({advice})"
    word = said.split(" ", 1)[0]
    return f"{said} ({_ADVICE_BY_WORD[word]})" if word in _ADVICE_BY_WORD else said


@dataclass(frozen=True, slots=True)
class Location:
    """A parsed Redis URL."""

    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    """Of a unix socket."""
    service: str = ""
    """The name that Sentinel knows the master by."""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_files: tuple[tuple[str, str], ...] = ()

    def login(self) -> dict[str, Any]:
        return {"username": self.username, "password": self.password}

    def tls_options(self) -> dict[str, Any]:
        return dict(self.tls_files)


def _invalid(url: str, problem: str) -> InvalidRedisUrl:
    return InvalidRedisUrl(f"Redis URL {redacted(url)!r}: {problem}")


def _host_port(url: str, text: str, default_port: int) -> tuple[str, int]:
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        # What looks like a host may be the tail of a password that was not percent-encoded: it is not shown.
        raise _invalid(url, "a host must look like name, name:port or [ipv6]:port")
    port = int(match["port"]) if match["port"] else default_port
    if not 1 <= port <= 65535:
        raise _invalid(url, f"port {port} is not in 1..65535")
    return match["host"].strip("[]"), port


def _database(url: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise _invalid(url, f"the database must be a number, not {text!r}")
    return int(text)


def parse(url: str) -> Location:
    """Raises InvalidRedisUrl."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _invalid(url, "the host part is malformed") from None
    scheme = parts.scheme
    if scheme not in _QUERY:
        raise _invalid(url, f"the scheme must be one of {', '.join(f'{known}://' for known in _QUERY)}")
    if parts.fragment:
        raise _invalid(url, "'#' must be written %23")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name not in _QUERY[scheme]:
            known = ", ".join(sorted(_QUERY[scheme])) or "none"
            raise _invalid(url, f"parameter {name!r} is not known to {scheme}:// (known: {known})")
    if options.get("tls", "true") != "true":
        raise _invalid(url, "tls can only be 'true'")

    login, has_login, where = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    common: dict[str, Any] = {
        "scheme": scheme,
        "username": unquote(username) or None,
        "password": unquote(password) or None,
        "tls": scheme == "rediss" or "tls" in options,
        "tls_files": tuple((_TLS_FILES[name], value) for name, value in options.items() if name in _TLS_FILES),
    }
    if has_login and not password:
        raise _invalid(url, "a user name without a password (for a password alone write :password@)")

    if scheme == "unix":
        if where or not parts.path.startswith("/"):
            raise _invalid(url, "the socket must be an absolute path: unix:///path/to/redis.sock")
        return Location(**common, path=unquote(parts.path), db=_database(url, options.get("db", "0")))
    if not where:
        raise _invalid(url, "the host is missing")
    if scheme == "redis+sentinel":
        service, _, db = parts.path.removeprefix("/").partition("/")
        if not service:
            raise _invalid(url, "the name of the master is missing: redis+sentinel://host:26379/name")
        return Location(
            **common,
            hosts=tuple(_host_port(url, text, _DEFAULT_SENTINEL_PORT) for text in where.split(",")),
            service=unquote(service),
            db=_database(url, db or "0"),
            sentinel_username=options.get("sentinel_username"),
            sentinel_password=options.get("sentinel_password"),
        )
    path = parts.path.removeprefix("/")
    if scheme == "redis+cluster":
        if path:
            raise _invalid(url, "a cluster has only one database: leave out what follows the hosts")
        hosts = tuple(_host_port(url, text, _DEFAULT_PORT) for text in where.split(","))
        return Location(**common, hosts=hosts)
    return Location(**common, hosts=(_host_port(url, where, _DEFAULT_PORT),), db=_database(url, path or "0"))


def _timeouts() -> dict[str, Any]:
    return {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT, "socket_keepalive": True}


def pooled_client(location: Location) -> redis.Redis | redis.RedisCluster:
    """A blocking client that threads may share. It retries what failed for want of a connection, so whatever is sent
    through it must bear being done twice. Connects on first use, except to a cluster, which it asks for its shards.

    Raises redis.RedisError.
    """
    options: dict[str, Any] = {
        **_timeouts(),
        **location.login(),
        "protocol": 2,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), _RETRIES),
    }
    if location.tls:
        options |= {"ssl": True, **location.tls_options()}
    if location.scheme == "unix":
        del options["socket_keepalive"]
        return redis.Redis(unix_socket_path=location.path, db=location.db, **options)
    if location.scheme == "redis+cluster":
        nodes = [ClusterNode(host, port) for host, port in location.hosts]  # type: ignore[no-untyped-call]
        return redis.RedisCluster(startup_nodes=nodes, **options)
    if location.scheme == "redis+sentinel":
        sentinels = Sentinel(  # type: ignore[no-untyped-call]
            list(location.hosts), sentinel_kwargs=_sentinel_options(location)
        )
        client: redis.Redis = sentinels.master_for(  # type: ignore[no-untyped-call]
            location.service, db=location.db, **options
        )
        return client
    host, port = location.hosts[0]
    return redis.Redis(host=host, port=port, db=location.db, **options)


def _sentinel_options(location: Location) -> dict[str, Any]:
    options: dict[str, Any] = {**_timeouts(), "protocol": 2}
    if location.sentinel_password:
        options |= {"username": location.sentinel_username, "password": location.sentinel_password}
    if location.tls:
        options |= {"ssl": True, **location.tls_options()}
    return options


def _heed_cancellation() -> None:
    """redis-py's clients use asyncio.wait_for, which in Python 3.11 may lose a cancellation that comes with a reply."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def sentinel_master(location: Location) -> tuple[str, int]:
    """Where the sentinels say the master is now. Raises redis.RedisError: none of them answers, or none knows it."""
    sentinels = AsyncSentinel(  # type: ignore[no-untyped-call]
        list(location.hosts),
        sentinel_kwargs={**_sentinel_options(location), "retry": AsyncRetry(NoBackoff(), 0)},
    )
    try:
        host, port = await sentinels.discover_master(location.service)
        _heed_cancellation()
        return host, int(port)
    finally:
        for sentinel in sentinels.sentinels:
            await sentinel.aclose()


async def _cluster_shard(location: Location, key: str) -> tuple[str, int]:
    options: dict[str, Any] = {**_timeouts(), **location.login(), "protocol": 2}
    if location.tls:
        options |= {"ssl": True, **location.tls_options()}
    nodes = [aioredis.cluster.ClusterNode(host, port) for host, port in location.hosts]
    cluster = aioredis.RedisCluster(startup_nodes=nodes, **options)
    try:
        await cluster.initialize()
        _heed_cancellation()
        node = cluster.get_node_from_key(key)
        if node is None:
            raise redis.ConnectionError(f"no shard of the cluster serves the key {key}")
        return str(node.host), int(node.port)
    finally:
        await cluster.aclose()


async def pinned_connection(location: Location, key: str) -> AbstractConnection:
    """One open connection to the server that holds `key` now. It is never replaced behind the caller's back, so that
    all replies come from the same server; after any error it is to be closed. It sets no time for replies: the caller
    must, with asyncio.timeout.

    Raises redis.RedisError or OSError.
    """
    options: dict[str, Any] = {
        **location.login(),
        "db": location.db,
        "protocol": 2,
        "socket_timeout": None,  # else redis-py sends through asyncio.wait_for: see _heed_cancellation
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": AsyncRetry(NoBackoff(), 0),
    }
    connection: AbstractConnection
    if location.scheme == "unix":
        connection = UnixDomainSocketConnection(path=location.path, **options)
    else:
        if location.scheme == "redis+sentinel":
            host, port = await sentinel_master(location)
        elif location.scheme == "redis+cluster":
            host, port = await _cluster_shard(location, key)
        else:
            host, port = location.hosts[0]
        options |= {"host": host, "port": port, "socket_keepalive": True}
        connection = SSLConnection(**options, **location.tls_options()) if location.tls else Connection(**options)
    try:
        async with asyncio.timeout(SOCKET_TIMEOUT):
            await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection
