"""``millrace bench``: everything, or one part of it.

It must never leave anything running: whatever ends it, Ctrl-C and SIGTERM included, ends its programs first.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
import orjson
from rich.console import Console

from bench import machine, report
from bench.gorouter import Gorouter
from bench.load import choose_generator, start_backend
from bench.machine import BenchError
from bench.peers import Caddy, Envoy, HAProxy, Nginx, Proxy, Traefik
from bench.rounds import Bench, Effort
from bench.scenarios import SCENARIOS

PROXIES: Final[dict[str, Proxy]] = {
    proxy.name: proxy for proxy in (Nginx(), HAProxy(), Envoy(), Traefik(), Caddy(), Gorouter())
}
DEFAULT: Final = Effort()
RESULTS: Final = Path("bench/results")
FILE_WIDTH: Final = 140
"""Columns of the tables when they do not go to a terminal."""


@contextmanager
def orderly() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, and failures of the bench become one line for people."""

    def unwind(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def new_console(as_json: bool) -> Console:
    """Where people read: standard error when standard output is the document; wide where nobody says how wide."""
    console = Console(stderr=as_json)
    return console if console.is_terminal else Console(stderr=as_json, width=FILE_WIDTH)


def choose(only: str) -> tuple[list[Proxy], dict[str, str]]:
    """The proxies to measure, by comma-separated names (empty: all), and those left out with the reason.

    Raises click.BadParameter: a name that no proxy has.
    """
    names = [name.strip() for name in only.split(",") if name.strip()] or list(PROXIES)
    if unknown := [name for name in names if name not in PROXIES]:
        raise click.BadParameter(f"no proxy is called {', '.join(unknown)}; there are {', '.join(PROXIES)}")
    missing = {name: PROXIES[name].missing() for name in names}
    return [PROXIES[name] for name in names if not missing[name]], {k: why for k, why in missing.items() if why}


def save(document: dict[str, Any], results: Path) -> Path:
    """Write the document under its time into ``results``; the file's path."""
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{document['taken']}.json"
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return path


def opening(generator: str, backend: str, cores: machine.Cores, effort: Effort) -> dict[str, Any]:
    """The head of a document: when, where and how."""
    return {
        "taken": datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ"),
        "machine": machine.describe(),
        "cores": asdict(cores),
        "generator": generator,
        "backend": backend,
        "effort": asdict(effort),
    }


def tell_opening(head: dict[str, Any], console: Console) -> None:
    described, cores, effort = head["machine"], head["cores"], head["effort"]
    console.print(
        f"{described['processor']}, {described['cores']} cores, Linux {described['kernel']}; "
        f"load by {head['generator']}, backend {head['backend']}; "
        f"{effort['rounds']} rounds of {effort['seconds']:g} s after {effort['warm_up']:g} s of warm-up",
        highlight=False,
    )
    if cores["proxy"] == cores["load"]:
        console.print("[yellow]one core only: proxies and load share it, so rates are not capacities[/yellow]")


def compare(only: str, scenarios: tuple[str, ...], effort: Effort, results: Path, console: Console) -> dict[str, Any]:
    """Run the HTTP scenarios, show and save them; the document. Raises BenchError."""
    proxies, left_out = choose(only)
    if not proxies:
        raise BenchError("nothing to measure: " + "; ".join(f"{name}: {why}" for name, why in left_out.items()))
    cores = machine.choose_cores()
    machine.raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        generator = choose_generator(folder)
        backend = start_backend(folder, cores.load, stack)
        head = opening(generator.name, backend.name, cores, effort)
        versions = {proxy.name: proxy.version() for proxy in proxies}
        gaps = {proxy.name: proxy.gap for proxy in proxies if proxy.gap}
        tell_opening(head, console)
        for name, version in versions.items():
            console.print(f"  {name}: {version}{f' ({gaps[name]})' if name in gaps else ''}", highlight=False)
        for name, why in left_out.items():
            console.print(f"  [yellow]{name} left out: {why}[/yellow]", highlight=False)
        bench = Bench(folder, cores, backend.port, generator, effort)
        measured = []
        for name in scenarios or tuple(SCENARIOS):
            with console.status("") as status:
                measured.append(bench.compare(SCENARIOS[name], proxies, status.update))
            report.show(measured[-1], console)
    document = {
        **head,
        "versions": versions,
        "gaps": gaps,
        "left_out": left_out,
        "scenarios": [report.document(result) for result in measured],
    }
    path = save(document, results)
    console.print(f"saved {path}", highlight=False)
    if find_spec("matplotlib") is None:
        console.print("[yellow]no plots: matplotlib is missing (pip install 'millrace[bench]')[/yellow]")
        return document
    from bench import plots  # noqa: PLC0415 - optional

    for result in measured:
        picture = path.with_name(f"{path.stem}-{result.scenario.name}.png")
        plots.draw(result, picture)
        console.print(f"saved {picture}", highlight=False)
    return document


@click.group(invoke_without_command=True)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure the router side by side with its peers. Without a subcommand: everything, with the defaults."""
    if context.invoked_subcommand is None:
        context.invoke(http)


@bench.command()
@click.option("--only", default="", metavar="NAMES", help=f"Of {','.join(PROXIES)}: those to measure.")
@click.option("--scenario", "scenarios", multiple=True, type=click.Choice(list(SCENARIOS)), help="Repeatable.")
@click.option("--rounds", type=click.IntRange(1), default=DEFAULT.rounds, show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=DEFAULT.seconds, show_default=True, help="Of one round.")
@click.option("--warm-up", type=click.FloatRange(0), default=DEFAULT.warm_up, show_default=True, help="Before each.")
@click.option("--json", "as_json", is_flag=True, help="Print the document instead of tables.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True, help="Folder.")
def http(
    only: str, scenarios: tuple[str, ...], rounds: int, seconds: float, warm_up: float, as_json: bool, results: Path
) -> None:
    """HTTP through each proxy in turn: rate, latency, CPU and memory."""
    console = new_console(as_json)
    with orderly():
        document = compare(only, scenarios, Effort(rounds, seconds, warm_up), results, console)
    if as_json:
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
