"""What the rows of the role matrix act on: how an admin makes one of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.applications import Droplet
from tests.controller import worlds
from tests.controller.role_world import World, to
from tests.controller.running import job_of

Maker = Callable[[World], str]
WEB: Final = {"app": {"guid": "{app}"}}


def _guid(thing: dict[str, Any]) -> str:
    return str(thing["guid"])


def _named(path: str, **relationships: Any) -> Maker:
    """Something that has a name, and relationships if any."""
    body = {"name": "{name}", **({"relationships": relationships} if relationships else {})}
    return lambda world: world.made(path, body)


def _organization(world: World) -> str:
    return _guid(worlds.organization(world.controller))


def _app(world: World) -> str:
    """Stopped, with a droplet."""
    app = _guid(worlds.app(world.controller, world.space["guid"]))
    worlds.set_droplet(world.controller, app)
    return app


def _started_app(world: World) -> str:
    return _guid(worlds.started_app(world.controller, world.space["guid"]))


def _image(world: World) -> str:
    """A package that can be staged, of an app of its own: an app is staged once at a time."""
    body = {
        "type": "docker",
        "data": {"image": "registry.example.com/image"},
        "relationships": {"app": {"data": {"guid": _docker_app(world)}}},
    }
    return world.made("/v3/packages", body)


def _docker_app(world: World) -> str:
    lifecycle = {"type": "docker", "data": {}}
    return _guid(worlds.app(world.controller, world.space["guid"], lifecycle=lifecycle))


def _build(world: World) -> str:
    return world.made("/v3/builds", {"package": {"guid": _image(world)}})


def _built_app(world: World) -> str:
    build = world.controller.admin.get(f"/v3/builds/{world.thing('build')}").json()
    return _guid(build["relationships"]["app"]["data"])


def _staged_package(world: World) -> str:
    package = world.thing("package")

    def work(session: Session) -> None:
        droplet = session.scalars(select(Droplet).where(Droplet.guid == world.thing("droplet"))).unique().one()
        droplet.package_guid = package

    world.controller.database.write(work)
    return package


def _deployment(world: World) -> str:
    """One that goes on."""
    relationships = {"app": {"data": {"guid": _started_app(world)}}}
    return world.made("/v3/deployments", {"relationships": relationships})


def _revision(world: World) -> str:
    response = world.controller.admin.get(f"/v3/apps/{world.thing('app')}/revisions")
    return _guid(response.json()["resources"][0])


def _sidecar(world: World) -> str:
    return world.made("/v3/apps/{app}/sidecars", {"name": "{name}", "command": "run", "process_types": ["web"]})


def _event(world: World) -> str:
    response = world.controller.admin.get(f"/v3/audit_events?target_guids={world.thing('app')}")
    return _guid(response.json()["resources"][0])


def _full_app(world: World) -> str:
    """The app, once something of each kind belongs to it."""
    for called in ("sidecar", "task", "package", "route"):
        world.thing(called)
    return world.thing("app")


def _domain(suffix: str, **relationships: Any) -> Maker:
    body = {"name": "{name}." + suffix, **({"relationships": relationships} if relationships else {})}
    return lambda world: world.made("/v3/domains", body)


def _route(world: World) -> str:
    relationships = {"space": to("space"), "domain": to("shared domain")}
    return world.made("/v3/routes", {"host": "{name}", "relationships": relationships})


def _mapped_route(world: World) -> str:
    route = _route(world)
    path = f"/v3/routes/{route}/destinations"
    world.controller.admin.post(path, json=world.filled({"destinations": [WEB]})).raise_for_status()
    return route


def _destination_of(route: str) -> Maker:
    def find(world: World) -> str:
        response = world.controller.admin.get(f"/v3/routes/{world.thing(route)}/destinations")
        return _guid(response.json()["destinations"][0])

    return find


def _service(world: World) -> str:
    body = {
        "type": "user-provided",
        "name": "{name}",
        "route_service_url": "https://service.example.org",
        "relationships": {"space": to("space")},
    }
    return world.made("/v3/service_instances", body)


def _binding(world: World) -> str:
    relationships = {"app": to("app"), "service_instance": {"data": {"guid": _service(world)}}}
    return world.made("/v3/service_credential_bindings", {"type": "app", "relationships": relationships})


def _route_binding(world: World) -> str:
    relationships = {"route": {"data": {"guid": _mapped_route(world)}}, "service_instance": to("service")}
    return world.made("/v3/service_route_bindings", {"relationships": relationships})


def _space_under_quota(world: World) -> str:
    space = world.thing("new space")
    path = f"/v3/space_quotas/{world.thing('space quota of ours')}/relationships/spaces"
    world.controller.admin.post(path, json={"data": [{"guid": space}]}).raise_for_status()
    return space


def _member(world: World) -> str:
    return worlds.member(world.controller, "organization_user", world.organization).guid


def _job(world: World) -> str:
    """Of a deletion that is over, begun by an admin."""
    admin = world.controller.admin
    return _guid(job_of(admin, admin.delete(f"/v3/organizations/{_organization(world)}")))


def _bound_space(world: World) -> str:
    world.thing("security group")
    return world.thing("space")


def _group_of_all(world: World) -> str:
    return world.made("/v3/security_groups", {"name": "{name}", "globally_enabled": {"running": True}})


def _segment_of_ours(world: World) -> str:
    segment = world.made("/v3/isolation_segments", {"name": "{name}"})
    path = f"/v3/isolation_segments/{segment}/relationships/organizations"
    organizations = {"data": [{"guid": world.organization["guid"]}]}
    world.controller.admin.post(path, json=organizations).raise_for_status()
    return segment


_SPACE: Final = {"data": [{"guid": "{space}"}]}
_IN_ORGANIZATION: Final = {"organization": to("organization")}

MAKERS: Final[dict[str, Maker]] = {
    "app": _started_app,
    "binding": _binding,
    "bound space": _bound_space,
    "build": _build,
    "built app": _built_app,
    "buildpack": _named("/v3/buildpacks"),
    "deployment": _deployment,
    "destination": _destination_of("route"),
    "domain shared with us": _domain(
        "example.org",
        organization=to("other organization"),
        shared_organizations={"data": [{"guid": "{organization}"}]},
    ),
    "droplet": lambda world: worlds.droplet(world.controller, world.thing("app")),
    "empty droplet": lambda world: world.made("/v3/droplets", {"relationships": {"app": to("app")}}),
    "event": _event,
    "full app": _full_app,
    "idle app": _app,
    "image": _image,
    "job": _job,
    "member": _member,
    "mapped destination": _destination_of("new route"),
    "organization": _organization,
    "organization quota": _named("/v3/organization_quotas"),
    "organization role": lambda world: world.role("organization_auditor"),
    "other organization": _organization,
    "private domain": _domain("example.net", **_IN_ORGANIZATION),
    "package": lambda world: world.made("/v3/packages", {"type": "bits", "relationships": {"app": to("app")}}),
    "quota of ours": _named(
        "/v3/organization_quotas",
        organizations={"data": [{"guid": "{organization}"}]},
    ),
    "revision": _revision,
    "route": _mapped_route,
    "route binding": _route_binding,
    "security group": _named("/v3/security_groups", running_spaces=_SPACE, staging_spaces=_SPACE),
    "security group of all": _group_of_all,
    "segment": _named("/v3/isolation_segments"),
    "segment of ours": _segment_of_ours,
    "service": _service,
    "shared domain": _domain("example.com"),
    "sidecar": _sidecar,
    "space": _named("/v3/spaces", **_IN_ORGANIZATION),
    "space quota": _named("/v3/space_quotas", **_IN_ORGANIZATION),
    "space quota of ours": _named("/v3/space_quotas", **_IN_ORGANIZATION, spaces=_SPACE),
    "space under quota": _space_under_quota,
    "space role": lambda world: world.role("space_auditor"),
    "stack": _named("/v3/stacks"),
    "stack of all": lambda world: _guid(
        world.controller.admin.get("/v3/stacks?names=cflinuxfs4").json()["resources"][0]
    ),
    "staged package": _staged_package,
    "task": lambda world: world.made("/v3/apps/{app}/tasks", {"command": "run"}),
    "user": lambda world: world.made("/v3/users", {"guid": "{name}"}),
}
"""Rows say ``{app}`` for one that stays and ``{new app}`` for one that is used up by who may."""
WORDS: Final = {
    "web": "web",
    "zero": "0",
    "nothing": "nothing",
    "running": "running",
    "ssh": "ssh",
    "revisions": "revisions",
    "flag": "task_creation",
}
"""Parts of paths that are no guids."""
FLAGS: Final = ("route_sharing", "service_instance_sharing", "diego_docker")
"""Switched on, so that roles decide."""
