"""Labels and annotations of a resource: what may stand in them, and how an update merges (reference 2.3)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from controller.database.base import Labelled
from controller.v3.errors import ApiError, unprocessable

MAX_LABELS: Final = 50
MAX_ANNOTATIONS: Final = 200
_RESERVED: Final = "cloudfoundry.org"
_PREFIX: Final = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+"
)
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[-_.A-Za-z0-9]*[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[-_.A-Za-z0-9]*[A-Za-z0-9])?)?")


class MetadataBody(BaseModel):
    """In a request: null takes a key away."""

    model_config = ConfigDict(extra="forbid", strict=True)

    labels: dict[str, str | None] | None = None
    annotations: Annotated[dict[str, str | None] | None, Field(description="Free text of at most 5,000 characters")] = (
        None
    )


def check(metadata: MetadataBody) -> None:
    """Raises ApiError (UnprocessableEntity): a key or a value that may not be."""
    for key, value in (metadata.labels or {}).items():
        _check_key(key, "label")
        if value is not None and (len(value) > 63 or not _LABEL_VALUE.fullmatch(value)):
            raise unprocessable(
                f"Metadata label value error: '{value[:64]}' is greater than 63 characters"
                if len(value) > 63
                else f"Metadata label value error: '{value}' contains invalid characters"
            )
    for key, value in (metadata.annotations or {}).items():
        _check_key(key, "annotation")
        if value is not None and len(value) > 5000:
            raise unprocessable("Metadata annotation value error: annotation value is greater than 5000 characters")


def merge(resource: Labelled, metadata: MetadataBody | None) -> None:
    """Change a resource's metadata as a request asks. Raises ApiError."""
    if metadata is None:
        return
    check(metadata)
    if metadata.labels is not None:
        resource.labels = _merged(resource.labels, metadata.labels)
        if len(resource.labels) > MAX_LABELS:
            raise ApiError(
                "LabelLimitExceeded",
                f"Failed to add {len(metadata.labels)} labels because it would exceed maximum of {MAX_LABELS}",
            )
    if metadata.annotations is not None:
        resource.annotations = _merged(resource.annotations, metadata.annotations)
        if len(resource.annotations) > MAX_ANNOTATIONS:
            raise ApiError(
                "AnnotationLimitExceeded",
                f"Failed to add {len(metadata.annotations)} annotations because it would exceed maximum of "
                f"{MAX_ANNOTATIONS}",
            )


def shown(resource: Labelled) -> dict[str, Any]:
    return {"labels": resource.labels or {}, "annotations": resource.annotations or {}}


def _merged(present: dict[str, Any] | None, change: dict[str, str | None]) -> dict[str, Any]:
    merged = {**(present or {}), **change}
    return {key: value for key, value in merged.items() if value is not None}


def _check_key(key: str, kind: str) -> None:
    prefix, slash, name = key.rpartition("/")
    where = f"Metadata {kind} key error:"
    if key.count("/") > 1:
        raise unprocessable(f"{where} key has more than one '/'")
    if slash:
        if not prefix:
            raise unprocessable(f"{where} prefix cannot be empty")
        if len(prefix) > 253:
            raise unprocessable(f"{where} prefix '{prefix[:8]}...' is greater than 253 characters")
        if not _PREFIX.fullmatch(prefix):
            raise unprocessable(f"{where} prefix '{prefix}' must be in valid dns format")
        if prefix.lower() == _RESERVED:
            raise unprocessable(f"{where} prefix '{_RESERVED}' is reserved")
    if not name:
        raise unprocessable(f"{where} key cannot be empty string")
    if len(name) > 63:
        raise unprocessable(f"{where} '{name[:8]}...' is greater than 63 characters")
    if not _NAME.fullmatch(name):
        raise unprocessable(f"{where} '{name}' contains invalid characters")
