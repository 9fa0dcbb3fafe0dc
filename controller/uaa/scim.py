"""Accounts as SCIM shows them, and clients as a UAA shows them (reference 1.1). Knows bodies and rows, no HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session

from controller.database.identity import Account, Client
from controller.uaa import accounts, passwords
from controller.uaa.errors import UaaError, bad_credentials
from controller.uaa.scopes import EVERYBODY

MAX_PER_PAGE: Final = 500
MIN_PASSWORD: Final = 1
_COLUMNS: Final[Mapping[str, InstrumentedAttribute[Any]]] = {
    "username": Account.username,
    "user_name": Account.username,
    "origin": Account.origin,
    "id": Account.guid,
    "email": Account.email,
    "emails.value": Account.email,
    "externalid": Account.external_id,
}
_TERM: Final = re.compile(r'\s*([A-Za-z_.]+)\s+(eq|co|sw)\s+"((?:[^"\\]|\\.)*)"\s*', re.IGNORECASE)
_AND: Final = re.compile(r"and\s+", re.IGNORECASE)
_SHORT: Final = Field(max_length=255)


def _own_if_empty(origin: str) -> str:
    """Clients send an empty origin where they mean the UAA's own accounts."""
    return origin.strip() or accounts.UAA


class _Loose(BaseModel):
    """SCIM bodies have many fields more than anybody here wants to know."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class _Email(_Loose):
    value: Annotated[str, _SHORT]


class _PersonName(_Loose):
    given: Annotated[str | None, Field(alias="givenName", max_length=255)] = None
    family: Annotated[str | None, Field(alias="familyName", max_length=255)] = None


class AccountBody(_Loose):
    username: Annotated[str, Field(alias="userName", min_length=1, max_length=255)]
    password: Annotated[str | None, Field(max_length=passwords.MAX_CHARACTERS)] = None
    origin: Annotated[str, Field(max_length=255), AfterValidator(_own_if_empty)] = accounts.UAA
    external_id: Annotated[str | None, Field(alias="externalId", max_length=255)] = None
    active: bool = True
    emails: list[_Email] = []
    name: _PersonName = _PersonName()


class PasswordBody(_Loose):
    password: Annotated[str, Field(max_length=passwords.MAX_CHARACTERS)]
    old: Annotated[str | None, Field(alias="oldPassword", max_length=passwords.MAX_CHARACTERS)] = None


class ClientBody(_Loose):
    name: Annotated[str, Field(alias="client_id", min_length=1, max_length=255)]
    secret: Annotated[str | None, Field(alias="client_secret", max_length=passwords.MAX_CHARACTERS)] = None
    grant_types: Annotated[list[str], Field(alias="authorized_grant_types", max_length=16)]
    scope: list[str] = []
    authorities: list[str] = []
    redirect_uri: list[str] = []
    access_token_validity: Annotated[int, Field(ge=60, le=86_400)] = 600
    refresh_token_validity: Annotated[int, Field(ge=60, le=31_536_000)] = 2_592_000


def _checked(kind: type[Any], body: Any) -> Any:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UaaError(400, "invalid_scim_resource", f"{where}: {first['msg']}") from None


# Accounts -------------------------------------------------------------------------------------------------------------


def shown(account: Account) -> dict[str, Any]:
    moment = account.created_at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {
        "id": account.guid,
        "externalId": account.external_id or "",
        "meta": {
            "version": 0,
            "created": moment,
            "lastModified": account.updated_at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        },
        "userName": account.username,
        "name": {"familyName": account.family_name or "", "givenName": account.given_name or ""},
        "emails": [{"value": account.email or account.username, "primary": True}],
        "groups": [{"value": scope, "display": scope, "type": "DIRECT"} for scope in (*EVERYBODY, *account.scopes)],
        "active": account.active,
        "verified": True,
        "origin": account.origin,
        "zoneId": "uaa",
        "schemas": ["urn:scim:schemas:core:1.0"],
    }


def listed(session: Session, query: Mapping[str, str]) -> dict[str, Any]:
    """A page of accounts. Raises UaaError: a filter that is not understood."""
    condition = _condition(query.get("filter", ""))
    start, count = _number(query, "startIndex", 1), min(_number(query, "count", 100), MAX_PER_PAGE)
    total = session.scalar(select(func.count()).select_from(Account).where(*condition)) or 0
    rows = session.scalars(
        select(Account).where(*condition).order_by(Account.id).offset(max(start, 1) - 1).limit(count)
    )
    return {
        "resources": [shown(row) for row in rows],
        "startIndex": max(start, 1),
        "itemsPerPage": count,
        "totalResults": total,
        "schemas": ["urn:scim:schemas:core:1.0"],
    }


def found(session: Session, guid: str) -> Account:
    account = session.scalars(select(Account).where(Account.guid == guid)).one_or_none()
    if account is None:
        raise UaaError(404, "scim_resource_not_found", f"User {guid} does not exist")
    return account


def created(session: Session, body: Any) -> dict[str, Any]:
    given: AccountBody = _checked(AccountBody, body)
    if given.origin == accounts.UAA and given.password is None:
        raise UaaError(400, "invalid_password", "A password is needed")
    taken = UaaError(409, "scim_resource_already_exists", "Username already in use: " + given.username)
    if accounts.find(session, given.username, given.origin) is not None:
        raise taken
    try:
        account = accounts.create(session, given.username, given.password, origin=given.origin)
    except IntegrityError:
        raise taken from None
    _take_over(account, given)
    session.flush()
    return shown(account)


def updated(session: Session, guid: str, body: Any) -> dict[str, Any]:
    account = found(session, guid)
    given: AccountBody = _checked(AccountBody, body)
    other = accounts.find(session, given.username, given.origin)
    if other is not None and other is not account:
        raise UaaError(409, "scim_resource_already_exists", "Username already in use: " + given.username)
    account.username, account.origin = given.username.lower(), given.origin
    _take_over(account, given)
    session.flush()
    return shown(account)


def _take_over(account: Account, given: AccountBody) -> None:
    account.external_id, account.active = given.external_id, given.active
    account.given_name, account.family_name = given.name.given, given.name.family
    if given.emails:
        account.email = given.emails[0].value


def deleted(session: Session, guid: str) -> dict[str, Any]:
    account = found(session, guid)
    body = shown(account)
    session.delete(account)
    return body


def password_set(session: Session, guid: str, body: Any) -> dict[str, Any]:
    """Raises UaaError: the old one that is given is another."""
    account = found(session, guid)
    given: PasswordBody = _checked(PasswordBody, body)
    if len(given.password) < MIN_PASSWORD:
        raise UaaError(422, "invalid_password", f"Password must be at least {MIN_PASSWORD} characters in length.")
    if given.old is not None and not passwords.matches(given.old, account.password_hash):
        raise bad_credentials()
    accounts.set_password(account, given.password)
    return {"status": "ok", "message": "password updated"}


def _condition(text: str) -> list[ColumnElement[bool]]:
    """Of ``userName eq "x" and origin eq "y"``: terms joined by ``and``. Raises UaaError."""
    wrong = UaaError(400, "scim", f"Invalid filter expression: [{text[:200]}]")
    terms: list[ColumnElement[bool]] = []
    at = 0
    while at < len(text):
        match = _TERM.match(text, at)
        column = _COLUMNS.get(match[1].lower()) if match is not None else None
        if match is None or column is None:
            raise wrong
        value = re.sub(r"\\(.)", r"\1", match[3])
        at = match.end()
        terms.append(_compared(column, match[2].lower(), value))
        if at < len(text):
            joined = _AND.match(text, at)
            if joined is None:
                raise wrong
            at = joined.end()
    return [and_(*terms)] if terms else []


def _compared(column: InstrumentedAttribute[Any], operator: str, value: str) -> ColumnElement[bool]:
    match operator:
        case "eq":
            return func.lower(column) == value.lower()
        case "co":
            return column.icontains(value, autoescape=True)
    return column.istartswith(value, autoescape=True)


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise UaaError(400, "scim", f"{name} is not a number")
    return int(text)


# Clients --------------------------------------------------------------------------------------------------------------


def _client(session: Session, name: str) -> Client:
    client = session.scalars(select(Client).where(Client.name == name)).one_or_none()
    if client is None:
        raise UaaError(404, "not_found", f"No client with requested id: {name}")
    return client


def _client_body(client: Client) -> dict[str, Any]:
    return {
        "client_id": client.name,
        "scope": client.scopes,
        "resource_ids": ["none"],
        "authorized_grant_types": client.grant_types,
        "authorities": client.authorities,
        "redirect_uri": client.redirect_uris,
        "access_token_validity": client.access_token_seconds,
        "refresh_token_validity": client.refresh_token_seconds,
    }


def client_shown(session: Session, name: str) -> dict[str, Any]:
    return _client_body(_client(session, name))


def client_created(session: Session, body: Any) -> dict[str, Any]:
    given: ClientBody = _checked(ClientBody, body)
    if session.scalars(select(Client).where(Client.name == given.name)).first() is not None:
        raise UaaError(409, "invalid_client", f"Client already exists: {given.name}")
    if not given.secret:
        raise UaaError(400, "invalid_client", "client_secret is needed")
    client = Client(
        name=given.name,
        secret_hash=passwords.hashed(given.secret),
        grant_types=given.grant_types,
        scopes=given.scope,
        authorities=given.authorities,
        redirect_uris=given.redirect_uri,
        access_token_seconds=given.access_token_validity,
        refresh_token_seconds=given.refresh_token_validity,
    )
    session.add(client)
    session.flush()
    return _client_body(client)


def client_deleted(session: Session, name: str) -> dict[str, Any]:
    client = _client(session, name)
    session.delete(client)
    return _client_body(client)
