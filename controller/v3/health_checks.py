"""Health checks of processes as requests give them and the API shows them (reference 3.2, 7.3)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field

from controller.v3.bodies import Body, Text
from controller.v3.errors import unprocessable

MAX_TIMEOUT: Final = 180
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
Kind = Literal["port", "process", "http"]


class Data(Body):
    timeout: Positive | None = None
    invocation_timeout: Positive | None = None
    interval: Positive | None = None
    endpoint: Text | None = None


class HealthCheck(Body):
    type: Kind | None = None
    data: Data = Data()


class ReadinessData(Body):
    invocation_timeout: Positive | None = None
    interval: Positive | None = None
    endpoint: Text | None = None


class ReadinessHealthCheck(Body):
    type: Kind | None = None
    data: ReadinessData = ReadinessData()


def default(process_type: str) -> dict[str, Any]:
    """Web processes are asked at their port, others have to be there."""
    return {"type": "port" if process_type == "web" else "process", "data": {}}


def default_readiness() -> dict[str, Any]:
    return {"type": "process", "data": {}}


def merged(present: dict[str, Any], change: HealthCheck | ReadinessHealthCheck, called: str) -> dict[str, Any]:
    """``present`` with what a request changes; ``called`` begins errors. Raises ApiError."""
    kind = change.type or present["type"]
    data = {**present["data"], **change.data.model_dump(exclude_unset=True)}
    endpoint = change.data.endpoint
    if endpoint is not None:
        if kind != "http":
            raise unprocessable(f'{called} type must be "http" to set a health check HTTP endpoint')
        if not is_path(endpoint):
            raise unprocessable(f"{called} endpoint must be a valid URI path")
    if (data.get("timeout") or 0) > MAX_TIMEOUT:
        raise unprocessable(f"health_check_timeout Maximum exceeded: max {MAX_TIMEOUT}s")
    if kind == "http":
        data["endpoint"] = data.get("endpoint") or "/"
    else:
        data.pop("endpoint", None)
    return {"type": kind, "data": {key: value for key, value in data.items() if value is not None}}


def shown(check: dict[str, Any]) -> dict[str, Any]:
    return {"type": check["type"], "data": {"timeout": check["data"].get("timeout"), **_common(check)}}


def shown_readiness(check: dict[str, Any]) -> dict[str, Any]:
    return {"type": check["type"], "data": _common(check)}


def _common(check: dict[str, Any]) -> dict[str, Any]:
    data = check["data"]
    common = {"invocation_timeout": data.get("invocation_timeout"), "interval": data.get("interval")}
    return {**common, "endpoint": data.get("endpoint")} if check["type"] == "http" else common


def is_path(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    return endpoint.startswith("/") and not parts.scheme and not parts.netloc and endpoint.isprintable()
