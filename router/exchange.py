"""One request and its response, whatever wire either came by.

Theory of operation. A client connection makes an exchange from a checked request and calls ``begin``. The exchange
finds the pool, picks an endpoint and hands itself to a backend connection, which calls back with what happened. It ends
in exactly one way: the response is complete (``respond``, ``more``), the router answered itself (``_answer``), or one
side broke off (``_cut``); each calls ``_settle`` once, for the endpoint, the metrics and the access log.

    client connection                exchange                     backend connection
    begin(body, complete)      -->   _attempt           -->       send_head / dial
    request_body(data, ...)    -->   (held for a retry) -->       send_body
    send_informational         <--   informational      <--       1xx
    send_response, send_body   <--   respond, more      <--       response
    client_gone                -->   _cut               -->       abort
    send_answer                <--   attempt_failed     <--       no response: retry or answer

A body crosses as its sender framed it (``chunked`` in the plan: with HTTP/1.1 chunk framing, already validated);
whoever needs another coding converts. Nothing here blocks, awaits, or knows a socket.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from router import choosing
from router.attempts import NOTHING_OPENED, Attempts, Opening
from router.backend import BackendConnection
from router.dialing import Dial, DialFailure
from router.heads import answers, vcap_trace
from router.heads.answers import SEMICOLONS, Answer
from router.heads.forwarding import RequestPlan, origin
from router.heads.response_plan import ResponsePlan
from router.heads.sticky import route_start
from router.heads.tracing import Ids, sent_ids
from router.http1.request import RequestLine
from router.http2.translation import Shape
from router.http2_backend import Awaited, BackendStream
from router.pool import Endpoint
from router.route_services.service import ServiceEndpoint, ServicePool
from router.route_services.turns import carries_both

if TYPE_CHECKING:
    from router.client_side import ClientSide
    from router.edge import Edge

_REQUEST_ID: Final = Shape(b"X-Vcap-Request-Id: %b\r\n" % bytes(36))

CLIENT_GONE: Final = 499
"""Logged, never sent: the client went away before its response was complete."""
CLIENT_LEFT: Final = "endpoint_failure (context canceled)"
"""How the access log says so."""


class _Effort:
    """What only an exchange needs that does not go through at the first try, or has a body."""

    __slots__ = ("attempts", "excused", "held", "held_bytes", "repeatable", "tried")

    def __init__(self) -> None:
        self.attempts = 0
        """Made so far."""
        self.excused = False
        """Whether one of them failed that was not counted."""
        self.tried: list[Endpoint] | None = None
        """Endpoints that are not to be asked again."""
        self.held: list[bytes] = []
        """The request body so far, for another attempt."""
        self.held_bytes = 0
        self.repeatable = True
        """Whether ``held`` is still the whole of what has come."""


class Exchange:
    own_lines: bytes
    """What a backend gets of this request alone: its request id, and trace headers where they are switched on."""

    __slots__ = (
        "_effort",
        "_pool",
        "attempts",
        "backend",
        "began",
        "client",
        "edge",
        "endpoint",
        "error",
        "id_field",
        "line",
        "plan",
        "request_bytes",
        "request_complete",
        "response_bytes",
        "sent_at",
        "started",
        "status",
    )

    def __init__(self, edge: Edge, client: ClientSide, line: RequestLine, plan: RequestPlan) -> None:
        self.edge = edge
        self.client = client
        self.line = line
        self.plan = plan
        self.started = self.began = monotonic()
        """Seconds; when the head was complete, and when this attempt began."""
        metrics = edge.metrics
        self.id_field = edge.id_fields.pop() if edge.id_fields else edge.more_ids()
        metrics.requests += 1
        self.status = 0
        """What the client was told; 0 until then."""
        self.request_bytes = 0
        self.response_bytes = 0
        self.error = ""
        """X-Cf-RouterError of an answer that the router made."""
        self.sent_at = 0.0
        """Monotonic seconds of the first attempt, where somebody wants to know; 0 if there was none."""
        self.attempts: Attempts | None = None
        """How attempts went, where there is something to tell."""
        self._effort: _Effort | None = None
        self.endpoint: Endpoint | None = None
        self.backend: BackendConnection | BackendStream | Dial | Awaited | None = None

    @property
    def request_id(self) -> bytes:
        return self.id_field[19:-2]

    @property
    def own_block(self) -> bytes:
        """``own_lines`` as an HTTP/2 header block."""
        return _REQUEST_ID.block(self.id_field)

    @property
    def trace_ids(self) -> Ids:
        """What log lines about this request name."""
        return sent_ids(self.plan.trace, self.own_lines)

    @property
    def trace_values(self) -> tuple[bytes, ...]:
        """Of the trace headers that were sent, in the order of `Tracing.names`; nothing where they are switched off."""
        return ()

    @property
    def _asks_for_websocket(self) -> bool:
        return b"websocket" in self.plan.upgrade.lower()

    @property
    def local_address(self) -> bytes:
        """Where the connection to the backend, while there is one, comes from: ``ip:port``."""
        backend = self.backend
        if isinstance(backend, BackendStream):
            transport = backend.connection.transport
        elif isinstance(backend, BackendConnection):
            transport = backend.transport
        else:
            return b""
        ip, port = (transport.get_extra_info("sockname") or ("", 0))[:2]
        return origin(ip.encode(), port) if ip else b""

    # The request ------------------------------------------------------------------------------------------------

    def begin(self, body: bytes, complete: bool) -> None:
        """Route the request. ``body`` is what has arrived of it, ``complete`` whether that is all."""
        self.request_complete = complete
        edge = self.edge
        plan = self.plan
        special = plan.special
        if special:
            refusal = choosing.refusal(self)
            if refusal is not None:
                self.refuse(refusal, complete)
                return
        pool = plan.pool if plan.pool_version == edge.table.version else edge.find_pool(plan, self.line.path)
        if pool is None or not pool.endpoints:
            self._answer(choosing.unroutable(self, pool))
            return
        if special:
            narrowed = choosing.narrowed(self, pool)
            if isinstance(narrowed, Answer):
                self._answer(narrowed)
                return
            pool = narrowed
        if pool.service is not None or special:
            turn = edge.route_services.turn(self, pool)
            if isinstance(turn, Answer):
                self._answer(turn)
                return
            if turn is not None:
                pool, self.line, self.plan = turn
                plan = self.plan
        self._pool = pool
        if body:
            effort = self._effort = _Effort()
            effort.held.append(body)
            effort.held_bytes = len(body)
        if plan.wish is None and edge.near is None and pool.hashing is None:
            endpoint = pool.pick(self.started, edge.algorithm, edge.max_in_flight, None)
        else:
            endpoint = choosing.preferred(self, pool)
        if endpoint is None:
            self._answer(choosing.nobody_free(self, pool))
        elif endpoint.idle and not body and self.line.idempotent:  # as _attempt would, without its questions
            if edge.timed:
                self.sent_at = monotonic()
            self.endpoint = endpoint
            endpoint.in_flight += 1
            (endpoint.meter or edge.metrics.meters.of(endpoint)).requests += 1
            self.backend = backend = endpoint.idle.pop()
            backend.send_head(self, b"")
        else:
            self._attempt(endpoint, False)

    def request_body(self, data: bytes, complete: bool) -> None:
        """More of the body. Kept for another attempt while it is short; a connection being opened gets it later."""
        self.request_complete = complete
        backend = self.backend
        if backend is None:
            return
        connected = not isinstance(backend, Dial | Awaited)
        effort = self._effort
        if effort is None:
            effort = self._effort = _Effort()
        if effort.repeatable and not self.status:
            effort.held.append(data)
            effort.held_bytes += len(data)
            if effort.held_bytes > self.edge.retry_buffer:
                if connected:
                    self._hold_no_more(effort)
                else:
                    self.client.pause_request()
        if not isinstance(backend, Dial | Awaited):
            backend.send_body(data, complete)

    def _hold_no_more(self, effort: _Effort) -> None:
        effort.repeatable = False
        effort.held.clear()

    def client_gone(self) -> None:
        """The client closed its connection or reset its stream: stop the backend, too."""
        if not self.status:
            self.error = CLIENT_LEFT
            if self.backend is not None:
                self._note_failure()
        self._cut(self.status or CLIENT_GONE)

    def deprecate_semicolons(self) -> None:
        """The request's target holds a semicolon: that is said in the logs, and only there."""
        self.error = SEMICOLONS
        self.edge.request_log.semicolons(self)

    def refuse(self, answer: Answer, complete: bool) -> None:
        """Answer without asking any backend, instead of ``begin``. ``complete``: the whole request body is here."""
        metrics = self.edge.metrics
        metrics.without_lookup += 1
        if answer.status >= 400 and not self.plan.checks_health:
            metrics.rejected_requests += 1
        self.request_complete = complete
        self._answer(answer)

    def panicked(self) -> None:
        """``begin`` raised what nobody expected; called while that is being handled. The fault is the router's own."""
        self.edge.request_log.panicked(self)
        self.request_complete = False
        if self.status:
            self._cut(self.status)
        else:
            self._answer(answers.unknown_failure())

    def reject_rest(self, answer: Answer) -> None:
        """The rest of the request body turned out malformed or too long, or did not come."""
        if self.status:
            self._cut(self.status)
        else:
            self._answer(answer)

    # Attempts ---------------------------------------------------------------------------------------------------

    def _attempt(self, endpoint: Endpoint, fresh: bool) -> None:
        """Send to this endpoint; ``fresh`` asks for a new connection."""
        self.endpoint = endpoint
        endpoint.in_flight += 1
        edge = self.edge
        (endpoint.meter or edge.metrics.meters.of(endpoint)).requests += 1
        if edge.timed and not self.sent_at:
            self.sent_at = monotonic()
        idle = endpoint.idle
        if idle and not fresh:
            backend = idle[-1]
            if self.line.idempotent or self._may_reuse(backend):
                del idle[-1]
                self.backend = backend
                backend.send_head(self, b"" if self._effort is None else self._body_so_far(self._effort))
                return
        self.dial_again()

    def _may_reuse(self, backend: BackendConnection) -> bool:
        """Whether a request that must not be repeated may go on a connection that its backend may be about to close."""
        if self.line.method == b"CONNECT":
            return False
        return self.plan.repeatable or self.started - backend.idle_since() <= self.edge.unsafe_reuse_seconds

    def _body_so_far(self, effort: _Effort) -> bytes:
        body = b"".join(effort.held)
        if effort.held_bytes > self.edge.retry_buffer:
            self._hold_no_more(effort)
        return body

    def dialed(self, dial: Dial, http2: bool) -> BackendConnection:
        """The connection that was being opened is open; ``connected`` follows."""
        self.note_opening(dial.opening())
        backend = self.backend = BackendConnection(self.edge, dial.endpoint, self)
        self.edge.replace_backend(dial, backend)
        return backend

    def dial_failed(self, failure: DialFailure) -> None:
        """There is no connection."""
        self.note_opening(failure.opening)
        self.attempt_failed(failure.text, dialing=True, connected=False, marks=failure.marks, status=failure.status)

    def note_opening(self, opening: Opening) -> None:
        """How long the opening of this attempt's connection took."""
        if self.attempts is None:
            self.attempts = Attempts()
        self.attempts.opening = opening

    def _note_failure(self) -> Opening:
        """One more attempt has failed. Returns how long its connection took to open."""
        attempts = self.attempts
        if attempts is None:
            attempts = self.attempts = Attempts()
        attempts.failed += 1
        began, attempts.failed_at = attempts.failed_at or self.sent_at, monotonic()
        if self.edge.events is not None:
            self.edge.events.attempt_failed(self, began)
        opening, attempts.opening = attempts.opening, NOTHING_OPENED
        return opening

    def dial_again(self) -> None:
        """Ask for a connection to the endpoint of this attempt; one that is shared may be there already."""
        assert self.endpoint is not None
        self.backend = backend = self.edge.dial(self, self.endpoint)
        if isinstance(backend, BackendStream):
            self.connected(backend)

    def connected(self, backend: BackendConnection | BackendStream) -> None:
        """The head may go, or the tunnel begin."""
        self.backend = backend
        if self.line.method == b"CONNECT":
            assert isinstance(backend, BackendConnection)
            self.status = 200
            self.client.open_tunnel(self, b"HTTP/1.1 200 Connection established\r\n", backend, b"")
            return
        backend.send_head(self, b"" if self._effort is None else self._body_so_far(self._effort))
        self.client.resume_request()

    def attempt_failed(
        self,
        text: str,
        *,
        dialing: bool = False,
        connected: bool = True,
        reused: bool = False,
        again: bool = False,
        marks: bool = True,
        status: int = 502,
    ) -> None:
        """No byte of a response came. Try elsewhere where that is safe, else answer with ``status``.

        ``dialing``: the endpoint cannot have seen the request, so that repeating it is always safe. ``connected``:
        there was a connection.

        A reused connection may have been closed by its backend at the very moment of sending: that says nothing about
        the endpoint, so it is not marked and is tried again on a new connection: a session stays where it is. Once: the
        next connection may be one that has served others, too, if they share it, and the request may be what kills
        them.

        ``again``: the endpoint may be asked again; it only had no room for the request on this connection.
        """
        local_address = self.local_address
        endpoint = self._leave_endpoint()
        edge = self.edge
        effort = self._effort
        if effort is None:
            effort = self._effort = _Effort()
        excused = reused and not effort.excused
        effort.excused = effort.excused or excused
        effort.attempts += not excused
        repeatable = dialing or (effort.repeatable and (self.line.idempotent or self.plan.repeatable))
        if not excused:
            self._log_failure(endpoint, text, repeatable, connected, reused, local_address)
            if marks and self.plan.chosen is None and not isinstance(endpoint, ServiceEndpoint):
                endpoint.failed_until = monotonic() + edge.failed_endpoint_seconds
                pruned = dialing and edge.failed_tls_endpoint is not None and bool(endpoint.record.tls_port)
                edge.request_log.endpoint_avoided(self, endpoint, pruned=pruned)
                if pruned:
                    edge.failed_tls_endpoint(self._pool.route, endpoint.address)  # type: ignore[misc]
            if not again:
                effort.tried = [*(effort.tried or ()), endpoint]
        most = self._pool.max_attempts if isinstance(self._pool, ServicePool) else edge.max_attempts
        if repeatable and effort.attempts < most:
            another = endpoint if excused and endpoint.routes else choosing.next_after(self, self._pool, effort.tried)
            if another is not None:
                edge.metrics.retries += 1
                self.began = monotonic()
                self._attempt(another, True)
                return
            edge.request_log.nobody_to_ask(self)
        edge.metrics.count_failure(status)
        self._answer(answers.endpoint_failure(text, status))

    def _log_failure(
        self, endpoint: Endpoint, text: str, retriable: bool, connected: bool, reused: bool, local_address: bytes
    ) -> None:
        opening = self._note_failure()
        assert self.attempts is not None
        self.edge.request_log.attempt_failed(
            self,
            endpoint,
            text,
            attempt=self.attempts.failed,
            endpoints=len(self._pool.endpoints),
            retriable=retriable,
            connected=connected,
            reused=reused,
            opening=opening,
            local_address=local_address,
        )

    def attempt_timed_out(self, text: str, *, reused: bool = False) -> None:
        """The response head did not come in time. Not repeated: the request may be at work still."""
        text = self._as_deadline(text)
        local_address = self.local_address
        endpoint = self._leave_endpoint()
        self.edge.request_log.timed_out(self, text)
        self._log_failure(endpoint, text, False, True, reused, local_address)
        self.edge.metrics.bad_gateways += 1
        self._answer(answers.endpoint_timeout(text))

    def response_malformed(self, why: str, *, reused: bool = False) -> None:
        """The backend sent what cannot be passed on."""
        local_address = self.local_address
        endpoint = self._leave_endpoint()
        self._log_failure(endpoint, why, False, True, reused, local_address)
        self.edge.metrics.bad_gateways += 1
        self._answer(answers.endpoint_failure(why))

    def _leave_endpoint(self) -> Endpoint:
        """The attempt is over and the connection it used has let go already."""
        endpoint = self.endpoint
        assert endpoint is not None
        endpoint.in_flight -= 1
        self.backend = None
        return endpoint

    # The response -----------------------------------------------------------------------------------------------

    def informational(self, plan: ResponsePlan) -> None:
        self.client.send_informational(plan)

    def respond(self, plan: ResponsePlan, body: bytes, complete: bool, now: float) -> None:
        """The final response head with what came of the body; the backend connection has let go if ``complete``."""
        self.status = plan.status
        self.response_bytes = len(body)
        if plan.session is not None or self.plan.wants_lines:
            plan = self._with_own_lines(plan)
        if complete:  # as _settle would
            edge = self.edge
            self.endpoint.in_flight -= 1  # type: ignore[union-attr]  # a response always comes from one
            metrics = edge.metrics
            metrics.statuses[plan.status] += 1
            took = now - self.started
            self.endpoint.meter.durations.append(took)  # type: ignore[union-attr]  # found for the attempt
            sent_at = self.sent_at
            if sent_at:
                metrics.own_times.append(sent_at - self.started)
            if edge.over_at_once is not None:
                edge.over_at_once(self, took)
            self.backend = None
        elif self.edge.events is not None:
            self.edge.events.head_came(self, plan)
        self.client.send_response(self, plan, body, complete, now)

    def _with_own_lines(self, plan: ResponsePlan) -> ResponsePlan:
        """The response with what others with the same head do not say: which instance its session is with, and, to who
        has the key, who served it."""
        endpoint = self.endpoint
        assert endpoint is not None
        if isinstance(endpoint, ServiceEndpoint):
            self.edge.metrics.service_responses[plan.status // 100] += 1
            self.edge.request_log.service_answered(self, endpoint.url, plan.status)
        rules = self.edge.rules
        wish = self.plan.wish
        if (plan.session is not None or wish is not None) and not carries_both(self.plan.signed):
            cookie = rules.sticky.cookie(
                plan.session,
                wish.instance if wish is not None else None,
                endpoint.record.private_instance_id,
                route_start(self.line.target, self._pool.route.count("/")),
            )
            if cookie:
                plan = plan.with_lines(cookie, rules)
        if self.plan.vcap_traced:
            plan = plan.with_lines(rules.vcap_trace.lines(endpoint.address), rules, vcap_trace.REPLACED)
        return plan

    def more(self, data: bytes, complete: bool) -> None:
        """More of the response body."""
        self.response_bytes += len(data)
        if complete:
            self._settle(monotonic())
        self.client.send_body(data, complete)

    def upgraded(self, plan: ResponsePlan, first: bytes) -> None:
        """101: from here on bytes flow both ways. ``first`` is what the backend has sent after its head."""
        backend = self.backend
        assert isinstance(backend, BackendConnection)
        self.status = 101
        self.edge.metrics.websocket_upgrades += self._asks_for_websocket
        if plan.session is not None or self.plan.wants_lines:
            plan = self._with_own_lines(plan)
        if self.edge.events is not None:
            self.edge.events.head_came(self, plan)
        request_id = b"" if plan.has_request_id else self.id_field
        self.client.open_tunnel(self, plan.head + request_id, backend, first)

    def response_timed_out(self, text: str) -> None:
        """The backend did not go on with a body that the client has begun to receive."""
        self.edge.request_log.timed_out(self, self._as_deadline(text))
        self.response_broken()

    def _as_deadline(self, text: str) -> str:
        """What went on for too long, if it was not the whole attempt."""
        return "context deadline exceeded" if monotonic() - self.began >= self.edge.endpoint_timeout else text

    def response_broken(self) -> None:
        """The backend broke off in the middle of a body that the client has begun to receive."""
        self._cut(self.status)

    # Ends -------------------------------------------------------------------------------------------------------

    def _settle(self, now: float) -> None:
        """The outcome is known: give the endpoint free, count and log, once."""
        edge = self.edge
        if self.backend is not None:
            self.endpoint.in_flight -= 1  # type: ignore[union-attr]  # a backend is always some endpoint's
        took = now - self.started
        metrics, endpoint = edge.metrics, self.endpoint
        if endpoint is None:
            metrics.observe(self.status, took)
        else:
            metrics.statuses[self.status] += 1
            (endpoint.meter or metrics.meters.of(endpoint)).durations.append(took)
            if self.sent_at:
                metrics.own_times.append(self.sent_at - self.started)
        if edge.over is not None:
            edge.over(self, took)
        self.backend = None

    def _answer(self, answer: Answer) -> None:
        if self.backend is not None:
            self.backend.abort()
        if self.edge.error_pages is not None:
            answer = self.edge.error_pages.dressed(self, answer)
        self.status = answer.status
        self.error = answer.error
        self.response_bytes = 0 if self.line.is_head else len(answer.payload)
        if answer.status >= 400:
            metrics = self.edge.metrics
            metrics.bad_requests += answer.error in answers.BAD_REQUESTS
            metrics.websocket_failures += self.endpoint is not None and self._asks_for_websocket
            self.edge.request_log.answered(self, answer)
        self._settle(monotonic())
        self.client.send_answer(self, answer)

    def _cut(self, status: int) -> None:
        if self.backend is not None:
            self.backend.abort()
        self.status = status
        self._settle(monotonic())
        self.client.break_off()

    def tunnel_over(self, from_client: int, from_backend: int, outcome: str) -> None:
        """The tunnel that this exchange became is closed on both sides."""
        self.request_bytes += from_client
        self.response_bytes = from_backend
        self.error = outcome
        self._settle(monotonic())


Exchange.own_lines = Exchange.__dict__["id_field"]
"""The same slot under another name. `router.traced.TracedExchange` has one of its own."""
