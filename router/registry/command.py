"""``millrace routes``: what is registered, by whom, and adding or removing an endpoint by hand.

Tables with colours on a terminal; JSON where the output goes elsewhere or ``--json`` is given. Only endpoints that were
added here can be removed here: those of a registrar would come back with its next word.
"""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from router.registry.connect import InvalidRedisUrl
from router.registry.embedded import EmbeddedRedis
from router.registry.records import PROXY_VERSIONS, EndpointRecord, InvalidRecord, route_key
from router.registry.scripts import InvalidName
from router.registry.writer import Change, LeaseInfo, Registration, RegistryUnavailable, RegistryWriter

STATIC_LEASE: Final = "static"
TEMPORARY_LEASE: Final = "temporary-"
_BY_HAND: Final = "millrace routes add"
_WATCH_SLICE: Final = 1.0

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):(?P<port>\d{1,5})")


def _on_registry(work: Callable[..., None]) -> Callable[..., None]:
    """Options that say which registry, and errors in words."""

    @click.option("--redis", "url", envvar="MILLRACE_REDIS", metavar="URL", help="The registry's Redis.")
    @click.option(
        "--data",
        default=".millrace",
        show_default=True,
        type=click.Path(path_type=Path),
        help="Data folder of a running `millrace up`; its Redis is used unless --redis or MILLRACE_REDIS names one.",
    )
    @click.option("--namespace", default="millrace", show_default=True, help="Hash tag of the registry's keys.")
    @click.option("--json", "as_json", is_flag=True, help="JSON even on a terminal.")
    @wraps(work)
    def with_registry(url: str | None, data: Path, namespace: str, as_json: bool, **arguments: Any) -> None:
        where = url or EmbeddedRedis(data).url
        try:
            with RegistryWriter(where, namespace=namespace) as registry:
                work(registry, as_json or not sys.stdout.isatty(), **arguments)
        except (InvalidRedisUrl, InvalidRecord, InvalidName, ValueError) as error:
            raise click.ClickException(str(error)) from None
        except RegistryUnavailable as error:
            fix = (
                ""
                if url
                else "\nStart it with `millrace up`, or say where it is: --redis URL, MILLRACE_REDIS or --data."
            )
            raise click.ClickException(f"{error}{fix}") from None
        except KeyboardInterrupt:
            return

    return with_registry


@click.group()
def routes() -> None:
    """Look at and change the route registry."""


@routes.command("list")
@click.argument("route", required=False)
@_on_registry
def list_routes(registry: RegistryWriter, as_json: bool, route: str | None) -> None:
    """Show the endpoints of all routes, or of ROUTE."""
    found = sorted(registry.list(route), key=lambda one: (one.route, one.record.address))
    if as_json:
        _print_json([_registration_mapping(one) for one in found])
        return
    table = _table("Route", "Endpoint", "Protocol", "App", "Instance", "Lease")
    for one in found:
        record = one.record
        table.add_row(
            Text(one.route, style="cyan"),
            Text(record.address),
            Text(record.protocol + (" tls" if record.tls_port else "")),
            Text(record.app),
            Text(record.private_instance_index),
            Text(one.lease, style="dim"),
        )
    _print_table(table, len(found), "endpoint")


@routes.command()
@click.argument("route")
@click.argument("address", metavar="HOST:PORT")
@click.option("--tls", is_flag=True, help="The endpoint speaks TLS.")
@click.option("--server-name", default="", help="Name in the endpoint's certificate; with --tls.")
@click.option("--app", default="", help="GUID of the app.")
@click.option("--protocol", type=click.Choice(["http1", "http2"]), default="http1", show_default=True)
@click.option("--loadbalancing", type=click.Choice(["round-robin", "least-connection"]), help="For the whole route.")
@click.option(
    "--proxy", type=click.Choice(PROXY_VERSIONS), help="TCP routes: tell the endpoint the client by a PROXY header."
)
@click.option("--ttl", type=click.FloatRange(1, 3600), help="Seconds after which it leaves; without, it stays.")
@_on_registry
def add(
    registry: RegistryWriter,
    as_json: bool,
    route: str,
    address: str,
    tls: bool,
    server_name: str,
    app: str,
    protocol: str,
    loadbalancing: str | None,
    proxy: str | None,
    ttl: float | None,
) -> None:
    """Register the endpoint HOST:PORT for ROUTE.

    ROUTE is host[/path], the host may begin with *., or for TCP tcp:PORT or tcp:PORT/server.name.
    """
    host, port = _host_port(address)
    options = {"loadbalancing": loadbalancing, "proxy": proxy}
    record = EndpointRecord(
        host=host,
        port=0 if tls else port,
        tls_port=port if tls else 0,
        server_cert_domain_san=server_name,
        app=app,
        protocol=protocol,
        options={name: value for name, value in options.items() if value},
    )
    name = f"{TEMPORARY_LEASE}{secrets.token_hex(4)}" if ttl else STATIC_LEASE
    registry.lease(name, ttl=ttl or 0, registrar=_BY_HAND).register([(route, record)])
    _say(
        as_json, {"added": _registration_mapping(Registration(route_key(route), record, name))}, "added", route, address
    )


@routes.command()
@click.argument("route")
@click.argument("address", metavar="[HOST:PORT]", required=False)
@_on_registry
def remove(registry: RegistryWriter, as_json: bool, route: str, address: str | None) -> None:
    """Unregister the endpoint HOST:PORT of ROUTE, or all endpoints that were added to ROUTE by hand."""
    if address is not None:
        _host_port(address)
    found = [one for one in registry.list(route) if address in (None, one.record.address)]
    by_hand = [one for one in found if one.lease == STATIC_LEASE or one.lease.startswith(TEMPORARY_LEASE)]
    if not by_hand:
        wanted = route_key(route) + (f" {address}" if address else "")
        if not found:
            raise click.ClickException(f"{wanted}: not registered; see `millrace routes list`")
        holders = ", ".join(sorted({one.lease for one in found}))
        raise click.ClickException(
            f"{wanted}: held by the lease {holders}; stop its registrar (see `millrace routes leases`), "
            "or it would register again"
        )
    for one in by_hand:
        registry.lease(one.lease, ttl=0).unregister([(one.route, one.record.address)])
        _say(as_json, {"removed": _registration_mapping(one)}, "removed", one.route, one.record.address)


@routes.command()
@_on_registry
def leases(registry: RegistryWriter, as_json: bool) -> None:
    """Show who holds endpoints, and for how long unless renewed."""
    found = registry.leases()
    if as_json:
        _print_json([_lease_mapping(lease) for lease in found])
        return
    table = _table("Lease", "Registrar", "TTL", "Seconds left", "Endpoints")
    for lease in found:
        overdue = lease.seconds_left is not None and lease.seconds_left < 0
        left = "never expires" if lease.seconds_left is None else f"{lease.seconds_left:.1f}"
        table.add_row(
            Text(lease.name, style="cyan"),
            Text(lease.registrar),
            Text(f"{lease.ttl:g}" if lease.ttl else "-"),
            Text(left, style="red" if overdue else ""),
            Text(str(lease.endpoints)),
        )
    _print_table(table, len(found), "lease")


@routes.command()
@_on_registry
def watch(registry: RegistryWriter, as_json: bool) -> None:
    """Print changes as they come, until interrupted."""
    console = Console(highlight=False, soft_wrap=True)
    version = registry.version()
    click.echo(f"watching from version {version}", err=True)
    while True:
        for change in registry.changes(version, wait=_WATCH_SLICE):
            version = change.version
            if as_json:
                _print_json(_change_mapping(change))
            else:
                sign, style = ("-", "red") if change.record is None else ("+", "green")
                console.print(Text(f"{sign} {change.route} {change.address}", style=style))


def _host_port(address: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise click.BadParameter(f"{address!r}: give HOST:PORT, for IPv6 [HOST]:PORT", param_hint="HOST:PORT")
    return match["host"].strip("[]"), int(match["port"])


def _registration_mapping(one: Registration) -> dict[str, Any]:
    return {"route": one.route, "address": one.record.address, "lease": one.lease, **_record_mapping(one.record)}


def _record_mapping(record: EndpointRecord) -> dict[str, Any]:
    mapping: dict[str, Any] = orjson.loads(record.to_json())
    return mapping


def _lease_mapping(lease: LeaseInfo) -> dict[str, Any]:
    return {
        "name": lease.name,
        "registrar": lease.registrar,
        "ttl": lease.ttl,
        "seconds_left": lease.seconds_left,
        "endpoints": lease.endpoints,
    }


def _change_mapping(change: Change) -> dict[str, Any]:
    mapping = {"version": change.version, "route": change.route, "address": change.address}
    if change.record is None:
        return {"change": "removed", **mapping}
    return {"change": "registered", **mapping, **_record_mapping(change.record)}


def _say(as_json: bool, mapping: dict[str, Any], verb: str, route: str, address: str) -> None:
    if as_json:
        _print_json(mapping)
    else:
        click.echo(f"{click.style(verb, fg='green')} {route} {address}")


def _print_json(value: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(value) + b"\n")
    sys.stdout.buffer.flush()


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print_table(table: Table, count: int, noun: str) -> None:
    console = Console(highlight=False)
    if count:
        console.print(table)
    console.print(f"{count} {noun}{'' if count == 1 else 's'}", style="dim")
