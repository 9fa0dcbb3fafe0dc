"""Rounds: interleaved, metered, and not spoilt by a proxy that fails."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace

from bench.programs import Program
from bench.proxy import Proxy, Site
from bench.report import document, warnings
from bench.rounds import Effort
from bench.scenarios import SCENARIOS
from bench.session import session


class Answering(Proxy):
    """Not a proxy at all: it answers by itself."""

    name = "answering"
    command: tuple[str, ...] = (sys.executable, "-m", "bench.backend")
    program: Program

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return "1"

    def start(self, site: Site, stack: ExitStack) -> Program:
        command = [*self.command, str(site.port)]
        self.program = stack.enter_context(Program(self.name, command, site.folder, site.cores.proxy))
        self.program.wait_for_port(site.port)
        return self.program


class Dying(Answering):
    """Is killed before the second round."""

    name = "dying"

    def progress(self, line: str) -> None:
        if line.endswith("round 2 of 2, dying"):
            self.program.kill()


class Stillborn(Answering):
    """Ends at once."""

    name = "stillborn"
    command = ("sh", "-c", "echo out of luck; exit 3")


def test_proxies_take_turns_and_one_that_fails_is_left_out_by_name() -> None:
    told: list[str] = []
    dying = Dying()

    def progress(line: str) -> None:
        told.append(line)
        dying.progress(line)

    scenario = replace(SCENARIOS["small"], connections=4)
    with session(Effort(rounds=2, seconds=1, warm_up=0)) as running:
        result = running.compare(scenario, [dying, Stillborn(), Answering()], progress)
    assert [line.rpartition(": ")[2] for line in told] == [
        "round 1 of 2, dying",
        "round 1 of 2, answering",
        "round 2 of 2, dying",
        "round 2 of 2, answering",
    ]
    assert list(result.rounds) == ["answering"]
    assert "exited with code 3" in result.failed["stillborn"]
    assert "out of luck" in result.failed["stillborn"]
    assert "(dying was ended by SIGKILL)" in result.failed["dying"]
    assert document(result)["failed"] == result.failed
    assert all(any(name in warning for warning in warnings(result)) for name in ("dying", "stillborn"))
    for each in result.rounds["answering"]:
        assert each.requests_per_second > 100
        assert sum(each.errors.values()) == 0
        seconds_of_core = each.cpu_us_per_request * each.requests_per_second / 1e6
        assert abs(seconds_of_core - each.core_share) < 0.02
        assert 0.02 < each.core_share < 1.1
        assert each.peak_rss_bytes >= each.peak_pss_bytes > 1 << 20


def test_a_proxy_that_answers_something_else_is_left_out() -> None:
    scenario = replace(SCENARIOS["small"], connections=1, response_bytes=10_000)
    with session(Effort(rounds=1, seconds=1, warm_up=0)) as running:
        result = running.compare(scenario, [Answering()], lambda _line: None)
    assert "should have had 10000 or more" in result.failed["answering"]
