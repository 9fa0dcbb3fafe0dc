"""What HTML attributes hold: text, a URL, a script, a style. A name that is not known is judged by its looks."""

from __future__ import annotations

from typing import Final

ORDINARY, URL, SCRIPT, STYLE, URL_LIST = "text", "url", "script", "style", "srcset"
DELICATE: Final = "delicate"
"""Text that decides how something else is read or sent: never to be named by a value."""

_URLS_WORDS: Final = (
    "action archive background cite classid codebase data formaction href icon longdesc manifest poster profile src "
    "usemap xmlns"
)
_URLS: Final = frozenset(_URLS_WORDS.split())
_DELICATE_WORDS: Final = (
    "accept-charset async challenge charset content crossorigin defer enctype form formenctype formmethod "
    "formnovalidate http-equiv keytype language method novalidate pattern rel sandbox srcdoc type value"
)
_DELICATE: Final = frozenset(_DELICATE_WORDS.split())


def kind_of(name: str) -> str:
    """Of an attribute, given in lower case."""
    if name.startswith("data-"):
        name = name[5:]
    elif ":" in name:
        prefix, _, name = name.partition(":")
        if prefix == "xmlns":
            return URL
    if name in _URLS:
        return URL
    if name == "style":
        return STYLE
    if name == "srcset":
        return URL_LIST
    if name in _DELICATE:
        return DELICATE
    if name.startswith("on"):
        return SCRIPT
    if name != "srclang" and any(word in name for word in ("src", "uri", "url")):
        return URL
    return ORDINARY
