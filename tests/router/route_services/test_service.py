"""Services by their URLs, and which routes are bound to which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.pool import Pool
from router.registry.records import EndpointRecord
from router.route_services.service import RouteService, ServiceEndpoint, ServicePool, Services
from router.table import RouteTable

A, B = "https://a.example.com/", "https://b.example.com/"


class TestAnUrl:
    @pytest.mark.parametrize(
        ("url", "authority", "target", "place"),
        [
            ("https://svc.example.com", "svc.example.com", "/", "svc.example.com:443"),
            ("https://svc.example.com/", "svc.example.com", "/", "svc.example.com:443"),
            ("HTTPS://Svc.Example.com:8443/A/b?c=d#e", "Svc.Example.com:8443", "/A/b?c=d", "svc.example.com:8443"),
            ("https://user:pass@svc.example.com/", "svc.example.com", "/", "svc.example.com:443"),
            ("https://svc.example.com?q", "svc.example.com", "/?q", "svc.example.com:443"),
            ("https://svc.example.com/a b/é%20?ü", "svc.example.com", "/a%20b/%C3%A9%20?%C3%BC", "svc.example.com:443"),
            ("https://192.0.2.1/x", "192.0.2.1", "/x", "192.0.2.1:443"),
            ("https://[2001:db8::1]:8443/x", "[2001:db8::1]:8443", "/x", "[2001:db8::1]:8443"),
            ("https://[2001:db8::1]/x", "[2001:db8::1]", "/x", "[2001:db8::1]:443"),
        ],
    )
    def test_says_where_the_service_is_and_what_it_is_asked_for(
        self, url: str, authority: str, target: str, place: str
    ) -> None:
        service = RouteService(url)
        assert (service.authority.decode(), service.target.decode()) == (authority, target)
        assert service.place is not None
        assert service.place.address == place
        assert service.place.tls_port

    def test_is_a_host_and_a_path_to_the_route_table(self) -> None:
        service = RouteService("https://Svc.Example.com:8443/A/b/?c=d")
        assert (service.host, service.path) == ("svc.example.com", "/a/b")

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "https://",
            "https:///path",
            "http://svc.example.com/",
            "httpsx://svc.example.com/",
            "https://svc.example.com:0/",
            "https://svc.example.com:65536/",
            "https://svc.example.com:port/",
            "https://svc.example.com/%zz",
            "https://svc example.com/",
            "https://s:v:c/",
            "https://[::1/",
            "https://" + "9" * 5000 + "/",
        ],
    )
    def test_that_leads_nowhere_is_kept_and_has_no_place(self, url: str) -> None:
        assert RouteService(url).place is None

    @given(st.text(max_size=50))
    def test_may_be_anything(self, text: str) -> None:
        service = RouteService("https://" + text)
        if service.place is not None:
            assert service.target.startswith(b"/")
            assert not set(service.target + service.authority) & set(b" \r\n\0")


class TestServices:
    def test_are_one_for_all_routes_with_the_same_url(self) -> None:
        services = Services()
        first = services.rebound(None, A)
        assert services.rebound(None, A) is first
        assert services.rebound(first, A) is first
        assert services.rebound(None, B) is not first
        assert len(services) == 2

    def test_are_forgotten_with_their_last_route(self) -> None:
        services = Services()
        first = services.rebound(None, A)
        services.rebound(None, A)
        assert services.rebound(first, "") is None
        assert len(services) == 1
        assert services.rebound(first, B) is not None
        assert len(services) == 1

    def test_and_then_close_what_is_idle_and_keep_nothing_new(self) -> None:
        services = Services()
        service = services.rebound(None, A)
        assert service is not None
        assert service.place is not None
        endpoint = ServiceEndpoint(A, service.place, None)
        service.elsewhere = ServicePool(endpoint, 3)
        assert endpoint.routes
        services.rebound(service, "")
        assert not endpoint.routes


class TestAServiceAsAPool:
    def test_is_asked_again_where_others_would_be(self) -> None:
        service = RouteService(A)
        assert service.place is not None
        endpoint = ServiceEndpoint(A, service.place, None)
        pool = ServicePool(endpoint, 3)
        endpoint.failed_until = 1e12
        endpoint.in_flight = 100
        assert pool.pick(0.0, "least-connection", 1, [endpoint]) is endpoint
        assert pool.pick_near(0.0, "round-robin", 1, "z1") is endpoint
        assert endpoint.identity() == b""


def pool_of(table: RouteTable, route: str = "app.example.com") -> Pool:
    pool = table.lookup(route, "")
    assert pool is not None
    return pool


class TestTheRouteTable:
    def record(self, port: int, url: str = "") -> EndpointRecord:
        return EndpointRecord(host="127.0.0.1", port=port, route_service_url=url)

    def test_binds_a_route_to_the_service_of_the_registration_that_came_last(self) -> None:
        table = RouteTable()
        route = "app.example.com"
        table.upsert(route, self.record(1))
        assert pool_of(table).service is None
        table.upsert(route, self.record(2, A))
        first = pool_of(table).service
        assert first is not None
        assert first.url == A
        table.upsert(route, self.record(2, B))
        assert pool_of(table).service is not first
        table.upsert(route, self.record(3))
        assert pool_of(table).service is None
        assert first.routes == 0

    def test_keeps_it_when_the_endpoint_that_said_so_leaves(self) -> None:
        table = RouteTable()
        table.upsert("app.example.com", self.record(1))
        table.upsert("app.example.com", self.record(2, A))
        table.remove("app.example.com", "127.0.0.1:2")
        assert pool_of(table).service is not None

    def test_lets_go_of_it_with_the_route(self) -> None:
        table = RouteTable()
        for route in ("app.example.com", "app.example.com/path"):
            table.upsert(route, self.record(1, A))
        service = pool_of(table).service
        assert service is not None
        assert service.routes == 2
        table.remove("app.example.com/path", "127.0.0.1:1")
        assert service.routes == 1
        table.remove("app.example.com", "127.0.0.1:1")
        assert service.routes == 0
