"""Errors as the V3 API tells them: code, title, status and the exact texts that clients compare.

Follows cloud_controller reference 2.7 and 1.0. Everything that goes wrong in an endpoint is one of these; what is not,
is a fault of ours and becomes an UnknownError without a detail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, UNPROCESSABLE = 400, 401, 403, 404, 409, 422

_KNOWN: Final = {
    "InvalidAuthToken": (1000, UNAUTHORIZED),
    "MessageParseError": (1001, BAD_REQUEST),
    "InvalidContentType": (1003, BAD_REQUEST),
    "BadRequest": (1004, BAD_REQUEST),
    "NotFound": (10000, NOT_FOUND),
    "UnknownError": (10001, 500),
    "NotAuthenticated": (10002, UNAUTHORIZED),
    "NotAuthorized": (10003, FORBIDDEN),
    "BadQueryParameter": (10005, BAD_REQUEST),
    "InsufficientScope": (10007, FORBIDDEN),
    "UnprocessableEntity": (10008, UNPROCESSABLE),
    "ResourceNotFound": (10010, NOT_FOUND),
    "RateLimitExceeded": (10013, 429),
    "IPBasedRateLimitExceeded": (10014, 429),
    "ServiceUnavailable": (10015, 503),
    "OrgSuspended": (10017, FORBIDDEN),
    "SpaceSuspended": (10019, FORBIDDEN),
    "ResourceBeingDeleted": (10020, UNPROCESSABLE),
    "UaaUnavailable": (20004, 503),
    "AsyncServiceInstanceOperationInProgress": (60016, CONFLICT),
    "ServiceInstanceAlreadyBoundToSameRoute": (130008, BAD_REQUEST),
    "InternalDomainCannotBeDeleted": (130009, UNPROCESSABLE),
    "PackageBitsAlreadyUploaded": (150004, BAD_REQUEST),
    "BlobstoreUnavailable": (150006, 502),
    "BlobstoreError": (150007, 500),
    "ResourceChecksumMismatch": (150010, 500),
    "AppBitsUploadInvalid": (160001, BAD_REQUEST),
    "AppResourcesFileModeInvalid": (160003, BAD_REQUEST),
    "AppResourcesFilePathInvalid": (160004, BAD_REQUEST),
    "StagingError": (170001, BAD_REQUEST),
    "StagingInProgress": (170017, UNPROCESSABLE),
    "TaskWorkersUnavailable": (170020, 503),
    "StatsUnavailable": (200002, 503),
    "BuildpackNameStackLifecycleTaken": (290000, UNPROCESSABLE),
    "BuildpackInvalid": (290003, BAD_REQUEST),
    "BuildpackLocked": (290005, CONFLICT),
    "DockerDisabled": (320003, BAD_REQUEST),
    "FeatureDisabled": (330002, FORBIDDEN),
    "DropletUploadInvalid": (380002, BAD_REQUEST),
    "DeploymentsDisabled": (390014, FORBIDDEN),
    "ScaleDisabledDuringDeployment": (390016, UNPROCESSABLE),
    "ProcessUpdateDisabledDuringDeployment": (390017, UNPROCESSABLE),
    "LabelLimitExceeded": (390020, UNPROCESSABLE),
    "AnnotationLimitExceeded": (390023, UNPROCESSABLE),
    "StopDisabledDuringDeployment": (390024, UNPROCESSABLE),
}


class ApiError(Exception):
    """One answer with one or more errors, all of the same status."""

    def __init__(self, name: str, *details: str) -> None:
        """``name`` is a title without its ``CF-``; each detail is an error of its own."""
        super().__init__(name, *details)
        self.name = name
        self.details: Sequence[str] = details
        self.code, self.status = _KNOWN[name]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """As they stand in a body, and in a failed job."""
        return [{"code": self.code, "title": f"CF-{self.name}", "detail": detail} for detail in self.details]


def not_found(thing: str) -> ApiError:
    """There is none, or the caller may not know of it. ``thing``: ``App``, ``Service instance``."""
    return ApiError("ResourceNotFound", f"{thing} not found")


def unknown_request() -> ApiError:
    return ApiError("NotFound", "Unknown request")


def unprocessable(*details: str) -> ApiError:
    return ApiError("UnprocessableEntity", *details)


def bad_query(problem: str) -> ApiError:
    return ApiError("BadQueryParameter", f"The query parameter is invalid: {problem}")


def bad_request(problem: str) -> ApiError:
    return ApiError("BadRequest", f"Bad request: {problem}")


def not_authorized() -> ApiError:
    return ApiError("NotAuthorized", "You are not authorized to perform the requested action")


def not_authenticated() -> ApiError:
    return ApiError("NotAuthenticated", "Authentication error")


def invalid_token() -> ApiError:
    return ApiError("InvalidAuthToken", "Invalid Auth Token")


def insufficient_scope() -> ApiError:
    return ApiError("InsufficientScope", "Your token lacks the necessary scopes to access this resource.")


def feature_disabled(flag: str, message: str | None) -> ApiError:
    return ApiError("FeatureDisabled", f"Feature Disabled: {message or flag}")


def invalid_relation(thing: str) -> ApiError:
    """A guid in a body that names nothing, or nothing that the caller may see. ``thing``: ``space``."""
    return unprocessable(f"Invalid {thing}. Ensure that the {thing} exists and you have access to it.")
