"""h2load as the generator of the HTTP/2 scenarios.

It must never be believed without its log of requests: what it prints holds no percentiles.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

from bench.histogram import Histogram
from bench.load import Generator, LoadResult
from bench.machine import BenchError
from bench.scenarios import HOST, Scenario

PACKAGE: Final = "Debian: apt-get install nghttp2-client"

_FINISHED: Final = re.compile(r"^requests: \d+ total, \d+ started, (\d+) done, .*?(\d+) errored, (\d+) timeout", re.M)
_STATUSES: Final = re.compile(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", re.M)
_TRAFFIC: Final = re.compile(r"^traffic: \S+ \((\d+)\) total", re.M)


class H2Load(Generator):
    name = "h2load"

    def __init__(self, folder: Path) -> None:
        self._log = folder / "h2load.log"
        self._seconds = 0.0

    @staticmethod
    def missing() -> str:
        """Why it cannot be used here; empty when it can."""
        return "" if shutil.which("h2load") else f"no h2load on PATH ({PACKAGE})"

    def argv(self, scenario: Scenario, port: int, seconds: float) -> list[str]:
        self._seconds = max(1.0, round(seconds))  # it takes whole seconds only
        self._log.unlink(missing_ok=True)
        load = ["-c", str(scenario.connections), "-m", str(scenario.streams), "-D", f"{self._seconds:.0f}s"]
        url = f"{'https' if scenario.tls else 'http'}://{HOST}{scenario.path}"
        return ["h2load", *load, f"--connect-to=127.0.0.1:{port}", f"--log-file={self._log}", url]

    def read(self, output: str) -> LoadResult:
        finished, statuses, traffic = (each.search(output) for each in (_FINISHED, _STATUSES, _TRAFFIC))
        if not (finished and statuses and traffic):
            raise BenchError(f"h2load printed no figures; its last words: {output[-400:] or '(none)'}")
        latencies = Histogram()
        with self._log.open("rb") as log:
            for line in log:
                latencies.record(int(line.split(b"\t")[2]))
        done, errored, late = (int(each) for each in finished.groups())
        answered = [int(each) for each in statuses.groups()]
        return LoadResult(
            requests=done - errored,
            seconds=self._seconds,
            bytes=int(traffic[1]),
            p50_us=latencies.percentile(50),
            p99_us=latencies.percentile(99),
            errors={"connect": 0, "broken": errored, "timeout": late, "status": answered[2] + answered[3]},
        )
