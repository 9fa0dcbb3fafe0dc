"""Strings, characters and numbers as a template writes them: Go's constants, without imaginary ones."""

from __future__ import annotations

import re
from typing import Final


class BadConstant(Exception):
    """What is wrong with it."""


_SIMPLE_ESCAPES: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
}
_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|([0-3][0-7]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))", re.DOTALL
)


def text(written: str) -> str:
    """A string, given with its quotes. Raises BadConstant."""
    if written[0] == "`":
        return written[1:-1].replace("\r", "")
    return _unescaped(written[1:-1], "'")


def character(written: str) -> int:
    """The code of a character, given with its quotes. Raises BadConstant."""
    meant = _unescaped(written[1:-1], '"')
    if len(meant) != 1:
        raise BadConstant(f"{written} is not one character")
    return ord(meant)


def number(written: str) -> int | float:
    """Raises BadConstant."""
    try:
        if re.fullmatch("[+-]?0[0-7_]+", written):
            value: int | float = int(re.sub("0_?", "0o", written, count=1), 8)
        elif re.search("[.eE]", written) and "x" not in written.lower():
            value = float(written)
        else:
            value = int(written, 0)
    except ValueError:
        raise BadConstant(f"{written} is no number that is supported") from None
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise BadConstant(f"{written} overflows int")
    if value in (float("inf"), float("-inf")):
        raise BadConstant(f"{written} is too large")
    return value


def _unescaped(inner: str, wrong_quote: str) -> str:
    """What stands between quotes. Bytes that are no UTF-8 stay bytes. Raises BadConstant."""

    def meant(match: re.Match[str]) -> bytes:
        simple, hexadecimal, octal, short, long, other = match.groups()
        if simple and simple != wrong_quote:
            return _SIMPLE_ESCAPES[simple].encode()
        if hexadecimal or octal:
            return bytes((int(hexadecimal, 16) if hexadecimal else int(octal, 8),))
        code = int(short or long or "110000", 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise BadConstant(f"unknown escape \\{other or match[0][1:]}")
        return chr(code).encode()

    parts: list[bytes] = []
    at = 0
    for match in _ESCAPE.finditer(inner):
        parts += (inner[at : match.start()].encode(errors="surrogateescape"), meant(match))
        at = match.end()
    parts.append(inner[at:].encode(errors="surrogateescape"))
    return b"".join(parts).decode(errors="surrogateescape")
