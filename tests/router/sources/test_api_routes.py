"""The route objects of a Routing API: field by field, and whatever else somebody may send (gorouter reference 1.7)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.registry.records import EndpointRecord, is_route_key
from router.sources.announced import NO_TAG, Tag
from router.sources.api_routes import RefusedRoute, http_route, tcp_route_mapping

HTTP = {
    "route": "App.example.com/Path/?q",
    "port": 8080,
    "ip": "10.0.0.1",
    "ttl": 60,
    "log_guid": "guid",
    "route_service_url": "https://rs.example.com",
    "modification_tag": {"guid": "abc", "index": 7},
}
TCP = {
    "router_group_guid": "group",
    "port": 1024,
    "backend_ip": "10.0.0.1",
    "backend_port": 5432,
    "backend_tls_port": 61443,
    "instance_id": "instance",
    "backend_sni_hostname": None,
    "ttl": 60,
    "isolation_segment": "east",
    "modification_tag": {"guid": "abc", "index": 7},
    "terminate_frontend_tls": False,
    "alpns": "h2,http/1.1",
    "enable_backend_mtls": None,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)


class TestHttpRoutes:
    def test_become_plain_endpoints(self) -> None:
        read = http_route(HTTP)
        assert read.route == "app.example.com/path"
        assert read.record == EndpointRecord(
            host="10.0.0.1",
            port=8080,
            app="guid",
            server_cert_domain_san="guid",
            route_service_url="https://rs.example.com",
        )
        assert read.record.packed == read.record.to_json()
        assert (read.ttl, read.tag) == (60, Tag("abc", 7))

    def test_need_an_address_and_a_route(self) -> None:
        read = http_route({"route": "a.com", "port": 1, "ip": "::1", "unknown": {}})
        assert (read.record.address, read.record.app, read.ttl, read.tag) == ("[::1]:1", "", 0, NO_TAG)

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"route": ""}, "route ''"),
            ({"route": "no such.host"}, "route 'no such.host'"),
            ({"route": "a.com:80"}, "a port in it can never match"),
            ({"route": "tcp:5432"}, "a port in it can never match"),
            ({"route": 7}, "route: a string, not 7"),
            ({"port": 0}, "port: give port"),
            ({"port": 65536}, "port: a number from 0 to 65535"),
            ({"port": "80"}, "port: a number"),
            ({"port": True}, "port: a number"),
            ({"ip": ""}, "host: "),
            ({"ip": None}, "host: "),
            ({"ttl": "60"}, "ttl: a number"),
            ({"ttl": 1.5}, "ttl: a number"),
            ({"log_guid": "a\nb"}, "app: "),
            ({"log_guid": "x" * 17_000}, "longer than"),
            ({"route_service_url": "http://rs"}, "route_service_url: must be https"),
            ({"modification_tag": "1"}, "modification_tag: an object"),
            ({"modification_tag": {"guid": 1}}, "guid: a string"),
            ({"modification_tag": {"guid": "a", "index": -1}}, "index: a number from 0"),
        ],
    )
    def test_that_cannot_be_used_say_why(self, changes: dict[str, Any], why: str) -> None:
        with pytest.raises(RefusedRoute, match=why.replace("(", r"\(")):
            http_route({**HTTP, **changes})

    @pytest.mark.parametrize("name", [name for name in HTTP if name != "ttl"])
    def test_refusals_are_short_whatever_comes(self, name: str) -> None:
        for value in ("x" * 1_000_000, "a:b" * 1_000_000, ["x" * 1_000_000]):
            with pytest.raises(RefusedRoute) as caught:
                http_route({**HTTP, name: value})
            assert len(str(caught.value)) < 400

    @given(JSON | st.builds(lambda name, value: {**HTTP, name: value}, st.sampled_from(list(HTTP)), JSON))
    def test_whatever_comes_is_a_route_or_is_refused(self, said: Any) -> None:
        read = attempt(http_route, said)
        assert read is None or (is_route_key(read.route) and not read.route.startswith("tcp:"))


class TestTcpRoutes:
    def test_become_tcp_routes(self) -> None:
        read = tcp_route_mapping(TCP)
        assert read.route == "tcp:1024"
        assert read.record == EndpointRecord(
            host="10.0.0.1", port=5432, private_instance_id="instance", isolation_segment="east"
        )
        assert (read.ttl, read.tag) == (60, Tag("abc", 7))

    @pytest.mark.parametrize(
        ("name", "route"),
        [("DB.example.com", "tcp:1024/db.example.com"), ("*.example.com", "tcp:1024/*.example.com"), ("", "tcp:1024")],
    )
    def test_by_name(self, name: str, route: str) -> None:
        assert tcp_route_mapping({**TCP, "backend_sni_hostname": name}).route == route

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"port": 0}, "a TCP route is tcp:PORT"),
            ({"port": 65536}, "port: a number"),
            ({"backend_sni_hostname": "a b"}, "a TCP route is tcp:PORT"),
            ({"backend_sni_hostname": "a/b"}, "a TCP route is tcp:PORT"),
            ({"backend_port": 0}, "backend_port: 0, and the router does not speak TLS"),
            ({"backend_port": -1}, "backend_port: a number"),
            ({"terminate_frontend_tls": True}, "terminate_frontend_tls: asks for"),
            ({"enable_backend_mtls": True}, "enable_backend_mtls: asks for"),
            ({"sni_rewrite_hostname": "a.com"}, "sni_rewrite_hostname: asks for"),
        ],
    )
    def test_that_cannot_be_used_say_why(self, changes: dict[str, Any], why: str) -> None:
        with pytest.raises(RefusedRoute, match=why):
            tcp_route_mapping({**TCP, **changes})

    @given(JSON | st.builds(lambda name, value: {**TCP, name: value}, st.sampled_from(list(TCP)), JSON))
    def test_whatever_comes_is_a_tcp_route_or_is_refused(self, said: Any) -> None:
        read = attempt(tcp_route_mapping, said)
        assert read is None or (is_route_key(read.route) and read.route.startswith("tcp:"))


def attempt(read: Any, said: Any) -> Any:
    """As it comes out of JSON; None: refused, in words that a log can take."""
    try:
        return read(orjson.loads(orjson.dumps(said)))
    except RefusedRoute as refused:
        assert len(str(refused)) < 400  # noqa: PT017 - that it may be refused is the point
        return None
