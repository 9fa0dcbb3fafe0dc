"""The template of error pages as the router holds it: read once, checked, and rendered for one answer after another."""

from __future__ import annotations

from typing import Final

from router.error_template.compiler import compiled
from router.error_template.expressions import Run
from router.error_template.scanner import TemplateError
from router.error_template.syntax import parse
from router.error_template.values import Header, Page, RenderError, Strings, canonical

MAX_BYTES: Final = 1024 * 1024
"""Of a template's file."""

__all__ = ["MAX_BYTES", "ErrorTemplate", "RenderError", "TemplateError", "header"]


class ErrorTemplate:
    """What ``html_error_template_file`` names."""

    def __init__(self, source: str, where: str) -> None:
        """From its text, MAX_BYTES at most; errors call it ``where``. Raises TemplateError: wrong, or not supported."""
        self._main = compiled(parse(source, where), where)

    def render(self, status: int, status_text: str, message: str, fields: Header) -> bytes:
        """The page for one answer. Raises RenderError."""
        run = Run()
        self._main(run, Page(status, status_text, message, fields))
        return "".join(run.out).encode(errors="surrogateescape")


def header(lines: bytes) -> Header:
    """Field lines, each with its CRLF, as the template's .Header."""
    found: dict[str, list[str]] = {}
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.decode(errors="surrogateescape").partition(":")
        found.setdefault(canonical(name), []).append(value.strip(" \t"))
    return Header({name: Strings(values) for name, values in found.items()})
