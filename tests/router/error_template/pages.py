"""What the tests of error pages share: a template rendered for one answer."""

from __future__ import annotations

from router.error_template.template import ErrorTemplate
from router.error_template.values import Header, Strings

HEADER = Header(
    {
        "Cache-Control": Strings(("no-cache, no-store", "second")),
        "X-Cf-Routererror": Strings(("unknown_route",)),
    }
)


def render(source: str, message: str = "m", *, status: int = 404, text: str = "Not Found") -> str:
    """The page for an answer. Raises TemplateError, RenderError."""
    return ErrorTemplate(source, "error.html").render(status, text, message, HEADER).decode(errors="surrogateescape")
