"""What operators set up, jobs, events, and the root documents (reference 2.8, 3.6)."""

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
    TO_MANY,
    Maybe,
    Resource,
    Values,
    links,
)

ERROR: Final = Resource("Error", {"code": int, "title": str, "detail": str})
ERRORS: Final = Resource("Errors", {"errors": [ERROR]})
JOB: Final = Resource(
    "Job",
    {
        **COMMON,
        "operation": str,
        "state": ("PROCESSING", "POLLING", "COMPLETE", "FAILED"),
        "errors": [ERROR],
        "warnings": [{"detail": str}],
        "links": Values(LINK),
    },
)
_VERSIONED: Final = {"href": str, "meta": {"version": str}}
ROOT: Final = {
    "links": {
        "self": LINK,
        "cloud_controller_v2": Maybe(LINK),
        "cloud_controller_v3": _VERSIONED,
        "login": LINK,
        "uaa": LINK,
        **{
            name: Maybe(LINK)
            for name in (
                "network_policy_v0",
                "network_policy_v1",
                "credhub",
                "routing",
                "logging",
                "log_cache",
                "log_stream",
            )
        },
        "app_ssh": Maybe({"href": str, "meta": dict}),
    }
}
COLLECTIONS: Final = {"links": Values(LINK)}
INFO: Final = {
    "build": str,
    "cli_version": {"minimum": str, "recommended": str},
    "custom": dict,
    "description": str,
    "name": str,
    "version": int,
    "osbapi_version": str,
    "rate_limits": {"enabled": bool, "general_limit": int, "reset_interval_in_minutes": int},
    "links": {"self": LINK, "support": LINK},
}
BUILDPACK: Final = Resource(
    "Buildpack",
    {
        **COMMON,
        "name": str,
        "stack": str | None,
        "state": ("AWAITING_UPLOAD", "READY"),
        "filename": str | None,
        "lifecycle": ("buildpack", "cnb"),
        "position": int,
        "enabled": bool,
        "locked": bool,
        "metadata": METADATA,
        "links": links(upload=ACTION),
    },
)
STACK: Final = Resource(
    "Stack",
    {
        **COMMON,
        "name": str,
        "description": str | None,
        "state": str,
        "state_reason": str | None,
        "run_rootfs_image": str,
        "build_rootfs_image": str,
        "default": bool,
        "metadata": METADATA,
        "links": links(),
    },
)
FLAG: Final = Resource(
    "FeatureFlag",
    {
        "name": str,
        "enabled": bool,
        "updated_at": Maybe(MOMENT),
        "custom_error_message": str | None,
        "links": links(),
    },
)
ENVIRONMENT_GROUP: Final = Resource(
    "EnvironmentVariableGroup",
    {"updated_at": MOMENT, "name": ("running", "staging"), "var": Values(str), "links": links()},
)
ISOLATION_SEGMENT: Final = Resource(
    "IsolationSegment", {**COMMON, "name": str, "metadata": METADATA, "links": links("organizations")}
)
ENTITLED: Final = {**TO_MANY, "links": links("related?")}
ASSIGNED: Final = {"data": Maybe(NAMED), "links": links("related?")}
_RULE: Final = {
    "protocol": ("tcp", "udp", "icmp", "icmpv6", "all"),
    "destination": str,
    "ports?": str | None,
    "type?": int | None,
    "code?": int | None,
    "description?": str | None,
    "log?": bool | None,
}
SECURITY_GROUP: Final = Resource(
    "SecurityGroup",
    {
        **COMMON,
        "name": str,
        "rules": [_RULE],
        "globally_enabled": {"running": bool, "staging": bool},
        "relationships": {"running_spaces": TO_MANY, "staging_spaces": TO_MANY},
        "links": links(),
    },
)
BOUND_SPACES: Final = {**TO_MANY, "links": links()}
_PARTY: Final = {"guid": str, "type": str, "name": str | None}
AUDIT_EVENT: Final = Resource(
    "AuditEvent",
    {
        **COMMON,
        "type": str,
        "actor": _PARTY,
        "target": _PARTY,
        "data": dict,
        "space": Maybe(NAMED),
        "organization": Maybe(NAMED),
        "links": links(),
    },
)
MATCHES: Final = {"resources": [{"path?": str, "mode?": str, "size_in_bytes": int, "checksum": {"value": str}}]}
NOTHING_YET: Final = ANYTHING
"""An element of a list that is always empty here."""
