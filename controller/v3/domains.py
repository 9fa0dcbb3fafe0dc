"""Domains (reference 3.1): shared by all, or an organization's own."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field
from sqlalchemy import ColumnElement, delete, exists, or_, select
from sqlalchemy.orm import Session, aliased, selectinload
from sqlalchemy.orm.attributes import set_committed_value

from controller import route_changes
from controller.access import Right
from controller.database.bookkeeping import Job
from controller.database.routing import Domain, DomainShare, Route, RouterGroup
from controller.database.tenancy import Organization, Space
from controller.v3 import metadata, organizations
from controller.v3.api import Api
from controller.v3.bodies import Body, Text, ToMany, ToOneOrNone
from controller.v3.call import Call, Reply
from controller.v3.errors import bad_query, not_found, unprocessable
from controller.v3.listing import Listing, among
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_many, to_one

api = Api("Domains")
_owner = aliased(Organization)
LISTING = Listing(Domain, {"names": among(Domain.name), "organization_guids": among(_owner.guid)}, orders=("name",))

MAX_NAME: Final = 253
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


_NOT_PRIVATE: Final = "Domains cannot be shared with other organizations unless they are scoped to an organization."


class Relationships(Body):
    organization: ToOneOrNone | None = None
    shared_organizations: ToMany | None = None


class GroupNamed(Body):
    guid: Text


class Create(Body):
    name: Annotated[Text, Field(min_length=3, max_length=MAX_NAME)]
    internal: bool | None = None
    router_group: GroupNamed | None = None
    relationships: Relationships | None = None
    metadata: MetadataBody | None = None


class Update(Body):
    metadata: MetadataBody | None = None


def protocols(domain: Domain) -> list[str]:
    return ["tcp"] if domain.router_group_guid is not None else ["http"]


def present(domain: Domain, call: Call, shared: Mapping[int, list[str]] | None = None) -> dict[str, Any]:
    """``shared``: what ``_shared_with`` found, where it was asked about several domains."""
    shared = _shared_with([domain], call) if shared is None else shared
    path = f"/v3/domains/{domain.guid}"
    owner = domain.organization.guid if domain.organization is not None else None
    links = {
        "self": call.link(path),
        "route_reservations": call.link(f"{path}/route_reservations"),
    }
    if owner is not None:
        links["organization"] = call.link(f"/v3/organizations/{owner}")
        links["shared_organizations"] = call.link(f"{path}/relationships/shared_organizations")
    if domain.router_group_guid is not None:
        links["router_group"] = call.link(f"/routing/v1/router_groups/{domain.router_group_guid}")
    group = {"guid": domain.router_group_guid} if domain.router_group_guid is not None else None
    return {
        **common(domain),
        "name": domain.name,
        "internal": domain.internal,
        "router_group": group,
        "supported_protocols": protocols(domain),
        "relationships": {
            "organization": to_one(owner),
            "shared_organizations": to_many(shared.get(domain.id, [])),
        },
        "metadata": metadata.shown(domain),
        "links": links,
    }


def presented(rows: Iterable[Domain], call: Call) -> list[dict[str, Any]]:
    """Each of them once; what belongs to them is read together."""
    known = {domain.id: domain for domain in rows}
    shared = _shared_with(known.values(), call)
    wanted = {domain.organization_id for domain in known.values()} - {None}
    owners = call.session.scalars(select(Organization).where(Organization.id.in_(wanted))).unique() if wanted else ()
    by_id = {owner.id: owner for owner in owners}
    for domain in known.values():
        set_committed_value(domain, "organization", by_id.get(domain.organization_id or 0))
    return [present(domain, call, shared) for domain in known.values()]


def _page(call: Call, *conditions: ColumnElement[bool]) -> dict[str, Any]:
    shared: dict[int, list[str]] = {}
    return LISTING.page(
        call,
        lambda row: present(row, call, shared),
        visible(call),
        *conditions,
        statement=select(Domain)
        .outerjoin(_owner, Domain.organization_id == _owner.id)
        .options(selectinload(Domain.organization)),
        prepare=lambda rows: shared.update(_shared_with(rows, call)),
    )


def _shared_with(domains: Iterable[Domain], call: Call) -> dict[int, list[str]]:
    """The guids of organizations that private domains are shared with and the caller sees, by the domains' ids."""
    private = [domain.id for domain in domains if domain.organization_id is not None]
    if not private:
        return {}
    statement = (
        select(DomainShare.domain_id, Organization.guid)
        .join(Organization, DomainShare.organization_id == Organization.id)
        .where(DomainShare.domain_id.in_(private), call.access.organizations(Right.SEE_ORGANIZATION))
        .order_by(DomainShare.id)
    )
    found: dict[int, list[str]] = defaultdict(list)
    for domain_id, guid in call.session.execute(statement):
        found[domain_id].append(guid)
    return found


def visible(call: Call) -> ColumnElement[bool]:
    """Shared ones, and those of organizations in which the caller may see routes, or that are shared with them."""
    seen = select(Organization.id).where(_sees_routes(call, Organization))
    shared = select(DomainShare.domain_id).where(DomainShare.organization_id.in_(seen))
    return or_(Domain.organization_id.is_(None), Domain.organization_id.in_(seen), Domain.id.in_(shared))


def _sees_routes(call: Call, organization: type[Organization]) -> ColumnElement[bool]:
    access = call.access
    in_space = select(Space.organization_id).where(access.spaces(Right.READ_ROUTES))
    return or_(access.organizations(Right.READ_ROUTES, organization.id), organization.id.in_(in_space))


def usable_by(call: Call, organization: Organization) -> ColumnElement[bool]:
    """The domains that an organization's routes may use."""
    shared = select(DomainShare.domain_id).where(DomainShare.organization_id == organization.id)
    return or_(Domain.organization_id.is_(None), Domain.organization_id == organization.id, Domain.id.in_(shared))


@api.get("/v3/domains", listing=LISTING)
def list_domains(call: Call) -> dict[str, Any]:
    """List domains."""
    return _page(call)


@api.get("/v3/organizations/{guid}/domains", listing=LISTING)
def list_organization_domains(call: Call, guid: str) -> dict[str, Any]:
    """List the domains that an organization's routes may use."""
    organization = organizations.visible(call, guid)
    return _page(call, usable_by(call, organization))


@api.get("/v3/organizations/{guid}/domains/default")
def get_default_domain(call: Call, guid: str) -> dict[str, Any]:
    """Get the domain that routes without one get."""
    organization = organizations.visible(call, guid)
    domain = default_of(call.session, organization)
    if domain is None:
        raise not_found("Domain")
    return present(domain, call)


def default_of(session: Session, organization: Organization) -> Domain | None:
    """The first shared domain for HTTP, else the organization's own first one."""
    http = (Domain.internal.is_(False), Domain.router_group_guid.is_(None))
    shared = select(Domain).where(Domain.organization_id.is_(None), *http).order_by(Domain.id).limit(1)
    own = select(Domain).where(Domain.organization_id == organization.id, *http).order_by(Domain.id).limit(1)
    return session.scalars(shared).first() or session.scalars(own).first()


@api.get("/v3/domains/{guid}")
def get_domain(call: Call, guid: str) -> dict[str, Any]:
    """Get a domain."""
    return present(call.find(Domain, guid, visible(call), called="Domain"), call)


@api.post("/v3/domains")
def create_domain(call: Call, body: Create) -> dict[str, Any]:
    """Create a domain."""
    name = body.name.lower()
    if not _NAME.fullmatch(name) or ("." not in name and name != "localhost"):
        raise unprocessable("Name does not comply with RFC 1035 standards")
    relations = body.relationships or Relationships()
    owner = relations.organization.data if relations.organization is not None else None
    if owner is None:
        call.require_admin()
        if relations.shared_organizations is not None:
            raise unprocessable(_NOT_PRIVATE)
        organization = None
    else:
        organization = _owner_named(call, owner.guid)
        if body.internal:
            raise unprocessable("Cannot associate an internal domain with an organization")
        if body.router_group is not None:
            raise unprocessable("Domains scoped to an organization cannot be associated to a router group.")
    group = _group(call, body)
    _refuse_overlap(call, name, organization)
    domain = Domain(
        name=name,
        internal=bool(body.internal),
        organization=organization,
        router_group_guid=group.guid if group is not None else None,
        labels={},
        annotations={},
    )
    metadata.merge(domain, body.metadata)
    with call.refusing("uq_domains_name", _taken(name)):
        call.session.add(domain)
    if relations.shared_organizations is not None:
        _share(call, domain, relations.shared_organizations.guids)
    return present(domain, call)


@api.patch("/v3/domains/{guid}")
def update_domain(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a domain's metadata."""
    domain = call.find(Domain, guid, visible(call), called="Domain")
    _may_change(call, domain)
    metadata.merge(domain, body.metadata)
    call.session.flush()
    return present(domain, call)


@api.delete("/v3/domains/{guid}", 202)
def delete_domain(call: Call, guid: str) -> Reply:
    """Delete a domain with its routes; a job."""
    domain = call.find(Domain, guid, visible(call), called="Domain")
    _may_change(call, domain)
    if domain.organization_id is not None and _shared_with([domain], call):
        raise unprocessable("This domain is shared with other organizations. Unshare before deleting.")
    return call.begin("domain.delete", ("domain", domain.guid))


def delete_one(session: Session, job: Job) -> None:
    """The job behind it."""
    session.execute(delete(Domain).where(Domain.guid == job.resource_guid))
    route_changes.note(session, route_changes.ANY)


JOBS = {"domain.delete": delete_one}


@api.post("/v3/domains/{guid}/relationships/shared_organizations", 200)
def share_domain(call: Call, guid: str, body: ToMany) -> dict[str, Any]:
    """Let other organizations use a private domain."""
    domain = call.find(Domain, guid, visible(call), called="Domain")
    _may_change(call, domain)
    if domain.organization_id is None:
        raise unprocessable(_NOT_PRIVATE)
    _share(call, domain, body.guids)
    return to_many(_shared_with([domain], call).get(domain.id, []))


@api.delete("/v3/domains/{guid}/relationships/shared_organizations/{organization_guid}")
def unshare_domain(call: Call, guid: str, organization_guid: str) -> Reply:
    """End that; an organization that has routes of the domain keeps it."""
    domain = call.find(Domain, guid, visible(call), called="Domain")
    organization = organizations.visible(call, organization_guid)
    if not call.access.in_organization(Right.MANAGE_ORGANIZATION, organization.id):
        _may_change(call, domain)
    share = call.session.scalars(
        select(DomainShare).where(DomainShare.domain_id == domain.id, DomainShare.organization_id == organization.id)
    ).one_or_none()
    if share is None:
        raise unprocessable(
            f"Unable to unshare domain from organization with name '{organization.name}'. "
            "Ensure the domain is shared to this organization."
        )
    in_use = exists(
        select(Route.id)
        .join(Route.space)
        .where(Route.domain_id == domain.id, Route.space.has(organization_id=organization.id))
    )
    if call.session.scalar(select(in_use)):
        raise unprocessable(
            "This domain has associated routes in this organization. Delete the routes before unsharing."
        )
    call.session.delete(share)
    return Reply(204)


@api.get("/v3/domains/{guid}/route_reservations", query=("host", "path", "port"))
def get_reservations(call: Call, guid: str) -> dict[str, Any]:
    """Whether a route of this host, path and port is taken."""
    domain = call.find(Domain, guid, visible(call), called="Domain")
    port = call.query.get("port", "")
    if port and not (port.isascii() and port.isdigit() and len(port) < 6):
        raise bad_query("Port must be an integer")
    statement = select(Route.id).where(
        Route.domain_id == domain.id,
        Route.host == call.query.get("host", "").lower(),
        Route.path == call.query.get("path", "").lower(),
        Route.port == int(port or 0),
    )
    return {"matching_route": call.session.scalars(statement).first() is not None}


def _owner_named(call: Call, guid: str) -> Organization:
    seen = call.access.organizations(Right.SEE_ORGANIZATION)
    refusal = unprocessable(f"Organization with guid '{guid}' does not exist or you do not have access to it.")
    found = call.related(Organization, guid, seen, refusal=refusal)
    call.require_in_organization(Right.MANAGE_ORGANIZATION, found)
    call.require_flag("private_domain_creation")
    limit = found.quota.total_domains
    if limit is not None:
        have = len(call.session.scalars(select(Domain.id).where(Domain.organization_id == found.id)).all())
        if have >= limit:
            raise unprocessable(f'The number of private domains exceeds the quota for organization "{found.name}"')
    return found


def _group(call: Call, body: Create) -> RouterGroup | None:
    if body.router_group is None:
        return None
    if body.internal:
        raise unprocessable("Internal domains cannot be associated to a router group.")
    guid = body.router_group.guid
    group = call.session.scalars(select(RouterGroup).where(RouterGroup.guid == guid)).one_or_none()
    if group is None:
        raise unprocessable(f"Router group with guid '{guid}' not found.")
    return group if group.type == "tcp" else None


def _refuse_overlap(call: Call, name: str, organization: Organization | None) -> None:
    """Somebody else's private domain may be neither above nor below a new one. Raises ApiError."""
    parts = name.split(".")
    above = [".".join(parts[number:]) for number in range(1, len(parts))]
    statement = select(Domain).where(
        Domain.organization_id.is_not(None),
        or_(Domain.name.in_(above), Domain.name.endswith("." + name, autoescape=True)),
    )
    for other in call.session.scalars(statement):
        if organization is None or other.organization_id != organization.id:
            raise unprocessable(
                f'The domain name "{name}" cannot be created because "{other.name}" is already reserved by '
                "another domain"
            )


def _taken(name: str) -> Any:
    return unprocessable(f'The domain name "{name}" is already in use')


def _may_change(call: Call, domain: Domain) -> None:
    """Raises ApiError (NotAuthorized, OrgSuspended)."""
    if domain.organization_id is None or domain.organization is None:
        call.require_admin()
        return
    call.require_in_organization(Right.MANAGE_ORGANIZATION, domain.organization)


def _share(call: Call, domain: Domain, guids: Sequence[str]) -> None:
    seen = call.access.organizations(Right.SEE_ORGANIZATION)
    found = call.session.scalars(select(Organization).where(Organization.guid.in_(guids), seen)).unique().all()
    missing = sorted(set(guids) - {organization.guid for organization in found})
    if missing:
        names = ", ".join(f"'{guid}'" for guid in missing)
        raise unprocessable(f"Organization with guid {names} does not exist, or you do not have access to it.")
    present_already = set(
        call.session.scalars(select(DomainShare.organization_id).where(DomainShare.domain_id == domain.id))
    )
    for organization in found:
        if organization.id == domain.organization_id:
            raise unprocessable("Domain cannot be shared with owning organization.")
        if organization.id not in present_already:
            call.session.add(DomainShare(domain_id=domain.id, organization_id=organization.id))
    call.session.flush()
