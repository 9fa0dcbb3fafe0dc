"""JavaScript as far as a page's template has to know it: strings, comments, and what a slash begins.

A ``step`` takes what of the text stays in one state, and returns the place behind it, how far it got, and how many
characters of that begin a comment.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from router.error_template.place import (
    DIVISION,
    EITHER,
    JS,
    JS_BLOCK_COMMENT,
    JS_DOUBLE,
    JS_LINE_COMMENT,
    JS_REGEXP,
    JS_SINGLE,
    JS_TEMPLATE,
    REGEXP,
    Misplaced,
    Place,
)

Step = tuple[Place, int, int]

_SPACES: Final = (
    "\f\n\r\t\v \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f"
    "\u3000\ufeff"
)
_TURN: Final = re.compile(r"//|/\*|<!--|-->|#!|[\"'`/{}<\-#]")
_LINE_COMMENTS: Final = frozenset(("//", "<!--", "-->", "#!"))
_QUOTES: Final = {'"': JS_DOUBLE, "'": JS_SINGLE, "`": JS_TEMPLATE}
_BEFORE_REGEXP: Final = re.compile(
    r"(?:(?<![\w$])(?:break|case|continue|delete|do|else|finally|in|instanceof|return|throw|try|typeof|void)"
    r"|[,<>=*%&|^?!~(\[:;{}])\Z",
    re.ASCII,
)
_LITERAL: Final = {
    JS_DOUBLE: re.compile(r'\\.?|"', re.DOTALL),
    JS_SINGLE: re.compile(r"\\.?|'", re.DOTALL),
    JS_REGEXP: re.compile(r"\\.?|(?<=<)(?i:/script)|[/\[\]]", re.DOTALL | re.ASCII),
    JS_TEMPLATE: re.compile(r"\\.?|`|\$\{", re.DOTALL),
}
LINE_END: Final = re.compile("[\n\r\u2028\u2029]")


def step(place: Place, text: str, at: int, end: int) -> Step:
    """Raises Misplaced."""
    state = place.state
    if state == JS:
        return _code(place, text, at, end)
    if state == JS_BLOCK_COMMENT:
        found = text.find("*/", at, end)
        return (place, end, 0) if found < 0 else (replace(place, state=JS), found + 2, 0)
    if state == JS_LINE_COMMENT:
        line_end = LINE_END.search(text, at, end)
        return (place, end, 0) if line_end is None else (replace(place, state=JS), line_end.start(), 0)
    return _literal(place, text, at, end)


def _code(place: Place, text: str, at: int, end: int) -> Step:
    turn = _TURN.search(text, at, end)
    place = replace(place, slash=_slash_after(text[at : turn.start() if turn else end], place.slash))
    if turn is None:
        return place, end, 0
    sign, to = turn[0], turn.end()
    if sign in _LINE_COMMENTS:
        return replace(place, state=JS_LINE_COMMENT), to, len(sign)
    if sign == "/*":
        return replace(place, state=JS_BLOCK_COMMENT), to, 2
    if sign in _QUOTES:
        return replace(place, state=_QUOTES[sign], slash=REGEXP), to, 0
    if sign == "/":
        if place.slash == EITHER:
            raise Misplaced(f"a / that may begin a division or a regular expression: {text[turn.start() : to + 30]!r}")
        return (replace(place, state=JS_REGEXP) if place.slash == REGEXP else replace(place, slash=REGEXP)), to, 0
    if sign in "{}":
        place = replace(place, slash=REGEXP)
        if place.braces:
            *outer, inner = place.braces
            inner += 1 if sign == "{" else -1
            if inner < 0:
                return replace(place, state=JS_TEMPLATE, braces=tuple(outer)), to, 0
            place = replace(place, braces=(*outer, inner))
    return place, to, 0


def _slash_after(code: str, before: int) -> int:
    """What a slash begins behind code without strings, comments and slashes; ``before``: what it began ahead of it."""
    code = code.rstrip(_SPACES)
    if not code:
        return before
    last = code[-1]
    if last in "+-":  # an odd one out is an operator; pairs are ++ and --
        return REGEXP if (len(code) - len(code.rstrip(last))) % 2 else DIVISION
    if last == ".":
        return DIVISION if code[-2:-1].isascii() and code[-2:-1].isdigit() else REGEXP
    return REGEXP if _BEFORE_REGEXP.search(code, max(0, len(code) - 16)) else DIVISION


def _literal(place: Place, text: str, at: int, end: int) -> Step:
    """A string, a template literal or a regular expression, up to its end or the text's."""
    in_class = False
    for sign in _LITERAL[place.state].finditer(text, at, end):
        match sign[0]:
            case "\\":
                raise Misplaced("an escape in JavaScript that has no end before the action or the end")
            case "[":
                in_class = True
            case "]":
                in_class = False
            case "${":
                return replace(place, state=JS, braces=(*place.braces, 0)), sign.end(), 0
            case "`":
                return replace(place, state=JS), sign.end(), 0
            case '"' | "'" | "/" if not in_class:
                return replace(place, state=JS, slash=DIVISION), sign.end(), 0
    if in_class:
        raise Misplaced("a character class of a JavaScript regular expression that is not closed")
    return place, end, 0
