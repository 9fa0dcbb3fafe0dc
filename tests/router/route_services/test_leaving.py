"""Clients that leave in the middle of it: nothing of their requests is left at the service's end, near or far."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from router.pool import Endpoint
from tests.router.route_services.bound import APP, GET, SERVICE_CERT, Bound, bound, register, sent_back, with_settings
from tests.router.tls.authority import over_tls, server_context
from tests.router.wire import OK, PATIENCE, Message, answering, backend, wait_until

BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + bytes(4_000_000)
POST = b"POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 1000000\r\n\r\n"


def in_flight(it: Bound) -> list[int]:
    """At every endpoint there is: applications', and those that stand for services."""
    pools = [it.edge.table.lookup(APP, ""), it.edge.table.lookup("hosted.example.com", "")]
    endpoints: list[Endpoint] = [endpoint for pool in pools if pool is not None for endpoint in pool.endpoints]
    service = pools[0].service if pools[0] is not None else None
    assert service is not None
    for way in (service.elsewhere, service.here):
        endpoints += way.endpoints if way is not None else ()
    return [endpoint.in_flight for endpoint in endpoints]


@pytest.mark.parametrize("hairpin", [False, True], ids=["elsewhere", "behind this router"])
def test_whenever_they_leave(hairpin: bool) -> None:
    """A hundred of them, each at another point of its exchange, while others are served."""

    def leave(number: int) -> None:
        wire = it.edge.connect()
        with suppress(ConnectionError, AssertionError):
            match number % 5:
                case 0:
                    wire.send(GET)
                case 1:
                    wire.send(GET.replace(b"/where", b"/big"))
                    wire.head()
                case 2:
                    wire.send(POST + bytes(1000))
                case 3:
                    wire.send(POST + bytes(1_000_000))
                case 4:
                    wire.send(GET.replace(b"/where", b"/big"))
                    wire.read_exactly(100_000)
        wire.close()

    def stay(_: int) -> int:
        return it.ask().status

    def respond(request: Message) -> bytes:
        return BIG if b" /big" in request.first else OK

    ports: list[int] = []

    def relay(request: Message) -> bytes:
        with suppress(AssertionError, ConnectionError):
            return sent_back(request, ports[0])
        return OK

    settings = with_settings(route_services_hairpinning=hairpin)
    with (
        bound(settings, response=respond) as it,
        backend(answering(relay)) as hosted,
        backend(over_tls(answering(relay), server_context(SERVICE_CERT))) as service,
        ThreadPoolExecutor(8) as crowd,
    ):
        ports.append(it.edge.port)
        register(it.edge, "hosted.example.com", hosted)
        register(
            it.edge, APP, it.app, "https://hosted.example.com/" if hairpin else f"https://localhost:{service.port}/"
        )
        leaving = [crowd.submit(leave, number) for number in range(100)]
        staying = [crowd.submit(stay, number) for number in range(50)]
        assert [each.result(PATIENCE) for each in staying] == [200] * 50
        for each in leaving:
            each.result(PATIENCE)
        wait_until(lambda: not any(in_flight(it)), "the end of every exchange")
        assert it.ask().status == 200
