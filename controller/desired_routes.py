"""What the registry should hold for the routes of the database: every instance that runs and may be sent requests.

A pure reading of one transaction. A route's endpoints are the instances of the processes that its destinations name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from controller.database.applications import App, Process, ProcessInstance
from controller.database.routing import Destination, Domain, Route
from controller.database.services import ServiceRouteBinding
from router.registry.records import EndpointRecord, InvalidRecord, route_key, tcp_route

DEFAULT_PORT: Final = 8080
"""Where an app listens if its destination does not say."""

Key = tuple[str, str]
"""A route key and an endpoint's address."""
Endpoints = dict[Key, EndpointRecord]


def read(session: Session, guids: Iterable[str] | None) -> dict[str, Endpoints]:
    """Endpoints by the guid of their route: of these routes, or of all. Routes without any are not there."""
    statement = (
        select(
            Route.guid,
            Route.host,
            Route.path,
            Route.port,
            Route.options,
            Domain.name,
            Destination.port,
            Destination.protocol,
            App.guid,
            Process.guid,
            ProcessInstance.instance_guid,
            ProcessInstance.index,
            ProcessInstance.host,
            ProcessInstance.ports,
            ServiceRouteBinding.route_service_url,
        )
        .join(Domain, Route.domain_id == Domain.id)
        .join(Destination, Destination.route_id == Route.id)
        .join(App, and_(Destination.app_id == App.id, App.desired_state == "STARTED"))
        .join(Process, and_(Process.app_id == App.id, Process.type == Destination.process_type))
        .join(ProcessInstance, ProcessInstance.process_id == Process.id)
        .outerjoin(ServiceRouteBinding, ServiceRouteBinding.route_id == Route.id)
        .where(ProcessInstance.state == "RUNNING", ProcessInstance.routable.is_(True), Domain.internal.is_(False))
    )
    if guids is not None:
        statement = statement.where(Route.guid.in_(list(guids)))
    desired: dict[str, Endpoints] = {}
    for row in session.execute(statement):
        entry = _entry(row)
        if entry is not None:
            key, record = entry
            desired.setdefault(row[0], {})[key, record.address] = record
    return desired


def _entry(row: Any) -> tuple[str, EndpointRecord] | None:
    (
        _,
        host,
        path,
        port,
        options,
        domain,
        app_port,
        protocol,
        app,
        process,
        instance,
        index,
        address,
        ports,
        service,
    ) = row
    reached = _ports(ports, app_port or DEFAULT_PORT)
    if reached is None:
        return None
    plain, tls = reached
    name = f"{host}.{domain}" if host else domain
    try:
        key = tcp_route(port) if port else route_key(name + path)
        record = EndpointRecord(
            host=address,
            port=plain,
            tls_port=tls,
            app=app,
            private_instance_id=instance,
            private_instance_index=str(index),
            server_cert_domain_san=instance if tls else "",
            route_service_url=service or "",
            protocol="http2" if protocol == "http2" else "http1",
            tags={"component": "route-emitter", "process_id": process, "source_id": app},
            options={name: str(value) for name, value in options.items()},
        )
    except InvalidRecord:
        return None
    return key, record


def _ports(ports: list[Any], app_port: int) -> tuple[int, int] | None:
    """Where an app's port is reached from outside: in the clear, and by TLS (0: not)."""
    for each in ports:
        if each.get("internal") == app_port:
            return int(each.get("external") or 0), int(each.get("external_tls_proxy_port") or 0)
    return None
