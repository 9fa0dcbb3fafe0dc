"""The embedded UAA's own tables: accounts, clients, keys and refresh tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from controller.database.base import Base, Guid, Resource, Row
from controller.database.secrets import Sealed


class Account(Resource, Base):
    """A person who can log in. ``guid`` is the user's id everywhere."""

    __tablename__ = "accounts"

    username: Mapped[str] = mapped_column(String(255))
    """Lower case: names match without regard to it."""
    origin: Mapped[str] = mapped_column(String(255), default="uaa")
    external_id: Mapped[str | None] = mapped_column(String(255))
    email: Mapped[str | None] = mapped_column(String(255))
    given_name: Mapped[str | None] = mapped_column(String(255))
    family_name: Mapped[str | None] = mapped_column(String(255))
    password_hash: Mapped[str | None] = mapped_column(Text)
    """Argon2; none: cannot log in with a password."""
    active: Mapped[bool] = mapped_column(default=True)
    scopes: Mapped[list[Any]] = mapped_column(default=list)
    """Besides those that everybody has."""
    failed_logins: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[datetime | None]
    tokens_from: Mapped[datetime | None]
    """Tokens issued before then are void: the password was changed, or somebody logged out everywhere."""

    __table_args__ = (UniqueConstraint("username", "origin"),)


class Client(Resource, Base):
    """A program that gets tokens; ``name`` is its client_id."""

    __tablename__ = "clients"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    secret_hash: Mapped[str | None] = mapped_column(Text)
    """Argon2; none: the empty secret, as of ``cf``."""
    grant_types: Mapped[list[Any]] = mapped_column(default=list)
    scopes: Mapped[list[Any]] = mapped_column(default=list)
    """What users' tokens may hold that were got through it."""
    authorities: Mapped[list[Any]] = mapped_column(default=list)
    """What its own tokens hold."""
    redirect_uris: Mapped[list[Any]] = mapped_column(default=list)
    access_token_seconds: Mapped[int] = mapped_column(default=600)
    refresh_token_seconds: Mapped[int] = mapped_column(default=2_592_000)


class SigningKey(Row, Base):
    """Signs tokens. Older ones stay for as long as tokens of theirs may be about."""

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(String(64), unique=True)
    private_pem: Mapped[str] = mapped_column(Sealed)
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class RefreshToken(Row, Base):
    """One of a chain: each use gives the next one, and a second use of one ends the chain."""

    __tablename__ = "refresh_tokens"

    digest: Mapped[str] = mapped_column(String(64), unique=True)
    chain: Mapped[str] = mapped_column(Guid, index=True)
    account_guid: Mapped[str] = mapped_column(Guid, index=True)
    client_name: Mapped[str] = mapped_column(String(255))
    scopes: Mapped[list[Any]] = mapped_column(default=list)
    issued_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class RevokedToken(Row, Base):
    """An access token that was logged out before its time."""

    __tablename__ = "revoked_tokens"

    jti: Mapped[str] = mapped_column(Guid, unique=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class AuthorizationCode(Row, Base):
    """A one-time code for who shows it, as of ``cf ssh``."""

    __tablename__ = "authorization_codes"

    digest: Mapped[str] = mapped_column(String(64), unique=True)
    account_guid: Mapped[str] = mapped_column(Guid)
    client_name: Mapped[str] = mapped_column(String(255))
    scopes: Mapped[list[Any]] = mapped_column(default=list)
    expires_at: Mapped[datetime] = mapped_column(index=True)
