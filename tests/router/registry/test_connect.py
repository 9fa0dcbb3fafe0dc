"""Redis URLs: what each part means, what is refused, and that no password is ever shown."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from router.registry.connect import InvalidRedisUrl, Location, parse, pinned_connection, redacted
from router.registry.feed import Feed
from router.registry.scripts import Keys
from router.registry.writer import RegistryUnavailable, RegistryWriter
from tests.router.registry.conftest import RedisServer, eventually, free_port, redis_binary
from tests.router.registry.routers import Router
from tests.router.registry.test_writer import endpoint


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("redis://h", Location("redis", (("h", 6379),))),
        ("redis://h:1/2", Location("redis", (("h", 1),), db=2)),
        ("redis://u%40:p%2Fw@[::1]:1", Location("redis", (("::1", 1),), username="u@", password="p/w")),
        ("redis://:pw@h", Location("redis", (("h", 6379),), password="pw")),
        (
            "rediss://h?ca=/ca.pem",
            Location("rediss", (("h", 6379),), tls=True, tls_files=(("ssl_ca_certs", "/ca.pem"),)),
        ),
        ("unix:///tmp/a%20b.sock", Location("unix", path="/tmp/a b.sock")),
        ("unix:///tmp/s?db=3", Location("unix", path="/tmp/s", db=3)),
        (
            "redis+sentinel://u:p@a,b:1/main/4?sentinel_password=s",
            Location(
                "redis+sentinel",
                (("a", 26379), ("b", 1)),
                service="main",
                db=4,
                username="u",
                password="p",
                sentinel_password="s",
            ),
        ),
        ("redis+cluster://a:1,b:2?tls=true", Location("redis+cluster", (("a", 1), ("b", 2)), tls=True)),
    ],
)
def test_urls_that_are_understood(url: str, location: Location) -> None:
    assert parse(url) == location


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "the scheme must be one of redis://"),
        ("http://h", "the scheme must be one of"),
        ("redis://", "the host is missing"),
        ("redis://h:0", "port 0 is not in 1..65535"),
        ("redis://h:99999", "port 99999 is not"),
        ("redis://h:x", "a host must look like"),
        ("redis://a,b", "a host must look like"),
        ("redis://h/x", "the database must be a number, not 'x'"),
        ("redis://user@h", "a user name without a password"),
        ("redis://h?timeout=3", "parameter 'timeout' is not known to redis://"),
        ("redis://h#x", "'#' must be written %23"),
        ("redis://[::1", "malformed"),
        ("unix://tmp/s", "absolute path"),
        ("redis+sentinel://h", "the name of the master is missing"),
        ("redis+cluster://h/1", "only one database"),
        ("redis+cluster://h?tls=no", "tls can only be 'true'"),
    ],
)
def test_urls_that_are_refused_by_the_part_that_is_wrong(url: str, problem: str) -> None:
    with pytest.raises(InvalidRedisUrl) as refused:
        parse(url)
    assert problem in str(refused.value)


SECRET = "pa55w0rd"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@h",
        f"redis://user:{SECRET}@h:1/x",
        f"redis://{SECRET}@h",
        f"redis://u:a/{SECRET}@h",
        f"redis://u:a@{SECRET}@h",
        f"redis://u:#{SECRET}@h",
        f"redis+sentinel://u:{SECRET}@a,b/x?sentinel_password={SECRET}&sentinel_username=x",
        f"wrong://u:{SECRET}@h",
        f"redis://u:{SECRET}@h:port",
    ],
)
def test_passwords_are_never_shown(url: str) -> None:
    assert SECRET not in redacted(url)
    try:
        shown = repr(parse(url))
    except InvalidRedisUrl as refused:
        shown = str(refused)
    assert SECRET not in shown


@given(
    st.text(max_size=60) | st.from_regex(r"(redis|unix|redis\+sentinel)://[a-z:@,/?=\[\]%0-9.]{0,40}", fullmatch=True)
)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    redacted(text)
    try:
        location = parse(text)
    except InvalidRedisUrl:
        return
    assert location.hosts or location.path.startswith("/")


@given(
    st.text(st.characters(codec="ascii", exclude_characters="/?#@[]:%"), min_size=1).filter(str.isprintable),
    st.integers(1, 65535),
    st.integers(0, 15),
)
def test_what_is_put_together_is_taken_apart(password: str, port: int, db: int) -> None:
    url = f"redis://u:{password}@h:{port}/{db}"
    found = parse(url)
    assert (found.password, found.hosts, found.db) == (password, (("h", port),), db)


def test_a_pinned_connection_that_was_closed_stays_closed(server: RedisServer) -> None:
    async def scenario() -> None:
        feed = await Feed.open(parse(server.url), Keys("millrace"))
        waiting = asyncio.create_task(feed.entries("0-0", wait=4))
        await asyncio.sleep(0)
        await feed.close()
        with pytest.raises(redis.ConnectionError):
            await waiting
        with pytest.raises(redis.ConnectionError, match="closed"):
            await feed.state()

    asyncio.run(scenario())


def test_a_wrong_password_is_named_as_such(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis("--requirepass", SECRET, "--save", "")
    for login in ("", "u:wrong@", ":wrong@"):
        with RegistryWriter(server.url.replace("unix://", f"unix://{login}")) as writer:
            with pytest.raises(RegistryUnavailable, match="user name and password in the Redis URL") as refused:
                writer.version()
            assert "wrong" not in str(refused.value).replace("WRONGPASS", "")
    with RegistryWriter(server.url.replace("unix://", f"unix://:{SECRET}@")) as writer:
        assert writer.version() == "0-0"


def test_a_pinned_connection_selects_the_database(server: RedisServer) -> None:
    async def scenario() -> bytes:
        connection = await pinned_connection(parse(f"{server.url}?db=3"), "key")
        try:
            await connection.send_command("CLIENT", "LIST")
            listed: bytes = await connection.read_response()
            return listed
        finally:
            await connection.disconnect(nowait=True)

    assert b" db=3 " in asyncio.run(scenario())


def test_the_documented_acl_is_enough(server: RedisServer) -> None:
    document = (Path(__file__).parents[3] / "docs" / "route-registry.md").read_text()
    (rules,) = re.findall(r"An ACL user .* needs\n`(.*)`", document)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "edge", "reset", "on", f">{SECRET}", *rules.split())
        url = server.url.replace("unix://", f"unix://edge:{SECRET}@")
        try:
            with RegistryWriter(url) as writer, Router(url) as router:
                lease = writer.lease("cell", ttl=60)
                lease.replace([("a.example.com", endpoint(1))])
                eventually(lambda: router.routes() == {"a.example.com"})
                writer.lease("short", ttl=1).register([("b.example.com", endpoint(1))])
                eventually(lambda: router.follower.counters.pruned == 1)
                assert len(writer.leases()) == len(list(writer.list())) == 1
                lease.release()
        finally:
            client.execute_command("ACL", "DELUSER", "edge")


@pytest.fixture
def tls_redis(start_redis: Callable[..., RedisServer], folder: Path) -> RedisServer:
    """A server that speaks TLS on its port, with a certificate of its own for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is needed to make a certificate")
    key, certificate = folder / "key.pem", folder / "ca.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    named = ["-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*request, *named, *made], check=True, capture_output=True)
    if b"libssl" not in subprocess.run(["ldd", redis_binary()], capture_output=True, check=False).stdout:
        pytest.skip("this redis-server speaks no TLS")
    port = free_port()
    tls = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    server = start_redis("--save", "", *tls, "--tls-auth-clients", "no", "--tls-ca-cert-file", str(certificate))
    server.url = f"rediss://127.0.0.1:{port}?ca={certificate}"
    return server


def test_tls_with_a_private_authority(tls_redis: RedisServer) -> None:
    with RegistryWriter(tls_redis.url) as writer, Router(tls_redis.url) as router:
        writer.lease("cell", ttl=60).register([("a.example.com", endpoint(1))])
        eventually(lambda: router.routes() == {"a.example.com"})
    unknown = tls_redis.url.partition("?")[0]
    with RegistryWriter(unknown) as writer, pytest.raises(RegistryUnavailable, match="certificate verify failed"):
        writer.version()
