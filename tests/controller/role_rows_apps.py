"""Rows of the role matrix: apps and what belongs to them, and the platform that they run on."""

from __future__ import annotations

from typing import Final

from tests.controller.role_world import row, to

HIDDEN: Final = "[PRIVATE DATA HIDDEN]"

APPS: Final = [
    row("LIST /v3/apps?guids={app}", "see the space"),
    row("GET /v3/apps/{app}", "see the space"),
    row(
        "POST /v3/apps",
        "develop",
        "see the space",
        {"name": "{name}", "relationships": {"space": to("space")}},
        hidden=422,
    ),
    row("PATCH /v3/apps/{app}", "develop", "see the space", {}),
    row("DELETE /v3/apps/{new app}", "develop", "see the space"),
    row("POST /v3/apps/{app}/actions/start", "operate", "see the space"),
    row("POST /v3/apps/{app}/actions/restart", "operate", "see the space"),
    row("POST /v3/apps/{idle app}/actions/stop", "operate", "see the space"),
    row("POST /v3/apps/{app}/actions/clear_buildpack_cache", "operate", "see the space"),
    row("POST /v3/admin/actions/clear_buildpack_cache", "be an admin", "everybody"),
    row(
        "GET /v3/apps/{app}/permissions",
        "read secrets",
        "see the space",
        shows=lambda body: body["read_sensitive_data"],
    ),
    row("GET /v3/apps/{app}/env", "read the environment", "see the space"),
    row(
        "GET /v3/apps/{app}/env",
        "read secrets",
        "see the space",
        shows=lambda body: "VCAP_SERVICES" in body["system_env_json"],
    ),
    row("GET /v3/apps/{app}/environment_variables", "read the environment", "see the space"),
    row("PATCH /v3/apps/{app}/environment_variables", "operate", "see the space", {"var": {"A": "b"}}),
    row("LIST /v3/apps/{app}/features", "see the space"),
    row("GET /v3/apps/{app}/features/{ssh}", "see the space"),
    row("PATCH /v3/apps/{app}/features/{ssh}", "develop", "see the space", {"enabled": True}),
    row("PATCH /v3/apps/{app}/features/{revisions}", "operate", "see the space", {"enabled": True}),
    row("GET /v3/apps/{app}/ssh_enabled", "see the space"),
    row("GET /v3/apps/{app}/relationships/current_droplet", "see the space"),
    row("PATCH /v3/apps/{app}/relationships/current_droplet", "operate", "see the space", to("droplet")),
    row("LIST /v3/processes?guids={app}", "see the space"),
    row("GET /v3/processes/{app}", "see the space"),
    row("GET /v3/processes/{app}", "read secrets", "see the space", shows=lambda body: body["command"] != HIDDEN),
    row("LIST /v3/apps/{app}/processes", "see the space"),
    row("GET /v3/apps/{app}/processes/{web}", "see the space"),
    row("PATCH /v3/processes/{app}", "operate", "see the space", {}),
    row("PATCH /v3/apps/{app}/processes/{web}", "operate", "see the space", {}),
    row("POST /v3/processes/{app}/actions/scale", "operate", "see the space", {"instances": 1}),
    row("POST /v3/apps/{app}/processes/{web}/actions/scale", "operate", "see the space", {"instances": 1}),
    row("GET /v3/processes/{app}/stats", "see the space"),
    row("GET /v3/apps/{app}/processes/{web}/stats", "see the space"),
    row("GET /v3/processes/{app}/process_instances", "see the space"),
    row("DELETE /v3/processes/{app}/instances/{zero}", "operate", "see the space"),
    row("DELETE /v3/apps/{app}/processes/{web}/instances/{zero}", "operate", "see the space"),
]

BITS: Final = [
    row("LIST /v3/packages?guids={package}", "see the space"),
    row("GET /v3/packages/{package}", "see the space"),
    row("LIST /v3/apps/{full app}/packages", "see the space"),
    row("LIST /v3/packages/{staged package}/droplets", "see the space"),
    row(
        "POST /v3/packages",
        "develop",
        "see the space",
        {"type": "bits", "relationships": {"app": to("app")}},
        hidden=422,
    ),
    row("PATCH /v3/packages/{package}", "develop", "see the space", {}),
    row("DELETE /v3/packages/{new package}", "develop", "see the space"),
    row("POST /v3/packages/{package}/upload", "develop", "see the space", answers=502),
    row("GET /v3/packages/{package}/download", "read secrets", "see the space", answers=422),
    row("LIST /v3/builds?guids={build}", "see the space"),
    row("GET /v3/builds/{build}", "see the space"),
    row("LIST /v3/apps/{built app}/builds", "see the space"),
    row("POST /v3/builds", "operate", "nobody", {"package": {"guid": "{new image}"}}, hidden=422),
    row("PATCH /v3/builds/{build}", "develop", "see the space", {}),
    row("PATCH /v3/builds/{new build}", "be an admin", "see the space", {"state": "FAILED", "error": "none"}),
    row("LIST /v3/droplets?guids={droplet}", "see the space"),
    row("GET /v3/droplets/{droplet}", "see the space"),
    row(
        "GET /v3/droplets/{droplet}",
        "read secrets",
        "see the space",
        shows=lambda body: HIDDEN not in body["process_types"].values(),
    ),
    row("LIST /v3/apps/{app}/droplets", "see the space"),
    row("GET /v3/apps/{app}/droplets/current", "see the space"),
    row("POST /v3/droplets", "develop", "see the space", {"relationships": {"app": to("app")}}, hidden=422),
    row("PATCH /v3/droplets/{droplet}", "develop", "see the space", {}),
    row("DELETE /v3/droplets/{new droplet}", "develop", "see the space"),
    row("POST /v3/droplets/{empty droplet}/upload", "develop", "see the space", answers=502),
    row("GET /v3/droplets/{droplet}/download", "download droplets", "see the space", answers=502),
]

RUNS: Final = [
    row("LIST /v3/deployments?guids={deployment}", "see the space"),
    row("GET /v3/deployments/{deployment}", "see the space"),
    row("POST /v3/deployments", "operate", "see the space", {"relationships": {"app": to("idle app")}}, hidden=422),
    row("PATCH /v3/deployments/{deployment}", "develop", "see the space", {}),
    row("POST /v3/deployments/{new deployment}/actions/cancel", "operate", "see the space"),
    row("POST /v3/deployments/{deployment}/actions/continue", "operate", "see the space", answers=422),
    row("LIST /v3/apps/{app}/revisions", "see the space"),
    row("LIST /v3/apps/{app}/revisions/deployed", "see the space"),
    row("GET /v3/revisions/{revision}", "see the space"),
    row("PATCH /v3/revisions/{revision}", "develop", "see the space", {}),
    row("GET /v3/revisions/{revision}/environment_variables", "read secrets", "see the space"),
    row("LIST /v3/apps/{full app}/sidecars", "see the space"),
    row("LIST /v3/processes/{full app}/sidecars", "see the space"),
    row("GET /v3/sidecars/{sidecar}", "see the space"),
    row(
        "POST /v3/apps/{app}/sidecars",
        "develop",
        "see the space",
        {"name": "{name}", "command": "run", "process_types": ["worker"]},
    ),
    row("PATCH /v3/sidecars/{sidecar}", "develop", "see the space", {}),
    row("DELETE /v3/sidecars/{new sidecar}", "develop", "see the space"),
    row("LIST /v3/tasks?guids={task}", "see the space"),
    row("GET /v3/tasks/{task}", "see the space"),
    row("GET /v3/tasks/{task}", "read secrets", "see the space", shows=lambda body: body["command"] != HIDDEN),
    row("LIST /v3/apps/{full app}/tasks", "see the space"),
    row("POST /v3/apps/{app}/tasks", "develop", "see the space", {"command": "run"}),
    row("PATCH /v3/tasks/{task}", "develop", "see the space", {}),
    row("POST /v3/tasks/{new task}/actions/cancel", "operate", "see the space"),
    row("PUT /v3/tasks/{new task}/cancel", "operate", "see the space"),
]

PLATFORM: Final = [
    row("LIST /v3/buildpacks?guids={buildpack}", "everybody"),
    row("GET /v3/buildpacks/{buildpack}", "everybody"),
    row("POST /v3/buildpacks", "be an admin", "everybody", {"name": "{name}"}),
    row("PATCH /v3/buildpacks/{buildpack}", "be an admin", "everybody", {}),
    row("DELETE /v3/buildpacks/{new buildpack}", "be an admin", "everybody"),
    row("POST /v3/buildpacks/{buildpack}/upload", "be an admin", "everybody", answers=502),
    row("LIST /v3/stacks?guids={stack}", "everybody"),
    row("GET /v3/stacks/{stack}", "everybody"),
    row("LIST /v3/stacks/{stack of all}/apps?guids={app}", "see the space"),
    row("POST /v3/stacks", "be an admin", "everybody", {"name": "{name}"}),
    row("PATCH /v3/stacks/{stack}", "be an admin", "everybody", {}),
    row("DELETE /v3/stacks/{new stack}", "be an admin", "everybody"),
    row("LIST /v3/feature_flags", "everybody"),
    row("GET /v3/feature_flags/{flag}", "everybody"),
    row("PATCH /v3/feature_flags/{flag}", "be an admin", "everybody", {"enabled": True}),
    row("GET /v3/environment_variable_groups/{running}", "everybody"),
    row("PATCH /v3/environment_variable_groups/{running}", "be an admin", "everybody", {"var": {}}),
    row("GET /v3/jobs/{job}", "everybody"),
    row("LIST /v3/audit_events?target_guids={app}", "read events"),
    row("GET /v3/audit_events/{event}", "read events"),
    row("LIST /v3/audit_events?target_guids={organization}", "read events of the organization"),
    row(
        "POST /v3/resource_matches",
        "everybody",
        "nobody",
        {"resources": [{"checksum": {"value": "0" * 40}, "size_in_bytes": 1}]},
    ),
    row("GET /v3/app_usage_events", "everybody"),
    row("GET /v3/service_usage_events", "everybody"),
]

MANIFEST: Final = "applications: [{{name: manifested, no-route: true}}]"
MANIFESTS: Final = [
    row("POST /v3/spaces/{space}/actions/apply_manifest", "develop", "see the space", MANIFEST),
    row("POST /v3/spaces/{space}/manifest_diff", "develop", "see the space", MANIFEST),
    row("GET /v3/apps/{app}/manifest", "read secrets", "see the space"),
]

_BROKER: Final = {
    "name": "broker",
    "url": "https://broker.example.com",
    "authentication": {"type": "basic", "credentials": {"username": "u", "password": "p"}},
}
NO_BROKERS: Final = [
    row("GET /v3/service_brokers", "everybody"),
    row("POST /v3/service_brokers", "be an admin", "everybody", _BROKER, refused="not available here"),
    row(
        "POST /v3/service_brokers",
        "develop",
        "see the space",
        {**_BROKER, "relationships": {"space": to("space")}},
        hidden=422,
        refused="not available here",
    ),
    *(
        row(f"{method} /v3/{path}", "nobody")
        for method, path in (
            ("GET", "service_brokers/{nothing}"),
            ("PATCH", "service_brokers/{nothing}"),
            ("DELETE", "service_brokers/{nothing}"),
            ("GET", "service_offerings/{nothing}"),
            ("PATCH", "service_offerings/{nothing}"),
            ("DELETE", "service_offerings/{nothing}"),
            ("GET", "service_plans/{nothing}"),
            ("PATCH", "service_plans/{nothing}"),
            ("DELETE", "service_plans/{nothing}"),
            ("GET", "service_plans/{nothing}/visibility"),
            ("PATCH", "service_plans/{nothing}/visibility"),
            ("POST", "service_plans/{nothing}/visibility"),
            ("GET", "app_usage_events/{nothing}"),
            ("GET", "service_usage_events/{nothing}"),
        )
    ),
]
"""There are none, whoever asks."""
