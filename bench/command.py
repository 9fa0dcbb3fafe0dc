"""``millrace bench``: everything, or one part of it.

It must never measure by itself: it chooses, shows and saves.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import orjson
from rich.console import Console

from bench import controller, controller_report, nats, registry, report
from bench.choice import lacking
from bench.control_plane import ALL_DATABASES, databases
from bench.controller import Amounts, ControllerResult
from bench.go_peers import Caddy, Traefik
from bench.gorouter import Gorouter
from bench.machine import BenchError, pinned
from bench.peers import Envoy, HAProxy, Nginx
from bench.proxy import Proxy, new_site
from bench.rounds import Bench, Effort, ScenarioResult
from bench.scenarios import SCENARIOS
from bench.session import new_console, opening, save, session, tell_opening
from bench.subject import Router
from router.registry.embedded import EmbeddedRedisError
from router.registry.writer import RegistryUnavailable

PROXIES: Final[dict[str, Proxy]] = {
    proxy.name: proxy for proxy in (Router(), Nginx(), HAProxy(), Envoy(), Traefik(), Caddy(), Gorouter())
}
DEFAULT: Final = Effort()
ROUTES: Final = 100_000
RESULTS: Final = Path("bench/results")


def chosen(_context: click.Context, _option: click.Parameter, text: str) -> tuple[str, ...]:
    """Comma-separated names of proxies. Raises click.BadParameter for one that there is not."""
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in PROXIES]:
        raise click.BadParameter(f"no proxy is called {', '.join(unknown)}; there are {', '.join(PROXIES)}")
    return names


def compare(
    bench: Bench, names: tuple[str, ...], scenarios: tuple[str, ...], console: Console
) -> tuple[dict[str, Any], list[ScenarioResult]]:
    """Run HTTP scenarios through proxies and show them; their part of the document. Raises BenchError."""
    missing = {name: PROXIES[name].missing() for name in names}
    left_out = {name: why for name, why in missing.items() if why}
    proxies = [PROXIES[name] for name in names if name not in left_out]
    for proxy in proxies:
        console.print(f"  {proxy.name}: {proxy.version()}{f' ({proxy.gap})' if proxy.gap else ''}")
    for name, why in left_out.items():
        console.print(f"  [yellow]{name} left out: {why}[/yellow]")
    if not proxies:
        raise BenchError("nothing to measure: every proxy named was left out")
    console.print()
    measured = []
    impossible = {name: why for name in scenarios if (why := lacking(SCENARIOS[name]))}
    for name, why in impossible.items():
        console.print(f"  [yellow]scenario {name} left out: {why}[/yellow]")
    for name in scenarios:
        if name in impossible:
            continue
        with console.status("") as status:
            measured.append(bench.compare(SCENARIOS[name], proxies, status.update))
        report.show(measured[-1], console)
    document = {
        "versions": {proxy.name: proxy.version() for proxy in proxies},
        "gaps": {proxy.name: proxy.gap for proxy in proxies if proxy.gap},
        "left_out": left_out,
        "scenarios_left_out": impossible,
        "scenarios": [report.document(result) for result in measured],
    }
    return document, measured


def change_routes(bench: Bench, routes: int, console: Console) -> dict[str, Any]:
    """Run the registry scenarios and show them; their part of the document. Raises BenchError."""
    with console.status("") as status:
        result = registry.run(bench, routes, status.update)
    console.print(registry.table(result))
    return {"registry": asdict(result)}


def announce_routes(bench: Bench, routes: int, console: Console) -> dict[str, Any]:
    """Run the scenarios of NATS and show them; their part of the document. Raises BenchError."""
    with console.status("") as status:
        result = nats.run(bench, routes, status.update)
    console.print(nats.table(result))
    return {"nats": asdict(result)}


def call_controller(
    bench: Bench, amounts: Amounts, kinds: tuple[str, ...], console: Console
) -> tuple[dict[str, Any], ControllerResult]:
    """Run the Cloud Controller's scenarios and show them; their part of the document. Raises BenchError."""
    if len(kinds) < len(ALL_DATABASES):
        left_out = ", ".join(kind for kind in ALL_DATABASES if kind not in kinds)
        console.print(f"  [yellow]the controller on {left_out} is left out[/yellow]")
    with console.status("") as status:
        result = controller.run(bench, amounts, kinds, status.update)
    controller_report.show(result, console)
    return {"controller": asdict(result)}, result


def finish(
    document: dict[str, Any],
    measured: list[ScenarioResult],
    results: Path,
    console: Console,
    as_json: bool,
    called: ControllerResult | None = None,
) -> None:
    """Save the document and its pictures, and print it where it is asked for. Raises BenchError when a proxy failed."""
    path = save(document, results)
    console.print(f"saved {path}")
    if (measured or called) and find_spec("matplotlib") is None:
        console.print("[yellow]no plots: matplotlib is missing (pip install 'millrace\\[bench]')[/yellow]")
    elif measured or called:
        from bench import plots  # noqa: PLC0415 - needs the extra `bench`

        for result in measured:
            picture = path.with_name(f"{path.stem}-{result.scenario.name}.png")
            plots.draw(result, picture)
            console.print(f"saved {picture}")
        if called:
            picture = path.with_name(f"{path.stem}-controller.png")
            plots.draw_controller(called, picture)
            console.print(f"saved {picture}")
    if as_json:
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    if failures := [f"{name} ({result.scenario.name})" for result in measured for name in result.failed]:
        raise BenchError(f"failed, and why is said above: {', '.join(failures)}")


class PlainErrors(click.Group):
    """What the bench cannot do is one line for people, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (BenchError, EmbeddedRedisError, RegistryUnavailable) as error:
            raise click.ClickException(str(error)) from None


json_option = click.option("--json", "as_json", is_flag=True, help="Print the document instead of tables.")
results_option = click.option(
    "--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True, help="Folder of what is saved."
)


@click.group(cls=PlainErrors, invoke_without_command=True)
@json_option
@results_option
@click.pass_context
def bench(context: click.Context, as_json: bool, results: Path) -> None:
    """Measure the router side by side with its peers. Without a subcommand: every scenario, about forty minutes."""
    if context.invoked_subcommand is not None:
        return
    console = new_console(as_json)
    with session(DEFAULT) as running:
        head = opening(running)
        tell_opening(head, console)
        document, measured = compare(running, tuple(PROXIES), tuple(SCENARIOS), console)
        document |= change_routes(running, ROUTES, console)
        calls, called = call_controller(running, Amounts(), tuple(databases()), console)
    finish(head | document | calls, measured, results, console, as_json, called)


@bench.command()
@click.option(
    "--only", "names", callback=chosen, default=",".join(PROXIES), show_default=True, help="Those to measure."
)
@click.option(
    "--scenario", "scenarios", multiple=True, type=click.Choice(list(SCENARIOS)), help="Repeatable; else all."
)
@click.option("--rounds", type=click.IntRange(1), default=DEFAULT.rounds, show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=DEFAULT.seconds, show_default=True, help="Of one round.")
@click.option("--warm-up", type=click.FloatRange(0), default=DEFAULT.warm_up, show_default=True, help="Before each.")
@json_option
@results_option
def http(
    names: tuple[str, ...],
    scenarios: tuple[str, ...],
    rounds: int,
    seconds: float,
    warm_up: float,
    as_json: bool,
    results: Path,
) -> None:
    """HTTP through each proxy in turn: rate, latency, CPU and memory."""
    console = new_console(as_json)
    with session(Effort(rounds, seconds, warm_up)) as running:
        head = opening(running)
        tell_opening(head, console)
        document, measured = compare(running, names, scenarios or tuple(SCENARIOS), console)
    finish(head | document, measured, results, console, as_json)


@bench.command(name="registry")
@click.option("--routes", type=click.IntRange(1), default=ROUTES, show_default=True, help="1000000 takes minutes.")
@json_option
@results_option
def registry_command(routes: int, as_json: bool, results: Path) -> None:
    """Routes coming to a router that serves: how soon, how many, and at what cost."""
    console = new_console(as_json)
    with session(DEFAULT) as running:
        head = opening(running)
        tell_opening(head, console)
        document = change_routes(running, routes, console)
    finish(head | document, [], results, console, as_json)


@bench.command(name="nats")
@click.option("--routes", type=click.IntRange(1), default=ROUTES, show_default=True)
@json_option
@results_option
def nats_command(routes: int, as_json: bool, results: Path) -> None:
    """Routes that come by NATS: how soon, how many, and what it costs to hear them again and again."""
    console = new_console(as_json)
    with session(DEFAULT) as running:
        head = opening(running)
        tell_opening(head, console)
        document = announce_routes(running, routes, console)
    finish(head | document, [], results, console, as_json)


@bench.command(name="controller")
@click.option("--apps", type=click.IntRange(100), default=Amounts().apps, show_default=True)
@click.option(
    "--database", "kinds", multiple=True, type=click.Choice(ALL_DATABASES), help="Repeatable; else what there is."
)
@click.option(
    "--seconds", type=click.FloatRange(0.1), default=Amounts().seconds, show_default=True, help="Of each rate."
)
@json_option
@results_option
def controller_command(apps: int, kinds: tuple[str, ...], seconds: float, as_json: bool, results: Path) -> None:
    """The Cloud Controller behind the router: calls per second, long lists, and how soon a route is served."""
    console = new_console(as_json)
    with session(DEFAULT) as running:
        head = opening(running)
        tell_opening(head, console)
        document, called = call_controller(running, Amounts(apps, seconds), kinds or tuple(databases()), console)
    finish(head | document, [], results, console, as_json, called)


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine by its name or address."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@bench.command()
@click.option("--users", type=click.IntRange(1, 5000), default=50, show_default=True)
@click.option("--seconds", type=click.IntRange(1, 3600), default=20, show_default=True)
@click.option("--url", default="", help="A router that runs already; else one is started, with a backend.")
@click.option("--host", default="", help="The route to ask for at --url; else the bench's own.")
@click.option("--anywhere", is_flag=True, help="Allow a --url that is not on this machine.")
def load(users: int, seconds: int, url: str, host: str, anywhere: bool) -> None:
    """Locust's users, who browse and upload, against one router; fails when a request does."""
    if url and not anywhere and not is_loopback(url):
        raise BenchError(f"{url} is not on this machine: add --anywhere if its owner agrees to the load")
    if find_spec("locust") is None:
        raise BenchError("Locust is missing: pip install 'millrace[bench]'")
    with session(DEFAULT) as running, ExitStack() as stack:
        if not url:
            site = new_site(running.folder, "load", running.backend.port, running.cores)
            Router().start(site, stack)
            url = f"http://127.0.0.1:{site.port}"
        argv = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py")), "--headless"]
        argv += ["--only-summary", "-u", str(users), "-r", str(users), "-t", f"{seconds}s", "--host", url]
        with pinned(running.cores.load):
            done = subprocess.run(argv, check=False, env=os.environ | ({"MILLRACE_BENCH_HOST": host} if host else {}))
    if done.returncode:
        raise BenchError(f"Locust ended with {done.returncode}: see the failures that it lists above")
