"""What the controller's scenarios say, as tables and pictures for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from bench.controller import GOAL_PAGES, GOAL_SHOWN_MS, ControllerResult, DatabaseResult
from bench.report import MEBIBYTE


def show(result: ControllerResult, console: Console) -> None:
    """All tables, goals and failures."""
    console.print(_rates(result))
    console.print(_others(result))
    for database in result.databases:
        for line in verdicts(database):
            console.print(f"  {line}", markup=False)
        for rate in database.rates:
            if rate.failed:
                told = f"  {database.kind}, {rate.title}: {rate.failed} failed, the first: {rate.first_failure}"
                console.print(told, style="yellow", markup=False)
    console.print()


def slowest_page(database: DatabaseResult) -> float:
    """The slowest page over the first one of the same list, at worst."""
    first = {page.query: page.ms for page in database.pages if page.number == 1}
    return max(page.ms / first[page.query] for page in database.pages)


def verdicts(database: DatabaseResult) -> Iterator[str]:
    """The goals, and whether they were met."""
    shown, pages = database.shown.p99_ms, slowest_page(database)
    yield (
        f"{database.kind}, goal: a destination is served at most {GOAL_SHOWN_MS:g} ms after the answer (p99): "
        f"{shown:.1f} ms, {_verdict(shown <= GOAL_SHOWN_MS)}"
    )
    yield (
        f"{database.kind}, goal: no page takes more than {GOAL_PAGES:g} times as long as the first one: "
        f"{pages:.1f}, {_verdict(pages <= GOAL_PAGES)}"
    )


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _rates(result: ControllerResult) -> Table:
    shown = Table(
        title=f"controller with {result.amounts.apps:,} apps: calls through the router",
        title_justify="left",
        title_style="bold",
    )
    shown.add_column("call")
    shown.add_column("clients", justify="right")
    for database in result.databases:
        for heading in ("/s", "p50 ms", "p99 ms", "CPU ms"):
            shown.add_column(f"{database.kind}\n{heading}", justify="right")
    for rows in zip(*(database.rates for database in result.databases), strict=True):
        cells = [rows[0].title, str(rows[0].connections)]
        for rate in rows:
            cells += [f"{rate.per_second:,.0f}", f"{rate.p50_ms:.1f}", f"{rate.p99_ms:.1f}", f"{rate.cpu_ms:.2f}"]
        shown.add_row(*cells)
    return shown


def _others(result: ControllerResult) -> Table:
    shown = Table(title="pages, changes and memory", title_justify="left", title_style="bold")
    shown.add_column()
    for database in result.databases:
        shown.add_column(database.kind, justify="right")
    for pages in zip(*(database.pages for database in result.databases), strict=True):
        how = f", {pages[0].query}" if pages[0].query else ""
        shown.add_row(f"page {pages[0].number:,}{how}", *(f"{page.ms:.1f} ms" for page in pages))
    databases = result.databases
    for label, cells in (
        ("from a destination's answer to its first 200, p50", [f"{each.shown.p50_ms:.1f} ms" for each in databases]),
        ("the same, p99", [f"{each.shown.p99_ms:.1f} ms" for each in databases]),
        ("from DELETE of an app to the end of its job, p50", [f"{each.jobs.p50_ms:.1f} ms" for each in databases]),
        ("the same, p99", [f"{each.jobs.p99_ms:.1f} ms" for each in databases]),
        ("resident memory, at the start", [_mebibytes(each.memory.start) for each in databases]),
        (
            f"the same, after all this and {result.amounts.warm_requests:,} requests",
            [_mebibytes(each.memory.warm) for each in databases],
        ),
        (
            f"the same, after {result.amounts.more_requests:,} more",
            [_mebibytes(each.memory.later) for each in databases],
        ),
    ):
        shown.add_row(label, *cells)
    return shown


def _mebibytes(size: int) -> str:
    return f"{size / MEBIBYTE:.1f} MiB"
