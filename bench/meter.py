"""What a process tree costs: CPU time to the nanosecond, and memory.

CPU time comes from each process's own clock (POSIX ``clock_getcpuclockid``), which counts user and system time of all
its threads, those that ended included. Children that were waited for are added from ``/proc/<pid>/stat``, in ticks of
10 ms. It must never guess: a process that vanishes between two reads was waited for by its parent and is counted there.
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The pids of ``root`` and all its living descendants, parents first. Empty when ``root`` is gone."""
    found: list[int] = []
    waiting = [root]
    while waiting:
        pid = waiting.pop(0)
        try:
            threads = list(Path(f"/proc/{pid}/task").iterdir())
        except FileNotFoundError:
            continue
        found.append(pid)
        for thread in threads:
            try:
                waiting.extend(int(child) for child in (thread / "children").read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def _own_cpu_ns(pid: int) -> int:
    clock = ctypes.c_int()
    if _LIBC.clock_getcpuclockid(ctypes.c_int(pid), ctypes.byref(clock)) != 0:
        return 0
    try:
        return time.clock_gettime_ns(clock.value)
    except OSError:
        return 0


def _dead_children_ns(pid: int) -> int:
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # proc(5): cutime and cstime are fields 16 and 17; the list begins with field 3.
    return (int(after_name[13]) + int(after_name[14])) * (1_000_000_000 // _TICKS_PER_SECOND)


def cpu_ns(root: int) -> int:
    """User and system time, in nanoseconds, of ``root``, its descendants, and those of them that ended."""
    return sum(_own_cpu_ns(pid) + _dead_children_ns(pid) for pid in tree(root))


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. ``rss`` counts a page shared by n processes n times, ``pss`` once."""

    rss: int
    pss: int


def memory(root: int) -> Memory:
    """Resident memory of ``root`` and its descendants now, summed."""
    rss = pss = 0
    for pid in tree(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        sizes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
        rss += sizes["Rss:"] * 1024
        pss += sizes["Pss:"] * 1024
    return Memory(rss, pss)


def core_busy_ns(core: int) -> int:
    """How long ``core`` has worked, for whomever, since boot, in nanoseconds (to 10 ms; stolen time not counted)."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq = (int(text) for text in line.split()[1:8])
            return (user + nice + system + irq + softirq) * (1_000_000_000 // _TICKS_PER_SECOND)
    raise ValueError(f"/proc/stat knows no core {core}")
