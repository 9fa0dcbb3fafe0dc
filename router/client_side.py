"""What an exchange asks of the connection that its client is on, whatever wire that speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from router.backend import BackendConnection
    from router.exchange import Exchange
    from router.heads.answers import Answer
    from router.heads.response_plan import ResponsePlan


class ClientSide(Protocol):
    """``complete`` ends the exchange for the connection, too."""

    @property
    def origin(self) -> bytes:
        """``ip:port``."""

    @property
    def forward_fields(self) -> bytes:
        """X-Forwarded-For and X-Forwarded-Proto lines for a request that has neither."""

    @property
    def cert_field(self) -> bytes:
        """X-Forwarded-Client-Cert line of the certificate that the client has shown; empty where nobody asks for it."""

    @property
    def ip(self) -> bytes: ...
    @property
    def scheme(self) -> bytes: ...
    @property
    def version(self) -> bytes:
        """As logs call it; empty where the request line says it."""

    @property
    def inside(self) -> bool:
        """Whether this router itself is the client."""

    def send_informational(self, plan: ResponsePlan) -> None: ...
    def send_response(
        self, exchange: Exchange, plan: ResponsePlan, body: bytes, complete: bool, now: float
    ) -> None: ...
    def send_body(self, data: bytes, complete: bool) -> None: ...
    def send_answer(self, exchange: Exchange, answer: Answer) -> None: ...
    def open_tunnel(self, exchange: Exchange, head: bytes, backend: BackendConnection, first: bytes) -> None: ...
    def pause_request(self) -> None: ...
    def resume_request(self) -> None: ...
    def break_off(self) -> None: ...
