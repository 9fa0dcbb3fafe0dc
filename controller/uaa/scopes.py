"""What tokens may say: the scopes that everybody has, and those that make an admin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

EVERYBODY: Final = (
    "cloud_controller.read",
    "cloud_controller.write",
    "cloud_controller_service_permissions.read",
    "openid",
    "password.write",
    "scim.me",
    "uaa.user",
)
ADMIN: Final = (
    "clients.read",
    "clients.write",
    "cloud_controller.admin",
    "routing.router_groups.read",
    "routing.router_groups.write",
    "routing.routes.read",
    "routing.routes.write",
    "scim.read",
    "scim.write",
    "uaa.admin",
)
"""Of the first admin, besides."""
OF_CF: Final = (
    *EVERYBODY,
    *ADMIN,
    "cloud_controller.admin_read_only",
    "cloud_controller.global_auditor",
    "network.admin",
    "network.write",
)
"""What tokens of users may hold that come by the client ``cf``."""


def granted(held: Iterable[str], allowed: Iterable[str], asked: str) -> frozenset[str]:
    """What a token gets: what its user holds and its client allows, no more than is asked for where something is."""
    rights = frozenset(held) & frozenset(allowed)
    wanted = frozenset(asked.split())
    return rights & wanted if wanted else rights
