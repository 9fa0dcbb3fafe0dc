"""The YAML of a manifest, read without trust: no anchors, no aliases, no tags, a bounded size and depth."""

from __future__ import annotations

import math
from typing import Any, Final

import yaml

from controller.v3.errors import ApiError, bad_request, unprocessable

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 50
CONTENT_TYPES: Final = ("application/x-yaml", "text/yaml", "text/x-yaml", "application/yaml")
VERSION: Final = 1

_Parser: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Parser):  # type: ignore[misc, valid-type]
    """YAML's core types; what looks like a date stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Parser.yaml_implicit_resolvers.items()
}


def applications(raw: bytes, content_type: str) -> list[dict[str, Any]]:
    """The applications of a manifest, as they stand there. Raises ApiError."""
    if content_type.partition(";")[0].strip().lower() not in CONTENT_TYPES:
        raise bad_request("Content-Type must be yaml")
    if len(raw) > MAX_BYTES:
        raise bad_request("Manifest size is too large. The maximum supported manifest size is 1MB.")
    document = _load(raw)
    if not isinstance(document, dict):
        raise _not_parsed("invalid request body")
    version = document.get("version")
    if version is not None and (version is True or version != VERSION):
        raise unprocessable("Unsupported manifest schema version. Currently supported versions: [1].")
    found = document.get("applications")
    if not found:
        raise unprocessable("Cannot parse manifest with no 'applications' field.")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise unprocessable("Applications must be an array of application configurations")
    return found


def _load(raw: bytes) -> Any:
    """Raises ApiError."""
    try:
        text = raw.decode()
        _refuse_tricks(text)
        return _plain(yaml.load(text, Loader=_Loader))  # noqa: S506 - a safe loader with less than SafeLoader knows
    except UnicodeDecodeError:
        raise _not_parsed("the manifest is not UTF-8") from None
    except yaml.YAMLError as error:
        raise _not_parsed(" ".join(str(error).split())[:500]) from None
    except (ValueError, RecursionError):
        raise _not_parsed("a value that cannot be read") from None


def _refuse_tricks(text: str) -> None:
    """In one pass over the events, before anything is built of them. Raises ApiError, YAMLError."""
    depth = 0
    for event in yaml.parse(text, Loader=_Parser):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise bad_request("Manifest does not support Anchors and Aliases")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _not_parsed(f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _plain(value: Any) -> Any:
    """What JSON can say, too: keys are text. Raises ValueError."""
    match value:
        case dict():
            return {_key(key): _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case str():
            if "\0" in value:
                raise ValueError(value)
            return value
        case float() if not math.isfinite(value):
            raise ValueError(value)
        case int() if not isinstance(value, bool) and not -(2**63) <= value < 2**64:
            return str(value)
        case None | bool() | int() | float():
            return value
    raise ValueError(value)


def _key(key: Any) -> str:
    match key:
        case str():
            return key
        case bool():
            return "true" if key else "false"
        case None:
            return ""
        case int() | float():
            return str(key)
    raise ValueError(key)


def _not_parsed(why: str) -> ApiError:
    return ApiError("MessageParseError", f"Request invalid due to parse error: {why}")
