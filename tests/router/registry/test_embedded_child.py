"""A child process: its own group, its log, its end; and the lock on a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from router.registry.child import Child, FolderInUse, claim, sign


def python(code: str, log: Path) -> Child:
    return Child([sys.executable, "-c", code], log=log)


def gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


def logged(child: Child, lines: int) -> list[str]:
    deadline = time.monotonic() + 10
    while len(child.last_lines()) < lines:
        assert time.monotonic() < deadline, f"{child.log} never had {lines} lines"
        time.sleep(0.01)
    return child.last_lines()


def test_it_runs_in_its_own_group_and_logs_to_its_file(tmp_path: Path) -> None:
    child = python("import os, sys; print(os.getpgrp()); print('oh', file=sys.stderr)", tmp_path / "log")
    assert child.wait(10)
    assert set(child.last_lines()) == {str(child.pid), "oh"}
    assert child.ending == "exited with code 0"
    assert not child.running
    child.send(signal.SIGTERM)  # too late, and harmless


def test_only_the_end_of_a_long_log_is_shown(tmp_path: Path) -> None:
    child = python("for n in range(10000): print('line', n)", tmp_path / "log")
    assert child.wait(10)
    assert child.last_lines(2) == ["line 9998", "line 9999"]


def test_it_is_told_by_its_environment_what_others_must_not_see(tmp_path: Path) -> None:
    code = "import os; print(os.environ['SECRET'], 'PATH' in os.environ)"
    child = Child([sys.executable, "-c", code], log=tmp_path / "log", environment={"SECRET": "quiet"})
    assert child.wait(10)
    assert child.last_lines() == ["quiet True"]


def test_a_polite_child_is_not_killed(tmp_path: Path) -> None:
    code = "import signal; print('ready', flush=True); signal.sigwait([signal.SIGUSR1])"
    child = python(
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n" + code, tmp_path / "log"
    )
    logged(child, 1)
    assert child.stop(10, signal.SIGUSR1)
    assert child.ending == "exited with code 0"


def test_a_deaf_child_is_killed_after_the_grace(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    child = python(code, tmp_path / "log")
    logged(child, 1)
    assert not child.stop(0.05)
    assert child.ending == "was ended by SIGKILL"


def test_what_the_child_started_goes_with_it(tmp_path: Path) -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid)"
    child = python(code, tmp_path / "log")
    assert child.wait(10)
    grandchild = int(child.last_lines()[0])
    deadline = time.monotonic() + 10
    while not gone(grandchild):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_command_that_is_not_there_ends_at_once(tmp_path: Path) -> None:
    child = Child(["/nonexistent/program"], log=tmp_path / "log")
    assert child.wait(10)
    assert child.ending == "exited with code 127"
    assert child.last_lines() == ["/nonexistent/program: No such file or directory"]


def test_a_log_that_cannot_be_written_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        python("pass", tmp_path / "no such folder" / "log")


def test_a_lock_is_held_until_it_is_closed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    first = claim(lock)
    with pytest.raises(FolderInUse, match="in use by another process"):
        claim(lock)
    sign(first, 4711)
    with pytest.raises(FolderInUse, match="in use by process 4711") as refusal:
        claim(lock)
    assert refusal.value.pid == 4711
    os.close(first)
    os.close(claim(lock))


def test_a_lock_file_left_by_a_dead_process_hinders_nobody(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("1\n")
    os.close(claim(lock))
    assert lock.read_text() == ""


def test_a_child_keeps_a_lock_that_its_parent_let_go(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    descriptor = claim(lock)
    child = Child([sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / "log", keep_open=(descriptor,))
    os.close(descriptor)
    try:
        with pytest.raises(FolderInUse):
            claim(lock)
    finally:
        child.kill()
    os.close(claim(lock))


def test_a_child_whose_parent_is_already_gone_does_not_start(tmp_path: Path) -> None:
    from router.registry import child_exec

    done = subprocess.run(
        [sys.executable, "-I", "-S", child_exec.__file__, "1", "echo", "started"], capture_output=True, check=True
    )
    assert done.stdout == b""
