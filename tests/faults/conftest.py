"""A router with two workers, its Redis and three backends, all of them processes that a test may kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from router.registry.writer import Lease, RegistryWriter
from tests.faults.processes import HOST, BackendProcess
from tests.router.registry.conftest import RedisServer, folder, start_redis
from tests.router.supervised import Router, running_router

__all__ = ["folder", "start_redis"]

StartRedis = Callable[..., RedisServer]


@pytest.fixture
def redis(start_redis: StartRedis) -> RedisServer:
    """A server that keeps nothing on disk: whoever kills it gets it back empty."""
    return start_redis("--save", "")


@pytest.fixture
def backends() -> Iterator[list[BackendProcess]]:
    running = [BackendProcess(name) for name in "abc"]
    yield running
    for backend in running:
        backend.kill()


@pytest.fixture
def lease(redis: RedisServer, backends: list[BackendProcess]) -> Iterator[Lease]:
    """A lease that never expires, on all backends."""
    with RegistryWriter(redis.url) as writer:
        made = writer.lease("test", ttl=0)
        made.replace([(HOST, backend.record) for backend in backends])
        yield made


@pytest.fixture
def router(redis: RedisServer, lease: Lease) -> Iterator[Router]:
    with running_router(redis.url) as running:
        yield running.until_healthy()
