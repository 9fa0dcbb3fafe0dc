"""The meter counts the whole tree, threads and ended children included, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.machine import choose_cores, first_line, pinned
from bench.meter import core_busy_ns, cpu_ns, memory, tree

BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n"


@contextmanager
def running(source: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program that has printed its first line and now waits for its input to close."""
    argv = [sys.executable, "-c", source + "\nprint('ready', flush=True)\nimport sys\nsys.stdin.read()\n"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def seconds_of(pid: int) -> float:
    return cpu_ns(pid) / 1e9


def test_own_work_is_counted() -> None:
    with running(BURN.format(seconds=0.2)) as process:
        assert 0.2 <= seconds_of(process.pid) < 1.0


def test_an_idle_process_costs_nothing() -> None:
    with running("") as process:
        before = cpu_ns(process.pid)
        time.sleep(0.05)
        assert cpu_ns(process.pid) - before < 5_000_000


def test_a_thread_that_ended_is_counted() -> None:
    burn = BURN.format(seconds=0.2)
    source = f"import threading\nthread = threading.Thread(target=exec, args=({burn!r}, {{}}))\n"
    with running(source + "thread.start()\nthread.join()\n") as process:
        assert seconds_of(process.pid) >= 0.2


def test_a_child_that_ended_is_counted() -> None:
    source = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN.format(seconds=0.3)!r}])\n"
    with running(source) as process:
        assert tree(process.pid) == [process.pid]
        assert seconds_of(process.pid) >= 0.28


def test_a_living_grandchild_is_counted() -> None:
    burning = BURN.format(seconds=0.2) + "print('burnt', flush=True)\nimport time\ntime.sleep(60)\n"
    middle = (
        "import subprocess, sys\n"
        f"p = subprocess.Popen([sys.executable, '-c', {burning!r}], stdout=subprocess.PIPE)\n"
        "p.stdout.readline()\nprint('up', flush=True)\np.wait()\n"
    )
    outer = (
        "import subprocess, sys\n"
        f"q = subprocess.Popen([sys.executable, '-c', {middle!r}], stdout=subprocess.PIPE)\n"
        "q.stdout.readline()\n"
    )
    with running(outer) as process:
        pids = tree(process.pid)
        try:
            assert len(pids) == 3
            assert pids[0] == process.pid
            assert seconds_of(process.pid) >= 0.2
        finally:
            for pid in pids[1:]:
                os.kill(pid, 9)


def test_memory_grows_with_what_is_held() -> None:
    with running("") as small, running("held = bytearray(b'x' * (64 << 20))") as large:
        grown = memory(large.pid).pss - memory(small.pid).pss
        assert 60 << 20 < grown < 80 << 20
        assert memory(large.pid).rss >= memory(large.pid).pss


def test_a_process_that_is_gone_costs_nothing() -> None:
    with running("") as process:
        pass
    assert tree(process.pid) == []
    assert cpu_ns(process.pid) == 0
    assert memory(process.pid).rss == 0


def test_work_on_a_core_shows_there() -> None:
    core = choose_cores().proxy
    before = core_busy_ns(core)
    with pinned(core), running(BURN.format(seconds=0.2)):
        assert core_busy_ns(core) - before >= 150_000_000


def test_no_such_core() -> None:
    with pytest.raises(ValueError, match="no core 100000"):
        core_busy_ns(100_000)


def test_a_child_started_while_pinned_is_bound_and_we_are_not_after() -> None:
    allowed = os.sched_getaffinity(0)
    core = choose_cores().load
    with pinned(core), running("") as process:
        assert os.sched_getaffinity(process.pid) == {core}
    assert os.sched_getaffinity(0) == allowed


def test_a_program_that_will_not_run_has_an_unknown_version() -> None:
    assert first_line("/nowhere/program", "--version") == "unknown"
    assert first_line(sys.executable, "--version").startswith("Python 3")
