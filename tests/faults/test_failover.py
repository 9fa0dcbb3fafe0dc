"""The master is killed, three sentinels elect another one, and no request fails meanwhile."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from router.registry.writer import RegistryUnavailable, RegistryWriter
from tests.faults.conftest import StartRedis
from tests.faults.processes import HOST, BackendProcess, RunningRegistrar
from tests.faults.steady import SteadyLoad
from tests.router.registry.conftest import RedisServer, eventually, free_port, redis_binary
from tests.router.supervised import running_router

ELECTION = 30.0
"""Seconds: the sentinels notice within 0.5, and elect again where the first ballot was split."""


@dataclass
class Guarded:
    """A master, its replica, and the sentinels that watch them."""

    master: RedisServer
    replica: RedisServer
    sentinels: list[int]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.sentinels)}/main"

    def master_known_by(self, port: int) -> int:
        with redis.Redis(port=port, decode_responses=True, protocol=2) as client:
            return int(client.sentinel_master("main")["port"])

    def all_know_each_other(self) -> bool:
        try:
            for port in self.sentinels:
                with redis.Redis(port=port, decode_responses=True, protocol=2) as client:
                    state = client.sentinel_master("main")
                    if state["num-slaves"] != 1 or state["num-other-sentinels"] != len(self.sentinels) - 1:
                        return False
        except redis.RedisError:
            return False
        return True


@pytest.fixture
def guarded(start_redis: StartRedis, folder: Path) -> Iterator[Guarded]:
    at_once = ("--save", "", "--repl-diskless-sync-delay", "0")
    master = start_redis(*at_once, port=free_port())
    replica = start_redis(*at_once, "--replicaof", f"127.0.0.1 {master.port}", port=free_port())
    ports = [free_port() for _ in range(3)]
    with ExitStack() as running:
        for port in ports:
            configuration = folder / f"sentinel-{port}.conf"
            configuration.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor main 127.0.0.1 {master.port} 2\n"
                "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
            )
            log = running.enter_context((folder / f"sentinel-{port}.log").open("wb"))
            process = running.enter_context(
                subprocess.Popen([redis_binary(), str(configuration), "--sentinel"], stdout=log)
            )
            running.callback(process.kill)
        found = Guarded(master, replica, ports)
        eventually(found.all_know_each_other, ELECTION)
        yield found


def test_a_failover(guarded: Guarded, backends: list[BackendProcess]) -> None:
    def apps() -> set[str]:
        try:
            with RegistryWriter(guarded.url) as writer:
                return {entry.record.app for entry in writer.list(HOST)}
        except RegistryUnavailable:
            return set()

    with RunningRegistrar(guarded.url, backends, ttl=2.0), running_router(guarded.url) as router:
        router.until_healthy()
        eventually(lambda: apps() == {"a", "b", "c"})
        with SteadyLoad(router.port) as load:
            load.more()
            guarded.master.kill()
            eventually(
                lambda: {guarded.master_known_by(p) for p in guarded.sentinels} == {guarded.replica.port}, ELECTION
            )
            eventually(lambda: apps() == {"a", "b", "c"}, ELECTION)
            figures = router.metrics
            eventually(lambda: figures()['millrace_registry_connected{worker="0"}'] == 1, ELECTION)
            eventually(lambda: figures()['millrace_registry_connected{worker="1"}'] == 1, ELECTION)
            load.more()
        assert load.failures == []
        assert set(load.by_backend) == {"a", "b", "c"}
