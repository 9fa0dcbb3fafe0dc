"""``millrace routes`` as a person or a script runs it: the real command, in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from router.registry.command import routes
from router.registry.writer import RegistryWriter
from tests.router.registry.conftest import RedisServer
from tests.router.registry.test_writer import endpoint

COMMAND = [str(Path(sys.executable).with_name("millrace")), "routes"]
PLAIN = {name: value for name, value in os.environ.items() if name != "MILLRACE_REDIS"} | {"COLUMNS": "200"}


def run(*arguments: str, redis: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    environment = PLAIN | ({"MILLRACE_REDIS": redis} if redis else {})
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env=environment, timeout=30, check=False, **options
    )


def on_a_terminal(*arguments: str, redis: str) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=theirs, stderr=theirs, env=PLAIN | {"MILLRACE_REDIS": redis, "TERM": "xterm"}
    ):
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # how Linux says that the other side of a terminal closed
            pass
    os.close(ours)
    return shown.decode()


def test_add_list_and_remove(server: RedisServer) -> None:
    added = run("add", "App.example.com/v1", "10.0.0.1:8080", "--app", "guid", "--protocol", "http2", redis=server.url)
    assert (added.returncode, added.stderr) == (0, "")
    run("add", "app.example.com/v1", "[::1]:8443", "--tls", "--loadbalancing", "least-connection", redis=server.url)
    assert json.loads(run("list", "--json", redis=server.url).stdout) == [
        {
            "route": "app.example.com/v1",
            "address": "10.0.0.1:8080",
            "lease": "static",
            "host": "10.0.0.1",
            "port": 8080,
            "app": "guid",
            "protocol": "http2",
        },
        {
            "route": "app.example.com/v1",
            "address": "[::1]:8443",
            "lease": "static",
            "host": "::1",
            "tls_port": 8443,
            "options": {"loadbalancing": "least-connection"},
        },
    ]
    removed = run("remove", "app.example.com/v1", "10.0.0.1:8080", redis=server.url)
    assert json.loads(removed.stdout)["removed"]["address"] == "10.0.0.1:8080"
    assert run("remove", "app.example.com/v1", redis=server.url).returncode == 0
    assert json.loads(run("list", redis=server.url).stdout) == []


def test_tcp_routes_are_routes_like_any_other(server: RedisServer) -> None:
    added = run("add", "tcp:1024", "127.0.0.1:5432", "--proxy", "v2", redis=server.url)
    assert (added.returncode, added.stderr) == (0, "")
    run("add", "TCP:1024/*.Example.com", "127.0.0.1:5433", redis=server.url)
    assert json.loads(run("list", redis=server.url).stdout) == [
        {
            "route": "tcp:1024",
            "address": "127.0.0.1:5432",
            "lease": "static",
            "host": "127.0.0.1",
            "port": 5432,
            "options": {"proxy": "v2"},
        },
        {
            "route": "tcp:1024/*.example.com",
            "address": "127.0.0.1:5433",
            "lease": "static",
            "host": "127.0.0.1",
            "port": 5433,
        },
    ]
    assert len(json.loads(run("list", "tcp:1024", redis=server.url).stdout)) == 1
    assert run("remove", "tcp:1024", "127.0.0.1:5432", redis=server.url).returncode == 0
    assert run("remove", "tcp:1024/*.example.com", redis=server.url).returncode == 0
    assert json.loads(run("list", redis=server.url).stdout) == []


def test_a_ttl_makes_a_lease_that_ends(server: RedisServer, writer: RegistryWriter) -> None:
    run("add", "a.example.com", "10.0.0.1:8080", "--ttl", "60", "--redis", server.url)
    (lease,) = json.loads(run("leases", redis=server.url).stdout)
    assert lease["name"].startswith("temporary-")
    assert 0 < lease["seconds_left"] <= 60
    assert run("remove", "a.example.com", redis=server.url).returncode == 0
    assert list(writer.list()) == []


def test_a_terminal_shows_tables(server: RedisServer, writer: RegistryWriter) -> None:
    writer.lease("cell-7", ttl=60, registrar="the fleet").register([("a.example.com", endpoint(1, app="guid-1"))])
    table = on_a_terminal("list", redis=server.url)
    assert "\x1b[" in table, "in colours"
    for part in ("Route", "a.example.com", "10.0.0.1:8080", "guid-1", "cell-7", "1 endpoint"):
        assert part in table
    assert "the fleet" in on_a_terminal("leases", redis=server.url)
    assert "removed" not in on_a_terminal("add", "b.example.com", "10.0.0.2:80", redis=server.url)
    assert on_a_terminal("list", "--json", redis=server.url).startswith("[")


def test_what_a_registrar_holds_is_not_removed_by_hand(server: RedisServer, writer: RegistryWriter) -> None:
    writer.lease("cell-7", ttl=60).register([("a.example.com", endpoint(1))])
    refused = run("remove", "a.example.com", redis=server.url)
    assert refused.returncode == 1
    assert "held by the lease cell-7; stop its registrar" in refused.stderr
    assert len(list(writer.list())) == 1


def test_removing_what_is_not_there_says_so(server: RedisServer) -> None:
    refused = run("remove", "a.example.com", "10.0.0.1:80", redis=server.url)
    assert refused.returncode == 1
    assert "a.example.com 10.0.0.1:80: not registered" in refused.stderr


def test_watch_prints_changes_as_they_come(server: RedisServer, writer: RegistryWriter) -> None:
    lease = writer.lease("cell", ttl=60)
    environment = PLAIN | {"MILLRACE_REDIS": server.url}
    with subprocess.Popen(
        [*COMMAND, "watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stderr.readline().startswith("watching from version")
        lease.register([("a.example.com", endpoint(1))])
        first = json.loads(watching.stdout.readline())
        lease.release()
        second = json.loads(watching.stdout.readline())
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
        assert watching.stderr.read() == ""
    assert (first["change"], first["route"], first["host"]) == ("registered", "a.example.com", "10.0.0.1")
    assert (second["change"], second["address"]) == ("removed", "10.0.0.1:8080")


def test_the_default_is_the_redis_of_the_data_folder(server: RedisServer, folder: Path) -> None:
    (folder / ".millrace").mkdir()
    (folder / ".millrace" / "redis.sock").symlink_to(server.socket)
    assert run("add", "a.example.com", "10.0.0.1:80", cwd=folder).returncode == 0
    assert "a.example.com" in run("list", "--data", f"{folder}/.millrace").stdout


def test_no_redis_says_what_to_start(folder: Path) -> None:
    failed = run("list", cwd=folder)
    assert failed.returncode == 1
    assert f"{folder}/.millrace/redis.sock" in failed.stderr
    assert "millrace up" in failed.stderr
    assert "--redis URL" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "a.example.com", "nonsense"), "give HOST:PORT"),
        (("add", "a.example.com", "h:70000"), "a number from 0 to 65535"),
        (("add", "bad host", "h:80"), "is not a name like"),
        (("add", "tcp:99999", "h:80"), "PORT 1 to 65535"),
        (("add", "a.example.com", "h:80", "--ttl", "5000"), "1<=x<=3600"),
        (("list", "--redis", "http://h"), "the scheme must be one of"),
        (("list", "--namespace", "a b"), "namespace 'a b'"),
    ],
)
def test_mistakes_are_explained(server: RedisServer, arguments: tuple[str, ...], said: str) -> None:
    failed = CliRunner().invoke(routes, arguments, env={"MILLRACE_REDIS": server.url})
    assert isinstance(failed.exception, SystemExit)
    assert failed.exit_code != 0
    assert said in failed.stderr
