"""Workers are killed and rolled, the router drains and its supervisor dies, all of it under load."""

from __future__ import annotations

import signal
import socket

import pytest

from router.registry.writer import Lease
from tests.faults.steady import SteadyLoad
from tests.router.registry.conftest import RedisServer
from tests.router.supervised import GET, Router, is_alive, kill, running_router
from tests.router.wire import Wire, wait_until

ROLLS = 10


def wires(router: Router, count: int) -> list[Wire]:
    """Connections that asked for the route already and wait."""
    opened = [router.connect() for _ in range(count)]
    for wire in opened:
        wire.send(GET)
    return opened


class TestAKilledWorker:
    def test_takes_only_what_it_had_in_flight(self, router: Router) -> None:
        victim = router.workers[0]
        with SteadyLoad(router.port, callers=16) as load:
            load.more()
            kill(victim, signal.SIGSTOP)
            load.more()
            held_up = load.held_up()
            assert 0 < len(held_up) < 16
            in_backlog = wires(router, 16)
            load.more()
            assert load.held_up() == held_up, "what the other worker has goes on"
            kill(victim)
            assert [wire.message().status for wire in in_backlog] == [200] * 16
            router.until_healthy()
            load.more()
        assert len(load.failures) <= len(held_up)
        assert {failure.caller for failure in load.failures} <= {caller for caller, _ in held_up}
        for wire in in_backlog:
            wire.close()

    def test_again_and_again_costs_each_connection_one_request_at_most(self, router: Router) -> None:
        with SteadyLoad(router.port) as load:
            for kills in range(1, 5):
                load.more()
                before = len(load.failures)
                kill(router.workers[0])
                router.until_said("worker-died", kills)
                load.more()
                router.until_healthy()
                assert len(load.failures) - before <= 6
            settled = len(load.failures)
            load.more(300)
            assert len(load.failures) == settled
        assert not [failure for failure in load.failures if failure.what.startswith(("refused", "status", "no answer"))]


def test_rolls(router: Router) -> None:
    with SteadyLoad(router.port) as load:
        for rolled in range(1, ROLLS + 1):
            before = router.workers
            router.signal(signal.SIGHUP)
            router.until_said("rolled", rolled)
            load.more()
            wait_until(lambda old=before: not any(map(is_alive, old)), "the end of the old workers")  # type: ignore[misc]
    assert load.failures == []
    assert len(router.workers) == 2
    assert router.metrics()["millrace_worker_restarts_total"] == 0


def test_a_drain_finishes_what_is_in_flight(router: Router) -> None:
    with SteadyLoad(router.port, path="/wait/100", callers=12) as load:
        load.more()
        router.signal(signal.SIGUSR1)
        assert router.exit_code() == 0
        load.hang_up()
    assert load.failures, "nobody listens any more"
    assert {failure.what for failure in load.failures} == {"refused"}


def test_a_killed_supervisor_takes_its_workers_along_and_frees_its_ports(
    redis: RedisServer, lease: Lease, router: Router
) -> None:
    with SteadyLoad(router.port) as load:
        load.more()
        workers = router.workers
        router.process.kill()
        router.process.wait()  # the kernel ends the workers with its first thread, the sockets with its last
        wait_until(lambda: not any(map(is_alive, workers)), "the end of every worker")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", router.status_port))
        status = {"host": "127.0.0.1", "port": router.status_port, "routes": {"port": router.status_port}}
        with running_router(redis.url, port=router.port, status=status) as successor:
            successor.until_healthy()
            failed = len(load.failures)
            load.more()
            assert len(load.failures) == failed
            assert successor.port == router.port
            load.hang_up()
