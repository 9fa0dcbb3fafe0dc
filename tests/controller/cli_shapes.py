"""What of each resource the CLI reads: keys with a type, a union with None, the shape of a list's elements, or a shape.

A key that ends with ``?`` may be missing.
"""

from __future__ import annotations

from typing import Final

LINK: Final = {"href": str}
TO_ONE: Final = {"data": {"guid": str}}
METADATA: Final = {"labels": dict, "annotations": dict}
PAGINATION: Final = {"total_results": int, "total_pages": int, "next": dict | None, "previous": dict | None}
ERROR: Final = {"code": int, "title": str, "detail": str}
JOB: Final = {"guid": str, "state": str, "operation": str, "errors": [ERROR], "warnings": [{"detail": str}]}
ORGANIZATION: Final = {"guid": str, "name": str, "relationships": {"quota": TO_ONE}, "metadata": METADATA}
SPACE: Final = {
    "guid": str,
    "name": str,
    "relationships": {"organization": TO_ONE, "quota": dict},
    "metadata": METADATA,
}
USER: Final = {"guid": str, "username": str | None, "presentation_name": str, "origin": str | None}
ROLE: Final = {"guid": str, "type": str, "relationships": {"user": TO_ONE, "organization": dict, "space": dict}}
DOMAIN: Final = {
    "guid": str,
    "name": str,
    "internal": bool,
    "router_group": dict | None,
    "supported_protocols": [str],
    "relationships": {"organization": dict},
}
DESTINATION: Final = {
    "guid": str,
    "app": {"guid": str, "process": {"type": str}},
    "port": int,
    "protocol": str,
}
ROUTE: Final = {
    "guid": str,
    "host": str,
    "path": str,
    "port": int | None,
    "url": str,
    "protocol": str,
    "destinations": [DESTINATION],
    "options": dict,
    "relationships": {"space": TO_ONE, "domain": TO_ONE},
    "metadata": METADATA,
}
APP: Final = {
    "guid": str,
    "name": str,
    "state": str,
    "lifecycle": {"type": str, "data": dict},
    "relationships": {"space": TO_ONE, "current_droplet": dict},
    "metadata": METADATA,
}
CHECK: Final = {"type": str, "data": dict}
PROCESS: Final = {
    "guid": str,
    "type": str,
    "command": str | None,
    "instances": int,
    "memory_in_mb": int,
    "disk_in_mb": int,
    "log_rate_limit_in_bytes_per_second": int,
    "health_check": CHECK,
    "readiness_health_check": CHECK,
    "relationships": {"app": TO_ONE},
}
STATS: Final = {
    "type": str,
    "index": int,
    "state": str,
    "uptime": int,
    "details": str | None,
    "isolation_segment": str | None,
    "usage?": dict,
}
DROPLET: Final = {
    "guid": str,
    "state": str,
    "created_at": str,
    "stack": str | None,
    "image": str | None,
    "buildpacks": list | None,
    "relationships": {"app": TO_ONE},
}
PACKAGE: Final = {"guid": str, "state": str, "type": str, "created_at": str, "links": dict, "data": dict}
TASK: Final = {
    "guid": str,
    "sequence_id": int,
    "name": str,
    "state": str,
    "created_at": str,
    "command?": str,
    "result": {"failure_reason": str | None},
}
REVISION: Final = {
    "guid": str,
    "version": int,
    "deployable": bool,
    "description": str,
    "created_at": str,
    "droplet": {"guid": str},
    "links": {"environment_variables": LINK},
}
DEPLOYMENT: Final = {
    "guid": str,
    "status": {"value": str, "reason": str, "details": {"last_status_change": str}},
    "strategy": str,
    "options": {"max_in_flight": int},
    "droplet": {"guid": str},
    "new_processes": [{"guid": str, "type": str}],
    "relationships": {"app": TO_ONE},
}
INSTANCE: Final = {
    "guid": str,
    "name": str,
    "type": str,
    "tags": [str],
    "last_operation": {"type": str, "state": str, "description": str, "updated_at": str},
    "relationships": {"space": TO_ONE},
    "syslog_drain_url": str | None,
    "route_service_url": str | None,
}
BINDING: Final = {
    "guid": str,
    "type": str,
    "name": str | None,
    "last_operation": {"type": str, "state": str},
    "relationships": {"service_instance": TO_ONE},
}
BUILDPACK: Final = {
    "guid": str,
    "name": str,
    "stack": str | None,
    "position": int,
    "enabled": bool,
    "locked": bool,
    "state": str,
    "filename": str | None,
    "lifecycle": str,
    "links": {"upload": LINK},
}
STACK: Final = {"guid": str, "name": str, "description": str | None}
QUOTA: Final = {
    "guid": str,
    "name": str,
    "apps": {
        "total_memory_in_mb": int | None,
        "per_process_memory_in_mb": int | None,
        "total_instances": int | None,
        "log_rate_limit_in_bytes_per_second": int | None,
    },
    "services": {"paid_services_allowed": bool, "total_service_instances": int | None},
    "routes": {"total_routes": int | None, "total_reserved_ports": int | None},
}
SECURITY_GROUP: Final = {
    "guid": str,
    "name": str,
    "rules": [{"protocol": str, "destination": str}],
    "globally_enabled": {"running": bool, "staging": bool},
    "relationships": {"running_spaces": {"data": [{"guid": str}]}, "staging_spaces": {"data": [{"guid": str}]}},
}
EVENT: Final = {"guid": str, "created_at": str, "type": str, "actor": {"name": str}, "data": dict}
