"""Which operation answers with what. Every operation that answers with JSON is here; a test sees to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controller.v3.openapi import applications, platform, services, tenancy
from controller.v3.openapi.shapes import TO_MANY, Resource, Shape, page

_ONE: Final[Mapping[str, Resource | Mapping[str, Shape]]] = {
    "/v3/organizations": tenancy.ORGANIZATION,
    "/v3/spaces": tenancy.SPACE,
    "/v3/roles": tenancy.ROLE,
    "/v3/users": tenancy.USER,
    "/v3/domains": tenancy.DOMAIN,
    "/v3/routes": tenancy.ROUTE,
    "/v3/organization_quotas": tenancy.ORGANIZATION_QUOTA,
    "/v3/space_quotas": tenancy.SPACE_QUOTA,
    "/v3/apps": applications.APP,
    "/v3/processes": applications.PROCESS,
    "/v3/sidecars": applications.SIDECAR,
    "/v3/packages": applications.PACKAGE,
    "/v3/builds": applications.BUILD,
    "/v3/droplets": applications.DROPLET,
    "/v3/revisions": applications.REVISION,
    "/v3/deployments": applications.DEPLOYMENT,
    "/v3/tasks": applications.TASK,
    "/v3/service_instances": services.SERVICE_INSTANCE,
    "/v3/service_credential_bindings": services.CREDENTIAL_BINDING,
    "/v3/service_route_bindings": services.ROUTE_BINDING,
    "/v3/jobs": platform.JOB,
    "/v3/buildpacks": platform.BUILDPACK,
    "/v3/stacks": platform.STACK,
    "/v3/isolation_segments": platform.ISOLATION_SEGMENT,
    "/v3/security_groups": platform.SECURITY_GROUP,
    "/v3/audit_events": platform.AUDIT_EVENT,
}
"""Resources by their collection: made there, and shown and changed under their guid."""
_INCLUDED: Final[Mapping[str, Mapping[str, Shape]]] = {
    "/v3/spaces": tenancy.INCLUDED,
    "/v3/roles": tenancy.INCLUDED,
    "/v3/routes": tenancy.INCLUDED,
    "/v3/apps/{guid}/routes": tenancy.INCLUDED,
    "/v3/apps": applications.INCLUDED,
    "/v3/stacks/{guid}/apps": applications.INCLUDED,
    "/v3/service_instances": services.INSTANCE_INCLUDED,
    "/v3/service_credential_bindings": services.CREDENTIAL_INCLUDED,
    "/v3/service_route_bindings": services.ROUTE_INCLUDED,
}
_LISTS: Final[Mapping[str, Shape]] = {
    **_ONE,
    "/v3/organizations/{guid}/domains": tenancy.DOMAIN,
    "/v3/organizations/{guid}/users": tenancy.USER,
    "/v3/spaces/{guid}/users": tenancy.USER,
    "/v3/spaces/{guid}/running_security_groups": platform.SECURITY_GROUP,
    "/v3/spaces/{guid}/staging_security_groups": platform.SECURITY_GROUP,
    "/v3/isolation_segments/{guid}/organizations": tenancy.ORGANIZATION,
    "/v3/stacks/{guid}/apps": applications.APP,
    "/v3/apps/{guid}/routes": tenancy.ROUTE,
    "/v3/apps/{guid}/processes": applications.PROCESS,
    "/v3/apps/{guid}/sidecars": applications.SIDECAR,
    "/v3/processes/{guid}/sidecars": applications.SIDECAR,
    "/v3/apps/{guid}/packages": applications.PACKAGE,
    "/v3/apps/{guid}/builds": applications.BUILD,
    "/v3/apps/{guid}/droplets": applications.DROPLET,
    "/v3/packages/{guid}/droplets": applications.DROPLET,
    "/v3/apps/{guid}/revisions": applications.REVISION,
    "/v3/apps/{guid}/revisions/deployed": applications.REVISION,
    "/v3/apps/{guid}/tasks": applications.TASK,
    "/v3/feature_flags": platform.FLAG,
    **dict.fromkeys(
        (
            "/v3/app_usage_events",
            "/v3/service_usage_events",
            "/v3/service_brokers",
            "/v3/service_offerings",
            "/v3/service_plans",
        ),
        platform.NOTHING_YET,
    ),
}
_ACTIONS: Final[Mapping[str, Shape]] = {
    "GET /": platform.ROOT,
    "GET /v3": platform.COLLECTIONS,
    "GET /v3/info": platform.INFO,
    "GET /v3/info/usage_summary": tenancy.USAGE,
    "GET /v3/organizations/{guid}/usage_summary": tenancy.USAGE,
    "GET /v3/spaces/{guid}/usage_summary": tenancy.USAGE,
    "GET /v3/organizations/{guid}/domains/default": tenancy.DOMAIN,
    "GET /v3/organizations/{guid}/relationships/default_isolation_segment": platform.ASSIGNED,
    "PATCH /v3/organizations/{guid}/relationships/default_isolation_segment": platform.ASSIGNED,
    "GET /v3/spaces/{guid}/relationships/isolation_segment": platform.ASSIGNED,
    "PATCH /v3/spaces/{guid}/relationships/isolation_segment": platform.ASSIGNED,
    "GET /v3/spaces/{guid}/features": {"resources": [tenancy.FEATURE]},
    "GET /v3/spaces/{guid}/features/{name}": tenancy.FEATURE,
    "PATCH /v3/spaces/{guid}/features/{name}": tenancy.FEATURE,
    "POST /v3/domains/{guid}/relationships/shared_organizations": TO_MANY,
    "GET /v3/domains/{guid}/route_reservations": {"matching_route": bool},
    "PATCH /v3/routes/{guid}/relationships/space": {"status": ("ok",)},
    "GET /v3/routes/{guid}/relationships/shared_spaces": TO_MANY,
    "POST /v3/routes/{guid}/relationships/shared_spaces": TO_MANY,
    "GET /v3/routes/{guid}/destinations": tenancy.DESTINATIONS,
    "POST /v3/routes/{guid}/destinations": tenancy.DESTINATIONS,
    "PATCH /v3/routes/{guid}/destinations": tenancy.DESTINATIONS,
    "PATCH /v3/routes/{guid}/destinations/{destination_guid}": tenancy.DESTINATION,
    "POST /v3/organization_quotas/{guid}/relationships/organizations": {**TO_MANY, "links?": dict},
    "POST /v3/space_quotas/{guid}/relationships/spaces": {**TO_MANY, "links?": dict},
    "POST /v3/apps/{guid}/actions/start": applications.APP,
    "POST /v3/apps/{guid}/actions/stop": applications.APP,
    "POST /v3/apps/{guid}/actions/restart": applications.APP,
    "GET /v3/apps/{guid}/permissions": applications.PERMISSIONS,
    "GET /v3/apps/{guid}/env": applications.ENVIRONMENT,
    "GET /v3/apps/{guid}/environment_variables": applications.VARIABLES,
    "PATCH /v3/apps/{guid}/environment_variables": applications.VARIABLES,
    "GET /v3/apps/{guid}/features": page(tenancy.FEATURE),
    "GET /v3/apps/{guid}/features/{name}": tenancy.FEATURE,
    "PATCH /v3/apps/{guid}/features/{name}": tenancy.FEATURE,
    "GET /v3/apps/{guid}/ssh_enabled": applications.SSH,
    "GET /v3/apps/{guid}/relationships/current_droplet": applications.CURRENT_DROPLET,
    "PATCH /v3/apps/{guid}/relationships/current_droplet": applications.CURRENT_DROPLET,
    "GET /v3/apps/{guid}/droplets/current": applications.DROPLET,
    "GET /v3/apps/{guid}/processes/{type}": applications.PROCESS,
    "PATCH /v3/apps/{guid}/processes/{type}": applications.PROCESS,
    "POST /v3/processes/{guid}/actions/scale": applications.PROCESS,
    "POST /v3/apps/{guid}/processes/{type}/actions/scale": applications.PROCESS,
    "GET /v3/processes/{guid}/stats": applications.STATS,
    "GET /v3/apps/{guid}/processes/{type}/stats": applications.STATS,
    "GET /v3/processes/{guid}/process_instances": applications.INSTANCES,
    "POST /v3/apps/{guid}/sidecars": applications.SIDECAR,
    "POST /v3/packages/{guid}/upload": applications.PACKAGE,
    "POST /v3/droplets/{guid}/upload": applications.DROPLET,
    "POST /v3/buildpacks/{guid}/upload": platform.BUILDPACK,
    "GET /v3/revisions/{guid}/environment_variables": applications.REVISION_VARIABLES,
    "POST /v3/apps/{guid}/tasks": applications.TASK,
    "POST /v3/tasks/{guid}/actions/cancel": applications.TASK,
    "PUT /v3/tasks/{guid}/cancel": applications.TASK,
    "POST /v3/spaces/{guid}/manifest_diff": applications.DIFFERENCES,
    "GET /v3/service_instances/{guid}/credentials": dict,
    "GET /v3/service_instances/{guid}/permissions": services.PERMISSIONS,
    "GET /v3/service_instances/{guid}/relationships/shared_spaces": TO_MANY,
    "POST /v3/service_instances/{guid}/relationships/shared_spaces": TO_MANY,
    "GET /v3/service_credential_bindings/{guid}/details": services.DETAILS,
    "GET /v3/feature_flags/{name}": platform.FLAG,
    "PATCH /v3/feature_flags/{name}": platform.FLAG,
    "GET /v3/environment_variable_groups/{name}": platform.ENVIRONMENT_GROUP,
    "PATCH /v3/environment_variable_groups/{name}": platform.ENVIRONMENT_GROUP,
    "POST /v3/resource_matches": platform.MATCHES,
    "GET /v3/isolation_segments/{guid}/relationships/organizations": platform.ENTITLED,
    "POST /v3/isolation_segments/{guid}/relationships/organizations": platform.ENTITLED,
    "GET /v3/isolation_segments/{guid}/relationships/spaces": platform.ENTITLED,
    "POST /v3/security_groups/{guid}/relationships/running_spaces": platform.BOUND_SPACES,
    "POST /v3/security_groups/{guid}/relationships/staging_spaces": platform.BOUND_SPACES,
}


def shape_of(method: str, path: str, *, is_list: bool) -> Shape | None:
    """What a response of the operation's own status holds; None: this module does not know, or it holds nothing."""
    included = _INCLUDED.get(path.removesuffix("/{guid}") if path.count("{") == 1 and not is_list else path)
    if is_list and path in _LISTS:
        return page(_LISTS[path], **({"included?": included} if included else {}))
    known = _ACTIONS.get(f"{method} {path}")
    if known is not None:
        return known
    one = _ONE.get(path.removesuffix("/{guid}"))
    if one is None or method == "DELETE" or (method == "POST") != (path in _ONE):
        return None
    if method == "GET" and included and isinstance(one, Resource):
        return {**one.shape, "included?": included}
    return one


def all_shapes() -> list[Shape]:
    """For the components of the document."""
    return [*_ONE.values(), *_LISTS.values(), *_INCLUDED.values(), *_ACTIONS.values(), page(platform.NOTHING_YET)]
