"""What makes a value harmless in its place: text to text, by the names that html/template's own functions suggest.

Each escaper takes the text of a value, but for ``js``, which takes the value and writes a JavaScript expression. What
cannot be made harmless becomes ``ZgotmplZ``, as there, so that it can be searched for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from router.error_template.attributes import ORDINARY, kind_of
from router.error_template.styles import decoded
from router.error_template.values import Value, as_json, octets, printed

UNSAFE: Final = "ZgotmplZ"


def text_of(value: Value) -> str:
    """What an escaper of text is given. Raises RenderError."""
    return "" if value is None else printed((value,))


# HTML -----------------------------------------------------------------------------------------------------------------

_HTML: Final[dict[str | int, str]] = {
    0: "\ufffd",
    '"': "&#34;",
    "&": "&amp;",
    "'": "&#39;",
    "+": "&#43;",
    "<": "&lt;",
    ">": "&gt;",
}
_IN_PAGE: Final = str.maketrans(_HTML)
_UNQUOTED: Final = str.maketrans(
    {
        **_HTML,
        0: "&#xfffd;",
        **{character: f"&#{ord(character)};" for character in "\t\n\v\f\r =`"},
        **{code: f"&#x{code:x};" for code in (*range(0xFDD0, 0xFDF0), *range(0xFFF0, 0x10000))},
        **dict.fromkeys(range(0xDC80, 0xDD00), "&#xfffd;"),
    }
)
_BY_HAND: Final = str.maketrans({code: entity for code, entity in _HTML.items() if code != "+"})
_NAME: Final = re.compile("[0-9a-z]+")


def html(text: str) -> str:
    """In the text of a page, in a title, in an attribute's value with quotes."""
    return text.translate(_IN_PAGE)


def html_unquoted(text: str) -> str:
    """In an attribute's value without quotes."""
    return text.translate(_UNQUOTED) or UNSAFE


def html_by_hand(text: str) -> str:
    """The template function html."""
    return text.translate(_BY_HAND)


def html_name(text: str) -> str:
    """As an attribute's name."""
    name = text.lower()
    return name if _NAME.fullmatch(name) and kind_of(name) == ORDINARY else UNSAFE


def nothing(_text: str) -> str:
    """In a comment."""
    return ""


# URLs -----------------------------------------------------------------------------------------------------------------

_UNRESERVED: Final = frozenset(b"-._~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_RESERVED: Final = frozenset(b"!#$&*+,/:;=?@[]")
_ENCODED: Final = [chr(c) if c in _UNRESERVED else f"%{c:02x}" for c in range(256)]
_NORMALIZED: Final = [chr(c) if c in _UNRESERVED | _RESERVED else f"%{c:02x}" for c in range(256)]
_IN_QUERY: Final = ["+" if c == 0x20 else chr(c) if c in _UNRESERVED else f"%{c:02X}" for c in range(256)]
_ESCAPED: Final = re.compile("(%[0-9a-fA-F]{2})")


def url_filter(text: str) -> str:
    """As the beginning of a URL: only schemes that cannot run anything."""
    scheme, colon, _ = text.partition(":")
    if colon and "/" not in scheme and scheme.lower() not in ("http", "https", "mailto"):
        return f"#{UNSAFE}"
    return text


def url_normalized(text: str) -> str:
    """As a URL up to its query: what it says remains."""
    parts = _ESCAPED.split(text)
    parts[::2] = ["".join([_NORMALIZED[octet] for octet in octets(part)]) for part in parts[::2]]
    return "".join(parts)


def url_encoded(text: str) -> str:
    """In a query or fragment: it says nothing but itself."""
    return "".join([_ENCODED[octet] for octet in octets(text)])


def url_query_by_hand(text: str) -> str:
    """The template function urlquery."""
    return "".join([_IN_QUERY[octet] for octet in octets(text)])


# JavaScript -----------------------------------------------------------------------------------------------------------

_JS_SHORT: Final[dict[str | int, str]] = {"\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r", "/": r"\/", "\\": r"\\"}
_JS_LONG: Final = {code: f"\\u{code:04x}" for code in (*range(0x20), *b"\"`&'+<>", 0x2028, 0x2029)}
_JS_TEXT: Final = {**_JS_LONG, **str.maketrans(_JS_SHORT)}
_JS_TEMPLATE: Final = {**_JS_TEXT, **{code: f"\\u{code:04x}" for code in b"${}"}}
_JS_BY_HAND: Final = {
    **{code: f"\\u{code:04X}" for code in (*range(0x20), *b"<>&=")},
    **{ord(character): "\\" + character for character in "\\'\""},
}
_PART_OF_A_NAME: Final = re.compile(r"[$\w]", re.ASCII)


def js(value: Value) -> str:
    """As an expression. Names and numbers get spaces around them, lest they grow together with what is beside."""
    text = as_json(value)
    if _PART_OF_A_NAME.match(text[0]) or _PART_OF_A_NAME.match(text[-1]):
        return f" {text} "
    return text


def js_text(text: str) -> str:
    """In a string."""
    return text.translate(_JS_TEXT)


def js_template(text: str) -> str:
    """In a template literal."""
    return text.translate(_JS_TEMPLATE)


def js_by_hand(text: str) -> str:
    """The template function js."""

    def escaped(character: str) -> str:
        code = ord(character)
        if code < 0x80:
            return _JS_BY_HAND.get(code, character)
        is_octet = 0xDC80 <= code < 0xDD00
        return character if is_octet or character.isprintable() else f"\\u{code:04X}"

    return "".join(map(escaped, text))


# CSS ------------------------------------------------------------------------------------------------------------------

_CSS: Final = {**{character: f"\\{ord(character):x}" for character in "\0\t\n\f\r\"&'()+/:;<>{}"}, "\\": r"\\"}
_IN_CSS: Final = re.compile("[\0\t\n\f\r\"&'()+/:;<>{}\\\\](?=([0-9a-fA-F\t\n\f\r ]|\\Z)?)")
_NEVER_IN_CSS: Final = re.compile("[\0\"'()/;@\\[\\\\\\]`{}<>]|--")
_NO_CSS_NAME: Final = re.compile("[^a-zA-Z0-9_]+")


def css_text(text: str) -> str:
    """In a string."""

    def escaped(match: re.Match[str]) -> str:
        return _CSS[match[0]] + " " * (match[1] is not None and match[0] != "\\")

    return _IN_CSS.sub(escaped, text)


def css_value(text: str) -> str:
    """As a value, a part of one or a name: only what cannot end it, open anything or run."""
    meant = decoded(text)
    name = _NO_CSS_NAME.sub("", meant).lower()
    return UNSAFE if _NEVER_IN_CSS.search(meant) or "expression" in name or "mozbinding" in name else meant


Escaper = Callable[[str], str]
