"""Request bodies: the models' common ground, and what the API says of a body that does not fit one (reference 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from controller.v3.errors import ApiError, unprocessable

MAX_JSON_BYTES: Final = 1024 * 1024
_PLAIN_TYPES: Final = {
    "string_type": "a string",
    "bool_type": "a boolean",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


class Body(BaseModel):
    """A JSON object; a key that it does not know is an error, and so is a value of another kind."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Named(Body):
    """``{"guid": ...}``."""

    guid: Annotated[str, Field(min_length=1, max_length=255)]


class ToOne(Body):
    data: Named


class ToOneOrNone(Body):
    data: Named | None


class ToMany(Body):
    data: list[Named]

    @property
    def guids(self) -> list[str]:
        return [named.guid for named in self.data]


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain null bytes")
    return value


Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_without_nul)]
Text = Annotated[str, AfterValidator(_without_nul)]


def parse(raw: bytes) -> Any:
    """The JSON of a body; an empty one is an empty object. Raises ApiError (MessageParseError)."""
    if not raw.strip():
        return {}
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise ApiError("MessageParseError", "Request invalid due to parse error: invalid request body") from None
    if not isinstance(value, dict):
        raise ApiError("MessageParseError", "Request invalid due to parse error: request body must be a JSON object")
    return value


def problems(error: ValidationError) -> ApiError:
    """What is wrong with a body, one detail with everything in it, as clients expect."""
    unknown = [_path(item["loc"]) for item in error.errors() if item["type"] == "extra_forbidden"]
    said = [f"Unknown field(s): {', '.join(repr(name) for name in unknown)}"] if unknown else []
    said += [_problem(item) for item in error.errors() if item["type"] != "extra_forbidden"]
    return unprocessable(", ".join(dict.fromkeys(said)))


def _path(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location)


def _problem(item: Any) -> str:
    name = _path(item["loc"]).replace("_", " ").replace(".", " ") or "body"
    name = name[:1].upper() + name[1:]
    kind, context = item["type"], item.get("ctx", {})
    if kind in _PLAIN_TYPES:
        return f"{name} must be {_PLAIN_TYPES[kind]}"
    match kind:
        case "missing":
            return f"{name} can't be blank"
        case "string_too_short" | "too_short" if isinstance(item["input"], str):
            return f"{name} is too short (minimum is {context['min_length']} character(s))"
        case "string_too_long" | "too_long" if isinstance(item["input"], str):
            return f"{name} is too long (maximum is {context['max_length']} characters)"
        case "greater_than_equal":
            return f"{name} must be greater than or equal to {context['ge']}"
        case "less_than_equal":
            return f"{name} must be less than or equal to {context['le']}"
        case "greater_than":
            return f"{name} must be greater than {context['gt']}"
        case "literal_error":
            return f"{name} must be one of {context['expected'].replace(' or ', ', ')}"
        case "value_error":
            return f"{name} {context['error']!s}"
    return f"{name}: {item['msg']}"
