"""Every setting of the controller, with its default and what it may be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError


class SettingsError(Exception):
    """What is wrong with a configuration, one line for each problem."""


class Settings(BaseModel):
    """The whole file, or all defaults: SQLite and keys in a folder, on loopback."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    """Where the API listens, behind the router."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0 lets the system choose one."""
    data: Path = Path(".millrace/controller")
    """Folder of the database, of keys and of the first admin's password."""
    database: str = ""
    """``sqlite:///path`` or ``postgresql://user:password@host/name``; empty: SQLite in the data folder."""
    database_connections: Annotated[int, Field(ge=2, le=200)] = 10
    registry: str = ""
    """URL of the route registry; empty: routes are stored and lead nowhere."""
    registry_namespace: str = "millrace"
    system_domain: str = "localhost"
    """The API answers at ``api.`` and logins at ``uaa.`` of it."""
    app_domains: list[str] = ["localhost"]
    """Shared domains that are there from the first start; the first is the default."""
    external_url: str = "http://api.localhost:8080"
    """How clients reach the API: the base of all links."""
    uaa_url: str = "http://uaa.localhost:8080"
    """How clients reach the UAA, the embedded one or another."""
    external_uaa: bool = False
    """Tokens come from another UAA or OpenID issuer, at uaa_url; the embedded one is off."""
    encryption_keys: dict[str, SecretStr] = {}
    """Base64 of 32 bytes by name, the one that seals first; none: a key of our own making in the data folder."""
    stacks: list[str] = ["cflinuxfs4"]
    """The first is the default."""
    temporary_disable_deployments: bool = False
    """No deployment is begun."""
    routing_api_max_ttl: Annotated[int, Field(ge=1, le=3600)] = 120
    """Seconds that a route may live which is registered through the Routing API, and does where nothing is said."""
    reserved_hosts: list[str] = ["api", "uaa", "login", "blobs"]
    """Hosts on the system domain that no route may take."""

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{(self.data / 'controller.db').resolve()}"


def load(path: Path) -> Settings:
    """Raises SettingsError."""
    try:
        raw = yaml.safe_load(path.read_text())
        return Settings.model_validate(raw or {})
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {error}") from None
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()]
        raise SettingsError("\n".join(lines)) from None
