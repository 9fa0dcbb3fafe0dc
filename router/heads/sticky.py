"""Sticky sessions: which instance a request asks for, and the cookie that tells a client its instance.

Follows gorouter reference 3.9. The application decides that a session exists, by setting one of the cookies in
``sticky_session_cookie_names``; the router adds ``__VCAP_ID__``, which names the instance. Everything here is a pure
function of header values, worked out once per distinct head; choosing an endpoint is `router.pool`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final, NamedTuple

from router.config.settings import Settings
from router.http1.fields import Line

COOKIE: Final = b"__VCAP_ID__"
_NEGOTIATE: Final = b"negotiate"
_NEGOTIATED: Final = b"; Max-Age=60; HttpOnly%b; SameSite=Strict"
"""Attributes of a session that an authentication of several steps needs, and that ends with it."""
_SAME_SITE: Final = {b"lax": b"Lax", b"strict": b"Strict", b"none": b"None"}
_NOT_IN_VALUES: Final = re.compile(rb"[^\x20\x21\x23-\x3a\x3c-\x5b\x5d-\x7e]")
_NOT_IN_PATHS: Final = re.compile(rb"[^\x20-\x3a\x3c-\x7e]")


class Wish(NamedTuple):
    """What a request asks for."""

    instance: str
    """A private_instance_id, or an endpoint's address."""
    must: bool
    """Whether no other instance will do: an authentication of several steps is under way."""


class Session(NamedTuple):
    """What a response says of its session."""

    named: bool
    """Whether the application sets ``__VCAP_ID__`` itself."""
    attributes: bytes | None
    """What follows the cookie's Path where the application sets a sticky cookie."""
    negotiates: bool
    """Whether an authentication of several steps begins."""


class StickyRules:
    """The settings' say in it."""

    __slots__ = ("_for_negotiate", "_names", "_secure")

    def __init__(self, settings: Settings) -> None:
        self._names = frozenset(name.encode() for name in settings.sticky_session_cookie_names)
        self._secure = settings.secure_cookies
        self._for_negotiate = settings.sticky_sessions_for_auth_negotiate

    def wish(self, cookies: Iterable[bytes], authorization: bytes) -> Wish | None:
        """What a request with these Cookie values and this Authorization asks for, None if any instance will do."""
        instance: bytes | None = None
        sticky = False
        for header in cookies:
            for pair in header.split(b";"):
                name, _, value = pair.strip(b" \t").partition(b"=")
                if name == COOKIE and instance is None:
                    instance = value.removeprefix(b'"').removesuffix(b'"')
                elif name in self._names:
                    sticky = True
        if not instance:
            return None
        must = self._for_negotiate and authorization[: len(_NEGOTIATE)].lower() == _NEGOTIATE
        return Wish(instance.decode("latin-1"), must) if sticky or must else None

    def session(self, lines: Iterable[Line]) -> Session | None:
        """What the fields of a response say; None for nothing, which is what nearly every response says."""
        named, negotiates = False, False
        attributes: bytes | None = None
        for line in lines:
            if line.name == b"set-cookie":
                name, _, _ = line.value.partition(b"=")
                name = name.strip(b" \t")
                named = named or name == COOKIE
                if attributes is None and name in self._names:
                    attributes = self._copied(line.value)
            elif line.name == b"www-authenticate" and self._for_negotiate:
                negotiates = negotiates or line.value[: len(_NEGOTIATE)].lower() == _NEGOTIATE
        if not named and attributes is None and not negotiates:
            return None
        return Session(named, attributes, negotiates)

    def cookie(self, session: Session | None, wanted: str | None, instance: str, path: bytes) -> bytes:
        """The Set-Cookie line for a response of ``instance`` to a request that wanted ``wanted``; empty for none.

        ``path``: where the route begins, as the client wrote it.
        """
        if not instance or (session is not None and session.named):
            return b""
        moved = wanted != instance
        secure = b"; Secure" if self._secure else b""
        if session is not None and session.negotiates and moved:
            attributes = _NEGOTIATED % secure
        elif session is not None and session.attributes is not None:
            attributes = session.attributes
        elif wanted is not None and moved:
            attributes = b"; HttpOnly" + secure
        else:
            return b""
        value = _NOT_IN_VALUES.sub(b"", instance.encode())
        if b" " in value or b"," in value:
            value = b'"%b"' % value
        return b"Set-Cookie: %b=%b; Path=%b%b\r\n" % (COOKIE, value, _as_cookies_say(path), attributes)

    def _copied(self, cookie: bytes) -> bytes:
        """The attributes that a sticky cookie hands down, in the order in which Go writes them."""
        found: dict[bytes, bytes] = {}
        for attribute in cookie.split(b";")[1:]:
            name, _, value = attribute.partition(b"=")
            found[name.strip(b" \t").lower()] = value.strip(b" \t")
        parts = [_expires(found.get(b"expires", b"")), _max_age(found.get(b"max-age", b"")), b"; HttpOnly"]
        if self._secure or b"secure" in found:
            parts.append(b"; Secure")
        same_site = _SAME_SITE.get(found.get(b"samesite", b"").lower())
        if same_site:
            parts.append(b"; SameSite=" + same_site)
        if b"partitioned" in found:
            parts.append(b"; Partitioned")
        return b"".join(parts)


def _expires(value: bytes) -> bytes:
    """Rewritten in the one form that every browser reads (RFC 9110 section 5.6.7); nothing for what is no date."""
    if not value:
        return b""
    try:
        moment = parsedate_to_datetime(value.decode("latin-1").replace("-", " "))
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return b"; Expires=" + format_datetime(moment, usegmt=True).encode()
    except (ValueError, OverflowError):
        return b""


def _max_age(value: bytes) -> bytes:
    """Only what ends a session is handed down: a cookie that lasts would outlive the instance it names."""
    return b"; Max-Age=0" if re.fullmatch(rb"-[0-9]+|[+]?0+", value) else b""


def _as_cookies_say(path: bytes) -> bytes:
    """As much of a path, by whole segments, as can stand in a cookie: a shorter one is met by the same requests."""
    while _NOT_IN_PATHS.search(path):
        path = path.rpartition(b"/")[0]
    return path or b"/"


def route_start(target: bytes, segments: int) -> bytes:
    """The part of a request target that a route of so many path segments covers, as the client wrote it.

    Cookie paths match with regard to case, routes without: the client's own spelling is the one its next request has.
    """
    if not segments:
        return b"/"
    path = target.partition(b"?")[0]
    if not path.startswith(b"/"):  # an absolute target
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return b"/".join(path.split(b"/", segments + 1)[: segments + 1])
