"""What applying a manifest would change, as a list of operations on its paths (reference 3.4). Pure: two dictionaries.

Only what the manifest says is compared. Where applying merges (environment, metadata, routes, services, processes,
sidecars), what is there besides stays, and so is no difference; lists that are replaced are compared place by place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from controller.v3.manifests import sizes
from controller.v3.manifests.process_wishes import KEYS as PROCESS_KEYS
from controller.v3.manifests.process_wishes import overridden_by, underscored
from controller.v3.manifests.route_strings import NotARoute, RouteString
from controller.v3.manifests.wishes import KEYS
from controller.v3.variables import text_of

_SIZES: Final = ("memory", "disk_quota")
_RATE: Final = "log_rate_limit_per_second"
_NUMBERS: Final = ("instances", "timeout")
_SIDECAR_KEYS: Final = ("name", "command", "process_types", "memory")
_DEFAULT: Final = (None, "default", "null")

Difference = dict[str, Any]
Compare = Callable[[str, str, Any, Mapping[str, Any], bool], list[Difference]]
"""Of a path, a key and its value, the app as it is, and whether it is yet to be made."""


def of_application(index: int, application: Mapping[str, Any], current: Mapping[str, Any] | None) -> list[Difference]:
    """``application``: the one at ``index`` of a manifest that can be applied; ``current``: the app as it is."""
    is_new = current is None
    there = _with_web(underscored(current or {}))
    web = (one for one in map(underscored, _dicts(application, "processes")) if one.get("type") == "web")
    overridden = overridden_by(next(web, {}))
    found: list[Difference] = []
    for key, value in application.items():
        name = key.replace("-", "_")
        if name not in KEYS or name in overridden:
            continue
        compare: Compare = _SPECIAL.get(name, _plain_value)
        found += compare(f"/applications/{index}/{_escaped(key)}", name, value, there, is_new)
    return found


def _with_web(current: dict[str, Any]) -> dict[str, Any]:
    """What is said of the web process can be said of the app, too."""
    processes = [underscored(process) for process in current.get("processes", [])]
    web = next((process for process in processes if process["type"] == "web"), {})
    return {**web, **current, "processes": processes}


# Values ---------------------------------------------------------------------------------------------------------------


def _plain_value(path: str, name: str, value: Any, there: Mapping[str, Any], _is_new: bool) -> list[Difference]:
    if value is None and not _can_be_cleared(name):
        return []
    return _difference(path, _canonical(name, there.get(name)), _canonical(name, value))


def _can_be_cleared(name: str) -> bool:
    """Whether null takes the value away; elsewhere it leaves everything as it is."""
    return name in ("command", "user") or name.endswith(("timeout", "_interval"))


def _canonical(name: str, value: Any) -> Any:
    """One form for everything that means the same."""
    if name in ("command", "buildpack"):
        return None if value in _DEFAULT else value
    if value is None:
        return None
    if name in _SIZES:
        return sizes.shown_megabytes(sizes.megabytes(value))
    if name == _RATE:
        return sizes.shown_rate(sizes.bytes_per_second(value))
    if name in _NUMBERS or name.endswith(("_interval", "_timeout")):
        return int(value)
    if name.endswith("health_check_type") and value == "none":
        return "process"
    return value


def _difference(path: str, was: Any, value: Any) -> list[Difference]:
    if was == value:
        return []
    if was is None:
        return [{"op": "add", "path": path, "value": value}]
    if value is None:
        return [{"op": "remove", "path": path, "was": was}]
    return [{"op": "replace", "path": path, "was": was, "value": value}]


# Objects and lists ----------------------------------------------------------------------------------------------------


def _merged(path: str, was: Mapping[str, Any], value: Mapping[str, Any]) -> list[Difference]:
    """What is there besides stays."""
    return [each for key, item in value.items() for each in _difference(f"{path}/{_escaped(key)}", was.get(key), item)]


def _listed(path: str, was: list[Any], value: list[Any]) -> list[Difference]:
    """Of a list that is replaced; from its end, so that indexes hold while operations are carried out in order."""
    found: list[Difference] = []
    for index, item in enumerate(value):
        found += _difference(f"{path}/{index}", was[index] if index < len(was) else None, item)
    found += [
        {"op": "remove", "path": f"{path}/{index}", "was": was[index]}
        for index in range(len(was) - 1, len(value) - 1, -1)
    ]
    return found


def _environment(path: str, _name: str, value: Any, there: Mapping[str, Any], _is_new: bool) -> list[Difference]:
    if not value:
        return []
    wanted = {key: "" if item is None else text_of(key, item) for key, item in value.items()}
    if "env" not in there:
        return _difference(path, None, wanted)
    return _merged(path, there["env"], wanted)


def _metadata(path: str, _name: str, value: Any, there: Mapping[str, Any], _is_new: bool) -> list[Difference]:
    known = there.get("metadata", {})
    found: list[Difference] = []
    for key in ("labels", "annotations"):
        given = (value or {}).get(key)
        if given:
            found += _merged(f"{path}/{key}", known.get(key, {}), given)
    return found


def _features(path: str, _name: str, value: Any, there: Mapping[str, Any], _is_new: bool) -> list[Difference]:
    return _merged(path, there.get("features", {}), value or {})


def _buildpacks(path: str, name: str, value: Any, there: Mapping[str, Any], _is_new: bool) -> list[Difference]:
    known = there.get("buildpacks", [])
    if name == "buildpack":
        one = known[0] if len(known) == 1 else known or None
        return _difference(path, one, _canonical(name, value))
    return _listed(path, known, value or []) if known or not value else _difference(path, None, value)


def _docker(path: str, _name: str, value: Any, there: Mapping[str, Any], is_new: bool) -> list[Difference]:
    """The image changes with the package that clients make of it."""
    known = there.get("docker")
    if known is None:
        return [] if not is_new else _difference(path, None, value)
    return _merged(path, known, {key: item for key, item in (value or {}).items() if key == "image"})


def _processes(path: str, _name: str, value: Any, there: Mapping[str, Any], _is_new: bool) -> list[Difference]:
    known = {process["type"]: process for process in there["processes"]}

    def fields(given: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        was = known.get(given["type"], {})
        pairs = {key: (key.replace("-", "_"), item) for key, item in given.items()}
        return {
            key: (_canonical(name, was.get(name)), _canonical(name, item))
            for key, (name, item) in pairs.items()
            if name == "type" or (name in PROCESS_KEYS and (item is not None or _can_be_cleared(name)))
        }

    return _identified(path, value or [], lambda given: given["type"] in known, fields)


def _sidecars(path: str, _name: str, value: Any, there: Mapping[str, Any], _is_new: bool) -> list[Difference]:
    known = {sidecar["name"]: sidecar for sidecar in there.get("sidecars", [])}

    def fields(given: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        was = known.get(given["name"], {})
        pairs = {key: (key.replace("-", "_"), item) for key, item in given.items()}
        return {
            key: (_canonical(name, was.get(name)), _canonical(name, item))
            for key, (name, item) in pairs.items()
            if name in _SIDECAR_KEYS and item is not None
        }

    return _identified(path, value or [], lambda given: given["name"] in known, fields)


def _routes(path: str, _name: str, value: Any, there: Mapping[str, Any], _is_new: bool) -> list[Difference]:
    known = {route["route"]: route for route in there.get("routes", [])}

    def fields(given: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        was = known.get(_address(given["route"]), {})
        pairs = {"route": (was.get("route") and given["route"], given["route"])}
        if given.get("protocol") is not None:
            pairs["protocol"] = (was.get("protocol"), given["protocol"])
        if given.get("options"):
            options = was.get("options", {})
            pairs["options"] = ({key: options.get(key) for key in given["options"]}, _options(given["options"]))
        return pairs

    return _identified(path, value or [], lambda given: _address(given["route"]) in known, fields)


def _services(path: str, _name: str, value: Any, there: Mapping[str, Any], _is_new: bool) -> list[Difference]:
    known = {_service(one).lower() for one in there.get("services", [])}
    given = value or []
    return [
        {"op": "add", "path": f"{path}/{index}", "value": one}
        for index, one in enumerate(given)
        if _service(one).lower() not in known
    ]


def _no_route(path: str, _name: str, value: Any, there: Mapping[str, Any], _is_new: bool) -> list[Difference]:
    return _difference(path, None, True) if value is True and there.get("routes") else []


def _some_route(path: str, _name: str, value: Any, there: Mapping[str, Any], _is_new: bool) -> list[Difference]:
    return _difference(path, None, True) if value is True and not there.get("routes") else []


_SPECIAL: Final[dict[str, Compare]] = {
    "env": _environment,
    "metadata": _metadata,
    "features": _features,
    "buildpack": _buildpacks,
    "buildpacks": _buildpacks,
    "docker": _docker,
    "processes": _processes,
    "sidecars": _sidecars,
    "routes": _routes,
    "services": _services,
    "no_route": _no_route,
    "default_route": _some_route,
    "random_route": _some_route,
}


def _identified(
    path: str,
    value: list[dict[str, Any]],
    is_there: Callable[[Mapping[str, Any]], bool],
    fields: Callable[[Mapping[str, Any]], dict[str, tuple[Any, Any]]],
) -> list[Difference]:
    """Of things with names of their own, wherever they stand: new ones whole, others by their fields."""
    found: list[Difference] = []
    for index, given in enumerate(value):
        if not is_there(given):
            wanted = {key: after for key, (_, after) in fields(given).items() if after is not None}
            found.append({"op": "add", "path": f"{path}/{index}", "value": wanted})
            continue
        for key, (was, after) in fields(given).items():
            found += _difference(f"{path}/{index}/{_escaped(key)}", was, after)
    return found


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    """As they are stored: the balance is a text."""
    return {
        key: f"{float(item):g}" if key == "hash_balance" and item is not None else item for key, item in options.items()
    }


def _address(text: str) -> str:
    try:
        return str(RouteString.parse(str(text)))
    except NotARoute:
        return str(text)


def _service(one: Any) -> str:
    return str(one if isinstance(one, str) else one.get("name"))


def _dicts(mapping: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = mapping.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _escaped(key: str) -> str:
    """RFC 6901."""
    return key.replace("~", "~0").replace("/", "~1")
