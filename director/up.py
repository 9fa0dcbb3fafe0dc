"""``millrace up``: everything that serves traffic, on one machine, with one command, until Ctrl-C.

Checks first what could be in the way, says what runs where, and stops all of it in order. Must never listen beyond
loopback, start anything before its checks have passed, or end while a part still runs.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from itertools import combinations
from pathlib import Path
from typing import Final

import click
import trio
from rich.console import Console
from rich.table import Table

from director.local_ca import InvalidAuthority
from director.parts import API, LOOPBACK, ROUTE, PartFailed, Parts, Plan
from router.registry.child import FolderInUse, claim, sign
from router.registry.connect import InvalidRedisUrl, redacted
from router.registry.embedded import EmbeddedRedisError
from router.registry.writer import RegistryUnavailable

_DATA: Final = Path(".millrace")
_PORT: Final = click.IntRange(1, 65535)


@click.command()
@click.option("--port", type=_PORT, default=8080, show_default=True, help="Where the router serves traffic.")
@click.option("--tls-port", type=_PORT, default=8443, show_default=True, help="The same over HTTPS.")
@click.option("--status-port", type=_PORT, default=8082, show_default=True, help="Its /health, /routes and /metrics.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=_DATA,
    show_default=True,
    help="Folder for the registry, the router's snapshot, the controller's database, the development CA, and logs.",
)
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, help="Of the router; 0: one per core.")
@click.option("--controller/--no-controller", default=True, show_default=True, help="With the Cloud Controller or not.")
@click.option(
    "--redis", envvar="MILLRACE_REDIS", default="", help="URL of a Redis to use; without it, an embedded one."
)
def up(port: int, tls_port: int, status_port: int, data: Path, workers: int, controller: bool, redis: str) -> None:
    """Start Redis, the router, the Cloud Controller and a sample backend on this machine, on loopback only."""
    plan = Plan(port, status_port, tls_port, data.absolute(), workers, redis, controller)
    lock = _claim_folder(plan.data)
    try:
        _refuse_busy_ports(plan)
        sys.exit(trio.run(_run, plan, Console()))
    finally:
        os.close(lock)


def _claim_folder(data: Path) -> int:
    """Raises click.ClickException: another one runs there, or it cannot be written to."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = claim(data / "up.lock")
    except FolderInUse as error:
        holder = f"process {error.pid}" if error.pid else "another process"
        raise click.ClickException(
            f"Millrace is already up in {data} ({holder}): stop that one, or choose another folder with --data"
        ) from None
    except OSError as error:
        raise click.ClickException(f"--data {data}: {error.strerror}; choose another folder") from None
    sign(lock, os.getpid())
    return lock


def _refuse_busy_ports(plan: Plan) -> None:
    """Raises click.ClickException where the router could not listen."""
    chosen = {"--port": plan.port, "--tls-port": plan.tls_port, "--status-port": plan.status_port}
    for one, other in combinations(chosen, 2):
        if chosen[one] == chosen[other]:
            raise click.ClickException(f"{one} and {other} are both {chosen[one]}: choose two different ones")
    for option, port in chosen.items():
        try:
            with socket.create_server((LOOPBACK, port)):
                pass
        except PermissionError:
            raise click.ClickException(
                f"port {port} on {LOOPBACK} needs root: choose one from 1024 on with {option}"
            ) from None
        except OSError as error:
            raise click.ClickException(
                f"port {port} on {LOOPBACK}: {os.strerror(error.errno or errno.EADDRINUSE).lower()}; "
                f"stop what uses it, or choose another one with {option}"
            ) from None


async def _run(plan: Plan, console: Console) -> int:
    """Runs the plan until a signal (0) or a failure (1)."""
    parts = Parts(plan)
    failures: list[Exception] = []
    with trio.open_signal_receiver(*_signals()) as signals:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_signal, nursery, signals)
                with console.status("Starting") as status:
                    await parts.start(nursery, status.update)
                _show(console, parts)
        except* (PartFailed, InvalidAuthority, EmbeddedRedisError, RegistryUnavailable, InvalidRedisUrl) as group:
            failures = list(group.exceptions)
        finally:
            with trio.CancelScope(shield=True):
                await _stop(parts, console, signals)
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    return 1 if failures else 0


def _signals() -> set[signal.Signals]:
    # A hang-up that nohup made this program ignore stays ignored.
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return {signal.SIGINT, signal.SIGTERM} | (set() if ignored else {signal.SIGHUP})


async def _cancel_on_signal(nursery: trio.Nursery, signals: AsyncIterator[int]) -> None:
    await anext(signals)
    nursery.cancel_scope.cancel()


async def _stop(parts: Parts, console: Console, signals: AsyncIterator[int]) -> None:
    """In order and with patience; at once when a second signal comes."""

    async def hurry() -> None:
        await anext(signals)
        await parts.kill()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hurry)
        with console.status("Stopping") as status:
            await parts.stop(status.update)
        nursery.cancel_scope.cancel()
    console.print("Everything is stopped.")


def _show(console: Console, parts: Parts) -> None:
    plan = parts.plan
    table = Table("Part", "Address", "Process")
    for part in parts.running:
        table.add_row(part.name, part.address, str(part.child.pid))
    if plan.redis:
        table.add_row("Redis", redacted(plan.redis), "")
    console.print(table)
    console.print(
        f"Try:\n"
        f"  curl http://{ROUTE}:{plan.port}/\n"
        f"  curl --cacert {shlex.quote(_short(plan.authority.identity.authority))} https://{ROUTE}:{plan.tls_port}/\n"
        f"  {_list_routes(plan)}\n"
        f"  curl http://{LOOPBACK}:{plan.status_port}/metrics\n"
        f"{_log_in(plan)}"
        f"That ca.pem is this folder's own authority, good for names under localhost alone: "
        f"import it where it is to be trusted.\n"
        f"Logs are in {plan.logs}. Ctrl-C stops everything.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _log_in(plan: Plan) -> str:
    """The line for who has ``cf``, where there is something to log in to."""
    if not plan.controller:
        return ""
    password = shlex.quote(_short(plan.admin_password))
    return f'  cf api http://{API}:{plan.port} && cf auth admin "$(cat {password})"\n'


def _short(path: Path) -> str:
    """A path as it can be typed in the folder where this program was started."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _program() -> str:
    """How this person can call ``millrace``: by its name, or else as they just did."""
    return "millrace" if shutil.which("millrace") or not sys.argv[0].endswith("millrace") else sys.argv[0]


def _list_routes(plan: Plan) -> str:
    """The command that lists the routes, from the folder where this program was started."""
    command = [_program(), "routes", "list"]
    if plan.redis:
        command += ["--redis", redacted(plan.redis)]
    elif plan.data != _DATA.absolute():
        command += ["--data", str(plan.data)]
    return shlex.join(command)
