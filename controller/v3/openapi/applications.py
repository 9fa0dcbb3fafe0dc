"""Apps and what belongs to them (reference 3.2, 3.3, 3.4)."""

from __future__ import annotations

from typing import Final

from controller.v3.openapi.shapes import (
    ACTION,
    ANYTHING,
    COMMON,
    LINK,
    METADATA,
    MOMENT,
    NAMED,
    TO_ONE,
    TO_ONE_OR_NONE,
    Maybe,
    Resource,
    Values,
    links,
)
from controller.v3.openapi.tenancy import ORGANIZATION, SPACE

LIFECYCLE: Final = {
    "type": ("buildpack", "cnb", "docker"),
    "data": {"buildpacks?": [str], "stack?": str | None},
}
APP: Final = Resource(
    "App",
    {
        **COMMON,
        "name": str,
        "state": ("STARTED", "STOPPED"),
        "lifecycle": LIFECYCLE,
        "relationships": {"space": TO_ONE, "current_droplet": TO_ONE_OR_NONE},
        "metadata": METADATA,
        "links": links(
            "environment_variables",
            "space",
            "processes",
            "packages",
            "current_droplet",
            "droplets",
            "tasks",
            "revisions",
            "deployed_revisions",
            "features",
            start=ACTION,
            stop=ACTION,
            clear_buildpack_cache=ACTION,
        ),
    },
)
INCLUDED: Final = {"spaces?": [SPACE], "organizations?": [ORGANIZATION]}
VARIABLES: Final = {"var": Values(str), "links": links("app")}
ENVIRONMENT: Final = {
    "staging_env_json": Values(str),
    "running_env_json": Values(str),
    "environment_variables": Values(str),
    "system_env_json": dict,
    "application_env_json": {"VCAP_APPLICATION": dict},
}
CURRENT_DROPLET: Final = {"data": NAMED, "links": links("related")}
PERMISSIONS: Final = {"read_basic_data": bool, "read_sensitive_data": bool}
SSH: Final = {"enabled": bool, "reason": str}
_CHECK_DATA: Final = {"invocation_timeout": int | None, "interval": int | None, "endpoint?": str | None}
_KINDS: Final = ("port", "process", "http")
INSTANCE_STATES: Final = ("RUNNING", "STARTING", "CRASHED", "DOWN", "STOPPING", "UNKNOWN")
INSTANCE: Final = {"index": int, "state": INSTANCE_STATES, "since": int | None}
INSTANCES: Final = {"resources": [INSTANCE], "links": links("process")}
PROCESS: Final = Resource(
    "Process",
    {
        **COMMON,
        "version": str,
        "type": str,
        "command": str | None,
        "user": str | None,
        "instances": int,
        "memory_in_mb": int,
        "disk_in_mb": int,
        "log_rate_limit_in_bytes_per_second": int,
        "health_check": {"type": _KINDS, "data": {"timeout": int | None, **_CHECK_DATA}},
        "readiness_health_check": {"type": _KINDS, "data": _CHECK_DATA},
        "relationships": {"app": TO_ONE, "revision": TO_ONE_OR_NONE},
        "metadata": METADATA,
        "links": links("app", "space", "stats", "process_instances", scale=ACTION),
        "process_instances?": [INSTANCE],
    },
)
_PORTS: Final = {
    "external": int | None,
    "internal": int | None,
    "external_tls_proxy_port": int | None,
    "internal_tls_proxy_port": int | None,
}
STATS: Final = {
    "resources": [
        {
            "type": str,
            "index": int,
            "state": INSTANCE_STATES,
            "routable": bool,
            "uptime": int,
            "isolation_segment": str | None,
            "details": str | None,
            "instance_guid?": str,
            "host?": str,
            "instance_internal_ip?": str,
            "instance_ports?": [_PORTS],
            "mem_quota?": int,
            "disk_quota?": int,
            "log_rate_limit?": int,
            "fds_quota?": int,
            "usage?": dict,
        }
    ]
}
SIDECAR: Final = Resource(
    "Sidecar",
    {
        **COMMON,
        "name": str,
        "command": str,
        "process_types": [str],
        "memory_in_mb": int | None,
        "origin": ("user", "buildpack"),
        "relationships": {"app": TO_ONE},
    },
)
_CHECKSUM: Final = {"type": ("sha256",), "value": str | None}
PACKAGE: Final = Resource(
    "Package",
    {
        **COMMON,
        "type": ("bits", "docker"),
        "data": {
            "error?": str | None,
            "checksum?": _CHECKSUM,
            "image?": str | None,
            "username?": str | None,
            "password?": str | None,
        },
        "state": ("AWAITING_UPLOAD", "PROCESSING_UPLOAD", "READY", "FAILED", "COPYING", "EXPIRED"),
        "relationships": {"app": TO_ONE},
        "metadata": METADATA,
        "links": {"self": LINK, "app": LINK, "upload?": ACTION, "download?": ACTION},
    },
)
BUILD: Final = Resource(
    "Build",
    {
        **COMMON,
        "state": ("STAGING", "STAGED", "FAILED"),
        "staging_memory_in_mb": int,
        "staging_disk_in_mb": int,
        "staging_log_rate_limit_bytes_per_second": int,
        "error": str | None,
        "lifecycle": LIFECYCLE,
        "package": NAMED,
        "droplet": Maybe(NAMED),
        "created_by": {"guid": str, "name": str | None, "email": str | None},
        "relationships": {"app": TO_ONE},
        "metadata": METADATA,
        "links": links("app", "droplet?"),
    },
)
DROPLET: Final = Resource(
    "Droplet",
    {
        **COMMON,
        "state": ("AWAITING_UPLOAD", "PROCESSING_UPLOAD", "COPYING", "STAGED", "FAILED", "EXPIRED"),
        "error": str | None,
        "lifecycle": LIFECYCLE,
        "checksum": Maybe(_CHECKSUM),
        "buildpacks": Maybe([dict]),
        "stack": str | None,
        "image": str | None,
        "execution_metadata": str,
        "process_types": Values(str),
        "relationships": {"app": TO_ONE},
        "metadata": METADATA,
        "links": {
            "self": LINK,
            "app": LINK,
            "assign_current_droplet": ACTION,
            "package?": LINK,
            "upload?": ACTION,
            "download?": LINK,
        },
    },
)
REVISION: Final = Resource(
    "Revision",
    {
        **COMMON,
        "version": int,
        "droplet": NAMED,
        "processes": Values({"command": str | None}),
        "sidecars": [dict],
        "description": str,
        "deployable": bool,
        "relationships": {"app": TO_ONE},
        "metadata": METADATA,
        "links": links("app", "environment_variables"),
    },
)
REVISION_VARIABLES: Final = {"var": Values(str), "links": links("revision", "app")}
_STEPS: Final = {"steps": [{"instance_weight": int}]}
DEPLOYMENT: Final = Resource(
    "Deployment",
    {
        **COMMON,
        "status": {
            "value": ("ACTIVE", "FINALIZED"),
            "reason": ("DEPLOYING", "PAUSED", "CANCELING", "DEPLOYED", "CANCELED", "SUPERSEDED"),
            "details": {"last_successful_healthcheck": MOMENT, "last_status_change": MOMENT, "error?": str | None},
            "canary?": {"steps": {"current": int, "total": int}},
        },
        "strategy": ("rolling", "canary"),
        "options": {
            "max_in_flight": int,
            "web_instances?": int,
            "memory_in_mb?": int,
            "disk_in_mb?": int,
            "log_rate_limit_in_bytes_per_second?": int,
            "canary?": _STEPS,
        },
        "droplet": {"guid": str | None},
        "previous_droplet": {"guid": str | None},
        "new_processes": [{"guid": str, "type": str}],
        "revision": Maybe({"guid": str, "version": int}),
        "relationships": {"app": TO_ONE},
        "metadata": METADATA,
        "links": {"self": LINK, "app": LINK, "cancel?": ACTION, "continue?": ACTION},
    },
)
TASK: Final = Resource(
    "Task",
    {
        **COMMON,
        "sequence_id": int,
        "name": str,
        "command": str,
        "user": str | None,
        "state": ("PENDING", "RUNNING", "SUCCEEDED", "CANCELING", "FAILED"),
        "memory_in_mb": int,
        "disk_in_mb": int,
        "log_rate_limit_in_bytes_per_second": int,
        "result": {"failure_reason": str | None},
        "droplet_guid": str,
        "relationships": {"app": TO_ONE},
        "metadata": METADATA,
        "links": links("app", "droplet", cancel=ACTION),
    },
)
DIFFERENCES: Final = {"diff": [{"op": ("add", "remove", "replace"), "path": str, "was?": ANYTHING, "value?": ANYTHING}]}
