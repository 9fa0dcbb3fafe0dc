"""What a route may be called (reference 3.1), and how the API shows it. Knows rows and texts, no request."""

from __future__ import annotations

import re
from typing import Final

from controller.database.routing import Domain, Route
from controller.settings import Settings
from controller.v3.errors import ApiError, unprocessable

MAX_HOST: Final = 63
MAX_PATH: Final = 128
_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?|\*")


def check(domain: Domain, host: str, path: str, port: int, settings: Settings, *, is_admin: bool) -> None:
    """Raises ApiError (UnprocessableEntity)."""
    if domain.router_group_guid is not None:
        if host:
            raise unprocessable("Hosts are not supported for TCP routes.")
        if path:
            raise unprocessable("Paths are not supported for TCP routes.")
        return
    if port:
        raise unprocessable("Ports are not supported for HTTP routes.")
    check_host(domain, host, settings, is_admin=is_admin)
    check_path(domain, path)


def check_host(domain: Domain, host: str, settings: Settings, *, is_admin: bool) -> None:
    shared = domain.organization_id is None
    if len(host) > MAX_HOST:
        raise unprocessable(f"Host is too long (maximum is {MAX_HOST} characters)")
    if host and not _HOST.fullmatch(host):
        raise unprocessable('Host must be either "*" or contain only alphanumeric characters, "_", or "-"')
    if not host and shared:
        raise unprocessable("Missing host. Routes in shared domains must have a host defined.")
    if host == "*":
        if domain.internal:
            raise unprocessable("Wildcard hosts are not supported for internal domains.")
        if shared and not is_admin:
            raise unprocessable("Insufficient permissions to create a route with a wildcard host on a shared domain.")
    if domain.name == settings.system_domain and host.lower() in settings.reserved_hosts:
        raise unprocessable("Route conflicts with a reserved system route.")


def check_path(domain: Domain, path: str) -> None:
    if not path:
        return
    if domain.internal:
        raise unprocessable("Paths are not supported for internal domains.")
    if not path.startswith("/"):
        raise unprocessable("Path must begin with /")
    if path == "/":
        raise unprocessable("Path cannot be exactly '/'")
    if "?" in path:
        raise unprocessable("Path cannot contain ?")
    if len(path) > MAX_PATH:
        raise unprocessable(f"Path is too long (maximum is {MAX_PATH} characters)")
    if not path.isascii() or not path.isprintable() or any(c in path for c in ' #"<>'):
        raise unprocessable("Path may hold printable ASCII only, percent-encoded")


def url(route: Route) -> str:
    if route.port:
        return f"{route.domain.name}:{route.port}"
    host = f"{route.host}." if route.host else ""
    return f"{host}{route.domain.name}{route.path}"


def taken(domain: Domain, host: str, path: str, port: int) -> ApiError:
    """Clients look for how this begins."""
    if port:
        return unprocessable(f"Route already exists with port '{port}' for domain '{domain.name}'.")
    where = f" and path '{path}'" if path else ""
    if not host:
        return unprocessable(f"Route already exists for domain '{domain.name}'{where}.")
    return unprocessable(f"Route already exists with host '{host}'{where} for domain '{domain.name}'.")
