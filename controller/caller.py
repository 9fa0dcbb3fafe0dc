"""Who calls: what a valid access token says, and nothing that the database knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

AUDIENCE = "cloud_controller"
"""Whom tokens for the V3 API are meant for."""
ADMIN = "cloud_controller.admin"
ADMIN_READ_ONLY = "cloud_controller.admin_read_only"
GLOBAL_AUDITOR = "cloud_controller.global_auditor"
READ = "cloud_controller.read"
WRITE = "cloud_controller.write"
UPDATE_BUILD_STATE = "cloud_controller.update_build_state"


@dataclass(frozen=True, slots=True)
class Caller:
    guid: str
    """Of the user, or of the client where no user stands behind the token."""
    name: str
    origin: str
    email: str
    is_client: bool
    scopes: frozenset[str]

    @classmethod
    def of(cls, guid: str, name: str, scopes: Iterable[str], *, origin: str = "uaa", email: str = "") -> Caller:
        return cls(guid, name, origin, email, False, frozenset(scopes))

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.scopes

    @property
    def reads_everything(self) -> bool:
        """Secrets perhaps not."""
        return not self.scopes.isdisjoint((ADMIN, ADMIN_READ_ONLY, GLOBAL_AUDITOR))

    @property
    def reads_secrets(self) -> bool:
        return not self.scopes.isdisjoint((ADMIN, ADMIN_READ_ONLY))

    def may_use(self, method: str) -> bool:
        """Whether the token's scopes allow requests of this method at all (reference 2.6)."""
        if self.is_admin:
            return True
        if method in ("GET", "HEAD"):
            return self.reads_everything or READ in self.scopes
        return WRITE in self.scopes
