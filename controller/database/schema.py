"""All tables, for whoever needs them as a whole: migrations, and tests."""

from __future__ import annotations

from controller.database import applications, bookkeeping, identity, platform, routing, services, tenancy
from controller.database.base import Base

MODULES = (tenancy, applications, routing, services, platform, bookkeeping, identity)
METADATA = Base.metadata
