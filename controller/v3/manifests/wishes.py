"""What one application of a manifest asks for, read and checked without a database (reference 3.4).

Keys may be written with hyphens or underscores; keys that are not known are ignored, as clients write many that are for
themselves. Every problem is collected, so that one answer tells all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from controller.v3 import bodies, metadata, routes
from controller.v3.app_features import FEATURES
from controller.v3.errors import ApiError
from controller.v3.lifecycles import Data, Lifecycle
from controller.v3.manifests import process_wishes
from controller.v3.manifests.process_wishes import ProcessWish, SidecarWish, underscored
from controller.v3.manifests.route_strings import NotARoute, RouteString
from controller.v3.metadata import MetadataBody
from controller.v3.variables import merged

KEYS: Final = frozenset(
    (
        "name",
        "buildpack",
        "buildpacks",
        "default_route",
        "docker",
        "env",
        "features",
        "lifecycle",
        "metadata",
        "no_route",
        "processes",
        "random_route",
        "routes",
        "services",
        "sidecars",
        "stack",
        *process_wishes.KEYS,
    )
)
"""What an application can ask for."""
PROTOCOLS: Final = ("http1", "http2", "tcp")
_NO_BUILDPACK: Final = (None, "default", "null")
"""Then buildpacks are to find out themselves."""
_LIFECYCLES: Final = ("buildpack", "cnb", "docker")


@dataclass(frozen=True, slots=True)
class RouteWish:
    text: str
    """As it stands in the manifest."""
    address: RouteString
    protocol: str | None
    options: dict[str, Any] | None
    """As they are stored; None: as they are."""


@dataclass(frozen=True, slots=True)
class ServiceWish:
    name: str
    binding_name: str | None
    parameters: dict[str, Any] | None


@dataclass(slots=True)
class Wish:
    name: str
    lifecycle: str | None = None
    """The kind, where the manifest says one."""
    lifecycle_data: Data | None = None
    processes: list[ProcessWish] = field(default_factory=list)
    sidecars: list[SidecarWish] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    features: dict[str, bool] = field(default_factory=dict)
    metadata: MetadataBody | None = None
    routes: list[RouteWish] | None = None
    no_route: bool = False
    random_route: bool = False
    default_route: bool = False
    services: list[ServiceWish] = field(default_factory=list)

    @property
    def new_lifecycle(self) -> Lifecycle | None:
        """For an app that is not there yet."""
        if self.lifecycle is None and self.lifecycle_data is None:
            return None
        return Lifecycle(type=self.lifecycle or "buildpack", data=self.lifecycle_data or Data())  # type: ignore[arg-type]


class Unreadable(Exception):
    """``problems`` says what is wrong, one text each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(dict.fromkeys(problems))


def read_all(applications: list[dict[str, Any]]) -> list[Wish]:
    """Raises ApiError with everything that is wrong with any of them."""
    wishes: list[Wish] = []
    problems: list[str] = []
    for index, application in enumerate(applications):
        try:
            wishes.append(read(application))
        except Unreadable as error:
            name = application.get("name")
            which = f"'{name}'" if isinstance(name, str) and name else f"at index {index}"
            problems += [f"For application {which}: {problem}" for problem in error.problems]
    if problems:
        raise ApiError("UnprocessableEntity", *problems)
    return wishes


def read(application: Mapping[str, Any]) -> Wish:
    """Raises Unreadable."""
    values = underscored(application)
    problems: list[str] = []
    name = values.get("name")
    if name is None or name == "":
        problems.append("Name must not be empty")
    elif not isinstance(name, str):
        problems.append("Name must be a string")
    elif len(name) > 255:
        problems.append("Name is too long (maximum is 255 characters)")
    wish = Wish(str(name))
    wish.processes = process_wishes.of_application(values, problems)
    wish.sidecars = process_wishes.sidecars_of(values, problems)
    _read_lifecycle(values, wish, problems)
    _read_routes(values, wish, problems)
    _read_environment(values, wish, problems)
    _read_features(values, wish, problems)
    _read_metadata(values, wish, problems)
    _read_services(values, wish, problems)
    if problems:
        raise Unreadable(problems)
    return wish


def _read_lifecycle(values: Mapping[str, Any], wish: Wish, problems: list[str]) -> None:
    kind = values.get("lifecycle")
    if kind is not None and kind not in _LIFECYCLES:
        problems.append(f"Lifecycle must be one of {', '.join(_LIFECYCLES)}")
    if "buildpack" in values and "buildpacks" in values:
        problems.append("Buildpack and Buildpacks fields cannot be used together.")
    wish.lifecycle = kind
    if "docker" in values:
        docker = values["docker"]
        if not isinstance(docker, dict) or not isinstance(docker.get("image", ""), str):
            problems.append("Docker must be an object with an image")
        if "buildpack" in values or "buildpacks" in values:
            problems.append("Cannot specify both buildpack(s) and docker keys")
        if kind not in (None, "docker"):
            problems.append(f"Lifecycle must be docker where there is docker, not {kind}")
        wish.lifecycle = "docker"
        return
    given: dict[str, Any] = {}
    if "buildpack" in values:
        one = values["buildpack"]
        given["buildpacks"] = [] if one in _NO_BUILDPACK else [one]
    elif "buildpacks" in values:
        given["buildpacks"] = values["buildpacks"]
    if values.get("stack") is not None:
        given["stack"] = values["stack"]
    if given:
        try:
            wish.lifecycle_data = Data.model_validate(given)
        except ValidationError as error:
            problems += bodies.problems(error).details


def _read_routes(values: Mapping[str, Any], wish: Wish, problems: list[str]) -> None:
    for key in ("no_route", "random_route", "default_route"):
        value = values.get(key)
        if value is not None and not isinstance(value, bool):
            problems.append(f"{key.replace('_', '-').capitalize()} must be a boolean")
        setattr(wish, key, value is True)
    if wish.random_route and wish.default_route:
        problems.append("Random-route and default-route may not be used together")
    if "routes" not in values:
        return
    given = values["routes"]
    if not isinstance(given, list) or not all(isinstance(one, dict) and one.get("route") for one in given):
        problems.append("Routes must be a list of route objects")
        return
    wish.routes = [route for one in given if (route := _route(one, problems)) is not None]


def _route(given: Mapping[str, Any], problems: list[str]) -> RouteWish | None:
    text, protocol, options = str(given["route"]), given.get("protocol"), given.get("options")
    try:
        address = RouteString.parse(text)
    except NotARoute:
        problems.append(f"The route '{text}' is not a properly formed URL")
        return None
    if protocol is not None and protocol not in PROTOCOLS:
        problems.append("Route protocol must be 'http1', 'http2' or 'tcp'.")
    if options is None:
        return RouteWish(text, address, protocol, None)
    if not isinstance(options, dict):
        problems.append(f"Route '{text}': options must be an object")
        return None
    try:
        kept = routes.options_of(routes.HashOptions.model_validate(options))
    except ValidationError as error:
        problems += [f"Route '{text}': {detail}" for detail in bodies.problems(error).details]
        return None
    except ApiError as error:
        problems += [f"Route '{text}': {detail}" for detail in error.details]
        return None
    return RouteWish(text, address, protocol, kept)


def _read_environment(values: Mapping[str, Any], wish: Wish, problems: list[str]) -> None:
    given = values.get("env")
    if "env" not in values or given is None:
        return
    if not isinstance(given, dict):
        problems.append("Env must be an object of keys and values")
        return
    try:
        wish.environment = merged({}, {key: "" if value is None else value for key, value in given.items()}, "Env")
    except ApiError as error:
        problems += error.details


def _read_features(values: Mapping[str, Any], wish: Wish, problems: list[str]) -> None:
    given = values.get("features")
    if given is None:
        return
    if not isinstance(given, dict) or not all(isinstance(one, bool) for one in given.values()):
        problems.append("Features must be a map of valid feature names to booleans (true = enabled, false = disabled)")
        return
    unknown = [name for name in given if name not in FEATURES]
    if unknown:
        problems.append(f"Features must be some of {', '.join(FEATURES)}, not {', '.join(unknown)}")
    wish.features = dict(given)


def _read_metadata(values: Mapping[str, Any], wish: Wish, problems: list[str]) -> None:
    given = values.get("metadata")
    if given is None:
        return
    try:
        kept = {key: value for key, value in given.items() if key in ("labels", "annotations")}
        wish.metadata = MetadataBody.model_validate(kept)
        metadata.check(wish.metadata)
    except AttributeError:
        problems.append("Metadata must be an object")
    except ValidationError as error:
        problems += [f"Metadata {detail[:1].lower()}{detail[1:]}" for detail in bodies.problems(error).details]
    except ApiError as error:
        problems += error.details


def _read_services(values: Mapping[str, Any], wish: Wish, problems: list[str]) -> None:
    given = values.get("services")
    if given is None:
        return
    if not isinstance(given, list):
        problems.append("Services must be a list of service instances")
        return
    for one in given:
        service = {"name": one} if isinstance(one, str) else underscored(one) if isinstance(one, dict) else {}
        name, binding, parameters = service.get("name"), service.get("binding_name"), service.get("parameters")
        if not isinstance(name, str) or not name:
            problems.append("Services must be a list of service instances")
        elif binding is not None and (not isinstance(binding, str) or not 1 <= len(binding) <= 255):
            problems.append(f"Binding name of service '{name}' must be a text of 1 to 255 characters")
        elif parameters is not None and not isinstance(parameters, dict):
            problems.append(f"Parameters of service '{name}' must be an object")
        else:
            wish.services.append(ServiceWish(name, binding, parameters))
