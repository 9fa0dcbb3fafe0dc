"""Which endpoints a request may go to, and whom it asks first and next, where not just its route's turn decides.

Follows gorouter reference 2.1 to 2.3, 3.4 and 3.9. Functions of an exchange that change nothing of it but what its log
line says; the exchange makes the attempts. What most requests need, a route's next endpoint, is `router.pool`'s alone.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from router.heads import answers
from router.heads.answers import Answer
from router.heads.instances import Chosen

if TYPE_CHECKING:
    from router.exchange import Exchange
    from router.heads.sticky import Wish
    from router.pool import Endpoint, Pool


def refusal(exchange: Exchange) -> Answer | None:
    """Why a request is not to be routed at all."""
    plan = exchange.plan
    if plan.checks_health:
        return answers.health(exchange.edge.healthy)
    if isinstance(plan.chosen, Answer):
        return plan.chosen
    return None


def unroutable(exchange: Exchange, pool: Pool | None) -> Answer:
    """There is no route, or none with an endpoint. A client that names its own address as Host means no route."""
    plan = exchange.plan
    host = plan.host_field or b""
    if pool is not None:
        return answers.no_endpoints(host)
    exchange.edge.metrics.rejected_requests += 1
    if plan.host_address and plan.host_address == exchange.client.ip and exchange.line.method != b"CONNECT":
        return answers.empty_host()
    return answers.unknown_route(host)


def narrowed(exchange: Exchange, pool: Pool) -> Pool | Answer:
    """The endpoints of its route that a request may go to, or the answer to one that may go to none."""
    edge = exchange.edge
    plan = exchange.plan
    if plan.chosen is not None:
        assert isinstance(plan.chosen, Chosen)
        meant = plan.chosen.among(pool)
        if meant is None:
            edge.metrics.rejected_requests += 1
            return plan.chosen.unknown(plan.host_field or b"")
        pool = meant
    if plan.excessive or plan.size + exchange.line.size >= edge.rules.max_counted:
        exchange.endpoint = pool.pick(exchange.started, edge.algorithm, edge.max_in_flight, None)  # for the log
        return answers.head_too_large()
    return pool


def preferred(exchange: Exchange, pool: Pool) -> Endpoint | None:
    """Who is asked first, where something else than the algorithm may decide."""
    edge = exchange.edge
    wish = exchange.plan.wish
    if wish is not None:
        endpoint = _wanted(exchange, pool, wish)
        if endpoint is not None or wish.must:
            return endpoint
    key = _hash_key(exchange, pool)
    if key is not None:
        return pool.pick_hashed(key, exchange.started, edge.max_in_flight, None)
    if edge.near is not None:
        return pool.pick_near(exchange.started, edge.algorithm, edge.max_in_flight, edge.near)
    return pool.pick(exchange.started, edge.algorithm, edge.max_in_flight, None)


def next_after(exchange: Exchange, pool: Pool, tried: list[Endpoint] | None) -> Endpoint | None:
    """Who is asked after an attempt that failed: for a session that must not move, the same one."""
    edge = exchange.edge
    wish = exchange.plan.wish
    if wish is not None and wish.must:
        return _wanted(exchange, pool, wish)
    key = _hash_key(exchange, pool)
    if key is not None:
        return pool.pick_hashed(key, monotonic(), edge.max_in_flight, tried)
    return pool.pick(monotonic(), edge.algorithm, edge.max_in_flight, tried)


def nobody_free(exchange: Exchange, pool: Pool) -> Answer:
    """Every endpoint has as much in flight as it may have, or the one that it must be is not there."""
    edge = exchange.edge
    most = edge.max_in_flight
    if most and all(endpoint.in_flight >= most for endpoint in pool.endpoints):
        edge.metrics.backend_exhausted_conns += 1
        return answers.connection_limit(exchange.plan.host_field or b"")
    edge.metrics.bad_gateways += 1
    edge.request_log.nobody_to_ask(exchange)
    return answers.endpoint_failure("No endpoints available")


def _wanted(exchange: Exchange, pool: Pool, wish: Wish) -> Endpoint | None:
    """The instance of a sticky session, marked as failed or not, if it is there and has room."""
    endpoint = pool.instance(wish.instance)
    most = exchange.edge.max_in_flight
    return endpoint if endpoint is not None and (not most or endpoint.in_flight < most) else None


def _hash_key(exchange: Exchange, pool: Pool) -> bytes | None:
    """What a request gives its route to hash: a field's value as a backend gets it; None if it gets none."""
    if pool.hashing is None:
        return None
    header = pool.hashing.header
    if header == b"x-forwarded-for":
        return b", ".join(filter(None, (exchange.plan.forwarded_for, exchange.client.ip)))
    return exchange.plan.value(header)
