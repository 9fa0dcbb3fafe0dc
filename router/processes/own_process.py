"""What a child process of the supervisor does about itself: not to outlive it, and to know what it costs."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
"""From <linux/prctl.h>."""


def die_with(supervisor: int) -> None:
    """Linux: be killed when the supervisor ends, even while stuck. Elsewhere the end of the channel says so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:
        sys.exit(0)


def leave_signals_to(supervisor: int) -> None:
    """Take no signal of the terminal's as one's own: what they mean is the supervisor's to say."""
    die_with(supervisor)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)


def cost() -> dict[str, float]:
    """Memory and processor time of this process so far, as workers and sources report them."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "memory_bytes": _resident_bytes(usage.ru_maxrss),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
    }


def _resident_bytes(peak_kib: int) -> int:
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return peak_kib * 1024
    return pages * resource.getpagesize()
