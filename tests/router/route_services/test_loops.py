"""Requests that come round: counted by themselves, wherever the loop leads, and ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.settings import Native
from router.route_services import loops
from tests.router.route_services.bound import (
    APP,
    GET,
    SERVICE_CERT,
    SETTINGS,
    bound,
    register,
    sent_back,
    with_settings,
)
from tests.router.tls.authority import over_tls, server_context
from tests.router.wire import Message, answering, backend, running_edge


class TestCounting:
    @pytest.mark.parametrize(
        ("fields", "passes"),
        [
            (b"", 0),
            (b"Host: millrace\r\nX-CDN-Loop: millrace\r\n", 0),
            (b"CDN-Loop: millrace\r\n", 1),
            (b"Host: x\r\ncdn-loop:\t Millrace , other, millrace;v=1\r\nA: b\r\nCdn-Loop: millrace\r\n", 3),
            (b"CDN-Loop: millrace2, my-millrace, millrace.example.com, other;by=millrace\r\n", 0),
            (b'CDN-Loop: other; a="x, millrace, \\", millrace", millrace; b=","\r\n', 1),
            (b"CDN-Loop: , ,\r\nCDN-Loop:\r\n", 0),
        ],
    )
    def test_finds_our_name_among_others(self, fields: bytes, passes: int) -> None:
        assert loops.passes(loops.members(fields)) == passes

    def test_adds_it_behind_all_others(self) -> None:
        names = loops.members(b'CDN-Loop: other; a=", "\r\nCDN-Loop: millrace\r\n')
        assert loops.line(names) == b'Cdn-Loop: other; a=", ", millrace, millrace\r\n'

    @given(st.lists(st.sampled_from((b"millrace", b"MillRace;x=1", b"foo", b'foo;a="millrace,\\""')), max_size=20))
    def test_counts_what_was_written(self, names: list[bytes]) -> None:
        passes = sum(name.lower().startswith(b"millrace") for name in names)
        for _ in range(3):
            assert loops.passes(loops.members(b"cdn-loop: %b\r\n" % b",".join(names))) == passes
            line = loops.line(names)
            names = loops.members(line)
            passes += 1


class TestALoop:
    """The service sends everything back without its signature, so that it looks new."""

    FORGETFUL = (b"x-cf-proxy-signature",)

    @pytest.mark.parametrize("most", [1, 8])
    def test_ends_when_the_request_has_passed_too_often(self, most: int) -> None:
        settings = with_settings(millrace=Native(route_service_max_hops=most))
        with bound(settings, without=self.FORGETFUL) as it:
            answer = it.ask()
            assert (answer.status, answer.get("X-Cf-RouterError")) == (508, b"route_service_loop")
            assert answer.body.startswith(b"508 Loop Detected: This request has passed %d times" % (most + 1))
            assert len(it.at_service) == most + 1
            assert it.at_service[-1].get("CDN-Loop") == b", ".join([b"millrace"] * (most + 1))
            assert not it.at_app

    def test_over_two_routers_ends_too(self) -> None:
        with bound() as it, running_edge(SETTINGS) as other:
            seen: list[Message] = []
            relay = answering(lambda request: sent_back(request, it.edge.port, without=self.FORGETFUL), seen)
            with backend(over_tls(relay, server_context(SERVICE_CERT))) as second:
                register(it.edge, APP, it.app, f"https://localhost:{second.port}/")
                register(other, APP, it.app, f"https://localhost:{second.port}/")
                wire = other.connect()
                wire.send(GET)
                assert wire.message().status == 508
                wire.close()
                assert len(seen) == 9

    def test_is_none_up_to_the_limit(self) -> None:
        with bound() as it:
            assert it.ask(GET[:-2] + b"CDN-Loop: %b\r\n\r\n" % b",".join([b"millrace"] * 8)).status == 200
            assert it.ask(GET[:-2] + b"CDN-Loop: %b\r\n\r\n" % b",".join([b"millrace"] * 9)).status == 508

    def test_is_not_looked_for_where_nothing_is_sent_to_a_service(self) -> None:
        many = b"CDN-Loop: %b\r\n" % b",".join([b"millrace"] * 50)
        with bound() as it:
            assert it.ask(it.signed(more=many)).status == 200
            register(it.edge, APP, it.app)
            assert it.ask(GET[:-2] + many + b"\r\n").status == 200

    def test_may_be_allowed(self) -> None:
        many = b"CDN-Loop: %b\r\n\r\n" % b",".join([b"millrace"] * 50)
        with bound(with_settings(millrace=Native(route_service_max_hops=0))) as it:
            assert it.ask(GET[:-2] + many).status == 200


def test_a_service_whose_own_route_has_a_service_is_refused() -> None:
    """It gets a signature that is not for it (gorouter reference 7)."""
    with bound(with_settings(route_services_hairpinning=True)) as it:
        register(it.edge, "first.example.com", it.app, it.url())
        register(it.edge, APP, it.app, "https://first.example.com/")
        answer = it.ask()
        assert answer.status == 502
        assert b"does not match the original request URL app.example.com/where" in answer.body
        assert not it.at_app
