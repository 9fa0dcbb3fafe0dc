"""Shapes of JSON values, short to write, and the schemas that they stand for (JSON Schema 2020-12).

A shape is a type (``str``, ``int``, ``bool``, ``float``, ``dict``), a union of types with None, a tuple of the texts
that may stand there, a list with the shape of its elements, a dictionary with exactly these keys (``key?``: maybe), a
`Resource` with a name of its own, `Values` for a dictionary of any keys, or `Maybe` for null or something.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Final, get_args

Shape = Any
ANYTHING: Final = object
_TYPES: Final = {str: "string", int: "integer", bool: "boolean", float: "number", dict: "object", NoneType: "null"}


@dataclass(frozen=True)
class Resource:
    """Described under its name among the components of the document."""

    name: str
    shape: Mapping[str, Shape]


@dataclass(frozen=True)
class Values:
    """A dictionary of any keys."""

    shape: Shape


@dataclass(frozen=True)
class Maybe:
    """Null, or this."""

    shape: Shape


@dataclass(frozen=True)
class Text:
    """A text of a format."""

    pattern: str
    example: str


MOMENT: Final = Text(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", "2026-01-31T23:59:59Z")
LINK: Final = {"href": str}
ACTION: Final = {"href": str, "method": ("POST", "PATCH", "PUT", "DELETE", "GET")}
NAMED: Final = {"guid": str}
TO_ONE: Final = {"data": NAMED}
TO_ONE_OR_NONE: Final = {"data": Maybe(NAMED)}
TO_MANY: Final = {"data": [NAMED]}
METADATA: Final = {"labels": Values(str), "annotations": Values(str)}
COMMON: Final = {"guid": str, "created_at": MOMENT, "updated_at": MOMENT}
PAGINATION: Final = Resource(
    "Pagination",
    {
        "total_results": int,
        "total_pages": int,
        "first": LINK,
        "last": LINK,
        "next": Maybe(LINK),
        "previous": Maybe(LINK),
    },
)


def links(*names: str, **actions: Shape) -> dict[str, Shape]:
    """With ``self``; ``name?``: only sometimes."""
    return {"self": LINK, **dict.fromkeys(names, LINK), **actions}


def page(element: Shape, **more: Shape) -> dict[str, Shape]:
    return {"pagination": PAGINATION, "resources": [element], **more}


def schema(shape: Shape) -> dict[str, Any]:
    """Named resources become references; `components` has what they refer to."""
    match shape:
        case Resource(name=name):
            return {"$ref": f"#/components/schemas/{name}"}
        case Values(shape=inner):
            return {"type": "object", "additionalProperties": schema(inner)}
        case Maybe(shape=inner):
            return {"anyOf": [schema(inner), {"type": "null"}]}
        case Text(pattern=pattern, example=example):
            return {"type": "string", "pattern": pattern, "examples": [example]}
        case tuple():
            return {"enum": list(shape)}
        case list():
            return {"type": "array", "items": schema(shape[0])}
        case Mapping():
            return _object(shape)
        case UnionType():
            return {"type": [_TYPES[kind] for kind in get_args(shape)]}
    return {} if shape is ANYTHING else {"type": _TYPES[shape]}


def _object(shape: Mapping[str, Shape]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key.removesuffix("?"): schema(inner) for key, inner in shape.items()},
        "required": [key for key in shape if not key.endswith("?")],
        "additionalProperties": False,
    }


def resources_in(shape: Shape) -> Iterator[Resource]:
    """All that a shape refers to, however deep."""
    match shape:
        case Resource():
            yield shape
            yield from resources_in(shape.shape)
        case Values(shape=inner) | Maybe(shape=inner):
            yield from resources_in(inner)
        case list():
            yield from resources_in(shape[0])
        case Mapping():
            for inner in shape.values():
                yield from resources_in(inner)
