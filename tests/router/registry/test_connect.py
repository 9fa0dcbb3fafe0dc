"""Redis URLs: what each part means, what is refused, and that no password is ever shown."""

from __future__ import annotations

import asyncio

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from router.registry.connect import InvalidRedisUrl, Location, parse, pinned_connection, redacted
from router.registry.feed import Feed
from router.registry.scripts import Keys
from router.registry.writer import RegistryUnavailable, RegistryWriter
from tests.router.registry.conftest import RedisServer


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


def test_a_wrong_password_is_named_as_such(start_redis: object) -> None:
    assert callable(start_redis)
    server: RedisServer = start_redis("--requirepass", SECRET, "--save", "")
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
