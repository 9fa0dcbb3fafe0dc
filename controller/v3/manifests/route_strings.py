"""Routes as manifests write them: ``[scheme://]host.domain[:port][/path]``, and where the host may end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ROUTE: Final = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?"
    r"(?P<name>[A-Za-z0-9*_](?:[A-Za-z0-9*_.-]*[A-Za-z0-9_])?)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^\s?#]*)?"
)
_SCHEMES: Final = {False: ("http", "https"), True: ("tcp",)}
"""By whether there is a port."""


class NotARoute(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class RouteString:
    """Names and paths in lower case."""

    name: str
    port: int
    """0: none."""
    path: str

    @classmethod
    def parse(cls, text: str) -> RouteString:
        """Raises NotARoute."""
        match = _ROUTE.fullmatch(text.strip())
        if match is None or ".." in match["name"] or match["name"] == "*":
            raise NotARoute(text)
        scheme, port = match["scheme"], int(match["port"] or 0)
        if (match["port"] and not 0 < port < 2**16) or (scheme and scheme.lower() not in _SCHEMES[bool(port)]):
            raise NotARoute(text)
        path = (match["path"] or "").lower()
        return cls(match["name"].lower(), port, "" if path == "/" else path)

    def __str__(self) -> str:
        """As the API shows the URL of a route."""
        return f"{self.name}:{self.port}" if self.port else self.name + self.path

    def candidates(self) -> list[tuple[str, str]]:
        """Host and domain, the longest domain first: all of it, then without the first label, and so on."""
        labels = self.name.split(".")
        if labels[0] == "*":
            return [("*", ".".join(labels[1:]))]
        return [(".".join(labels[:at]), ".".join(labels[at:])) for at in range(len(labels))]
