"""What a manifest asks of processes and sidecars: sizes, commands, health checks (reference 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from controller.v3.health_checks import Data, HealthCheck, ReadinessData, ReadinessHealthCheck, is_path
from controller.v3.manifests import sizes
from controller.v3.manifests.sizes import NotASize
from controller.v3.processes import MAX_COMMAND, WEB, Scale, Update

KEYS: Final = frozenset(
    (
        "command",
        "user",
        "disk_quota",
        "memory",
        "instances",
        "log_rate_limit_per_second",
        "timeout",
        *(
            f"{kind}health_check_{what}"
            for kind in ("", "readiness_")
            for what in ("type", "http_endpoint", "interval")
        ),
        *(f"{kind}health_check_invocation_timeout" for kind in ("", "readiness_")),
    )
)
"""Of a process; at the level of the app they are about the web process."""
MAX_INSTANCES: Final = 2_000_000
_NO_COMMAND: Final = (None, "default", "null")
"""Then the buildpack's own command is wanted."""
_KINDS: Final = ("port", "process", "http")


@dataclass(frozen=True, slots=True)
class ProcessWish:
    type: str
    update: Update
    scale: Scale


@dataclass(frozen=True, slots=True)
class SidecarWish:
    name: str
    command: str
    process_types: list[str]
    memory_in_mb: int | None


def underscored(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in mapping.items()}


def of_application(application: Mapping[str, Any], problems: list[str]) -> list[ProcessWish]:
    """``application`` has keys with underscores. What it says of processes; what is wrong goes to ``problems``."""
    described = application.get("processes", [])
    if not isinstance(described, list) or not all(isinstance(one, dict) for one in described):
        problems.append("Processes must be an array of process configurations")
        described = []
    by_type: dict[str, dict[str, Any]] = {}
    for each in map(underscored, described):
        kind = each.get("type")
        if not isinstance(kind, str) or not kind:
            problems.append("All Processes must specify a type")
        elif kind in by_type:
            problems.append(f'Process "{kind}" may only be present once')
        else:
            by_type[kind] = {key: value for key, value in each.items() if key in KEYS}
    overridden = overridden_by(by_type.get(WEB, {}))
    of_web = {key: value for key, value in application.items() if key in KEYS and key not in overridden}
    if of_web:
        by_type = {WEB: {**of_web, **by_type.get(WEB, {})}, **{k: v for k, v in by_type.items() if k != WEB}}
    return [_Reading(kind, values, problems).wish() for kind, values in by_type.items()]


def overridden_by(web: Mapping[str, Any]) -> frozenset[str]:
    """The keys of the app that do not count, as its web process says something else."""
    endpoints = {
        f"{kind}health_check_http_endpoint" for kind in ("", "readiness_") if f"{kind}health_check_type" in web
    }
    return KEYS & (web.keys() | endpoints)


class _Reading:
    """Of one process."""

    def __init__(self, kind: str, values: Mapping[str, Any], problems: list[str]) -> None:
        self._kind = kind
        self._values = values
        self._problems = problems

    def wish(self) -> ProcessWish:
        return ProcessWish(self._kind, Update.model_construct(**self._update()), Scale.model_construct(**self._scale()))

    def _wrong(self, problem: str) -> None:
        self._problems.append(f'Process "{self._kind}": {problem}')

    def _scale(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, column, read in (
            ("memory", "memory_in_mb", sizes.megabytes),
            ("disk_quota", "disk_in_mb", sizes.megabytes),
            ("log_rate_limit_per_second", "log_rate_limit_in_bytes_per_second", sizes.bytes_per_second),
        ):
            if self._values.get(key) is not None:
                try:
                    found[column] = read(self._values[key])
                except NotASize as error:
                    self._wrong(f"{_called(key)} {error}")
        instances = self._number("instances", 0, MAX_INSTANCES)
        return found if instances is None else {**found, "instances": instances}

    def _update(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if "command" in self._values:
            command = self._values["command"]
            found["command"] = None if command in _NO_COMMAND else self._text("command", MAX_COMMAND)
        if "user" in self._values:
            user = self._values["user"]
            found["user"] = None if user is None else self._text("user", 255)
        check = self._check("", Data)
        if check is not None:
            found["health_check"] = HealthCheck.model_construct(**check)
        check = self._check("readiness_", ReadinessData)
        if check is not None:
            found["readiness_health_check"] = ReadinessHealthCheck.model_construct(**check)
        return found

    def _check(self, prefix: str, model: type[Data] | type[ReadinessData]) -> dict[str, Any] | None:
        """Of a health check, what is given."""
        data: dict[str, Any] = {}
        for key, name in (
            (f"{prefix}health_check_invocation_timeout", "invocation_timeout"),
            (f"{prefix}health_check_interval", "interval"),
            *((("timeout", "timeout"),) if model is Data else ()),
        ):
            if key in self._values:
                data[name] = self._number(key, 1, sizes.LARGEST)
        kind_key, endpoint_key = f"{prefix}health_check_type", f"{prefix}health_check_http_endpoint"
        kind = self._values.get(kind_key)
        kind = "process" if kind == "none" else kind
        if kind is not None and kind not in _KINDS:
            self._wrong(f'{_called(kind_key)} must be "port", "process", or "http"')
            kind = None
        endpoint = self._values.get(endpoint_key)
        if endpoint is not None:
            if not isinstance(endpoint, str) or not is_path(endpoint):
                self._wrong(f"{_called(endpoint_key)} must be a valid URI path")
            elif kind not in (None, "http"):
                self._wrong(f'{_called(kind_key)} must be "http" to set a health check HTTP endpoint')
            data["endpoint"] = endpoint
        if kind is None and not data:
            return None
        return {**({"type": kind} if kind is not None else {}), "data": model.model_construct(**data)}

    def _text(self, key: str, most: int) -> str | None:
        value = self._values[key]
        if not isinstance(value, str):
            self._wrong(f"{_called(key)} must be a string")
            return None
        if not 1 <= len(value) <= most:
            self._wrong(f"{_called(key)} must be between 1 and {most} characters")
        return value

    def _number(self, key: str, least: int, most: int) -> int | None:
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | str | float):
            self._wrong(f"{_called(key)} is not a number")
            return None
        text = str(value).strip()
        if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit() or len(text) > 18:
            self._wrong(f"{_called(key)} must be an integer")
            return None
        number = int(text)
        if number < least:
            self._wrong(f"{_called(key)} must be greater than or equal to {least}")
        elif number > most:
            self._wrong(f"{_called(key)} must be less than or equal to {most}")
        return number


def sidecars_of(application: Mapping[str, Any], problems: list[str]) -> list[SidecarWish]:
    described = application.get("sidecars")
    if described is None and "sidecars" not in application:
        return []
    if not isinstance(described, list) or not all(isinstance(one, dict) for one in described):
        problems.append("Sidecars must be an array of sidecar configurations")
        return []
    return [wish for each in described if (wish := _sidecar(underscored(each), problems)) is not None]


def _sidecar(values: Mapping[str, Any], problems: list[str]) -> SidecarWish | None:
    name, command, types = values.get("name"), values.get("command"), values.get("process_types")
    if not isinstance(name, str) or not 1 <= len(name) <= 255:
        problems.append("Sidecar name must be a text of 1 to 255 characters")
        return None
    wrong = []
    if not isinstance(command, str) or not 1 <= len(command) <= MAX_COMMAND:
        wrong.append(f"Command must be a text of 1 to {MAX_COMMAND} characters")
    if not isinstance(types, list) or not types or not all(isinstance(one, str) and one for one in types):
        wrong.append("Process types must have at least 1 process_type")
    memory = None
    if values.get("memory") is not None:
        try:
            memory = sizes.megabytes(values["memory"])
        except NotASize as error:
            wrong.append(f"Memory {error}")
    problems += [f'Sidecar "{name}": {problem}' for problem in wrong]
    return None if wrong else SidecarWish(name, str(command), list(types or ()), memory)


def _called(key: str) -> str:
    """As errors call a key."""
    return key.replace("_", " ").capitalize()
