"""docs/route-registry.md is a contract: what it shows is run, what it lists is compared with the code."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import redis

from router.registry import follower
from router.registry.connect import parse
from router.registry.records import EndpointRecord
from router.registry.scripts import MAX_BATCH, PRUNE, REGISTER, RELEASE, RENEW, UNREGISTER, Keys
from tests.router.registry.conftest import RedisServer, eventually
from tests.router.registry.routers import Router

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "route-registry.md").read_text()


def session() -> list[tuple[str, list[str]]]:
    """The commands of the documented session, each with the lines that it prints."""
    (block,) = re.findall(r"```console\n(.*?)```", DOCUMENT, re.DOTALL)
    return [(lines[0], lines[1:]) for lines in (part.splitlines() for part in block.split("$ ")[1:])]


def in_redis_cli_style(reply: object) -> list[str]:
    def one(value: object) -> str:
        return f"(integer) {value}" if isinstance(value, int) else f'"{bytes(value).decode()}"'  # type: ignore[call-overload]

    if isinstance(reply, list):
        return [f"{place}) {one(value)}" for place, value in enumerate(reply, 1)]
    return [one(reply)]


def through_a_client(client: redis.Redis, command: str) -> list[str]:
    """The same command, sent without redis-cli."""
    *files, last = command.split(" | ")
    words = shlex.split(last)[1:]
    if files:
        text = b"".join((ROOT / name).read_bytes() for name in shlex.split(files[0])[1:])
        assert words == ["-x", "SCRIPT", "LOAD"]
        return in_redis_cli_style(str(client.script_load(text)).encode())
    return in_redis_cli_style(client.execute_command(*words))


def through_redis_cli(server: RedisServer, command: str) -> list[str]:
    with_socket = command.replace("redis-cli", f"redis-cli --no-raw -s {server.socket}")
    run = subprocess.run(["bash", "-c", with_socket], capture_output=True, text=True, check=True, cwd=ROOT, timeout=10)
    return run.stdout.splitlines()


@pytest.mark.parametrize("way", ["redis-cli", "client"])
def test_the_session_by_hand_works_as_shown(server: RedisServer, way: str) -> None:
    if way == "redis-cli" and shutil.which("redis-cli") is None:
        pytest.skip("no redis-cli here; the same commands run through a client")
    known: dict[str, str] = {}
    with Router(server.url) as router, server.client() as client:
        eventually(lambda: router.follower.ready)
        seen: list[set[str]] = []
        for command, shown in session():
            for name, value in known.items():
                command = command.replace(f"<{name}>", value)  # noqa: PLW2901
            assert "<" not in command
            got = through_a_client(client, command) if way == "client" else through_redis_cli(server, command)
            assert len(got) == len(shown)
            for line, pattern in zip(got, shown, strict=True):
                if found := re.search(r"<(.+)>", pattern):
                    prefix = pattern[: found.start()]
                    assert line.startswith(prefix)
                    known[found[1]] = line[len(prefix) :].rstrip('"')
                else:
                    assert line == pattern
            if "version" in known:
                eventually(lambda: router.follower.version == known["version"])
                seen.append(router.routes())
    assert {"app.example.com"} in seen, "a router learned of it"
    assert seen[-1] == set()
    assert router.follower.skipped == 0


def test_every_parameter_of_the_urls_is_understood() -> None:
    for url in ("redis://h/1", "rediss://h?ca=f&cert=f&key=f", "unix://u:p@/path?db=1", "redis+cluster://h,i?tls=true"):
        parse(url)
    parse("redis+sentinel://u:p@h,i/name/1?sentinel_username=u&sentinel_password=p&tls=true")


def test_every_key_is_documented() -> None:
    keys = Keys("ns")
    for key in (*keys.shared(), keys.lease("<name>"), keys.owned("<name>")):
        assert f"| `{key}` |" in DOCUMENT


def test_every_record_field_is_documented() -> None:
    table = DOCUMENT.split("| Field | Type | Meaning |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= {f.name for f in dataclasses.fields(EndpointRecord) if f.init}


@pytest.mark.parametrize("script", [REGISTER, UNREGISTER, RENEW, RELEASE, PRUNE], ids=lambda script: script.name)
def test_every_script_is_documented_and_says_its_interface(script: object) -> None:
    name = script.name  # type: ignore[attr-defined]
    assert f"| `{name}` |" in DOCUMENT
    own = (ROOT / "router" / "registry" / "lua" / f"{name}.lua").read_text()
    assert own.startswith("-- KEYS ")
    assert "\n-- ARGV " in own
    assert "\n-- Reply " in own


def test_numbers_in_the_document_are_those_of_the_code() -> None:
    assert f"at most {MAX_BATCH}" in DOCUMENT
    assert f"for the longest TTL known but at least {follower.SETTLE_SECONDS:.0f} s" in DOCUMENT
    assert f"When Redis is not reached within {follower.GRACE_SECONDS:.0f} s of a start" in DOCUMENT
    prelude = (ROOT / "router" / "registry" / "lua" / "prelude.lua").read_text()
    assert "LOG_GENERATION = 250000" in prelude
    assert "ABSENCE_MS = 5000" in prelude
    assert "STEP_BACK_MS = 1000" in prelude
    assert "SEEN_EVERY_MS = 500" in prelude
