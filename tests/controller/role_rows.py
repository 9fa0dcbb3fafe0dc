"""Rows of the role matrix: tenancy, domains and routes, services."""

from __future__ import annotations

from typing import Any, Final

from tests.controller.role_things import WEB
from tests.controller.role_world import row, to

MANY: Final = {"data": [{"guid": "{new space}"}]}


def _role(kind: str) -> dict[str, Any]:
    place = kind.partition("_")[0]
    return {"type": kind, "relationships": {"user": to("new member"), place: to(place)}}


TENANCY: Final = [
    row("LIST /v3/organizations?guids={organization}", "see the organization"),
    row("GET /v3/organizations/{organization}", "see the organization"),
    row("POST /v3/organizations", "be an admin", "everybody", {"name": "{name}"}),
    row("PATCH /v3/organizations/{organization}", "manage the organization", "see the organization", {}),
    row("DELETE /v3/organizations/{new organization}", "be an admin", "see everything"),
    row("LIST /v3/organizations/{organization}/users", "see the organization"),
    row("GET /v3/organizations/{organization}/usage_summary", "see the organization"),
    row("LIST /v3/organization_quotas?guids={quota of ours}", "see the organization"),
    row("GET /v3/organization_quotas/{quota of ours}", "see the organization"),
    row("POST /v3/organization_quotas", "be an admin", "everybody", {"name": "{name}"}),
    row("PATCH /v3/organization_quotas/{quota of ours}", "be an admin", "see the organization", {}),
    row("DELETE /v3/organization_quotas/{new organization quota}", "be an admin", "see everything"),
    row(
        "POST /v3/organization_quotas/{quota of ours}/relationships/organizations",
        "be an admin",
        "see the organization",
        {"data": [{"guid": "{organization}"}]},
    ),
    row("LIST /v3/spaces?guids={space}", "see the space"),
    row("GET /v3/spaces/{space}", "see the space"),
    row(
        "POST /v3/spaces",
        "manage the organization",
        "see the organization",
        {"name": "{name}", "relationships": {"organization": to("organization")}},
        hidden=422,
    ),
    row("PATCH /v3/spaces/{space}", "manage the space", "see the space", {}),
    row("DELETE /v3/spaces/{new space}", "manage the organization", "see everything"),
    row("LIST /v3/spaces/{space}/users", "see the space"),
    row("GET /v3/spaces/{space}/usage_summary", "see the space"),
    row("LIST /v3/space_quotas?guids={space quota of ours}", "see the space"),
    row("GET /v3/space_quotas/{space quota of ours}", "see the space"),
    row(
        "POST /v3/space_quotas",
        "manage the organization",
        "see the organization",
        {"name": "{name}", "relationships": {"organization": to("organization")}},
        hidden=422,
    ),
    row("PATCH /v3/space_quotas/{space quota of ours}", "manage the organization", "see the space", {}),
    row("DELETE /v3/space_quotas/{new space quota}", "manage the organization", "see everything"),
    row(
        "POST /v3/space_quotas/{space quota of ours}/relationships/spaces",
        "manage the organization",
        "see the space",
        MANY,
    ),
    row(
        "DELETE /v3/space_quotas/{space quota of ours}/relationships/spaces/{new space under quota}",
        "manage the organization",
        "see the space",
    ),
    row("GET /v3/info/usage_summary", "see everything"),
    row("LIST /v3/users?guids={member}", "see the organization"),
    row("GET /v3/users/{member}", "see the organization"),
    row("POST /v3/users", "be an admin", "everybody", {"guid": "{name}"}),
    row("PATCH /v3/users/{member}", "be an admin", "see the organization", {}),
    row("DELETE /v3/users/{new user}", "be an admin", "see everything"),
    row("LIST /v3/roles?guids={organization role}", "see the organization"),
    row("GET /v3/roles/{organization role}", "see the organization"),
    row("LIST /v3/roles?guids={space role}", "see the space"),
    row("GET /v3/roles/{space role}", "see the space"),
    row(
        "POST /v3/roles",
        "manage the organization",
        "see the organization",
        _role("organization_auditor"),
        hidden=422,
    ),
    row("POST /v3/roles", "manage the space", "see the space", _role("space_auditor"), hidden=422),
    row("DELETE /v3/roles/{new organization role}", "manage the organization", "see the organization"),
    row("DELETE /v3/roles/{new space role}", "manage the space", "see the space"),
]

DOMAINS_AND_ROUTES: Final = [
    row("LIST /v3/domains?guids={shared domain}", "everybody"),
    row("GET /v3/domains/{shared domain}", "everybody"),
    row("LIST /v3/domains?guids={private domain}", "see routes"),
    row("GET /v3/domains/{private domain}", "see routes"),
    row("LIST /v3/organizations/{organization}/domains?guids={shared domain}", "see the organization"),
    row("GET /v3/organizations/{organization}/domains/default", "see the organization"),
    row("POST /v3/domains", "be an admin", "everybody", {"name": "{name}.example.com"}),
    row(
        "POST /v3/domains",
        "manage the organization",
        "see the organization",
        {"name": "{name}.example.net", "relationships": {"organization": to("organization")}},
        hidden=422,
    ),
    row("PATCH /v3/domains/{shared domain}", "be an admin", "everybody", {}),
    row("PATCH /v3/domains/{private domain}", "manage the organization", "see routes", {}),
    row("DELETE /v3/domains/{new shared domain}", "be an admin", "everybody"),
    row("DELETE /v3/domains/{new private domain}", "manage the organization", "see routes"),
    row(
        "POST /v3/domains/{private domain}/relationships/shared_organizations",
        "manage the organization",
        "see routes",
        {"data": []},
    ),
    row(
        "DELETE /v3/domains/{new domain shared with us}/relationships/shared_organizations/{organization}",
        "manage the organization",
        "see routes",
    ),
    row("GET /v3/domains/{private domain}/route_reservations?host=x", "see routes"),
    row("LIST /v3/routes?guids={route}", "see routes"),
    row("GET /v3/routes/{route}", "see routes"),
    row("LIST /v3/apps/{full app}/routes", "see the space"),
    row(
        "POST /v3/routes",
        "operate",
        "see the space",
        {"host": "{name}", "relationships": {"space": to("space"), "domain": to("shared domain")}},
        hidden=422,
    ),
    row("PATCH /v3/routes/{route}", "operate", "see routes", {}),
    row("DELETE /v3/routes/{new route}", "operate", "see routes"),
    row("DELETE /v3/spaces/{space}/routes?unmapped=true", "operate", "see the space"),
    row("GET /v3/routes/{route}/destinations", "see routes"),
    row("POST /v3/routes/{route}/destinations", "operate", "see routes", {"destinations": [WEB]}),
    row("PATCH /v3/routes/{route}/destinations", "operate", "see routes", {"destinations": [WEB]}),
    row("PATCH /v3/routes/{route}/destinations/{destination}", "operate", "see routes", {}),
    row("DELETE /v3/routes/{new route}/destinations/{new mapped destination}", "operate", "see routes"),
    row("GET /v3/routes/{route}/relationships/shared_spaces", "see routes"),
    row("POST /v3/routes/{route}/relationships/shared_spaces", "operate", "see routes", {"data": []}),
    row("DELETE /v3/routes/{route}/relationships/shared_spaces/{second space}", "operate", "see routes"),
    row("PATCH /v3/routes/{new route}/relationships/space", "develop", "see routes", to("second space")),
]

SERVICES: Final = [
    row("LIST /v3/service_instances?guids={service}", "see the space"),
    row("GET /v3/service_instances/{service}", "see the space"),
    row(
        "POST /v3/service_instances",
        "develop",
        "see the space",
        {"type": "user-provided", "name": "{name}", "relationships": {"space": to("space")}},
        hidden=422,
    ),
    row("PATCH /v3/service_instances/{service}", "develop", "see the space", {}),
    row("DELETE /v3/service_instances/{new service}", "develop", "see the space"),
    row("GET /v3/service_instances/{service}/credentials", "read secrets", "see the space"),
    row("GET /v3/service_instances/{service}/parameters", "see the space", answers=422),
    row("GET /v3/service_instances/{service}/permissions", "develop", "everybody", shows=lambda body: body["manage"]),
    row("GET /v3/service_instances/{service}/relationships/shared_spaces", "see the space"),
    row(
        "POST /v3/service_instances/{service}/relationships/shared_spaces",
        "develop",
        "see the space",
        {"data": [{"guid": "{second space}"}]},
        answers=422,
    ),
    row(
        "DELETE /v3/service_instances/{service}/relationships/shared_spaces/{second space}",
        "develop",
        "see the space",
    ),
    row("LIST /v3/service_credential_bindings?guids={binding}", "see the space"),
    row("GET /v3/service_credential_bindings/{binding}", "see the space"),
    row(
        "POST /v3/service_credential_bindings",
        "operate",
        "see the space",
        {"type": "app", "relationships": {"app": to("app"), "service_instance": to("new service")}},
        hidden=422,
    ),
    row("PATCH /v3/service_credential_bindings/{binding}", "operate", "see the space", {}),
    row("DELETE /v3/service_credential_bindings/{new binding}", "operate", "see the space"),
    row("GET /v3/service_credential_bindings/{binding}/details", "read secrets", "see the space"),
    row("GET /v3/service_credential_bindings/{binding}/parameters", "see the space", answers=422),
    row("LIST /v3/service_route_bindings?guids={route binding}", "see the space"),
    row("GET /v3/service_route_bindings/{route binding}", "see the space"),
    row(
        "POST /v3/service_route_bindings",
        "develop",
        "see the space",
        {"relationships": {"route": to("new route"), "service_instance": to("service")}},
        hidden=422,
    ),
    row("PATCH /v3/service_route_bindings/{route binding}", "develop", "see the space", {}),
    row("DELETE /v3/service_route_bindings/{new route binding}", "develop", "see the space"),
]

_SPACES: Final = {"data": [{"guid": "{space}"}]}
ISOLATION_AND_SECURITY: Final = [
    row("LIST /v3/isolation_segments?guids={segment of ours}", "see the organization"),
    row("GET /v3/isolation_segments/{segment of ours}", "see the organization"),
    row("LIST /v3/isolation_segments/{segment of ours}/organizations", "see the organization"),
    row("GET /v3/isolation_segments/{segment of ours}/relationships/organizations", "see the organization"),
    row("GET /v3/isolation_segments/{segment of ours}/relationships/spaces", "see the organization"),
    row("POST /v3/isolation_segments", "be an admin", "everybody", {"name": "{name}"}),
    row("PATCH /v3/isolation_segments/{segment of ours}", "be an admin", "see the organization", {}),
    row("DELETE /v3/isolation_segments/{new segment}", "be an admin", "everybody"),
    row(
        "POST /v3/isolation_segments/{segment of ours}/relationships/organizations",
        "be an admin",
        "everybody",
        {"data": [{"guid": "{organization}"}]},
    ),
    row(
        "DELETE /v3/isolation_segments/{new segment of ours}/relationships/organizations/{organization}",
        "be an admin",
        "everybody",
    ),
    row("GET /v3/organizations/{organization}/relationships/default_isolation_segment", "see the organization"),
    row(
        "PATCH /v3/organizations/{organization}/relationships/default_isolation_segment",
        "manage the organization",
        "see the organization",
        {"data": None},
    ),
    row("GET /v3/spaces/{space}/relationships/isolation_segment", "see the space"),
    row(
        "PATCH /v3/spaces/{space}/relationships/isolation_segment",
        "manage the organization",
        "see the space",
        {"data": None},
    ),
    row("LIST /v3/spaces/{space}/features", "see the space"),
    row("GET /v3/spaces/{space}/features/{ssh}", "see the space"),
    row("PATCH /v3/spaces/{space}/features/{ssh}", "manage the space", "see the space", {"enabled": True}),
    row("LIST /v3/security_groups?guids={security group}", "see the space"),
    row("GET /v3/security_groups/{security group}", "see the space"),
    row("LIST /v3/security_groups?guids={security group of all}", "everybody"),
    row("POST /v3/security_groups", "be an admin", "everybody", {"name": "{name}"}),
    row("PATCH /v3/security_groups/{security group}", "be an admin", "see the space", {}),
    row("DELETE /v3/security_groups/{new security group}", "be an admin", "see the space"),
    row("LIST /v3/spaces/{bound space}/running_security_groups", "see the space"),
    row("LIST /v3/spaces/{bound space}/staging_security_groups", "see the space"),
    *(
        one
        for phase in ("running", "staging")
        for one in (
            row(
                f"POST /v3/security_groups/{{security group}}/relationships/{phase}_spaces",
                "manage the space",
                "see the space",
                _SPACES,
            ),
            row(
                f"DELETE /v3/security_groups/{{new security group}}/relationships/{phase}_spaces/{{space}}",
                "manage the space",
                "see the space",
            ),
        )
    ),
]
