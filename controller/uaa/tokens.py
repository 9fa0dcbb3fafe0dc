"""Access tokens: made here, and checked here for whoever shows one (reference 1.0, 1.1).

A token is a JWT that clients read without checking it, so that the claims they look at are part of the contract.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import uuid4

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from controller.caller import Caller
from controller.uaa.keys import SigningKeys
from controller.v3.errors import invalid_token

ALGORITHM: Final = "RS256"
LEEWAY: Final = 5
"""Seconds that clocks may differ by."""


class Issuer:
    """Makes and checks tokens of the embedded UAA."""

    def __init__(self, keys: SigningKeys, url: str) -> None:
        self._keys = keys
        self.name = f"{url.rstrip('/')}/oauth/token"

    def issue(self, claims: Mapping[str, Any], scopes: Iterable[str], seconds: int) -> tuple[str, str]:
        """A token and its id (jti)."""
        granted = sorted(scopes)
        moment = int(time.time())
        token_id = str(uuid4())
        audience = sorted({scope.rpartition(".")[0] for scope in granted if "." in scope} | {claims["client_id"]})
        payload = {
            **claims,
            "jti": token_id,
            "iss": self.name,
            "iat": moment,
            "exp": moment + seconds,
            "aud": audience,
            "scope": granted,
            "cid": claims["client_id"],
            "azp": claims["client_id"],
            "zid": "uaa",
        }
        key: RSAKey = self._keys.current()
        return jwt.encode({"alg": ALGORITHM, "typ": "JWT", "kid": key.kid}, payload, key), token_id

    def claims(self, token: str) -> dict[str, Any]:
        """Of a token of ours that is valid now. Raises ApiError (InvalidAuthToken)."""
        try:
            claims = dict(jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims)
            jwt.JWTClaimsRegistry(leeway=LEEWAY, exp={"essential": True}, iss={"value": self.name}).validate(claims)
        except (JoseError, ValueError, KeyError, TypeError):
            raise invalid_token() from None
        return claims

    def _key(self, token: Any) -> RSAKey:
        """The key that a token says it is signed with."""
        key = self._keys.find(str(token.headers().get("kid", "")))
        if key is None:
            raise ValueError("signed with a key that is not ours")
        return key


def caller_of(claims: Mapping[str, Any]) -> Caller:
    """Raises ApiError (InvalidAuthToken): claims that name nobody."""
    scopes = claims.get("scope", ())
    user, client = claims.get("user_id"), claims.get("client_id") or claims.get("cid")
    guid = user or client
    if not isinstance(guid, str) or not guid or not isinstance(scopes, list | tuple):
        raise invalid_token()
    name = str(claims.get("user_name") or guid)
    email, origin = str(claims.get("email") or ""), str(claims.get("origin") or "uaa")
    return Caller(guid, name, origin, email, not user, frozenset(map(str, scopes)))
