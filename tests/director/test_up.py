"""``millrace up`` as people run it: one command, everything answers, Ctrl-C, and nothing is left behind."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trio
from trio.testing import MockClock

from director.local_ca import CERTIFICATE_DAYS, RENEW_DAYS, LocalAuthority
from director.parts import NAMES, RENEWAL_LOOK_SECONDS, Plan, _renew
from router.config.config_file import load
from router.registry.embedded import EmbeddedRedis
from router.registry.writer import RegistryWriter

MILLRACE = Path(sys.executable).with_name("millrace")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


class Up:
    """One run of the command, and every process that descends from it: they inherit a mark in their environment.

    Without a controller where a test is not about it: that is half of a start.
    """

    def __init__(
        self, data: Path, *options: str, ports: list[int] | None = None, redis: str = "", controller: bool = False
    ) -> None:
        self.data = data
        self.port, self.status_port, self.tls_port = ports or free_ports(3)
        self._mark = f"MILLRACE_TEST_RUN={uuid.uuid4()}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        environment |= dict([self._mark.split("=")], COLUMNS="200", **({"MILLRACE_REDIS": redis} if redis else {}))
        command = [MILLRACE, "up", "--data", data, "--port", str(self.port), "--status-port", str(self.status_port)]
        command += ["--tls-port", str(self.tls_port), *([] if controller else ["--no-controller"])]
        with tempfile.NamedTemporaryFile(prefix="up-", dir=data.parent, delete=False) as output:
            self._output = Path(output.name)
            self.process = subprocess.Popen(
                [*command, *options], stdout=output, stderr=output, env=environment, cwd=data.parent
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def until_ready(self) -> None:
        until(lambda: "Ctrl-C stops everything" in self.output or self.process.poll() is not None, seconds=60)
        assert self.process.poll() is None, self.output

    def ended(self, seconds: float = 30) -> int:
        return self.process.wait(seconds)

    def processes(self) -> set[int]:
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                marked = self._mark.encode() in (folder / "environ").read_bytes().split(b"\0")
                # redis-server writes its title over its environment; it runs in the data folder
                marked |= (folder / "cwd").readlink() == self.data
                zombie = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if marked and not zombie:
                found.add(int(folder.name))
        return found

    def pid(self, part: str) -> int:
        found = re.search(rf"{part} .*?(\d+) *│$", self.output, re.MULTILINE)
        assert found, self.output
        return int(found[1])

    def get(self, path: str = "/") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path, headers={"Host": "hello.localhost"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def get_securely(self, name: str = "hello.localhost") -> tuple[int, str, bytes]:
        """Status and text by a client that trusts the folder's authority alone, and the certificate that it saw."""
        context = ssl.create_default_context(cafile=str(self.data / "tls" / "ca.pem"))
        with (
            socket.create_connection(("127.0.0.1", self.tls_port), 10) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: hello.localhost\r\nConnection: close\r\n\r\n")
            answer = http.client.HTTPResponse(secure)
            answer.begin()
            certificate = secure.getpeercert(binary_form=True)
            assert certificate
            return answer.status, answer.read().decode(), certificate

    def assert_nothing_left(self) -> None:
        until(lambda: not self.processes(), 10)
        assert not (self.data / "redis.sock").exists()
        for port in (self.port, self.status_port, self.tls_port):
            socket.create_server(("127.0.0.1", port)).close()


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


Start = Callable[..., Up]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts ``up`` in a data folder; whatever a failed test leaves is killed."""
    runs: list[Up] = []

    def run(*options: str, ports: list[int] | None = None, redis: str = "", controller: bool = False) -> Up:
        runs.append(Up(folder / "data", *options, ports=ports, redis=redis, controller=controller))
        return runs[-1]

    yield run
    for made in runs:
        made.process.kill()
        made.process.wait()
        for pid in made.processes():
            os.kill(pid, signal.SIGKILL)


def test_one_command_serves_one_at_a_time_and_ctrl_c_leaves_nothing_behind(start: Start, folder: Path) -> None:
    for name in ("router", "director", "controller"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit('the wrong package, from the current folder')")
    run = start(controller=True)
    run.until_ready()
    status, page = run.get()
    assert status == 200
    assert f"(process {run.pid('sample backend')})" in page
    assert f"curl http://hello.localhost:{run.port}/\n" in run.output
    listing = re.search(r"millrace (routes list .*)", run.output)
    assert listing
    listed = subprocess.run([MILLRACE, *listing[1].split()], capture_output=True, text=True, timeout=30, check=True)
    assert "hello.localhost" in listed.stdout
    assert {run.pid(part) for part in ("Redis", "router", "controller", "sample backend")} < run.processes()
    second = start()
    assert second.ended() == 1
    assert second.output == (
        f"Error: Millrace is already up in {run.data} (process {run.process.pid}): "
        f"stop that one, or choose another folder with --data\n"
    )
    assert run.get()[0] == 200
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 0
    assert "Everything is stopped." in run.output
    run.assert_nothing_left()


@pytest.mark.parametrize(("busy", "option"), [(0, "--port"), (1, "--status-port"), (2, "--tls-port")])
def test_a_busy_port_is_named_before_anything_is_started(start: Start, busy: int, option: str) -> None:
    ports = free_ports(3)
    with socket.create_server(("127.0.0.1", ports[busy])):
        run = start(ports=ports)
        assert run.ended() == 1
    assert run.output == (
        f"Error: port {ports[busy]} on 127.0.0.1: address already in use; "
        f"stop what uses it, or choose another one with {option}\n"
    )
    assert [path.name for path in run.data.iterdir()] == ["up.lock"]


@pytest.mark.parametrize(
    ("places", "options"),
    [
        ((0, 0, 1), "--port and --status-port"),
        ((0, 1, 0), "--port and --tls-port"),
        ((0, 1, 1), "--tls-port and --status-port"),
    ],
)
def test_one_port_for_two_uses_is_refused(start: Start, places: tuple[int, ...], options: str) -> None:
    ports = free_ports(2)
    run = start(ports=[ports[place] for place in places])
    assert run.ended() == 1
    assert f"{options} are both " in run.output


def test_https_is_served_by_an_authority_that_outlives_the_run(start: Start) -> None:
    run = start()
    run.until_ready()
    status, page, certificate = run.get_securely()
    assert status == 200
    assert "Hello from the sample backend" in page
    for name in ("localhost", "one.apps.localhost", "127.0.0.1"):
        assert run.get_securely(name)[0] == 200
    advice = re.search(r"curl --cacert (\S+) https://hello.localhost:(\d+)/\n", run.output)
    assert advice
    assert (run.data.parent / advice[1]).samefile(run.data / "tls" / "ca.pem")
    assert int(advice[2]) == run.tls_port
    assert (run.data / "tls").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (run.data / "tls").iterdir()} == {0o600}
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 0
    again = start()
    again.until_ready()
    assert again.get_securely()[2] == certificate


def test_a_renewed_certificate_is_served_while_it_runs(start: Start) -> None:
    run = start()
    run.until_ready()
    before = run.get_securely()[2]
    plan = Plan(run.port, run.status_port, run.tls_port, run.data, 1, "")
    plan.authority.identity.chain.unlink()
    assert plan.authority.ensure()
    until(lambda: run.get_securely()[2] != before)


def test_an_authority_that_cannot_be_read_is_named(start: Start, folder: Path) -> None:
    (folder / "data" / "tls").mkdir(mode=0o700, parents=True)
    (folder / "data").chmod(0o700)
    for name in ("ca.pem", "ca-key.pem"):
        (folder / "data" / "tls" / name).write_text("damaged")
    run = start()
    assert run.ended() == 1
    assert f"{run.data / 'tls'} holds no certificate authority" in run.output
    assert "Traceback" not in run.output
    run.assert_nothing_left()


def test_a_data_folder_that_cannot_be_is_named(start: Start, folder: Path) -> None:
    (folder / "data").write_text("a file")
    run = start()
    assert run.ended() == 2
    assert "is a file" in run.output


def test_a_data_folder_that_others_may_write_to_is_refused(start: Start, folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data").chmod(0o777)
    run = start()
    assert run.ended() == 1
    assert "(mode 777, owner" in run.output
    run.assert_nothing_left()


@pytest.mark.parametrize("part", ["Redis", "controller", "sample backend"])
def test_a_part_that_dies_is_named_with_its_log_and_stops_the_rest(start: Start, part: str) -> None:
    run = start(controller=part == "controller")
    run.until_ready()
    os.kill(run.pid(part), signal.SIGKILL)
    assert run.ended() == 1
    log = run.data / "logs" / f"{part.lower().replace(' ', '_')}.log"
    assert f"Error: {part} was ended by SIGKILL. The end of {log}:\n  " in run.output
    assert "Traceback" not in run.output
    run.assert_nothing_left()


def test_the_controller_is_reached_through_the_router(start: Start) -> None:
    run = start(controller=True)
    run.until_ready()
    password = (run.data / "controller" / "admin-password").read_text().strip()
    assert password not in run.output
    api, uaa = (
        httpx.Client(base_url=f"http://127.0.0.1:{run.port}", headers={"Host": f"{host}.localhost"})
        for host in ("api", "uaa")
    )
    root = api.get("/").json()["links"]
    assert root["cloud_controller_v3"]["href"] == f"http://api.localhost:{run.port}/v3"
    assert root["uaa"]["href"] == f"http://uaa.localhost:{run.port}"
    form = {"grant_type": "password", "username": "admin", "password": password}
    token = uaa.post("/oauth/token", data=form, auth=("cf", "")).json()["access_token"]
    bearer = {"Authorization": f"bearer {token}"}
    assert api.post("/v3/organizations", json={"name": "first"}, headers=bearer).status_code == 201
    assert [row["name"] for row in api.get("/v3/domains", headers=bearer).json()["resources"]] == ["apps.localhost"]
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 0
    run.assert_nothing_left()


def test_a_second_ctrl_c_does_not_wait_for_requests_in_flight(start: Start) -> None:
    run = start()
    run.until_ready()
    with socket.create_connection(("127.0.0.1", run.port), timeout=10) as slow:
        slow.sendall(b"GET /slow?seconds=30 HTTP/1.1\r\nHost: hello.localhost\r\nExpect: 100-continue\r\n\r\n")
        run.process.send_signal(signal.SIGINT)
        until(lambda: "released" in (run.data / "logs" / "sample_backend.log").read_text())
        started = time.monotonic()
        run.process.send_signal(signal.SIGINT)
        assert run.ended() == 0
        assert time.monotonic() - started < 2.5, "the sample backend alone would have waited 3 s"
    run.assert_nothing_left()


def test_ctrl_c_while_it_starts_stops_it(start: Start) -> None:
    run = start()
    until((run.data / "redis.sock").exists)
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 0
    run.assert_nothing_left()


def test_a_redis_of_ones_own_is_used_and_left_running(start: Start, folder: Path) -> None:
    with EmbeddedRedis(folder / "own") as own, RegistryWriter(own.url) as writer:
        run = start(redis=own.url)
        run.until_ready()
        assert run.get()[0] == 200
        assert [entry.route for entry in writer.list()] == ["hello.localhost"]
        assert not (run.data / "redis.sock").exists()
        run.process.send_signal(signal.SIGINT)
        assert run.ended() == 0
        assert list(writer.list()) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("unix:///nonexistent/redis.sock", "registry at unix:///nonexistent/redis.sock: "),
        ("http://127.0.0.1", "the scheme must be one of redis://"),
    ],
)
def test_a_redis_that_is_not_there_is_named(start: Start, url: str, said: str) -> None:
    run = start("--redis", url)
    assert run.ended() == 1
    assert said in run.output
    assert "Traceback" not in run.output
    run.assert_nothing_left()


async def _renewals(authority: LocalAuthority, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await _renew(authority)


def test_the_certificate_is_renewed_in_a_long_run_and_what_fails_is_tried_again(folder: Path) -> None:
    authority = LocalAuthority(folder / "tls", NAMES)
    long_ago = datetime.now(UTC) - timedelta(days=CERTIFICATE_DAYS - RENEW_DAYS + 1)
    authority.ensure(long_ago)
    assert authority.renewal() < datetime.now(UTC)
    key = folder / "tls" / "ca-key.pem"
    kept = key.read_bytes()
    key.write_bytes(b"damaged")
    trio.run(_renewals, authority, RENEWAL_LOOK_SECONDS * 1.5, clock=MockClock(autojump_threshold=0))
    assert authority.renewal() < datetime.now(UTC)
    key.write_bytes(kept)
    trio.run(_renewals, authority, RENEWAL_LOOK_SECONDS * 1.5, clock=MockClock(autojump_threshold=0))
    assert authority.renewal() > datetime.now(UTC)


def test_the_routers_configuration_is_one_that_it_accepts(folder: Path) -> None:
    plan = Plan(port=8123, status_port=8124, tls_port=8125, data=folder, workers=3, redis="")
    plan.authority.ensure()
    (folder / "router.yml").write_text(plan.router_settings("unix:///tmp/redis.sock"))
    settings = load(folder / "router.yml")
    assert (settings.port, settings.status.host, settings.status.port) == (8123, "127.0.0.1", 8124)
    assert (settings.enable_ssl, settings.ssl_port) == (True, 8125)
    assert settings.drain_timeout == 3
    native = settings.millrace
    assert (native.address, native.redis, native.data, native.workers) == (
        "127.0.0.1",
        "unix:///tmp/redis.sock",
        str(folder),
        3,
    )


def test_the_sample_backends_lease_is_its_folders_own(folder: Path) -> None:
    one, same, other = (Plan(1, 2, 3, folder / name, 1, "") for name in ("a", "a", "b"))
    assert one.lease == same.lease != other.lease
    assert len(one.lease) < 200
