"""Resource matches (reference 6.2): which of a client's files need no upload. Without a store for bits, all do."""

from __future__ import annotations

import re
from typing import Any, Final

from controller.v3.api import Api
from controller.v3.bodies import Body
from controller.v3.call import Call
from controller.v3.errors import unprocessable

api = Api("Resource matches")
MOST: Final = 5000
_MOST_BYTES: Final = 8 * 1024 * 1024
"""Room for that many entries with long paths."""
_MODE: Final = re.compile(r"[0-7]{1,6}")
_SHA1_LENGTH: Final = 40


class Create(Body):
    resources: list[Any]


@api.post("/v3/resource_matches", content_bytes=_MOST_BYTES)
def create_match(call: Call, body: Create) -> dict[str, Any]:
    """Ask which files are there already."""
    call.require_flag("app_bits_upload")
    if len(body.resources) > MOST:
        raise unprocessable(f"Resources can have at most {MOST} resources")
    if not body.resources:
        raise unprocessable("Resources must have at least 1 resource")
    wrong = list(dict.fromkeys(problem for entry in body.resources for problem in _problems(entry)))
    if wrong:
        raise unprocessable(
            ", ".join(f"Resources array contains at least one resource with {problem}" for problem in wrong)
        )
    return {"resources": []}


def _problems(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return ["a non-object entry"]
    checksum, size, mode = entry.get("checksum"), entry.get("size_in_bytes"), entry.get("mode")
    found = []
    if not isinstance(checksum, dict):
        found.append("a non-object checksum")
    elif not isinstance(checksum.get("value"), str):
        found.append("a non-string checksum value")
    elif len(checksum["value"]) != _SHA1_LENGTH:
        found.append("a non-SHA1 checksum value")
    if type(size) is not int:
        found.append("a non-integer size_in_bytes")
    elif size < 0:
        found.append("a negative size_in_bytes")
    if mode is not None and not isinstance(mode, str):
        found.append("a non-string mode")
    elif mode is not None and not _MODE.fullmatch(mode):
        found.append("an incorrect mode")
    return found
