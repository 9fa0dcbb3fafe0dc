"""The router's own log: JSON lines, and a standard output that nobody waits for."""

from __future__ import annotations

import json
import logging
import re
import select
import subprocess
import sys
from typing import Any

import pytest

from router.config.setting_sections import LEVELS
from router.config.settings import LogFormat, Logging
from router.logs.component_log import Form, JsonLines


def run(program: str) -> list[dict[str, Any]]:
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    return [json.loads(line) for line in said.stdout.splitlines()]


def test_a_line_is_one_json_object_in_gorouters_shape() -> None:
    [line] = run(
        "import logging; from router.logs import component_log as logs\n"
        "logs.to_stdout('info', worker=3)\n"
        "logging.getLogger('router.proxy').debug('not-said')\n"
        "logging.getLogger('router.proxy').warning('said', extra={'data': {'n': 1}})"
    )
    assert line["log_level"] == 2
    assert line["message"] == "said"
    assert line["source"] == "gorouter.stdout.proxy"
    assert line["data"] == {"worker": 3, "n": 1}


def logged(form: Form, name: str = "router.proxy") -> dict[str, Any]:
    record = logging.LogRecord(name, logging.INFO, "", 0, "said", None, None)
    record.created = 1735725600.25
    line: dict[str, Any] = json.loads(JsonLines({}, form).format(record))
    return line


@pytest.mark.parametrize(
    ("settings", "timestamp", "source"),
    [
        (Logging(), 1735725600.25, "gorouter.stdout.proxy"),
        (Logging(format=LogFormat("rfc3339")), "2025-01-01T10:00:00.250000000Z", "gorouter.stdout.proxy"),
        (Logging(syslog="vcap.gorouter"), 1735725600.25, "vcap.gorouter.proxy"),
    ],
)
def test_time_and_source_are_as_the_settings_say(settings: Logging, timestamp: object, source: str) -> None:
    line = logged(Form.of(settings))
    assert (line["timestamp"], line["source"]) == (timestamp, source)


def test_the_programs_own_lines_have_no_component() -> None:
    assert logged(Form("vcap.gorouter"), "router")["source"] == "vcap.gorouter"


@pytest.mark.parametrize("level", LEVELS.values)
def test_every_level_that_a_file_may_name_is_one(level: str) -> None:
    said = run(
        "import logging; from router.logs import component_log as logs\n"
        f"logs.to_stdout({level!r}); log = logging.getLogger('router.x')\n"
        "log.debug('0'); log.info('1'); log.warning('2'); log.error('3')"
    )
    lowest = {"debug": 0, "info": 1, "warn": 2, "warning": 2}.get(level.lower(), 3)
    assert [line["log_level"] for line in said] == list(range(lowest, 4))


def test_libraries_say_nothing_that_is_for_their_makers_only() -> None:
    [line] = run(
        "import logging; from router.logs import component_log as logs\n"
        "logs.to_stdout('debug'); log = logging.getLogger('nats')\n"
        "log.debug('0'); log.info('1')"
    )
    assert (line["message"], line["source"]) == ("1", "gorouter.stdout.nats")


def test_what_was_said_last_is_written_before_the_end() -> None:
    lines = run(
        "import logging; from router.logs import component_log as logs\n"
        "logs.to_stdout('info')\n"
        "for n in range(2000): logging.getLogger('router.x').info('said', extra={'data': {'n': n}})"
    )
    assert [line["data"]["n"] for line in lines] == list(range(2000))


def numbers(said: bytes) -> int:
    return said.count(b'"n":')


def dropped(said: bytes) -> int:
    """How many the log says were not written."""
    return sum(map(int, re.findall(rb'"message":"log-lines-dropped".*"dropped":(\d+)', said)))


def test_a_standard_output_that_takes_nothing_costs_lines_and_never_time() -> None:
    program = (
        "import logging, sys; from router.logs import component_log as logs, line_queue\n"
        "line_queue.MAX_PENDING_BYTES = 100_000\n"
        "logs.to_stdout('info'); log = logging.getLogger('router.x')\n"
        "for n in range(5000): log.info('said', extra={'data': {'n': n}})\n"
        "print('went on', file=sys.stderr, flush=True); sys.stdin.readline(); log.info('again')\n"
        "sys.stdin.readline(); print(logs.dropped(), file=sys.stderr, flush=True)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stderr.readline() == b"went on\n"
        said = b""
        while select.select([child.stdout], [], [], 0.5)[0]:
            said += child.stdout.read(1 << 16)
        child.stdin.write(b"\n")
        while b'"again"' not in said or not said.endswith(b"\n") or dropped(said) + numbers(said) < 5000:
            said += child.stdout.read(1 << 16)
        child.stdin.write(b"\n")
        counted = int(child.stderr.readline())
    written = [line["data"]["n"] for line in map(json.loads, said.splitlines()) if line["message"] == "said"]
    assert 500 < len(written) < 4000
    assert written == sorted(set(written)), "whole lines, in their order"
    assert dropped(said) == counted == 5000 - len(written)
