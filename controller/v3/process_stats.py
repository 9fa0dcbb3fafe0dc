"""How instances are, as the runtime reported them last (reference 3.2, 7.2), and which of those wanted are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.applications import Process, ProcessInstance
from controller.database.base import now
from controller.database.tenancy import IsolationSegment
from controller.v3.call import Call

MIB: Final = 1024 * 1024
FILE_DESCRIPTORS: Final = 16_384


def instances_of(session: Session, processes: Sequence[Process]) -> Mapping[int, Sequence[ProcessInstance]]:
    """By the id of their process, in the order of their indexes; one query for all."""
    found: dict[int, list[ProcessInstance]] = defaultdict(list)
    ids = [process.id for process in processes if process.app.desired_state == "STARTED"]
    statement = select(ProcessInstance).where(ProcessInstance.process_id.in_(ids)).order_by(ProcessInstance.index)
    for instance in session.scalars(statement) if ids else ():
        found[instance.process_id].append(instance)
    return found


def short(process: Process, instances: Sequence[ProcessInstance]) -> list[dict[str, Any]]:
    """Index, state and since when, in seconds of the epoch."""
    if process.app.desired_state != "STARTED":
        return []
    reported: dict[int, dict[str, Any]] = {
        instance.index: {
            "index": instance.index,
            "state": _state(process, instance),
            "since": int(instance.since.timestamp()),
        }
        for instance in instances
    }
    for index in range(process.instances):
        reported.setdefault(index, {"index": index, "state": "DOWN", "since": None})
    return [reported[index] for index in sorted(reported)]


def full(call: Call, process: Process) -> dict[str, Any]:
    """The whole answer; nothing for a stopped app."""
    if process.app.desired_state != "STARTED":
        return {"resources": []}
    segment = _isolation_segment(call, process)
    instances = instances_of(call.session, [process]).get(process.id, ())
    reported = {instance.index: _shown(process, instance, segment, now()) for instance in instances}
    for index in range(process.instances):
        reported.setdefault(index, _down(process, index, segment))
    return {"resources": [reported[index] for index in sorted(reported)]}


def _shown(process: Process, instance: ProcessInstance, segment: str | None, moment: datetime) -> dict[str, Any]:
    return {
        "type": process.type,
        "index": instance.index,
        "instance_guid": instance.instance_guid,
        "state": _state(process, instance),
        "routable": instance.routable,
        "host": instance.host,
        "instance_internal_ip": instance.host,
        "instance_ports": [_ports(each) for each in instance.ports],
        "uptime": max(0, int((moment - instance.since).total_seconds())),
        "mem_quota": process.memory_in_mb * MIB,
        "disk_quota": process.disk_in_mb * MIB,
        "log_rate_limit": process.log_rate_limit_in_bytes_per_second,
        "fds_quota": FILE_DESCRIPTORS,
        "isolation_segment": segment,
        "details": instance.details,
        "usage": instance.usage,
    }


def _down(process: Process, index: int, segment: str | None) -> dict[str, Any]:
    return {
        "type": process.type,
        "index": index,
        "state": "DOWN",
        "routable": False,
        "uptime": 0,
        "isolation_segment": segment,
        "details": None,
    }


def _state(process: Process, instance: ProcessInstance) -> str:
    """One that nobody wants any more is on its way out."""
    return instance.state if instance.index < process.instances else "STOPPING"


def _ports(ports: Mapping[str, Any]) -> dict[str, Any]:
    names = ("external", "internal", "external_tls_proxy_port", "internal_tls_proxy_port")
    return {name: ports.get(name) for name in names}


def _isolation_segment(call: Call, process: Process) -> str | None:
    """The name of the space's, else of the organization's own."""
    space = process.app.space
    segment = space.isolation_segment_id or space.organization.default_isolation_segment_id
    if segment is None:
        return None
    return call.session.scalars(select(IsolationSegment.name).where(IsolationSegment.id == segment)).first()
