"""What requests to route services count for (reference 8.6): responses of services, and no component's requests."""

from __future__ import annotations

from router.metrics.metrics_page import counted
from tests.router.route_services.bound import bound
from tests.router.wire import answering

FAILED = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


def test_a_service_that_sends_back() -> None:
    with bound(tags={"component": "api"}) as it:
        assert it.ask().status == 200
        told = it.edge.do(counted, it.edge.metrics, 0)
        assert isinstance(told, dict)
        gorouter = told["gorouter"]
        assert gorouter["service_responses"] == [0, 0, 1, 0, 0, 0]
        assert gorouter["meters"]["requests"] == {"api": 1}, "the application's leg alone"
        assert told["statuses"] == {"200": 2}
        assert gorouter["unrouted"] == {}, "both legs had somebody who answered"
        assert sum(gorouter["meters"]["latency"][""]["counts"]) == 1


def test_a_service_that_answers_itself() -> None:
    with bound(service=answering(FAILED), tags={"component": "api"}) as it:
        assert it.ask().status == 503
        told = it.edge.do(counted, it.edge.metrics, 0)
        assert isinstance(told, dict)
        assert told["gorouter"]["service_responses"] == [0, 0, 0, 0, 0, 1]
        assert told["gorouter"]["meters"]["requests"] == {}
