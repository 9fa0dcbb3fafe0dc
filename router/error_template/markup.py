"""HTML as a browser reads it, from place to place: tags, attributes, their values, and elements that are special.

``after`` takes the text between two actions and says what of it is sent. Comments are left out. A ``<`` that begins no
tag becomes ``&lt;``, and in JavaScript's strings what would begin or end a script is written with an escape. Where
browsers could differ about the place, the text is refused rather than guessed at.
"""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Final

from router.error_template import scripts, styles
from router.error_template.attributes import DELICATE, ORDINARY, kind_of
from router.error_template.place import (
    AFTER_NAME,
    BEFORE_VALUE,
    COMMENT,
    COMMENTS,
    CSS,
    CSS_BLOCK_COMMENT,
    DOUBLE,
    JS,
    JS_BLOCK_COMMENT,
    JS_COMMENTS,
    JS_LITERALS,
    META,
    META_CONTENT,
    META_URL,
    NAME,
    OUTSIDE,
    RCDATA,
    SCRIPT_TYPE,
    SINGLE,
    SRCSET,
    TAG,
    TEXT,
    UNQUOTED,
    URL,
    VALUE,
    VALUE_STATES,
    Misplaced,
    Place,
)
from router.error_template.scripts import Step

_FOLDED: Final = re.IGNORECASE | re.ASCII
"""Upper and lower case of the Latin letters alone: browsers do not take others for them."""
_SPACES: Final = " \t\n\f\r"
_SPACE: Final = re.compile(f"[{_SPACES}]*")
_TAG: Final = re.compile(r"<!--|<(/?)([A-Za-z](?:[A-Za-z0-9]|[:-][A-Za-z0-9])*)")
_STRAY: Final = re.compile(r"<(?!!doctype)", _FOLDED)
_NAME: Final = re.compile(f"[^{_SPACES}=>]*")
_NEVER_IN_NAMES: Final = re.compile("['\"<]")
_VALUE_END: Final = {DOUBLE: re.compile('"'), SINGLE: re.compile("'"), UNQUOTED: re.compile(f"[{_SPACES}>]")}
_NEVER_UNQUOTED: Final = re.compile("[\"'<=`]")
_META_URL: Final = re.compile(f"url(?=.)[{_SPACES}]*=", _FOLDED | re.DOTALL)
_CONTENT: Final = {"script": JS, "style": CSS, "textarea": RCDATA, "title": RCDATA}
"""What is inside of special elements."""
_ELEMENT_END: Final = {name: re.compile(f"</{name}(?=[> \t\n\f/])", _FOLDED) for name in _CONTENT}
_SCRIPT_TAG: Final = re.compile("<(script|/script|!--)", _FOLDED)
_SCRIPT_TYPES_WORDS: Final = (
    "application/ecmascript application/javascript application/json application/ld+json application/x-ecmascript "
    "application/x-javascript module text/ecmascript text/javascript text/javascript1.0 text/javascript1.1 "
    "text/javascript1.2 text/javascript1.3 text/javascript1.4 text/javascript1.5 text/jscript text/livescript "
    "text/x-ecmascript text/x-javascript"
)
_SCRIPT_TYPES: Final = frozenset(_SCRIPT_TYPES_WORDS.split()) | {""}


def after(place: Place, text: str) -> tuple[Place, str]:
    """The place behind ``text`` and what of it is sent. Raises Misplaced."""
    sent: list[str] = []
    at, element_end = 0, -1
    try:
        while at < len(text):
            if place.delimiter != OUTSIDE:
                behind, to = _value(place, text, at)
                sent.append(_harmless(place, text[at:to]))
                place, at = behind, to
                continue
            end = len(text)
            if place.element in _CONTENT and not _swallows_end_tags(place):
                if element_end < at:
                    closing = _ELEMENT_END[place.element].search(text, at)
                    element_end = closing.start() if closing else end
                if element_end == at:
                    if at and place.state in COMMENTS:
                        sent.append(_instead_of_comment(place, ""))
                    place, element_end = Place(), -1
                    continue
                end = element_end
            behind, to, opened = _step(place, text, at, end)
            if place.state in (TEXT, RCDATA):
                tag = text.rfind("<", at, to) if behind.state != place.state else to
                sent += (_STRAY.sub("&lt;", text[at:tag]), text[tag : to - opened])
            elif place.state in COMMENTS:
                sent.append(_instead_of_comment(place, text[at:to]))
            else:
                sent.append(_harmless(place, text[at : to - opened]))
            if behind.element != place.element:
                element_end = -1
            place, at = behind, to
    except Misplaced as wrong:
        wrong.at = at
        raise
    return place, "".join(sent)


def _swallows_end_tags(place: Place) -> bool:
    """In a script's strings and comments </script> is not looked for: it would have to be written otherwise."""
    return place.element == "script" and (place.state in JS_LITERALS or place.state in JS_COMMENTS)


def _instead_of_comment(place: Place, comment: str) -> str:
    if place.state == JS_BLOCK_COMMENT:  # a line end in it may end a statement
        return "\n" if scripts.LINE_END.search(comment) else " "
    return " " if place.state == CSS_BLOCK_COMMENT else ""


def _harmless(place: Place, text: str) -> str:
    return _SCRIPT_TAG.sub(r"\\x3C\1", text) if place.state in JS_LITERALS else text


def _step(place: Place, text: str, at: int, end: int) -> Step:
    """Outside of attribute values. As `scripts.step`. Raises Misplaced."""
    state = place.state
    if state == TEXT:
        return _text(place, text, at, end)
    if state == COMMENT:
        found = text.find("-->", at, end)
        return (place, end, 0) if found < 0 else (Place(), found + 3, 0)
    if state == RCDATA:
        return place, end, 0
    if state in (TAG, NAME, AFTER_NAME, BEFORE_VALUE):
        return *_tag(place, text, at, end), 0
    return scripts.step(place, text, at, end) if place.element == "script" else styles.step(place, text, at, end)


def _text(place: Place, text: str, at: int, end: int) -> Step:
    tag = _TAG.search(text, at, end)
    if tag is None:
        return place, end, 0
    if tag[2] is None:
        return Place(COMMENT), tag.end(), 4
    name = tag[2].lower()
    element = name if not tag[1] and (name in _CONTENT or name == "meta") else ""
    return Place(TAG, element=element), tag.end(), 0


def _tag(place: Place, text: str, at: int, end: int) -> tuple[Place, int]:
    if place.state == NAME:
        name_end = _name_end(text, at, end)
        return (place if name_end == end else replace(place, state=AFTER_NAME)), name_end
    space = _SPACE.match(text, at, end)
    to = space.end() if space else at
    if to == end:
        return place, end
    if place.state == AFTER_NAME:
        return (replace(place, state=BEFORE_VALUE), to + 1) if text[to] == "=" else (replace(place, state=TAG), to)
    if place.state == BEFORE_VALUE:
        delimiter = text[to] if text[to] in (DOUBLE, SINGLE) else UNQUOTED
        state = VALUE_STATES.get(place.kind, VALUE)
        return replace(place, state=state, delimiter=delimiter), to + (delimiter != UNQUOTED)
    if text[to] == ">":
        content = _CONTENT.get(place.element)
        return (Place() if content is None else Place(content, element=place.element)), to + 1
    name_end = _name_end(text, to, end)
    if name_end == to:
        raise Misplaced(f"an attribute's name or the end of the tag is wanted, not {text[to : to + 20]!r}")
    kind = _kind(place.element, text[to:name_end].lower())
    return Place(NAME if name_end == end else AFTER_NAME, element=place.element, kind=kind), name_end


def _name_end(text: str, at: int, end: int) -> int:
    name = _NAME.match(text, at, end)
    to = name.end() if name else at
    if _NEVER_IN_NAMES.search(text, at, to):
        raise Misplaced(f"a quote or < in the name of an attribute: {text[at:to][:32]!r}")
    return to


def _kind(element: str, name: str) -> str:
    if element == "script" and name == "type":
        return SCRIPT_TYPE
    if element == "meta" and name == "content":
        return META_CONTENT
    kind = kind_of(name)
    return ORDINARY if kind == DELICATE else kind


def _value(place: Place, text: str, at: int) -> tuple[Place, int]:
    """In an attribute's value: the place at its end, or at the text's."""
    found = _VALUE_END[place.delimiter].search(text, at)
    to = found.start() if found else len(text)
    if place.delimiter == UNQUOTED and (bad := _NEVER_UNQUOTED.search(text, at, to)):
        raise Misplaced(f"{bad[0]!r} in an attribute's value without quotes: {text[at:to][:32]!r}")
    if found is None:
        return _within_value(place, html.unescape(text[at:])), to
    element = place.element
    if place.kind == SCRIPT_TYPE and place.state == VALUE and element == "script":
        essence = text[at:to].partition(";")[0].lower().strip()
        element = element if essence in _SCRIPT_TYPES else ""
    return Place(TAG, element=element), to + (place.delimiter != UNQUOTED)


def _within_value(place: Place, value: str) -> Place:
    """Behind the beginning of a value, entities decoded."""
    if place.state in (VALUE, SRCSET, URL):
        return place if place.state == VALUE else replace(place, url=styles.url_after(value, place.url))
    if place.state in (META, META_URL):
        return _within_meta(place, value)
    step = scripts.step if place.state in _SCRIPT_STATES else styles.step
    at = 0
    while at < len(value):
        place, at, _ = step(place, value, at, len(value))
    return place


_SCRIPT_STATES: Final = JS_LITERALS | JS_COMMENTS | {JS}


def _within_meta(place: Place, value: str) -> Place:
    at = 0
    while at < len(value):
        if place.state == META_URL:
            end = value.find(";", at)
            state, at = (META_URL, len(value)) if end < 0 else (META, end + 1)
        else:
            sign = _META_URL.search(value, at)
            state, at = (META, len(value)) if sign is None else (META_URL, sign.end())
        place = replace(place, state=state)
    return place
