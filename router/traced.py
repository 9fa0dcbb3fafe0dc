"""Exchanges while trace headers are switched on; without them nothing of this is paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.client_side import ClientSide
from router.exchange import Exchange
from router.heads.forwarding import RequestPlan
from router.heads.tracing import ID_LINE
from router.http1.request import RequestLine
from router.http2.translation import fields_block

if TYPE_CHECKING:
    from router.edge import Edge


class TracedExchange(Exchange):
    """What the edge has ready for each request is then a whole block of `router.heads.tracing`."""

    __slots__ = ("own_lines",)

    def __init__(self, edge: Edge, client: ClientSide, line: RequestLine, plan: RequestPlan) -> None:
        Exchange.__init__(self, edge, client, line, plan)
        block = self.id_field
        if plan.trace is None:
            self.own_lines = block
            self.id_field = block[:ID_LINE]
        else:
            self.id_field, self.own_lines = plan.trace.lines(block)

    @property
    def own_block(self) -> bytes:
        tracing = self.edge.tracing
        assert tracing is not None
        return tracing.shape.block(self.own_lines) if self.plan.trace is None else fields_block(self.own_lines)

    @property
    def trace_values(self) -> tuple[bytes, ...]:
        tracing = self.edge.tracing
        assert tracing is not None
        return tracing.values(self.plan.trace, self.own_lines)
