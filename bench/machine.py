"""The machine under the bench: which core serves, which core loads, and what it was when the figures were taken.

It must never change anything beyond this process's own affinity and file limit.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class BenchError(Exception):
    """The bench cannot go on; the message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the two sides run: two cores of one machine, however many it has."""

    proxy: int
    load: int

    @property
    def shared(self) -> bool:
        return self.proxy == self.load


def choose_cores() -> Cores:
    """The first two cores that this process may use; one core serves as both. Raises BenchError outside Linux."""
    if not hasattr(os, "sched_setaffinity"):
        raise BenchError(
            f"the bench pins processes to cores, which {platform.system()} does not offer: run it on Linux"
        )
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[min(1, len(allowed) - 1)])


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """While inside, this thread, and every child that it starts for good, is bound to ``core``."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_file_limit() -> int:
    """Lift the soft limit of open files to the hard one, for the children to inherit; the new limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def first_line(*argv: str) -> str:
    """The first line that a program prints, or "unknown" when it will not run: for version numbers."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[0] if lines else "unknown"


def describe() -> dict[str, str | int]:
    """Processor, cores, kernel and Python, for the head of a report."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count() or 1,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
