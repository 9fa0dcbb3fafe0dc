"""What the rounds say: medians, ratios to the baseline, warnings, as a document for machines and tables for people.

It must never hide a round: the document holds every one, and a ratio comes with its smallest and largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.rounds import DISTURBED, SATURATED, Round, ScenarioResult

BASELINE: Final = "nginx"
SUBJECT: Final = "router"
COMPARED: Final = ("requests_per_second", "p99_us", "cpu_us_per_request")
"""The figures whose ratio to the baseline is told."""
MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of the ratios of each round, with their range."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}-{self.most:.2f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Round by round, ``ours`` over ``theirs``. Raises ValueError: no rounds, unequal numbers of them, or a zero."""
    if not ours or len(ours) != len(theirs):
        raise ValueError(f"ratios need the same rounds on both sides, not {len(ours)} and {len(theirs)}")
    if not all(theirs):
        raise ValueError("a ratio to nothing: the baseline has a round with the figure 0")
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(median(each), min(each), max(each))


def figures(rounds: Sequence[Round], name: str) -> list[float]:
    """One figure of every round."""
    return [float(getattr(each, name)) for each in rounds]


def middle(rounds: Sequence[Round], name: str) -> float:
    """The median of one figure over the rounds."""
    return median(figures(rounds, name))


def to_baseline(result: ScenarioResult, proxy: str) -> dict[str, Ratio]:
    """The ratios of one proxy by figure; empty when the baseline was not measured, or had a 0."""
    baseline = result.rounds.get(BASELINE)
    if baseline is None:
        return {}
    ours = result.rounds[proxy]
    return {
        name: ratio(figures(ours, name), figures(baseline, name)) for name in COMPARED if all(figures(baseline, name))
    }


def warnings(result: ScenarioResult) -> list[str]:
    """What a reader must know before trusting the figures of a scenario."""
    told = []
    unit = "request" if result.scenario.unit == "req" else result.scenario.unit
    if idle := result.not_saturated():
        told.append(
            f"below {SATURATED:.0%} of its core: {', '.join(idle)}. The load side (or others on this "
            f"machine) was the limit: CPU per {unit} holds, {unit}s per second is not capacity"
        )
    if disturbed := result.disturbed():
        told.append(
            f"others used more than {DISTURBED:.0%} of the proxy's core while it ran: {', '.join(disturbed)}. "
            "Rate and latency are worse than on an idle machine"
        )
    told.extend(f"{name} failed: {why}" for name, why in result.failed.items())
    failed = {name: result.errors(name) for name in result.rounds if result.errors(name)}
    told.extend(f"{name}: {count} {unit}s failed" for name, count in failed.items())
    return told


def document(result: ScenarioResult) -> dict[str, Any]:
    """One scenario, whole, for a JSON file."""
    return {
        **asdict(result.scenario),
        "generator": result.generator,
        "ceiling": result.ceiling,
        "warnings": warnings(result),
        "failed": result.failed,
        "proxies": {
            name: {
                "rounds": [asdict(each) for each in rounds],
                f"to_{BASELINE}": {key: asdict(value) for key, value in to_baseline(result, name).items()},
            }
            for name, rounds in result.rounds.items()
        },
    }


def table(result: ScenarioResult) -> Table:
    """One scenario, for a terminal: medians over the rounds."""
    shown = Table(title=result.scenario.title, title_justify="left", title_style="bold")
    shown.add_column("proxy")
    compared = BASELINE in result.rounds
    unit = result.scenario.unit
    for heading in (f"{unit}/s", "p50 ms", "p99 ms", f"CPU µs/{unit}", "core", "load", "PSS MiB", "errors"):
        shown.add_column(heading, justify="right")
    if compared:
        shown.add_column(f"{unit}/s to {BASELINE}", justify="right")
        shown.add_column(f"CPU to {BASELINE}", justify="right")
    for name, rounds in result.rounds.items():
        errors = result.errors(name)
        cells = [
            f"{middle(rounds, 'requests_per_second'):,.0f}",
            f"{middle(rounds, 'p50_us') / 1000:.2f}",
            f"{middle(rounds, 'p99_us') / 1000:.2f}",
            f"{middle(rounds, 'cpu_us_per_request'):.1f}",
            f"{middle(rounds, 'core_share'):.0%}",
            f"{middle(rounds, 'load_share'):.0%}",
            f"{max(figures(rounds, 'peak_pss_bytes')) / MEBIBYTE:.1f}",
            f"[red]{errors}[/red]" if errors else "0",
        ]
        if compared:
            ratios = to_baseline(result, name)
            cells += [str(ratios[key]) for key in ("requests_per_second", "cpu_us_per_request")]
        shown.add_row(name, *cells)
    return shown


def notes(result: ScenarioResult) -> list[str]:
    """What made the load and what it can do alone, and whether the router reached its goal."""
    told = [f"load by {result.generator}"] if result.generator else []
    if result.ceiling:
        told[-1:] = [f"{told[-1]}: {result.ceiling:,.0f} {result.scenario.unit}/s with no proxy between"]
    goal = result.scenario.goal
    if goal and SUBJECT in result.rounds and (found := to_baseline(result, SUBJECT).get("cpu_us_per_request")):
        meaning = f" ({goal.meaning})" if goal.meaning else ""
        verdict = "met" if goal.met(found.median) else "missed"
        told.append(
            f"goal: {SUBJECT}'s CPU at most {goal.most:.2f} of {BASELINE}'s{meaning}: {found.median:.2f}, {verdict}"
        )
    return told


def show(result: ScenarioResult, console: Console) -> None:
    """The table of one scenario and its warnings."""
    console.print(table(result))
    for note in notes(result):
        console.print(f"  {note}", markup=False)
    for warning in warnings(result):
        console.print(f"  {warning}", style="yellow", markup=False)
    console.print()
