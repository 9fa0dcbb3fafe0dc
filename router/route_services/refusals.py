"""What a client is told where a route service or a signature keeps a request from going on (gorouter reference 4.3)."""

from __future__ import annotations

from router.heads.answers import Answer
from router.route_services.signature import ExpiredSignature, InvalidSignature

UNSUPPORTED = "route_service_unsupported"


def disabled() -> Answer:
    return Answer(502, UNSUPPORTED, "Support for route services is disabled.")


def no_websockets() -> Answer:
    return Answer(503, UNSUPPORTED, "Websocket requests are not supported for routes bound to Route Services.")


def no_tunnels() -> Answer:
    """To CONNECT: its tunnel would lead around the service."""
    return Answer(503, UNSUPPORTED, "CONNECT is not supported for routes bound to Route Services.")


def unusable() -> Answer:
    """The URL of the route's service is none that a request can be sent to."""
    return Answer(500, "", "Route service request failed.")


def not_validated(why: InvalidSignature) -> Answer:
    """What came back from a service, or says so, must not reach the application."""
    return Answer(504 if isinstance(why, ExpiredSignature) else 502, "", _failed(why))


def not_valid_anywhere(why: InvalidSignature) -> Answer:
    """A signature on its way to a route without a service, in strict mode."""
    if isinstance(why, ExpiredSignature):
        return Answer(504, "expired_route_service_signature", _failed(why))
    return Answer(400, "invalid_route_service_signature", "invalid route service signature detected")


def loop(passes: int) -> Answer:
    text = f"This request has passed {passes} times through route services, which lead back here."
    return Answer(508, "route_service_loop", text)


def _failed(why: InvalidSignature) -> str:
    return f"Failed to validate Route Service Signature: {why}"
