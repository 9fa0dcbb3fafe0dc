"""Tokens of a UAA for the router itself, by its client's name and secret (RFC 6749 section 4.4, reference 1.7).

A token is kept until shortly before it expires, or until somebody who used it was refused. Secrets and tokens must
never appear in a message, a log line or a repr.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote_plus

import orjson

from router.config.setting_sections import OAuth
from router.sources.http_client import Origin, Request, RequestFailed, asking
from router.tls.contexts import platform_context

MAX_ANSWER: Final = 256 * 1024
"""Bytes; tokens are a few thousand."""
_FORM: Final = b"grant_type=client_credentials&token_format=jwt&response_type=token"
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,65536}=*")
"""RFC 6750 section 2.1: nothing that could end a header."""
_OURS_TO_MEND: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
"""Answers that a second attempt does not change."""

_log = logging.getLogger("router.uaa-client")


class NoToken(Exception):
    """The UAA gave none; the message says why, and names the key to look at."""


class Tokens(Protocol):
    async def get(self, *, refused: str = "") -> str:
        """A token; empty where none is asked for. ``refused``: one that was given before and no longer opens anything.

        Raises NoToken.
        """


class NoTokens:
    """For an API that asks for none."""

    async def get(self, *, refused: str = "") -> str:
        return ""


class UaaTokens:
    """Tokens of one client. Whoever asks while one is being fetched waits for that one."""

    def __init__(
        self, settings: OAuth, *, retries: int, pause: float, margin: float, clock: Callable[[], float]
    ) -> None:
        """``retries`` after a failure, with ``pause`` seconds between; ``margin``: how long before its end a token is
        used no more.

        Raises NoToken: oauth.ca_certs cannot be read.
        """
        self._origin = Origin(settings.token_endpoint, settings.port, _context(settings))
        self._request = Request(
            "POST",
            "/oauth/token",
            {
                "Authorization": _basic(settings.client_name, settings.client_secret),
                "X-CF-ENCODED-CREDENTIALS": "true",  # a UAA takes them as they are, unless told that RFC 6749 holds
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
            },
            _FORM,
        )
        self._retries = retries
        self._pause = pause
        self._margin = margin
        self._clock = clock
        self._turn = asyncio.Lock()
        self._token = ""
        self._good_until = 0.0
        self.errors = 0
        """How often there was no token in the end."""

    async def get(self, *, refused: str = "") -> str:
        async with self._turn:
            if not self._token or self._token == refused or self._clock() >= self._good_until:
                self._token = ""
                _log.debug("started-fetching-token", extra={"data": {"force-update": bool(refused)}})
                self._token, lifetime = await self._fetch()
                self._good_until = self._clock() + lifetime - self._margin
            return self._token

    async def _fetch(self) -> tuple[str, float]:
        """A new token, and for how many seconds it holds. Raises NoToken."""
        attempt = 0
        while True:
            try:
                return await self._attempt()
            except (RequestFailed, NoToken) as error:
                attempt += 1
                if attempt > self._retries or isinstance(error, NoToken):
                    self.errors += 1
                    _log.error("unable-to-fetch-token", extra={"data": {"error": str(error)}})
                    raise NoToken(f"no token from the UAA: {error}") from None
                _log.info("retry-fetching-token", extra={"data": {"error": str(error), "retry-count": attempt}})
            await asyncio.sleep(self._pause)

    async def _attempt(self) -> tuple[str, float]:
        """Raises RequestFailed: worth another attempt. NoToken: not worth one."""
        async with asking(self._origin, self._request) as answer:
            if answer.status in _OURS_TO_MEND:
                raise NoToken(f"{await answer.refusal()}; mend oauth.client_name and oauth.client_secret")
            if answer.status != HTTPStatus.OK:
                raise await answer.refusal()
            body = await answer.whole(MAX_ANSWER)
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            said = None
        return _token_of(said, self._origin)


def _token_of(said: Any, origin: Origin) -> tuple[str, float]:
    token = said.get("access_token") if isinstance(said, dict) else None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise RequestFailed(f"{origin}: the answer holds no access_token")
    if str(said.get("token_type", "bearer")).lower() != "bearer":
        raise RequestFailed(f"{origin}: the token is not a bearer token")
    lifetime = said.get("expires_in", 0)
    if type(lifetime) not in (int, float) or lifetime < 0:
        raise RequestFailed(f"{origin}: expires_in is not a number of seconds")
    return token, float(lifetime)


def _basic(name: str, secret: str) -> str:
    """RFC 6749 section 2.3.1: each of the two as in a form, and then as in RFC 7617."""
    pair = f"{quote_plus(name)}:{quote_plus(secret)}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _context(settings: OAuth) -> ssl.SSLContext:
    """Raises NoToken."""
    if settings.skip_ssl_validation:
        context = platform_context("", "", "")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        authorities = Path(settings.ca_certs).read_text() if settings.ca_certs else ""
        return platform_context(authorities, "", "")
    except (OSError, UnicodeDecodeError) as error:  # what OpenSSL refuses is an OSError as well
        raise NoToken(f"oauth.ca_certs {settings.ca_certs}: {error}") from None
