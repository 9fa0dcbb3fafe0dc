"""Clients: the programs that get tokens, for themselves or for users."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_plus

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.identity import Client
from controller.uaa import passwords
from controller.uaa.errors import invalid_client
from controller.uaa.scopes import OF_CF

CF: Final = "cf"
SSH_PROXY: Final = "ssh-proxy"


def plant(session: Session) -> None:
    """The clients that are there from the first start: those whose secret everybody knows to be empty."""
    for name, grants in ((CF, ["password", "refresh_token"]), (SSH_PROXY, ["authorization_code"])):
        if session.scalars(select(Client).where(Client.name == name)).first() is None:
            session.add(Client(name=name, grant_types=grants, scopes=list(OF_CF), authorities=["uaa.none"]))


def credentials(authorization: str, form: Mapping[str, str]) -> tuple[str, str]:
    """Name and secret, from HTTP Basic or from the form (RFC 6749 section 2.3.1). Raises UaaError."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            name, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise invalid_client() from None
        if not colon:
            raise invalid_client()
        return unquote_plus(name), unquote_plus(secret)
    return form.get("client_id", ""), form.get("client_secret", "")


def authenticated(session: Session, name: str, secret: str) -> Client:
    """Raises UaaError: no such client, or another secret."""
    client = session.scalars(select(Client).where(Client.name == name)).one_or_none()
    if client is None or client.secret_hash is not None:
        if not passwords.matches(secret, client.secret_hash if client is not None else None) or client is None:
            raise invalid_client()
    elif secret:
        raise invalid_client()
    return client
