"""An operation's entry in the document: its parameters, its body, its responses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from pydantic import BaseModel

from controller.v3.openapi import answers, platform
from controller.v3.openapi.shapes import resources_in, schema

JSON: Final = "application/json"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_ALONE: Final = ("label_selector", "embed", "unmapped", "source_guid", "host", "path", "port")
"""Parameters with one value; all others take several, joined by commas."""


class Parameters(Protocol):
    """A list, which checks its own query."""

    @property
    def parameters(self) -> list[str]: ...


class Described(Protocol):
    """What an endpoint says of itself (`controller.v3.api`)."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def status(self) -> int: ...

    @property
    def listing(self) -> Parameters | None: ...

    @property
    def query(self) -> Sequence[str]: ...

    @property
    def includes(self) -> Sequence[str]: ...

    @property
    def anonymous(self) -> bool: ...

    @property
    def body(self) -> type[BaseModel] | None: ...

    @property
    def content(self) -> str: ...

    @property
    def produces(self) -> str: ...


def entry(operation: Described) -> dict[str, Any]:
    """Beyond what the framework sees itself."""
    names = list(operation.listing.parameters) if operation.listing is not None else list(operation.query)
    if operation.includes and "include" not in names:
        names.append("include")
    path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(operation.path)
    ]
    documented: dict[str, Any] = {
        "parameters": path + [parameter for name in names for parameter in _query(name, operation)],
        "responses": _responses(operation),
    }
    if operation.body is not None:
        documented["requestBody"] = _body(operation.body)
    elif operation.content:
        documented["requestBody"] = {"content": {operation.content: {"schema": {"type": "string"}}}, "required": True}
    if not operation.anonymous:
        documented["security"] = [{"bearer": []}]
    return documented


def components() -> dict[str, Any]:
    """The schemas of everything that has a name."""
    shapes = [platform.ERRORS, *answers.all_shapes()]
    named = {resource.name: resource for shape in shapes for resource in resources_in(shape)}
    return {name: schema(named[name].shape) for name in sorted(named)}


# Parameters -----------------------------------------------------------------------------------------------------------


def _query(name: str, operation: Described) -> Iterable[dict[str, Any]]:
    yield _parameter(name, operation)
    if name in ("created_ats", "updated_ats"):
        for comparison in ("lt", "lte", "gt", "gte"):
            yield {"name": f"{name}[{comparison}]", "in": "query", "schema": _MOMENT}


_MOMENT: Final = {"type": "string", "pattern": r"^\d{4}-(0\d|1[0-2])-([01]\d|2\d)T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$"}


def _parameter(name: str, operation: Described) -> dict[str, Any]:
    listing = operation.listing
    match name:
        case "page":
            return _simple(name, {"type": "integer", "minimum": 1})
        case "per_page":
            return _simple(name, {"type": "integer", "minimum": 1, "maximum": 5000, "default": 50})
        case "order_by":
            orders: Sequence[str] = getattr(listing, "orders", ())
            return _simple(
                name, {"enum": [sign + order for order in orders for sign in ("", "-")]} if orders else _TEXT
            )
        case "include":
            known = operation.includes or getattr(listing, "includes", ())
            return _several(name, {"enum": list(known)} if known else _TEXT)
        case "created_ats" | "updated_ats":
            return _several(name, _MOMENT)
    if name.startswith("fields["):
        fields: Mapping[str, Sequence[str]] = getattr(listing, "fields", {})
        known = fields.get(name.removeprefix("fields[").removesuffix("]"), ())
        return _several(name, {"enum": list(known)} if known else _TEXT)
    return _simple(name, _TEXT) if name in _ALONE else _several(name, _TEXT)


_TEXT: Final = {"type": "string"}


def _simple(name: str, described: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": described}


def _several(name: str, described: dict[str, Any]) -> dict[str, Any]:
    """Values joined by commas; a comma within one is encoded twice."""
    array = {"type": "array", "items": described, "minItems": 1}
    return {"name": name, "in": "query", "schema": array, "style": "form", "explode": False}


# Bodies ---------------------------------------------------------------------------------------------------------------


def _body(body: type[BaseModel]) -> dict[str, Any]:
    described = body.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = described.pop("$defs", {})
    inlined = _inlined(described, definitions)
    return {"content": {JSON: {"schema": inlined}}, "required": bool(inlined.get("required"))}


def _inlined(described: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema without references: the document needs no names for what stands in one place."""
    if isinstance(described, list):
        return [_inlined(item, definitions) for item in described]
    if not isinstance(described, dict):
        return described
    reference = described.get("$ref")
    if isinstance(reference, str):
        return _inlined(definitions[reference.rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in described.items()}


# Responses ------------------------------------------------------------------------------------------------------------


def _responses(operation: Described) -> dict[str, Any]:
    wrong = {"description": "What was wrong", "content": {JSON: {"schema": schema(platform.ERRORS)}}}
    refused = {str(status): wrong for status in (400, 401, 403, 404, 409, 422, 500, 502, 503)}
    return {str(operation.status): _right(operation), **refused}


def _right(operation: Described) -> dict[str, Any]:
    right: dict[str, Any] = {"description": "As asked"}
    shape = answers.shape_of(operation.method, operation.path, is_list=operation.listing is not None)
    if operation.produces != JSON:
        right["content"] = {operation.produces: {"schema": {"type": "string"}}}
    elif shape is not None:
        right["content"] = {JSON: {"schema": schema(shape)}}
    if operation.status == 202 and (shape is None or operation.path.endswith("/upload")):
        right["headers"] = {"Location": {"description": "Where the job is shown", "schema": {"type": "string"}}}
    return right
