"""Route objects (gorouter reference 1.7): which are accepted, and what routers make of them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.routing_api.errors import RoutingApiError
from controller.routing_api.said import HTTP, TCP, Said, http_route, registered, tcp_route_mapping

MAX_TTL = 120
GROUPS = {"tcp-group": "tcp", "http-group": "http"}
ROUTE = {"route": "App.example.com/Path/", "ip": "10.0.0.1", "port": 8080, "ttl": 60, "log_guid": "app-guid"}
MAPPING = {
    "router_group_guid": "tcp-group",
    "port": 1024,
    "backend_ip": "10.0.0.1",
    "backend_port": 61000,
    "instance_id": "i",
    "ttl": 60,
}
TEXT = st.text("a.-/:é#?* \0", max_size=8)
ANYTHING = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | TEXT | st.lists(TEXT, max_size=2)


def http(**change: Any) -> Said:
    return http_route({**ROUTE, **change}, MAX_TTL)


def tcp(**change: Any) -> Said:
    return tcp_route_mapping({**MAPPING, **change}, MAX_TTL, GROUPS)


def test_an_http_route_is_kept_as_it_was_said_and_known_by_its_key() -> None:
    said = http(route_service_url="https://rs.example.com", unknown=1)
    assert said.identity == (HTTP, "app.example.com/path", "10.0.0.1", 8080, 0)
    assert orjson.loads(said.text) == {**ROUTE, "route_service_url": "https://rs.example.com"}
    found = registered(HTTP, said.text)
    assert found is not None
    key, record = found
    assert (key, record.address, record.app) == ("app.example.com/path", "10.0.0.1:8080", "app-guid")
    assert (record.server_cert_domain_san, record.tls_port) == ("app-guid", 0)
    assert record.route_service_url == "https://rs.example.com"


def test_without_a_ttl_it_lives_as_long_as_one_may() -> None:
    assert http(ttl=None).ttl == MAX_TTL
    assert tcp(ttl=None).ttl == MAX_TTL


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ({"port": 0}, "RouteInvalidError", "Each route request requires a port greater than 0"),
        ({"ip": ""}, "RouteInvalidError", "Each route request requires an IP"),
        ({"route": ""}, "RouteInvalidError", "Each route request requires a valid route"),
        ({"route": "a.b?c"}, "RouteInvalidError", "Url cannot contain any of [?, #]"),
        ({"ttl": 121}, "RouteInvalidError", "Max ttl is 120"),
        ({"ttl": 0}, "RouteInvalidError", "Request requires a ttl greater than 0"),
        ({"route_service_url": "http://x"}, "RouteServiceUrlInvalidError", "Route service url must use HTTPS."),
        ({"port": "80"}, "ProcessRequestError", "Cannot process request: port must be a number from 0 to 65535"),
        ({"ip": 1}, "ProcessRequestError", "Cannot process request: ip must be a string"),
    ],
)
def test_http_routes_that_are_refused(change: dict[str, Any], name: str, message: str) -> None:
    with pytest.raises(RoutingApiError) as caught:
        http(**change)
    assert (caught.value.name, caught.value.message) == (name, message)


def test_a_route_that_no_router_could_serve_is_refused_in_words() -> None:
    with pytest.raises(RoutingApiError, match="host 'a b' is not a name"):
        http(route="a b/c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"router_group_guid": ""}, "Each tcp mapping requires a non empty router group guid"),
        ({"router_group_guid": "nobody"}, "router_group_guid: nobody not found"),
        ({"router_group_guid": "http-group"}, "router_group_guid: http-group not found"),
        ({"port": 0}, "Each tcp mapping requires a positive external port"),
        ({"backend_ip": ""}, "Each tcp mapping requires a non empty backend ip"),
        ({"backend_port": 0}, "Each tcp mapping requires a positive backend port"),
        (
            {"backend_tls_port": 65536},
            "Each tcp mapping with a backend TLS port requires that port to be at most 65535",
        ),
        ({"ttl": 121}, "Each tcp mapping requires TTL to be less than or equal to 120"),
        ({"ttl": -1}, "Each tcp route mapping requires a ttl greater than 0"),
        ({"backend_ip": "not an address"}, "host: an IP address or a DNS name"),
    ],
)
def test_tcp_routes_that_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RoutingApiError) as caught:
        tcp(**change)
    assert caught.value.name == "TcpRouteMappingInvalidError"
    assert caught.value.message.startswith(message)


def test_a_tcp_route_has_a_port_or_a_server_name_of_one() -> None:
    found = registered(TCP, tcp(isolation_segment="apart").text)
    assert found is not None
    assert (found[0], found[1].address, found[1].isolation_segment) == ("tcp:1024", "10.0.0.1:61000", "apart")
    named = registered(TCP, tcp(backend_sni_hostname="DB.example.com").text)
    assert named is not None
    assert named[0] == "tcp:1024/db.example.com"


@pytest.mark.parametrize(
    "change",
    [
        {"terminate_frontend_tls": True},
        {"enable_backend_mtls": True},
        {"sni_rewrite_hostname": "x"},
        {"backend_port": 0, "backend_tls_port": 443},
    ],
)
def test_what_these_routers_do_not_do_is_kept_for_others(change: dict[str, Any]) -> None:
    said = tcp(**change)
    assert {**orjson.loads(said.text), **change} == orjson.loads(said.text)
    assert registered(TCP, said.text) is None


def test_what_leaves_needs_no_ttl_and_no_group() -> None:
    assert http_route({**ROUTE, "ttl": 0}, MAX_TTL, leaves=True).identity == http().identity
    gone = tcp_route_mapping({**MAPPING, "ttl": 999}, MAX_TTL, {}, leaves=True)
    assert gone.identity == tcp().identity


@given(st.dictionaries(st.sampled_from([*ROUTE, "route_service_url"]), ANYTHING) | ANYTHING)
def test_whatever_is_said_of_http_routes_is_taken_or_refused(change: Any) -> None:
    try:
        said = http_route({**ROUTE, **change} if isinstance(change, dict) else change, MAX_TTL)
    except RoutingApiError:
        return
    assert registered(HTTP, said.text) is not None
    assert 0 < said.ttl <= MAX_TTL


@given(st.dictionaries(st.sampled_from([*MAPPING, "backend_tls_port", "backend_sni_hostname", "alpns"]), ANYTHING))
def test_whatever_is_said_of_tcp_routes_is_taken_or_refused(change: dict[str, Any]) -> None:
    try:
        said = tcp(**change)
    except RoutingApiError:
        return
    assert (registered(TCP, said.text) is None) == (said.port == 0)
