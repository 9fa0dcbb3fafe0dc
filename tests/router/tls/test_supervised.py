"""HTTPS in a whole router: real processes, certificates renewed while it runs, and settings that cannot work."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from router.config.settings import TlsPem
from router.registry.embedded import EmbeddedRedis
from tests.router.supervised import GET, Router, kill, register, running_router
from tests.router.tls.authority import HOST, OWN, connect, entry, issue, tls_of
from tests.router.wire import OK, PATIENCE, answering, backend, wait_until


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    with EmbeddedRedis(folder) as server, backend(answering(OK)) as app:
        register(server.url, app.port)
        yield server.url
    shutil.rmtree(folder)


@pytest.fixture
def own(tmp_path: Path) -> TlsPem:
    """A certificate in files."""
    made = TlsPem(cert_file=str(tmp_path / "cert.pem"), key_file=str(tmp_path / "key.pem"))
    write(made, OWN)
    return made


def write(where: TlsPem, what: TlsPem) -> None:
    Path(where.cert_file).write_text(what.cert_chain)
    Path(where.key_file).write_text(what.private_key)


def paths(entry: TlsPem) -> list[dict[str, str]]:
    return [{"cert_file": entry.cert_file, "key_file": entry.key_file}]


def tls_port(router: Router) -> int:
    return int(router.said("starting")[0]["https_port"])


def served(router: Router) -> bytes:
    """The certificate that a new connection gets, which also answers a request."""
    wire = connect(tls_port(router))
    wire.send(GET)
    assert wire.message().body == b"ok"
    cert = tls_of(wire).getpeercert(binary_form=True)
    wire.close()
    assert cert is not None
    return cert


class Load:
    """Requests without a pause, on new connections and on one that is kept until it is told to close."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._stop = threading.Event()
        self.failures: list[BaseException] = []
        self.certs: set[bytes] = set()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.certs.add(served(self._router))
        except BaseException as error:
            self.failures.append(error)

    def has_seen(self, count: int) -> bool:
        return len(self.certs) >= count or bool(self.failures)


def test_a_renewed_certificate_is_served_within_seconds_and_after_a_roll(redis_url: str, own: TlsPem) -> None:
    with running_router(redis_url, enable_ssl=True, ssl_port=0, tls_pem=paths(own)) as router:
        router.until_healthy()
        with Load(router) as load:
            wait_until(partial(load.has_seen, 1))
            write(own, entry(issue(HOST)))
            wait_until(partial(load.has_seen, 2), "the renewed certificate")
            router.until_said("tls-certificates-reloaded", times=2)  # in both workers
            write(own, entry(issue(HOST)))
            router.signal(signal.SIGHUP)
            router.until_said("rolled")
            wait_until(partial(load.has_seen, 3), "the certificate after the roll")
        assert not load.failures


def test_a_broken_file_stops_neither_a_roll_back_nor_a_new_worker(redis_url: str, own: TlsPem) -> None:
    with running_router(redis_url, enable_ssl=True, ssl_port=0, tls_pem=paths(own)) as router:
        router.until_healthy()
        before = served(router)
        Path(own.key_file).write_text("broken")
        router.signal(signal.SIGHUP)
        [said] = router.until_said("config-not-reloaded")
        assert said["problems"][0].startswith("tls_pem[0].key_file is no private key in PEM")
        for pid in router.workers:
            kill(pid)
        router.until_said("worker-ready", times=4)
        router.until_healthy()
        assert served(router) == before


def test_without_http_there_is_one_port(redis_url: str, own: TlsPem) -> None:
    config = Path(own.cert_file).with_name("router.yml")
    config.write_text(
        yaml.safe_dump(
            {
                "disable_http": True,
                "enable_ssl": True,
                "ssl_port": 0,
                "tls_pem": paths(own),
                "status": {"port": 0, "routes": {"port": 0}},
                "millrace": {"redis": redis_url, "workers": 1, "data": str(config.parent / "data")},
            }
        )
    )
    command = [sys.executable, "-P", "-m", "router", "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        starting = next(line for line in process.stdout if '"starting"' in line)
        process.terminate()
    assert '"https_port"' in starting
    assert '"port"' not in starting


def test_settings_that_cannot_work_stop_the_start_with_the_reason(redis_url: str, tmp_path: Path) -> None:
    config = tmp_path / "router.yml"
    config.write_text(yaml.safe_dump({"enable_ssl": True, "millrace": {"redis": redis_url}}))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "router", "-c", str(config)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "tls_pem is empty, but enable_ssl needs a certificate" in done.stdout + done.stderr
