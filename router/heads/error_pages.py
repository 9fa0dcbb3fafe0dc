"""``html_error_template_file``: the router's own answers as pages of the operator's (gorouter reference 4.4).

The supervisor reads the file, at the start and on SIGHUP, and hands its text to the workers: a worker that starts while
somebody edits the file serves what was checked. A page that cannot be rendered never costs the answer, only its looks.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from router.config.config_file import ConfigError
from router.error_template.template import MAX_BYTES, ErrorTemplate, TemplateError, header
from router.heads.answers import reason

if TYPE_CHECKING:
    from router.config.settings import Settings
    from router.exchange import Exchange
    from router.heads.answers import Answer

INLINE: Final = "millrace.html_error_template"


class ErrorPages:
    """What answers wear. One per worker."""

    __slots__ = ("_template",)

    def __init__(self, template: ErrorTemplate) -> None:
        self._template = template

    @classmethod
    def from_settings(cls, settings: Settings) -> ErrorPages:
        """Of settings that name a template. Raises ConfigError."""
        file = settings.html_error_template_file
        return cls(_compiled(settings.millrace.html_error_template or _read(file), file or INLINE))

    def dressed(self, exchange: Exchange, answer: Answer) -> Answer:
        """The answer with its page, or as it is: what only says that an endpoint failed stays text, as in Gorouter."""
        if not answer.has_words or answer.closes:
            return answer
        fields = header(answer.named_fields + exchange.id_field)
        try:
            page = self._template.render(answer.status, reason(answer.status), answer.body, fields)
        except Exception as error:  # a RenderError, or a fault of ours: the answer goes out in any case
            exchange.edge.request_log.say(exchange, logging.ERROR, "render-error-failed", {"error": str(error)})
            return answer
        return answer._replace(page=page)


def with_template_read(settings: Settings) -> Settings:
    """Settings that hold the text of the file beside its path. Raises ConfigError: it cannot be read or used."""
    file = settings.html_error_template_file
    native = settings.millrace
    if file and native.html_error_template:
        raise ConfigError([f"html_error_template_file and {INLINE} are both set; keep one"])
    text = native.html_error_template or (_read(file) if file else "")
    if text:
        _compiled(text, file or INLINE)
    return replace(settings, millrace=replace(native, html_error_template=text))


def _read(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        raise ConfigError([f"Could not read HTML error template file: open {file}: {why}"]) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError([f"html_error_template_file: {file} is larger than {MAX_BYTES} bytes; this is no error page"])
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"html_error_template_file: {file}:{line}: not UTF-8; save the file as UTF-8"]) from None


def _compiled(text: str, where: str) -> ErrorTemplate:
    try:
        return ErrorTemplate(text, where)
    except TemplateError as error:
        raise ConfigError([f"html_error_template_file: {error}"]) from None
