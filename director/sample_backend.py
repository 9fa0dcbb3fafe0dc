"""A sample app that registers itself: a small HTTP server whose own registrar checks its health and keeps its route.

``millrace up`` runs it so that there is something to see; it also shows how any program registers. Must never be needed
by anything else, nor listen beyond loopback.
"""

from __future__ import annotations

import os
import signal
import socket
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

import click
import trio

from director.sample_http import Answer, Request, Server
from router.registry.connect import InvalidRedisUrl
from router.registry.health import HttpCheck, Schedule
from router.registry.records import EndpointRecord, InvalidRecord
from router.registry.registrar import Event, Registrar, Target
from router.registry.writer import RegistryWriter

LEASE_TTL: Final = 10.0
MAX_SLEEP: Final = 60.0
MAX_FILLING: Final = 1 << 30
FINISH_SECONDS: Final = 3.0
"""How long requests in flight may take once the route is gone."""
_LOOPBACK: Final = "127.0.0.1"
_PATHS: Final = "/, /healthz, /slow?seconds=2, /bytes/1000000"


class Sample:
    """What the sample backend answers."""

    def __init__(self, address: str, route: str) -> None:
        self._address = address
        self._route = route

    async def answer(self, request: Request) -> Answer:
        path, _, query = request.target.partition("?")
        match path.strip("/").split("/"):
            case [""]:
                return Answer(self._page(request))
            case ["healthz"]:
                return Answer("ok\n")
            case ["slow"]:
                return await _slow(parse_qs(query).get("seconds", ["1"])[-1])
            case ["bytes", count] if count.isascii() and count.isdigit() and len(count) <= 10:
                return Answer(filling=min(int(count), MAX_FILLING))
        return Answer(f"Nothing at {path}. There is: {_PATHS}\n", HTTPStatus.NOT_FOUND)

    def _page(self, request: Request) -> str:
        fields = "\n".join(f"  {name}: {value}" for name, value in request.fields)
        return (
            f"Hello from the sample backend at {self._address} (process {os.getpid()}).\n\n"
            f"The router sent you here because this program registered the route {self._route}\n"
            f"and its health check passes. Your request arrived as:\n\n"
            f"  {request.method} {request.target} {request.version}\n{fields}\n\n"
            f"There is more: {_PATHS}\n"
        )


async def _slow(text: str) -> Answer:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_SLEEP:
        return Answer(f"seconds: a number from 0 to {MAX_SLEEP:g}, not {text[:40]!r}\n", HTTPStatus.BAD_REQUEST)
    await trio.sleep(seconds)
    return Answer(f"Answered after {seconds:g} s.\n")


async def serve(listener: socket.socket, writer: RegistryWriter, route: str, lease: str) -> None:
    """Serves and stays registered until SIGTERM or SIGINT; then unregisters, and finishes what is in flight."""
    host, port = listener.getsockname()[:2]
    registrar = Registrar(
        writer, lease, ttl=LEASE_TTL, description=f"sample backend, process {os.getpid()}", on_event=_log_event
    )
    registrar.add(
        Target(
            (route,),
            EndpointRecord(host=host, port=port, app="sample", tags={"component": "sample-backend"}),
            HttpCheck(host, port, "/healthz"),
            Schedule(interval=2.0, timeout=1.0),
        )
    )
    server = Server(Sample(f"{host}:{port}", route).answer)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            listening = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
            nursery.start_soon(
                partial(trio.serve_listeners, server.serve_connection, [listening], handler_nursery=nursery)
            )
            _log(f"listening on {host}:{port}")
            async with trio.open_nursery() as registered:
                registered.start_soon(registrar.run)
                await anext(signals)
                registered.cancel_scope.cancel()
            with trio.move_on_after(FINISH_SECONDS):
                await server.idle()
            nursery.cancel_scope.cancel()


def _log(line: str) -> None:
    print(line, flush=True)


def _log_event(event: Event) -> None:
    _log(f"{event.kind}: {event.detail}")


@click.command()
@click.option("--redis", envvar="MILLRACE_REDIS", required=True, help="URL of the route registry's Redis.")
@click.option("--route", default="hello.localhost", show_default=True, help="The route to register.")
@click.option("--lease", default="sample-backend", show_default=True, help="Names this program in the registry.")
@click.option("--listen-fd", type=int, help="An open listening socket; without it, any free port on loopback.")
def main(redis: str, route: str, lease: str, listen_fd: int | None) -> None:
    """Run the sample backend, which registers itself, until SIGTERM or Ctrl-C."""
    listener = socket.create_server((_LOOPBACK, 0)) if listen_fd is None else socket.socket(fileno=listen_fd)
    try:
        with listener, RegistryWriter(redis) as writer:
            trio.run(serve, listener, writer, route, lease)
    except (InvalidRedisUrl, InvalidRecord) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main(prog_name="python -m director.sample_backend")
