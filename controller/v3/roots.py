"""The root documents: where everything is (reference 2.8)."""

from __future__ import annotations

from typing import Any, Final

from controller.v3.api import Api
from controller.v3.call import Call, Reply

api = Api("Roots")
COLLECTIONS: Final = (
    "app_usage_events",
    "apps",
    "audit_events",
    "buildpacks",
    "builds",
    "deployments",
    "domains",
    "droplets",
    "environment_variable_groups",
    "feature_flags",
    "info",
    "isolation_segments",
    "organization_quotas",
    "organizations",
    "packages",
    "processes",
    "resource_matches",
    "roles",
    "routes",
    "security_groups",
    "service_brokers",
    "service_credential_bindings",
    "service_instances",
    "service_offerings",
    "service_plans",
    "service_route_bindings",
    "service_usage_events",
    "space_quotas",
    "spaces",
    "stacks",
    "tasks",
    "users",
)
VERSION: Final = "3.211.0"
"""Of the V3 API, as clients are told: no higher than what is here."""


@api.get("/", anonymous=True)
def get_root(call: Call) -> dict[str, Any]:
    """Where the API, logins and logs are."""
    uaa = {"href": call.settings.uaa_url.rstrip("/")}
    return {
        "links": {
            "self": call.link(""),
            "cloud_controller_v2": None,
            "cloud_controller_v3": {"href": call.url("/v3"), "meta": {"version": VERSION}},
            "network_policy_v0": None,
            "network_policy_v1": None,
            "login": uaa,
            "uaa": uaa,
            "credhub": None,
            "routing": call.link("/routing"),
            "logging": None,
            "log_cache": None,
            "log_stream": None,
            "app_ssh": None,
        }
    }


@api.get("/v3", anonymous=True)
def get_v3(call: Call) -> dict[str, Any]:
    """The collections of the V3 API."""
    return {"links": {"self": call.link("/v3"), **{name: call.link(f"/v3/{name}") for name in COLLECTIONS}}}


@api.get("/v3/info", anonymous=True)
def get_info(call: Call) -> dict[str, Any]:
    """What this platform says of itself."""
    return {
        "build": "",
        "cli_version": {"minimum": "", "recommended": ""},
        "custom": {},
        "description": "Millrace",
        "name": "Millrace",
        "version": 0,
        "osbapi_version": "2.15",
        "rate_limits": {"enabled": False, "general_limit": 0, "reset_interval_in_minutes": 0},
        "links": {"self": call.link("/v3/info"), "support": {"href": ""}},
    }


@api.get("/healthz", anonymous=True, produces="text/plain")
def get_health(_call: Call) -> Reply:
    """For load balancers."""
    return Reply(200, b"ok\n", {"content-type": "text/plain; charset=utf-8"})
