"""Environment variables as requests give them: what may be called so, and how a change merges (reference 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from controller.v3.errors import ApiError, unprocessable

MAX_BYTES: Final = 64 * 1024


def merged(present: Mapping[str, Any], change: Mapping[str, Any], called: str) -> dict[str, str]:
    """``present`` with ``change``; null takes a variable away. ``called`` begins errors. Raises ApiError."""
    problems = list(dict.fromkeys(problem for key in change if (problem := _wrong_name(key))))
    if problems:
        raise unprocessable(", ".join(f"{called} {problem}" for problem in problems))
    result = {**present, **{key: text_of(key, value) for key, value in change.items()}}
    kept = {key: value for key, value in result.items() if value is not None}
    if len(orjson.dumps(kept)) > MAX_BYTES:
        raise unprocessable(f"{called} exceeded the maximum length allowed of {MAX_BYTES} characters as json")
    return kept


def text_of(key: str, value: Any) -> str | None:
    """Numbers and truth values become text. Raises ApiError: lists and objects do not."""
    match value:
        case None | str():
            if value is not None and "\0" in value:
                raise unprocessable(f"Environment variable '{key}' must not contain null bytes")
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
    raise _not_text(key, value)


def _not_text(key: str, value: Any) -> ApiError:
    shown = orjson.dumps(value).decode()
    return unprocessable(f"Non-string value in environment variable for key '{key}', value '{shown}'")


def _wrong_name(key: str) -> str:
    upper = key.upper()
    if not key:
        return "key must be a minimum length of 1"
    if upper.startswith("VCAP_"):
        return "cannot start with VCAP_"
    if upper.startswith("VMC"):
        return "cannot start with VMC_"
    if upper == "PORT":
        return "cannot set PORT"
    return "key must not contain null bytes or '='" if "\0" in key or "=" in key else ""
