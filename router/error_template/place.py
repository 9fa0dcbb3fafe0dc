"""A place in an HTML page: what a browser takes the next character for. `markup` says how text leads to the next.

The places and their parts are those of html/template, so that the same action is refused, or made harmless in the same
way, as there.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from router.error_template.attributes import ORDINARY, SCRIPT, STYLE, URL_LIST
from router.error_template.attributes import URL as HOLDS_URL

TEXT: Final = "the text of the page"
COMMENT: Final = "an HTML comment"
RCDATA: Final = "the text of a title or textarea"
TAG: Final = "a tag"
NAME: Final = "the name of an attribute"
AFTER_NAME: Final = "a tag behind an attribute's name"
BEFORE_VALUE: Final = "a tag before an attribute's value"
VALUE: Final = "the value of an attribute"
URL: Final = "a URL"
SRCSET: Final = "a srcset attribute"
META: Final = "the content of a meta element"
META_URL: Final = "a URL in a meta element"
JS: Final = "JavaScript"
JS_DOUBLE: Final = "a JavaScript string in double quotes"
JS_SINGLE: Final = "a JavaScript string in single quotes"
JS_REGEXP: Final = "a JavaScript regular expression"
JS_TEMPLATE: Final = "a JavaScript template literal"
JS_BLOCK_COMMENT: Final = "a JavaScript comment"
JS_LINE_COMMENT: Final = "a JavaScript comment of one line"
CSS: Final = "CSS"
CSS_DOUBLE: Final = "a CSS string in double quotes"
CSS_SINGLE: Final = "a CSS string in single quotes"
CSS_DOUBLE_URL: Final = "a CSS URL in double quotes"
CSS_SINGLE_URL: Final = "a CSS URL in single quotes"
CSS_URL: Final = "a CSS URL"
CSS_BLOCK_COMMENT: Final = "a CSS comment"
CSS_LINE_COMMENT: Final = "a CSS comment of one line"
"""States. Their words are for messages."""

JS_COMMENTS: Final = frozenset((JS_BLOCK_COMMENT, JS_LINE_COMMENT))
COMMENTS: Final = JS_COMMENTS | {COMMENT, CSS_BLOCK_COMMENT, CSS_LINE_COMMENT}
JS_LITERALS: Final = frozenset((JS_DOUBLE, JS_SINGLE, JS_REGEXP, JS_TEMPLATE))

OUTSIDE, DOUBLE, SINGLE, UNQUOTED = "", '"', "'", " "
"""How an attribute's value is delimited; OUTSIDE of one."""

START, PATH, QUERY, ANY_PART = range(4)
"""How far a URL has come; ANY_PART: branches of the template come to different parts."""

REGEXP, DIVISION, EITHER = range(3)
"""What a slash would begin in JavaScript."""

SCRIPT_TYPE, META_CONTENT = "script type", "meta content"
"""Kinds of attributes besides those of `attributes`: what they hold concerns the element itself."""

VALUE_STATES: Final = {
    SCRIPT: JS,
    STYLE: CSS,
    HOLDS_URL: URL,
    URL_LIST: SRCSET,
    META_CONTENT: META,
}
"""Where a value begins, by the kind of its attribute; VALUE for all other kinds."""


class Misplaced(Exception):
    """Text or a branch that leads to no certain place; says why."""

    at = 0
    """Where in the text."""


@dataclass(frozen=True, slots=True)
class Place:
    state: str = TEXT
    delimiter: str = OUTSIDE
    element: str = ""
    """script, style, textarea, title or meta, while its tag or its content lasts."""
    kind: str = ORDINARY
    """Of the attribute, from its name on."""
    url: int = START
    slash: int = REGEXP
    braces: tuple[int, ...] = ()
    """How many are open in each ``${ }`` of the JavaScript template literals around."""


def settled(place: Place) -> Place:
    """Where an action stands that comes right behind: it begins what a character there would begin."""
    if place.state == TAG:
        return replace(place, state=NAME)
    if place.state == AFTER_NAME:
        return replace(place, state=NAME, kind=ORDINARY)
    if place.state == BEFORE_VALUE:
        state = VALUE_STATES.get(place.kind, VALUE)
        return replace(place, state=state, delimiter=UNQUOTED, kind=ORDINARY)
    return place


def joined(one: Place, other: Place, word: str) -> Place:
    """Where two branches of a ``word`` meet. Raises Misplaced where they do not."""
    if one == other:
        return one
    if replace(one, url=other.url) == other:
        return replace(one, url=ANY_PART)
    if replace(one, slash=other.slash) == other:
        return replace(one, slash=EITHER)
    nearer = settled(one), settled(other)
    if nearer != (one, other):
        with suppress(Misplaced):
            return joined(*nearer, word)
    raise Misplaced(f"the branches of {{{{{word}}}}} end in different places: {one.state}, and {other.state}")
