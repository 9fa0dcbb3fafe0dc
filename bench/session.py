"""One go of the bench: its folder, its load side, what it prints and the document that it leaves.

It must never leave anything running: whatever ends it, Ctrl-C and SIGTERM included, ends its programs first.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final

import orjson
from rich.console import Console

from bench import machine
from bench.load import choose_generator, start_backend
from bench.rounds import Bench, Effort
from bench.scenarios import HOST
from director.local_ca import LocalAuthority

NAMES: Final = (HOST, "localhost", "127.0.0.1")
"""What the proxies' certificate is for: the route, and what generators call the machine."""
FILE_WIDTH: Final = 140
"""Columns of the tables when they do not go to a terminal."""


def new_console(as_json: bool) -> Console:
    """Where people read: standard error when standard output is the document; wide where nobody says how wide."""
    console = Console(stderr=as_json, highlight=False)
    return console if console.is_terminal else Console(stderr=as_json, highlight=False, width=FILE_WIDTH)


@contextmanager
def session(effort: Effort) -> Iterator[Bench]:
    """A backend and a generator on the load core, a short temporary folder, and the end of them all.

    Raises BenchError: not Linux, or the backend does not start.
    """
    cores = machine.choose_cores()
    machine.raise_file_limit()
    with (
        _sigterm_unwinds(),
        tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as temporary,
        ExitStack() as stack,
    ):
        folder = Path(temporary)
        load_side = folder / "load-side"
        load_side.mkdir()
        backend = start_backend(load_side, cores.load, stack)
        authority = LocalAuthority(load_side / "authority", NAMES)
        authority.ensure()
        yield Bench(folder, cores, backend, choose_generator(load_side), effort, authority.identity)


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    def unwind(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def opening(bench: Bench) -> dict[str, Any]:
    """The head of a document: when, where and how."""
    return {
        "taken": datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ"),
        "machine": machine.describe(),
        "cores": asdict(bench.cores),
        "generator": bench.generator.name,
        "backend": bench.backend.name,
        "effort": asdict(bench.effort),
    }


def tell_opening(head: dict[str, Any], console: Console) -> None:
    described, cores, effort = head["machine"], head["cores"], head["effort"]
    console.print(
        f"{described['processor']}, {described['cores']} cores, Linux {described['kernel']}, "
        f"Python {described['python']}\n"
        f"load by {head['generator']}, backend {head['backend']}, both on core {cores['load']}; "
        f"each proxy on core {cores['proxy']}\n"
        f"{effort['rounds']} rounds of {effort['seconds']:g} s, each after {effort['warm_up']:g} s of warm-up"
    )
    if cores["proxy"] == cores["load"]:
        console.print("[yellow]one core only: proxies and load share it, so rates are not capacities[/yellow]")


def save(document: dict[str, Any], results: Path) -> Path:
    """Write the document under its time into ``results``; the file's path."""
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{document['taken']}.json"
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return path
