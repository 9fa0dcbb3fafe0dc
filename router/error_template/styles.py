"""CSS as far as a page's template has to know it: strings, URLs, comments and escapes. ``step`` is as in `scripts`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from router.error_template.place import (
    CSS,
    CSS_BLOCK_COMMENT,
    CSS_DOUBLE,
    CSS_DOUBLE_URL,
    CSS_LINE_COMMENT,
    CSS_SINGLE,
    CSS_SINGLE_URL,
    CSS_URL,
    PATH,
    QUERY,
    START,
    Misplaced,
    Place,
)
from router.error_template.scripts import Step

_SPACES: Final = "\t\n\f\r "
_TURN: Final = re.compile(
    r"(?P<url>(?<![a-zA-Z0-9_\x80-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff-])(?i:url)[\t\n\f\r ]*\([\t\n\f\r ]*[\"']?)"
    r"|//|/\*|[\"']",
    re.ASCII,
)
_URL_STATES: Final = {'"': CSS_DOUBLE_URL, "'": CSS_SINGLE_URL}
_STRING_STATES: Final = {'"': CSS_DOUBLE, "'": CSS_SINGLE}
_DOUBLE, _SINGLE = re.compile(r'\\.?|"', re.DOTALL), re.compile(r"\\.?|'", re.DOTALL)
_STRING: Final = {
    CSS_DOUBLE: _DOUBLE,
    CSS_DOUBLE_URL: _DOUBLE,
    CSS_SINGLE: _SINGLE,
    CSS_SINGLE_URL: _SINGLE,
    CSS_URL: re.compile(r"\\.?|[\t\n\f\r )]", re.DOTALL),
}
_LINE_END: Final = re.compile("[\n\f\r]")
_ESCAPE: Final = re.compile(
    r"\\(?:((?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4}|[0-9a-fA-F]{1,5})(?:\r\n|[\t\n\f\r ])?|(.))|\\\Z", re.DOTALL
)


def step(place: Place, text: str, at: int, end: int) -> Step:
    """Raises Misplaced."""
    state = place.state
    if state == CSS:
        return _rules(place, text, at, end)
    if state == CSS_BLOCK_COMMENT:
        found = text.find("*/", at, end)
        return (place, end, 0) if found < 0 else (replace(place, state=CSS), found + 2, 0)
    if state == CSS_LINE_COMMENT:
        line_end = _LINE_END.search(text, at, end)
        return (place, end, 0) if line_end is None else (replace(place, state=CSS), line_end.start(), 0)
    return _string(place, text, at, end)


def _rules(place: Place, text: str, at: int, end: int) -> Step:
    turn = _TURN.search(text, at, end)
    if turn is None:
        return place, end, 0
    sign, to = turn[0], turn.end()
    if turn["url"]:
        return replace(place, state=_URL_STATES.get(sign[-1], CSS_URL)), to, 0
    if sign == "//":
        return replace(place, state=CSS_LINE_COMMENT), to, 2
    if sign == "/*":
        return replace(place, state=CSS_BLOCK_COMMENT), to, 2
    return replace(place, state=_STRING_STATES[sign]), to, 0


def _string(place: Place, text: str, at: int, end: int) -> Step:
    """A string or a URL, up to its end or the text's. All are taken for URLs: some are, and it harms no other."""
    before = at
    for sign in _STRING[place.state].finditer(text, at, end):
        if sign[0] == "\\":
            raise Misplaced("an escape in CSS that has no end before the action or the end")
        if sign[0][0] != "\\":
            return replace(place, state=CSS), sign.end(), 0
        at = sign.end()
        place = replace(place, url=url_after(decoded(text[before:at]), place.url))
        before = sign.start()
    return replace(place, url=url_after(decoded(text[at:end]), place.url)), end, 0


def url_after(text: str, before: int) -> int:
    """How far a URL has come behind ``text``."""
    if "#" in text or "?" in text:
        return QUERY
    return PATH if before == START and text.strip(_SPACES) else before


def decoded(text: str) -> str:
    """What CSS with escapes in it says."""

    def meant(match: re.Match[str]) -> str:
        if match[1]:
            code = int(match[1], 16)
            return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)
        return match[2] or ""

    return _ESCAPE.sub(meant, text) if "\\" in text else text
