"""Side by side: all proxies up at once, loaded in turn, round after round, each round metered.

A B C A B C rather than A A B B C C, so that whatever the machine does meanwhile falls on all alike, and ratios are
taken within a round. It must never load two proxies at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from bench.choice import generator_for, start_echo
from bench.load import Backend, Generator, LoadResult
from bench.machine import BenchError, Cores, pinned
from bench.meter import core_busy_ns, cpu_ns, memory
from bench.programs import Program
from bench.proxied import serves
from bench.proxy import Proxy, new_site
from bench.scenarios import Scenario
from director.local_ca import Identity

CEILING_SECONDS = 1.0
MEMORY_SAMPLE_SECONDS = 0.5
SATURATED = 0.95
"""The share of its core above which the proxy was what limited the rate."""
DISTURBED = 0.05
"""The share of the proxy's core from which others' work on it is worth a word."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often."""

    rounds: int = 5
    seconds: float = 4.0
    warm_up: float = 1.0


@dataclass(frozen=True, slots=True)
class Round:
    """One proxy under one scenario, once."""

    requests_per_second: float
    p50_us: float
    p99_us: float
    cpu_us_per_request: float
    """User and system time of the proxy's whole process tree."""
    core_share: float
    """The part of its core that the proxy used."""
    foreign_share: float
    """The part of that core that others used."""
    load_share: float
    """The part of the load side's core that was busy: near 1, generator and backend may have been the limit."""
    peak_rss_bytes: int
    peak_pss_bytes: int
    errors: dict[str, int]


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    scenario: Scenario
    generator: str = ""
    ceiling: float = 0.0
    """Requests per second of the load side alone, with no proxy between; 0 where it cannot be without one."""
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    """By proxy, in the order of the rounds."""
    failed: dict[str, str] = field(default_factory=dict)
    """Proxies that cannot do it, did not start or did not answer, with the reason; they have no rounds."""

    def not_saturated(self) -> list[str]:
        """Proxies whose rate says nothing of their capacity: something else was the limit."""
        return [name for name, rounds in self.rounds.items() if median(r.core_share for r in rounds) < SATURATED]

    def disturbed(self) -> list[str]:
        """Proxies that had to share their core with strangers."""
        return [name for name, rounds in self.rounds.items() if median(r.foreign_share for r in rounds) > DISTURBED]

    def errors(self, name: str) -> int:
        return sum(sum(r.errors.values()) for r in self.rounds[name])


@dataclass(slots=True)
class Bench:
    """What stays the same for all scenarios."""

    folder: Path
    cores: Cores
    backend: Backend
    generator: Generator
    effort: Effort
    identity: Identity
    """What proxies show in the scenarios with TLS."""

    def compare(self, scenario: Scenario, proxies: Sequence[Proxy], progress: Callable[[str], None]) -> ScenarioResult:
        """All rounds of one scenario, with fresh processes, so that peak memory is this scenario's own.

        A proxy that fails is left out from then on, and does not hinder the others.
        """
        folder = self.folder / scenario.name
        folder.mkdir()
        generator = generator_for(scenario, folder) if scenario.special else self.generator
        with pinned(self.cores.load), ExitStack() as stack:
            backend = start_echo(folder, self.cores.load, stack) if scenario.websocket else self.backend
            result = ScenarioResult(scenario, generator.name, self._ceiling(scenario, generator, backend))
            running = dict(self._start(proxies, scenario, folder, backend, stack, result.failed))
            result.rounds.update({name: [] for name in running})
            for number in range(self.effort.rounds):
                for name, (program, port) in tuple(running.items()):
                    progress(f"{scenario.title}: round {number + 1} of {self.effort.rounds}, {name}")
                    try:
                        result.rounds[name].append(self.measure(program, port, scenario, generator))
                    except BenchError as error:
                        result.failed[name] = f"{error} ({name} {program.ending})"
                        del running[name], result.rounds[name]
        return result

    def _ceiling(self, scenario: Scenario, generator: Generator, backend: Backend) -> float:
        if scenario.tls or scenario.http2:  # the backend speaks neither
            return 0.0
        alone = generator.run(scenario, backend.port, CEILING_SECONDS, self.cores.load)
        return alone.requests / alone.seconds

    def _start(
        self,
        proxies: Sequence[Proxy],
        scenario: Scenario,
        folder: Path,
        backend: Backend,
        stack: ExitStack,
        failed: dict[str, str],
    ) -> Iterator[tuple[str, tuple[Program, int]]]:
        for proxy in proxies:
            if why := proxy.lacks(scenario):
                failed[proxy.name] = why
                continue
            site = new_site(folder, proxy.name, backend.port, self.cores, scenario, self.identity)
            with ExitStack() as own:
                try:
                    program = proxy.start(site, own)
                    program.wait_until(partial(serves, site), 15, "served its route")
                except BenchError as error:
                    failed[proxy.name] = str(error)
                    continue
                stack.push(own.pop_all())
            yield proxy.name, (program, site.port)

    def measure(self, program: Program, port: int, scenario: Scenario, generator: Generator | None = None) -> Round:
        """Warm up, load and meter one proxy once, by ``generator`` or the one that serves most scenarios.

        Raises BenchError: nothing was answered, or too little each time.
        """
        generator = generator or self.generator
        if self.effort.warm_up:
            generator.run(scenario, port, self.effort.warm_up, self.cores.load)
        core = self.cores.proxy
        load_before = core_busy_ns(self.cores.load)
        began, cpu_before, busy_before = time.monotonic_ns(), cpu_ns(program.pid), core_busy_ns(core)
        load, rss, pss = self._load(program, port, scenario, generator)
        elapsed = time.monotonic_ns() - began
        load_busy = core_busy_ns(self.cores.load) - load_before
        used, busy = cpu_ns(program.pid) - cpu_before, core_busy_ns(core) - busy_before
        if not load.requests:
            raise BenchError(f"{program.name} answered nothing in the scenario {scenario.name}: errors {load.errors}")
        if not load.failed and load.bytes < load.requests * scenario.response_bytes:
            raise BenchError(
                f"{program.name} sent {load.bytes} bytes in {load.requests} responses, each of which should have had "
                f"{scenario.response_bytes} or more"
            )
        return Round(
            requests_per_second=load.requests / load.seconds,
            p50_us=load.p50_us,
            p99_us=load.p99_us,
            cpu_us_per_request=used / 1000 / load.requests,
            core_share=used / 1e9 / load.seconds,
            foreign_share=max(0.0, (busy - used) / elapsed),
            load_share=load_busy / elapsed,
            peak_rss_bytes=rss,
            peak_pss_bytes=pss,
            errors=load.errors,
        )

    def _load(
        self, program: Program, port: int, scenario: Scenario, generator: Generator
    ) -> tuple[LoadResult, int, int]:
        generation = generator.start(scenario, port, self.effort.seconds, self.cores.load)
        rss = pss = 0
        with generation:
            while generation.running(MEMORY_SAMPLE_SECONDS):
                now = memory(program.pid)
                rss, pss = max(rss, now.rss), max(pss, now.pss)
        return generation.result(), rss, pss
