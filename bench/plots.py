"""Pictures of the results, as PNG files. Needs matplotlib, which the extra ``bench`` brings.

It must never show a median without its rounds: each bar carries one dot per round.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.controller import ControllerResult
from bench.report import MEBIBYTE, figures
from bench.rounds import ScenarioResult

OWN_COLOUR: Final = "#c0392b"
PEER_COLOUR: Final = "#7f8c8d"
PANELS: Final = (
    ("requests_per_second", 1.0, "requests per second"),
    ("cpu_us_per_request", 1.0, "CPU µs per request"),
    ("p99_us", 1000.0, "p99 latency, ms"),
    ("peak_pss_bytes", float(MEBIBYTE), "peak memory (PSS), MiB"),
)
"""Figure, divisor, title."""


def draw(result: ScenarioResult, path: Path) -> None:
    """One scenario: a panel per figure, a bar per proxy."""
    figure = Figure(figsize=(3.4 * len(PANELS), 1.2 + 0.4 * len(result.rounds)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(result.scenario.title)
    for place, (name, divisor, title) in enumerate(PANELS, start=1):
        _bars(figure.add_subplot(1, len(PANELS), place), result, name, divisor, title)
    figure.savefig(path, dpi=120)


def _bars(axes: Axes, result: ScenarioResult, name: str, divisor: float, title: str) -> None:
    proxies = list(result.rounds)
    values: Sequence[Sequence[float]] = [[v / divisor for v in figures(result.rounds[p], name)] for p in proxies]
    colours = [OWN_COLOUR if proxy == "router" else PEER_COLOUR for proxy in proxies]
    places = range(len(proxies))
    axes.barh(places, [median(each) for each in values], color=colours, alpha=0.75)
    for place, each in zip(places, values, strict=True):
        axes.plot(each, [place] * len(each), "k.", markersize=3)
    axes.set_yticks(places, proxies)
    axes.invert_yaxis()
    axes.set_title(title, fontsize="medium")
    axes.margins(x=0.05)


RATE_PANELS: Final = (("per_second", "calls per second"), ("p99_ms", "p99 latency, ms"), ("cpu_ms", "CPU ms per call"))
COLOURS: Final = (OWN_COLOUR, "#2c6fbb")


def draw_controller(result: ControllerResult, path: Path) -> None:
    """A panel per figure, a group of bars per call, a bar per database. One go: there are no rounds to show."""
    rows = len(result.databases[0].rates)
    figure = Figure(figsize=(4.6 * len(RATE_PANELS), 1.5 + 0.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"controller with {result.amounts.apps:,} apps, calls through the router")
    for place, (name, title) in enumerate(RATE_PANELS, start=1):
        axes = figure.add_subplot(1, len(RATE_PANELS), place)
        height = 0.8 / len(result.databases)
        for number, (database, colour) in enumerate(zip(result.databases, COLOURS, strict=False)):
            places = [row + number * height for row in range(rows)]
            values = [getattr(rate, name) for rate in database.rates]
            axes.barh(places, values, height=height, color=colour, alpha=0.75, label=database.kind)
        axes.set_yticks(range(rows), [f"{rate.name}, {rate.connections}" for rate in result.databases[0].rates])
        axes.invert_yaxis()
        axes.set_title(title, fontsize="medium")
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
