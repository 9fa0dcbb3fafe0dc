"""Becomes a command that the kernel stops when the program that started it ends, even by SIGKILL.

``python child_exec.py PARENT_PID COMMAND [ARGUMENT...]`` asks for SIGTERM at the parent's death (Linux: prctl(2)
PR_SET_PDEATHSIG, which survives execve) and then is COMMAND, under the same pid. Elsewhere it is COMMAND, no more.

A script of its own, because Python code between fork and exec can deadlock in a program with threads. Must never import
anything but the standard library: it runs isolated, and its start is part of every child's start.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
"""From <linux/prctl.h>."""
CANNOT_RUN: Final = 127
"""The exit code that shells use for a command that cannot be run."""


def main(parent: int, command: list[str]) -> int:
    """Does not return where the command could be started."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - a third of this script's start, and of no use elsewhere

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was asked
        return 0
    # Python ignores these two; a command expects the defaults.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - a fixed argument list, no shell wanted
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
