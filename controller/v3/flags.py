"""The feature flags' names and defaults (reference 3.2), and asking one."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.platform import FeatureFlag
from controller.v3.errors import feature_disabled

DEFAULTS: Final = {
    "app_bits_upload": True,
    "app_scaling": True,
    "diego_cnb": False,
    "diego_docker": False,
    "env_var_visibility": True,
    "hash_based_routing": False,
    "hide_marketplace_from_unauthenticated_users": False,
    "private_domain_creation": True,
    "resource_matching": True,
    "route_creation": True,
    "route_sharing": False,
    "service_instance_creation": True,
    "service_instance_sharing": False,
    "set_roles_by_username": True,
    "space_developer_env_var_visibility": True,
    "space_scoped_private_broker_creation": True,
    "task_creation": True,
    "unset_roles_by_username": True,
    "user_org_creation": False,
}


def is_on(session: Session, name: str) -> bool:
    """For everybody, admins too."""
    enabled = session.scalars(select(FeatureFlag.enabled).where(FeatureFlag.name == name)).one_or_none()
    return DEFAULTS[name] if enabled is None else enabled


def require(session: Session, name: str) -> None:
    """Raises ApiError (FeatureDisabled)."""
    flag = session.scalars(select(FeatureFlag).where(FeatureFlag.name == name)).one_or_none()
    if not (DEFAULTS[name] if flag is None else flag.enabled):
        raise feature_disabled(name, flag.custom_error_message if flag is not None else None)
