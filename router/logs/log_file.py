"""Lines that go to a file, a pipe or standard output, written by a thread so that nobody waits for a disk.

A file that was moved away is noticed before the next lines are written, and one of its old name is opened: rotation
needs neither a signal nor a copy. Lines are written whole: what a full disk cut off ends with the next line's start.
"""

from __future__ import annotations

import os
import select
import stat
from typing import Final

from router.logs.line_queue import LineQueue

STDOUT: Final = "-"
_FILE_BYTES: Final = 256 * 1024
"""One write to a file: enough to be cheap, too little for its making to be felt by the loop."""
_PIPE_BYTES: Final = 4096
"""POSIX PIPE_BUF on Linux: what several processes write to one pipe at once without mixing it."""


class CannotLog(Exception):
    """The access log cannot be opened; the message names the file, the reason, and the setting."""


def open_for_lines(file: str) -> int:
    """A blocking descriptor that appends to ``file`` (``-``: standard output), mode 0644. Raises CannotLog."""
    if file == STDOUT:
        return os.dup(1)
    try:
        # Without O_NONBLOCK the opening of a FIFO would wait for its reader.
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise CannotLog(f"access_log.file {file}: {error.strerror}; make it writable or choose another file") from None
    os.set_blocking(descriptor, True)
    return descriptor


class LogFile(LineQueue):
    """An open file. Call ``start``."""

    def __init__(self, file: str, *, prompt: bool = False) -> None:
        """Opens ``file`` for appending (``-``: standard output). Raises CannotLog."""
        super().__init__(file, prompt=prompt, complains=file != STDOUT)
        self._file = file
        self._descriptor = open_for_lines(file)
        self._torn = False
        """Whether the last byte that got out was not the end of a line."""
        mode = os.fstat(self._descriptor).st_mode
        self._at_once = _PIPE_BYTES if stat.S_ISFIFO(mode) else _FILE_BYTES
        self._may_move = file != STDOUT and stat.S_ISREG(mode)

    def take(self) -> None:
        if self.lines and self._may_move:
            self._follow_the_name()
        while self.lines:
            self._write(self._gathered())

    def shut(self) -> None:
        os.close(self._descriptor)

    def _follow_the_name(self) -> None:
        """Open the file anew if its name leads elsewhere now, or nowhere. If that fails, the old one goes on."""
        ours = os.fstat(self._descriptor)
        try:
            named = os.stat(self._file)
            if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino):
                return
        except OSError:
            pass
        try:
            descriptor = open_for_lines(self._file)
        except CannotLog as error:
            self.complain(str(error), "access-log-not-reopened")
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._torn = False

    def _gathered(self) -> bytes:
        """Whole lines, as many as may be written at once; at least one."""
        waiting = self.lines
        lines = [waiting.popleft()]
        size = len(lines[0])
        while waiting and size + len(waiting[0]) <= self._at_once:
            lines.append(waiting.popleft())
            size += len(lines[-1])
        return b"".join(lines)

    def _write(self, batch: bytes) -> None:
        # What got out before a disk refused may end inside a line; the next line must not be glued to it.
        mend = b"\n" if self._torn else b""
        text, done, failed = mend + batch, 0, 0
        try:
            while done < len(text):
                try:
                    done += os.write(self._descriptor, memoryview(text)[done:])
                except BlockingIOError:  # a standard output that somebody made non-blocking
                    select.select([], [self._descriptor], [])
        except OSError as error:
            failed = batch[max(0, done - len(mend)) :].count(b"\n")
            self.complain(error.strerror or str(error))
        if done:
            self._torn = text[done - 1] != ord("\n")
        self.settle(len(batch), failed)
