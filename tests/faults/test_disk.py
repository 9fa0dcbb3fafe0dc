"""Disks that are full and folders that cannot be written: requests go on, and the router's log says what is missing."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from router.registry.records import EndpointRecord
from router.registry.writer import Lease
from tests.faults.processes import BackendProcess
from tests.faults.steady import SteadyLoad
from tests.router.registry.conftest import RedisServer, eventually
from tests.router.supervised import Router, running_router

FILE_LIMIT: Final = 64 * 1024
"""Bytes: no file may grow beyond, as on a disk that is full."""
UNDER_A_LIMIT: Final = (
    f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({FILE_LIMIT}, {FILE_LIMIT}))\n"
    "from router.command import router; router()"
)

WITHOUT_PRIVILEGE: Final = (
    "import ctypes; ctypes.CDLL(None).prctl(24, 1)\n"  # PR_CAPBSET_DROP CAP_DAC_OVERRIDE: even root must ask then
    "from router.command import router; router()"
)

SAVE_UNDER_A_LIMIT: Final = """
import asyncio, resource, sys
from pathlib import Path
from router.registry.snapshot import Header, save
path, limit = Path(sys.argv[1]), int(sys.argv[2])
chunks = [[(b"route-%d.example.com 10.0.0.1:80" % number, b"{}") for number in range(500)]]
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
asyncio.run(save(path, Header("epoch"), [chunks[0][:3]] if limit <= 100 else chunks))
"""


def lines(router: Router) -> list[dict[str, Any]]:
    """The router's own log."""
    text = router.config.with_name("router.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


def complains(router: Router, *words: str) -> bool:
    """Whether a line of the log holds all of these."""
    return any(all(word in json.dumps(line) for word in words) for line in lines(router))


def many(backend: BackendProcess, count: int = 1000) -> list[tuple[str, Any]]:
    """Routes whose snapshot is longer than FILE_LIMIT."""
    return [(f"route-{number}-{'x' * 60}.example.com", backend.record) for number in range(count)]


def test_an_access_log_on_a_full_disk(redis: RedisServer, lease: Lease) -> None:
    with running_router(redis.url, access_log={"file": "/dev/full"}) as router:
        router.until_healthy()
        with SteadyLoad(router.port) as load:
            load.more(300)
            eventually(lambda: complains(router, "access-log-lines-dropped", "/dev/full", "No space left on device"))
            eventually(lambda: router.metrics()["millrace_access_log_dropped_total"] >= 300)
            load.more()
        assert load.failures == []


def test_a_disk_that_takes_no_more(
    redis: RedisServer, lease: Lease, backends: list[BackendProcess], folder: Path
) -> None:
    log, data = folder / "access.log", folder / "data"
    lease.register(many(backends[0]))
    with running_router(
        redis.url, program=UNDER_A_LIMIT, access_log={"file": str(log)}, millrace={"data": str(data)}
    ) as router:
        router.until_healthy()
        with SteadyLoad(router.port) as load:
            load.more(FILE_LIMIT // 200)
            eventually(lambda: complains(router, "access-log-lines-dropped", str(log), "File too large"))
            eventually(lambda: complains(router, "routes.snapshot", "cannot be written", "File too large"))
            load.more()
        assert load.failures == []
    assert log.read_bytes().startswith(b"app.example.com - [")
    assert log.stat().st_size <= FILE_LIMIT


@pytest.mark.parametrize("limit", [0, 100, 9000])
def test_nothing_half_written_stays_on_a_disk_that_has_no_room(folder: Path, limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAVE_UNDER_A_LIMIT, str(folder / "routes"), str(limit)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "OSError: [Errno 27] File too large"
    assert list(folder.iterdir()) == []


def test_a_data_folder_that_cannot_be_written(redis: RedisServer, lease: Lease, folder: Path) -> None:
    data = folder / "data"
    data.mkdir(mode=0o500)
    with running_router(redis.url, program=WITHOUT_PRIVILEGE, millrace={"data": str(data)}) as router:
        router.until_healthy()
        with SteadyLoad(router.port) as load:
            eventually(lambda: complains(router, "routes.snapshot", "cannot be written", "Permission denied"))
            load.more()
        assert load.failures == []


def test_a_data_folder_that_is_gone_is_made_again(redis: RedisServer, lease: Lease, folder: Path) -> None:
    data = folder / "data"
    with running_router(redis.url, millrace={"data": str(data)}) as router:
        router.until_healthy()
        eventually((data / "routes.snapshot").exists)
        shutil.rmtree(data)
        with SteadyLoad(router.port) as load:
            load.more()
        assert load.failures == []
        lease.register([("another.example.com", EndpointRecord(host="127.0.0.1", port=1))])
        eventually(lambda: 'millrace_routes{worker="0"} 2\n' in router.status("/metrics").body.decode())
    assert b"another.example.com" in (data / "routes.snapshot").read_bytes()


def test_the_data_folder_is_its_owners_alone(redis: RedisServer, lease: Lease, folder: Path) -> None:
    before = os.umask(0)  # the router's processes inherit it
    try:
        with running_router(redis.url, millrace={"data": str(folder / "data")}) as router:
            router.until_healthy()
            eventually((folder / "data" / "routes.snapshot").exists)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "data" / "routes.snapshot").stat().st_mode) == 0o600
