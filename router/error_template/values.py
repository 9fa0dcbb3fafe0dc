"""Values as Go has them, and how Go prints them: only the kinds that an error page can come across.

Strings are text whose bytes that are no UTF-8 are kept as lone surrogates (``surrogateescape``). Whole numbers are Go's
int, ``Byte`` is one byte of a string. None is Go's "no value": a field that a map does not have, or nil.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

MAX_TEXT: Final = 1024 * 1024
"""Characters of one value; what would be longer is an error."""
MAX_WIDTH: Final = 1000
"""Of what printf fills up."""


class RenderError(Exception):
    """The template could not be rendered; says why."""


class Byte(int):
    """Go's uint8."""


class Strings(tuple[str, ...]):
    """Go's []string."""

    __slots__ = ()


NO_STRINGS: Final = Strings()
"""The nil of []string: what a map does not have."""


class Header(dict[str, Strings]):
    """Go's http.Header: values by canonical name."""

    def first(self, name: str) -> str:
        return (self.get(canonical(name)) or ("",))[0]

    def all(self, name: str) -> Strings:
        return self.get(canonical(name), NO_STRINGS)

    def names(self) -> list[str]:
        """In the order that Go prints them in, and goes through them."""
        return sorted(self, key=octets)


class Page:
    """What the template is about: its dot at the beginning."""

    __slots__ = ("header", "message", "status", "status_text")

    def __init__(self, status: int, status_text: str, message: str, header: Header) -> None:
        self.status = status
        self.status_text = status_text
        self.message = message
        self.header = header


Value = str | int | float | bool | Strings | Header | Page | None

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def canonical(name: str) -> str:
    """A field name as Go spells it: X-Cf-Routererror. What is no field name stays as it is."""
    if not _TOKEN.fullmatch(name):
        return name
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def kind_of(value: Value) -> str:
    """Go's name of its type."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Byte):
        return "uint8"
    names = {int: "int", float: "float64", str: "string", Strings: "[]string", Header: "http.Header", Page: "page"}
    return names.get(type(value), "<nil>")


def bounded(text: str) -> str:
    """Raises RenderError if it is too long."""
    if len(text) > MAX_TEXT:
        raise RenderError(f"a value is longer than {MAX_TEXT} characters")
    return text


def octets(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def truth(value: Value) -> bool:
    """Whether {{if}} takes it for true."""
    return isinstance(value, Page) or bool(value)


# Printing -------------------------------------------------------------------------------------------------------------


def shown(value: Value) -> str:
    """As %v prints it. Raises RenderError."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return _number(value, -4, 6)
        case str():
            return value
        case Strings():
            return f"[{' '.join(value)}]"
        case Header():
            return f"map[{' '.join(f'{name}:{shown(value[name])}' for name in value.names())}]"
    raise RenderError("the whole of the page's data cannot be printed; name one of its fields")


def printed(values: Sequence[Value]) -> str:
    """As print does: a space between two that are no strings. Raises RenderError."""
    parts: list[str] = []
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            parts.append(" ")
        parts.append(shown(value))
    return bounded("".join(parts))


def _number(value: float, least: int, most: int) -> str:
    """The shortest digits that read back as ``value``; with an exponent below 10**least and from 10**most on."""
    exact = Decimal(repr(value)).normalize()
    exponent = exact.adjusted()
    if not value or least <= exponent < most:
        return f"{exact:f}"
    sign, digits, _ = exact.as_tuple()
    rest = "".join(map(str, digits[1:]))
    return f"{'-' * sign}{digits[0]}{'.' * bool(rest)}{rest}e{exponent:+03d}"


def as_json(value: Value) -> str:
    """As encoding/json writes it, and harmless inside a script. Raises RenderError."""
    match value:
        case None:
            return "null"
        case float():
            return re.sub("e-0", "e-", _number(value, -6, 21))
        case str():
            return _json_text(value)
        case Strings():
            return "null" if value is NO_STRINGS else f"[{','.join(map(_json_text, value))}]"
        case Header():
            return f"{{{','.join(f'{_json_text(name)}:{as_json(value[name])}' for name in value.names())}}}"
    return shown(value)


_JSON_SHORT: Final[dict[str | int, str]] = {
    '"': '\\"',
    "\\": r"\\",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
}
_JSON_LONG: Final = {code: f"\\u{code:04x}" for code in (*range(0x20), *b"&<>", 0x2028, 0x2029)}
_JSON_ESCAPES: Final = {**_JSON_LONG, **str.maketrans(_JSON_SHORT), **dict.fromkeys(range(0xDC80, 0xDD00), r"\ufffd")}


def _json_text(text: str) -> str:
    return f'"{text.translate(_JSON_ESCAPES)}"'


# printf ---------------------------------------------------------------------------------------------------------------

VERBS: Final = "%s, %d, %v, %q, %t, %%, with a width, and - or 0 before it"

_VERB: Final = re.compile(r"%(?:%|([-0]*)([0-9]{0,4})(?:\.([0-9]{0,4}))?([sdvqt]))")
_QUOTED: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


def check_format(form: str) -> None:
    """Raises RenderError where it holds what ``formatted`` does not know."""
    at = form.find("%")
    while at >= 0:
        verb = _VERB.match(form, at)
        if verb is None:
            raise RenderError(f"printf does not support {form[at : at + 4]!r}; it knows {VERBS}")
        flags, width, precision, letter = verb.groups()
        if "0" in (flags or "") and letter != "d":
            raise RenderError(f"printf does not support the 0 of {verb[0]}; it goes with %d")
        if precision is not None and letter != "s":
            raise RenderError(f"printf does not support the precision of {verb[0]}; it goes with %s")
        if max(int(width or 0), int(precision or 0)) > MAX_WIDTH:
            raise RenderError(f"printf fills up to {MAX_WIDTH} characters, which {verb[0]} is more than")
        at = form.find("%", verb.end())


def formatted(form: str, values: Sequence[Value]) -> str:
    """As printf does. Raises RenderError."""
    check_format(form)
    left = list(values)

    def filled(verb: re.Match[str]) -> str:
        flags, width, precision, letter = verb.groups()
        if letter is None:
            return "%"
        if not left:
            return f"%!{letter}(MISSING)"
        value = left.pop(0)
        if (width or precision) and isinstance(value, Strings | Header):
            raise RenderError(f"printf does not support the width of {verb[0]} for a {kind_of(value)}")
        text = _by_verb(letter, value)
        if precision is not None and isinstance(value, str):
            text = text[: int(precision or 0)]
        if "-" in flags:
            return text.ljust(int(width or 0))
        return text.zfill(int(width or 0)) if "0" in flags else text.rjust(int(width or 0))

    text = _VERB.sub(filled, form)
    if left:
        text += f"%!(EXTRA {', '.join(map(_with_kind, left))})"
    return bounded(text)


def _by_verb(letter: str, value: Value) -> str:
    match value:
        case Strings():
            return f"[{' '.join(_by_verb(letter, text) for text in value)}]"
        case Header():
            return f"map[{' '.join(f'{_by_verb(letter, k)}:{_by_verb(letter, value[k])}' for k in value.names())}]"
        case str() if letter == "q":
            return quoted(value)
        case str() if letter in "sv":
            return value
        case bool() if letter in "tv":
            return shown(value)
        case int() if letter in "dv" and not isinstance(value, bool):
            return shown(value)
    if letter == "v":
        return shown(value)
    if letter == "q" and isinstance(value, int) and not isinstance(value, bool):
        raise RenderError("printf does not support %q for numbers")
    return f"%!{letter}({_with_kind(value)})"


def _with_kind(value: Value) -> str:
    return "<nil>" if value is None else f"{kind_of(value)}={shown(value)}"


def quoted(text: str) -> str:
    """As a string constant of Go's."""

    def escaped(character: str) -> str:
        if character in _QUOTED:
            return _QUOTED[character]
        code = ord(character)
        if 0xDC80 <= code < 0xDD00:
            return f"\\x{code - 0xDC00:02x}"
        if character.isprintable():
            return character
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return f'"{"".join(map(escaped, text))}"'
