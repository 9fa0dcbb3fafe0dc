"""Feature flags (reference 3.2): what everybody may do unless an operator says otherwise."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import select

from controller.database.platform import FeatureFlag
from controller.v3.api import Api
from controller.v3.bodies import Body, Text
from controller.v3.call import Call
from controller.v3.catalogues import Catalogue
from controller.v3.errors import not_found
from controller.v3.flags import DEFAULTS
from controller.v3.presenting import moment

api = Api("Feature flags")
LISTING: Final = Catalogue(orders=("name",), guids=False)
_NAME: Final = "Feature flag"


class Update(Body):
    enabled: bool
    custom_error_message: Text | None = None


def present(name: str, flag: FeatureFlag | None, call: Call) -> dict[str, Any]:
    return {
        "name": name,
        "enabled": DEFAULTS[name] if flag is None else flag.enabled,
        "updated_at": moment(None if flag is None else flag.updated_at),
        "custom_error_message": None if flag is None else flag.custom_error_message,
        "links": {"self": call.link(f"/v3/feature_flags/{name}")},
    }


@api.get("/v3/feature_flags", listing=LISTING)
def list_feature_flags(call: Call) -> dict[str, Any]:
    """List the feature flags."""
    flags = {flag.name: flag for flag in call.session.scalars(select(FeatureFlag))}
    return LISTING.page(call, [present(name, flags.get(name), call) for name in sorted(DEFAULTS)])


@api.get("/v3/feature_flags/{name}")
def get_feature_flag(call: Call, name: str) -> dict[str, Any]:
    """Get a feature flag."""
    if name not in DEFAULTS:
        raise not_found(_NAME)
    return present(name, call.session.scalars(select(FeatureFlag).where(FeatureFlag.name == name)).one_or_none(), call)


@api.patch("/v3/feature_flags/{name}")
def update_feature_flag(call: Call, name: str, body: Update) -> dict[str, Any]:
    """Switch a feature flag."""
    if name not in DEFAULTS:
        raise not_found(_NAME)
    call.require_admin()
    flag = call.session.scalars(select(FeatureFlag).where(FeatureFlag.name == name)).one_or_none()
    if flag is None:
        flag = FeatureFlag(name=name)
        call.session.add(flag)
    flag.enabled = body.enabled
    if "custom_error_message" in body.model_fields_set:
        flag.custom_error_message = body.custom_error_message
    call.session.flush()
    return present(name, flag, call)
