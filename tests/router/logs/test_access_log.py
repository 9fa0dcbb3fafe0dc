"""The access log: Gorouter's line to the character, and a disk that nobody waits for."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.config.settings import Settings
from router.logs import line_queue
from router.logs.access_line import Entry, quoted
from router.logs.access_log import AccessLog
from router.logs.log_file import CannotLog, LogFile, open_for_lines

ENTRY = Entry(
    host=b"app.example.com",
    started=1735725600.25,
    method=b"GET",
    target=b"/x?y=1",
    version=b"HTTP/1.1",
    status=200,
    request_bytes=0,
    response_bytes=12,
    referer=None,
    user_agent=b"curl/8",
    client=b"203.0.113.7:51000",
    backend=b"10.0.0.9:8080",
    x_forwarded_for=b"203.0.113.7",
    x_forwarded_proto=b"http",
    vcap_request_id=b"0f8fad5b-d9cb-469f-a165-70867728950e",
    response_time=0.004321,
    gorouter_time=0.00021,
    app_id=b"7c9e6679",
    app_index=b"0",
    instance_id=b"inst-1",
    router_error=b"",
)
LINE = (
    'app.example.com - [2025-01-01T10:00:00.250000000Z] "GET /x?y=1 HTTP/1.1" 200 0 12 "-" "curl/8" '
    '"203.0.113.7:51000" "10.0.0.9:8080" x_forwarded_for:"203.0.113.7" x_forwarded_proto:"http" '
    'vcap_request_id:"0f8fad5b-d9cb-469f-a165-70867728950e" response_time:0.004321 gorouter_time:0.000210 '
    'app_id:"7c9e6679" app_index:"0" instance_id:"inst-1" x_cf_routererror:"-"\n'
)


@contextlib.contextmanager
def open_log(file: Path | str) -> Iterator[AccessLog]:
    log = AccessLog(Settings(), [LogFile(str(file))])
    try:
        yield log
    finally:
        log.close()


@pytest.fixture
def logged(tmp_path: Path) -> Callable[..., str]:
    def write(entry: Entry) -> str:
        with open_log(tmp_path / "access.log") as log:
            log.write(entry)
        return (tmp_path / "access.log").read_text()

    return write


def until(condition: Callable[[], bool], patience: float = 5.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


class TestTheLine:
    def test_is_gorouters(self, logged: Callable[..., str]) -> None:
        assert logged(ENTRY) == LINE

    def test_its_time_is_utc_wherever_the_router_runs(self, logged: Callable[..., str]) -> None:
        before = os.environ.get("TZ")
        os.environ["TZ"] = "Asia/Tokyo"
        time.tzset()
        try:
            assert logged(ENTRY) == LINE
        finally:
            os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
            time.tzset()

    @pytest.mark.parametrize(
        ("field", "text"),
        [
            ("referer", '"-" "curl/8"'),
            ("user_agent", '12 "-" "-" "203'),
            ("backend", '"203.0.113.7:51000" "-" x_'),
            ("x_forwarded_for", 'x_forwarded_for:"-"'),
            ("x_forwarded_proto", 'x_forwarded_proto:"-"'),
            ("vcap_request_id", 'vcap_request_id:"-"'),
            ("app_id", 'app_id:"-"'),
            ("app_index", 'app_index:"-"'),
            ("instance_id", 'instance_id:"-"'),
            ("router_error", 'x_cf_routererror:"-"'),
            ("host", '"-" - ['),
        ],
    )
    def test_what_is_empty_is_a_quoted_dash(self, logged: Callable[..., str], field: str, text: str) -> None:
        empty: dict[str, Any] = {field: b""}
        assert text in logged(ENTRY._replace(**empty))

    def test_what_is_not_known_is_a_quoted_dash(self, logged: Callable[..., str]) -> None:
        line = logged(ENTRY._replace(status=0, response_time=-1.0, gorouter_time=-1.0))
        assert 'HTTP/1.1" "-" 0 12 ' in line
        assert 'response_time:"-" gorouter_time:"-" app_id' in line

    def test_numbers_of_0_are_numbers(self, logged: Callable[..., str]) -> None:
        line = logged(ENTRY._replace(response_bytes=0, response_time=0.0, gorouter_time=0.0))
        assert ' 200 0 0 "-"' in line
        assert "response_time:0.000000 gorouter_time:0.000000 " in line


class TestQuoting:
    @pytest.mark.parametrize(
        ("raw", "shown"),
        [
            (b'say "hi"', r'"say \"hi\""'),
            (b"back\\slash", r'"back\\slash"'),
            (b"\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
            (b"\x00\x1b\x7f", r'"\x00\x1b\x7f"'),
            (b"\xff\xc3", r'"\xff\xc3"'),
            ("é漢😀".encode(), '"é漢😀"'),
            ("\u200b\u2028\u00a0\U000e0001".encode(), r'"\u200b\u2028\u00a0\U000e0001"'),
            (b"", '""'),
        ],
    )
    def test_is_gos(self, raw: bytes, shown: str) -> None:
        assert quoted(raw) == shown

    def test_nothing_in_a_header_ends_a_field_or_a_line(self, logged: Callable[..., str]) -> None:
        line = logged(ENTRY._replace(user_agent=b'x" 200 0 0 "\n', host=b'h"\n'))
        assert line.count("\n") == 1
        assert r'"x\" 200 0 0 \"\n" "203' in line
        assert line.startswith(r"h\"\n - [2025")


class TestTheFile:
    def test_is_appended_to_and_made_readable(self, tmp_path: Path) -> None:
        file = tmp_path / "access.log"
        for _ in range(2):
            with open_log(file) as log:
                log.write(ENTRY)
        assert file.read_text() == 2 * LINE
        assert file.stat().st_mode & 0o777 == 0o644 & ~_umask()

    def test_lines_arrive_without_being_asked_for(self, tmp_path: Path) -> None:
        with open_log(tmp_path / "access.log") as log:
            log.write(ENTRY)
            until(lambda: (tmp_path / "access.log").read_text() == LINE)

    def test_one_that_was_moved_away_is_opened_anew(self, tmp_path: Path) -> None:
        file, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
        with open_log(file) as log:
            log.write(ENTRY)
            until(lambda: file.read_text() == LINE)
            file.rename(rotated)
            log.write(ENTRY._replace(host=b"new"))
            until(file.exists)
            until(lambda: file.read_text().startswith("new - ["))
        assert rotated.read_text() == LINE

    def test_so_is_one_that_another_took_the_name_of(self, tmp_path: Path) -> None:
        file = tmp_path / "access.log"
        with open_log(file) as log:
            file.rename(tmp_path / "access.log.1")
            file.write_text("from logrotate\n")
            log.write(ENTRY)
            until(lambda: file.read_text() == "from logrotate\n" + LINE)

    def test_one_that_was_copied_and_truncated_is_written_from_its_beginning(self, tmp_path: Path) -> None:
        file = tmp_path / "access.log"
        with open_log(file) as log:
            log.write(ENTRY)
            until(lambda: file.read_text() == LINE)
            os.truncate(file, 0)
            log.write(ENTRY)
            until(lambda: file.read_text() == LINE)

    def test_one_whose_name_cannot_be_opened_any_more_is_written_on(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder, moved = tmp_path / "logs", tmp_path / "moved"
        folder.mkdir()
        with caplog.at_level(logging.WARNING), open_log(folder / "access.log") as log:
            folder.rename(moved)
            for times in (1, 2):
                log.write(ENTRY)
                until(lambda times=times: (moved / "access.log").read_text() == times * LINE)  # type: ignore[misc]
            assert log.dropped == 0
            folder.mkdir()
            log.write(ENTRY)
            until(lambda: (folder / "access.log").exists() and (folder / "access.log").read_text() == LINE)
        [complaint] = [record for record in caplog.records if record.message == "access-log-not-reopened"]
        assert "No such file or directory" in complaint.__dict__["data"]["reason"]

    def test_all_lines_of_a_burst_arrive_in_order(self, tmp_path: Path) -> None:
        with open_log(tmp_path / "access.log") as log:
            for number in range(5000):
                log.write(ENTRY._replace(response_bytes=number))
        written = re.findall(r'HTTP/1.1" 200 0 (\d+) ', (tmp_path / "access.log").read_text())
        assert written == [str(number) for number in range(5000)]
        assert log.dropped == 0

    def test_a_dash_is_standard_output(self) -> None:
        program = (
            "from router.logs.access_log import AccessLog; from router.logs.log_file import LogFile\n"
            "from router.config.settings import Settings; from tests.router.logs.test_access_log import ENTRY\n"
            "log = AccessLog(Settings(), [LogFile('-')]); log.write(ENTRY); log.close()"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
        assert done.stdout == LINE

    def test_one_that_cannot_be_opened_is_named_with_the_setting(self, tmp_path: Path) -> None:
        with pytest.raises(
            CannotLog, match=r"access_log\.file .*/no/such: No such file or directory; make it writable"
        ):
            open_for_lines(str(tmp_path / "no" / "such"))
        with pytest.raises(CannotLog, match="Is a directory"):
            open_for_lines(str(tmp_path))

    def test_a_fifo_without_a_reader_is_no_reason_to_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(CannotLog, match="No such device"):
            open_for_lines(str(tmp_path / "fifo"))


class TestABadDisk:
    def test_a_reader_that_reads_nothing_costs_lines_and_never_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(line_queue, "MAX_PENDING_BYTES", 200_000)
        monkeypatch.setattr(line_queue, "CLOSE_GRACE", 0.05)
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            with caplog.at_level(logging.WARNING), open_log(fifo) as log:
                began = time.thread_time()
                for number in range(3000):
                    log.write(ENTRY._replace(response_bytes=number))
                assert time.thread_time() - began < 2
                assert log.dropped > 1000
                assert 3000 - log.dropped >= 200_000 // 400
            os.set_blocking(reader, True)
            raw = b""
            kept = 3000 - log.dropped
            while raw.count(b"\n") < kept:
                raw += os.read(reader, 1 << 16)
        finally:
            os.close(reader)
        numbers = [int(n) for n in re.findall(rb'HTTP/1.1" 200 0 (\d+) ', raw)]
        assert len(numbers) == kept, "every line that was taken comes out whole"
        assert numbers == sorted(set(numbers))
        [complaint] = [record for record in caplog.records if record.message == "access-log-lines-dropped"]
        assert json.loads(json.dumps(complaint.__dict__["data"]))["file"] == str(fifo)

    def test_a_full_disk_costs_lines_and_says_so_once(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING), open_log("/dev/full") as log:
            for _ in range(10):
                log.write(ENTRY)
                until(lambda: log.dropped > 0)
            until(lambda: log.dropped == 10)
        [complaint] = caplog.records
        assert complaint.__dict__["data"]["reason"] == "No space left on device"

    def test_a_line_that_a_full_disk_cut_off_does_not_spoil_the_next_one(self, tmp_path: Path) -> None:
        program = (
            "import resource, signal, sys; from router.logs.access_log import AccessLog\n"
            "from router.logs.log_file import LogFile; from router.config.settings import Settings\n"
            "from tests.router.logs.test_access_log import ENTRY, until\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "log = AccessLog(Settings(), [LogFile(sys.argv[1])])\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))\n"
            "log.write(ENTRY); log.write(ENTRY)\n"
            "until(lambda: log.dropped == 1)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
            "log.write(ENTRY); log.close()\n"
        )
        file = tmp_path / "access.log"
        subprocess.run([sys.executable, "-c", program, str(file)], check=True, timeout=30)
        first, cut, last = file.read_text().splitlines(keepends=True)
        assert (first, last) == (LINE, LINE)
        assert LINE.startswith(cut.strip())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
