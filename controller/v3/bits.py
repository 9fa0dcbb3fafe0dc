"""The one place where the API meets bits, of packages, droplets and buildpacks: no store is there, so that it refuses.

Whoever brings the store replaces the functions here; the endpoints have checked rights, flags and states before.
"""

from __future__ import annotations

from typing import NoReturn

from controller.database.applications import Droplet, Package
from controller.database.platform import Buildpack
from controller.v3.errors import ApiError


def unavailable() -> NoReturn:
    """Raises ApiError (BlobstoreUnavailable)."""
    raise ApiError("BlobstoreUnavailable", "Failed to perform operation due to blobstore unavailability.")


def upload_package(_package: Package) -> NoReturn:
    unavailable()


def download_package(_package: Package) -> NoReturn:
    unavailable()


def upload_droplet(_droplet: Droplet) -> NoReturn:
    unavailable()


def download_droplet(_droplet: Droplet) -> NoReturn:
    unavailable()


def upload_buildpack(_buildpack: Buildpack) -> NoReturn:
    unavailable()


def copy_package(source: Package, copy: Package) -> None:
    """An image is copied with its name; bits will be when they are there."""
    if source.type == "docker":
        copy.state = "READY"
    elif source.state == "READY":
        copy.state = "COPYING"
    else:
        copy.state, copy.error = "FAILED", "The source package has no bits"


def copy_droplet(source: Droplet, copy: Droplet) -> None:
    """The same for a staged droplet."""
    copy.state = "STAGED" if source.lifecycle_type == "docker" else "COPYING"
