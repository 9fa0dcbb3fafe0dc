"""Everything at once, in an order that is random but always the same: only a killed worker's own requests are lost."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from tests.faults.processes import HOST, BackendProcess, RunningRegistrar
from tests.faults.steady import SteadyLoad
from tests.router.registry.conftest import RedisServer, eventually
from tests.router.supervised import Router, kill, running_router

CALLERS = 6
FAULTS = 12
LONGEST_PAUSE = 0.7
"""Seconds between two faults: too short for a roll to be over each time."""


def test_faults_that_overlap(redis: RedisServer, backends: list[BackendProcess]) -> None:
    chance = random.Random(7)

    def pause() -> None:
        time.sleep(chance.uniform(0, LONGEST_PAUSE))

    def kill_a_worker(router: Router) -> None:
        with suppress(ProcessLookupError):  # one that was rolled may leave at this very moment
            kill(chance.choice(router.workers))

    def roll(router: Router) -> None:
        router.signal(signal.SIGHUP)

    def empty_the_registry(_: Router) -> None:
        redis.kill()
        pause()
        redis.start()

    def hold_up_the_registry(_: Router) -> None:
        redis.signal(signal.SIGSTOP)
        pause()
        redis.signal(signal.SIGCONT)

    def restart_a_backend(_: Router) -> None:
        backend = chance.choice(backends)
        backend.kill()
        pause()
        backend.come_back()

    faults: list[Callable[[Router], None]] = [
        kill_a_worker,
        roll,
        empty_the_registry,
        hold_up_the_registry,
        restart_a_backend,
    ]
    with RunningRegistrar(redis.url, backends, ttl=10.0), running_router(redis.url) as router:
        router.until_healthy()
        eventually(lambda: router.metrics()['millrace_endpoints{worker="0"}'] == len(backends))
        eventually(lambda: router.metrics()['millrace_endpoints{worker="1"}'] == len(backends))
        snapshot = router.config.with_name("data") / "routes.snapshot"
        eventually(lambda: snapshot.exists() and snapshot.read_bytes().count(HOST.encode()) == len(backends))
        with SteadyLoad(router.port, callers=CALLERS) as load:
            for fault in faults + chance.choices(faults, k=FAULTS - len(faults)):
                before = len(load.failures)
                fault(router)
                pause()
                load.more()
                assert len(load.failures) - before <= (CALLERS if fault is kill_a_worker else 0), (fault, load.failures)
            eventually(lambda: len(router.workers) == 2, within=30)
            router.until_healthy()
            load.more()
        assert {f.what for f in load.failures if f.what.startswith(("status", "refused", "no answer"))} == set()
