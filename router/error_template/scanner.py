"""Takes a template apart: text, and the words inside ``{{ }}``. Knows lines, trim markers and comments, not grammar."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SPACES: Final = " \t\r\n"

TEXT, OPEN, CLOSE, END = "text", "{{", "}}", "end of file"
"""Kinds of tokens that are not words inside an action; the kinds of those are the names in ``_WORD``."""


class TemplateError(Exception):
    """A template that cannot be used; the message begins with its file and line."""

    def __init__(self, where: str, line: int, problem: str) -> None:
        super().__init__(f"{where}:{line}: {problem}")


class Token(NamedTuple):
    kind: str
    text: str
    line: int
    spaced: bool = False
    """Whether white space stands before it."""


_OPENING: Final = re.compile(r"\{\{(?:(-)[ \t\r\n])?")
_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_CLOSING: Final = re.compile(r"(?:(?<=[ \t\r\n])(-))?\}\}")
_NUMBER: Final = (
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?|0[oO][0-7_]*|0[bB][01_]*"
    r"|[0-9_]*\.?[0-9_]*(?:[eE][+-]?[0-9_]*)?)i?"
)
_WORD: Final = re.compile(
    rf"""
      (?P<string>"(?:\\[^\n]|[^"\\\n])*"|`[^`]*`)
    | (?P<char>'(?:\\[^\n]|[^'\\\n])*')
    | (?P<declare>:=)
    | (?P<symbol>[=|,()])
    | (?P<variable>\$\w*)
    | (?P<field>\.[^\W\d]\w*)
    | (?P<number>(?=[+-]?\.?[0-9]){_NUMBER})
    | (?P<dot>\.)
    | (?P<word>\w+)
    """,
    re.VERBOSE,
)
_NEEDS_AN_END: Final = frozenset(("variable", "field", "word", "number", "dot"))
_ENDS_A_NAME: Final = re.compile(r"[ \t\r\n.,|:()]|\}\}|\Z")


def tokens(source: str, where: str) -> list[Token]:
    """All of ``source``, whose name is ``where``. Raises TemplateError."""
    found: list[Token] = []
    at, line, trims = 0, 1, False
    while True:
        opening = _OPENING.search(source, at)
        text = source[at : opening.start() if opening else len(source)]
        kept = text.lstrip(SPACES) if trims else text
        if opening is not None and opening[1]:
            kept = kept.rstrip(SPACES)
        if kept:
            found.append(Token(TEXT, kept, line + text[: text.index(kept)].count("\n")))
        line += text.count("\n")
        if opening is None:
            found.append(Token(END, "", line))
            return found
        at = opening.end()
        began = line
        line += opening[0].count("\n")
        if source.startswith("/*", at):
            at, trims = _comment(source, at, where, began)
        else:
            found.append(Token(OPEN, "{{", began))
            at, trims = _action(source, at, where, line, found)
        line = began + source.count("\n", opening.start(), at)


def _comment(source: str, at: int, where: str, line: int) -> tuple[int, bool]:
    comment = _COMMENT.match(source, at)
    if comment is None:
        raise TemplateError(where, line, "a comment that does not end; close it with */}}")
    closing = re.compile(r"(?:[ \t\r\n](-))?\}\}").match(source, comment.end())
    if closing is None:
        raise TemplateError(where, line, "}} must follow the */ of a comment at once")
    return closing.end(), bool(closing[1])


def _action(source: str, at: int, where: str, line: int, found: list[Token]) -> tuple[int, bool]:
    """The words of one action; returns where it ends and whether it trims what follows."""
    opened, depth = line, 0
    while True:
        start = at
        while source[at : at + 1] and source[at] in SPACES:
            at += 1
        line += source.count("\n", start, at)
        closing = _CLOSING.match(source, at)
        if closing is not None:
            if depth:
                raise TemplateError(where, line, "unclosed left paren")
            found.append(Token(CLOSE, "}}", line, at > start))
            return closing.end(), bool(closing[1])
        if at == len(source):
            raise TemplateError(where, opened, "an action that does not end; close it with }}")
        word = _WORD.match(source, at)
        if word is None or word.lastgroup is None:
            raise TemplateError(where, line, f"unexpected {source[at]!r} in an action")
        if word.lastgroup in _NEEDS_AN_END and not _ENDS_A_NAME.match(source, word.end()):
            what = "number" if word.lastgroup == "number" else "name"
            raise TemplateError(where, line, f"unexpected {source[word.end()]!r} after the {what} {word[0]}")
        depth += (word[0] == "(") - (word[0] == ")")
        if depth < 0:
            raise TemplateError(where, line, "unexpected right paren")
        found.append(Token(word.lastgroup, word[0], line, at > start))
        line += word[0].count("\n")
        at = word.end()
