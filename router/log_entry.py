"""What the access log is told of an exchange, and of bytes that were no request (gorouter reference 8.5)."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from router.access_log import Entry
from router.answers import Answer

if TYPE_CHECKING:
    from router.exchange import Exchange


def of_exchange(exchange: Exchange, took: float) -> Entry:
    """An exchange that ended ``took`` seconds after its request had come. Positional, which is what makes it cheap."""
    plan = exchange.plan
    line = exchange.line
    client = exchange.client
    endpoint = exchange.endpoint
    record = endpoint.record if endpoint is not None else None
    return Entry(
        plan.host_field or b"",
        time() - took,
        line.method,
        line.target,
        client.version or (b"HTTP/1.1" if line.minor else b"HTTP/1.0"),
        exchange.status,
        exchange.request_bytes,
        exchange.response_bytes,
        plan.referer,
        plan.user_agent,
        client.address.encode(),
        endpoint.address.encode() if endpoint is not None else b"",
        plan.forwarded_for + b", " + client.ip if plan.forwarded_for else client.ip,
        plan.forwarded_proto or client.scheme,
        exchange.request_id,
        took,
        exchange.sent_at - exchange.started if exchange.sent_at else 0.0,
        record.app.encode() if record is not None else b"",
        record.private_instance_index.encode() if record is not None else b"",
        record.private_instance_id.encode() if record is not None else b"",
        exchange.error.encode(),
    )


def of_refusal(client: str, answer: Answer) -> Entry:
    """What came from ``client`` (``ip:port``) was no request, and ``answer`` said so."""
    return Entry(
        host=b"",
        started=time(),
        method=b"",
        target=b"",
        version=b"",
        status=answer.status,
        request_bytes=0,
        response_bytes=len(answer.payload),
        referer=None,
        user_agent=None,
        client=client.encode(),
        backend=b"",
        x_forwarded_for=None,
        x_forwarded_proto=None,
        vcap_request_id=None,
        response_time=0.0,
        gorouter_time=0.0,
        app_id=b"",
        app_index=b"",
        instance_id=b"",
        router_error=answer.error.encode(),
    )
