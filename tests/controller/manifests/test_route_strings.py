"""Routes of manifests: what they are made of, and where their hosts may end (cloud_controller reference 3.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.v3.manifests.route_strings import NotARoute, RouteString


@pytest.mark.parametrize(
    ("text", "name", "port", "path"),
    [
        ("www.example.com", "www.example.com", 0, ""),
        ("https://WWW.Example.com/", "www.example.com", 0, ""),
        ("http://www.example.com/v1/Api", "www.example.com", 0, "/v1/api"),
        ("*.example.com", "*.example.com", 0, ""),
        ("tcp.example.com:1234", "tcp.example.com", 1234, ""),
        ("tcp://tcp.example.com:1234", "tcp.example.com", 1234, ""),
    ],
)
def test_parts(text: str, name: str, port: int, path: str) -> None:
    assert RouteString.parse(text) == RouteString(name, port, path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "ftp://www.example.com",
        "tcp://www.example.com",
        "http://www.example.com:80",
        "www..com",
        "a b.c",
        "www.example.com:0",
        "www.example.com:70000",
        "www.example.com/a?b=c",
        "-a.com",
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(NotARoute):
        RouteString.parse(text)


def test_the_longest_domain_comes_first() -> None:
    assert RouteString.parse("a.b.example.com").candidates() == [
        ("", "a.b.example.com"),
        ("a", "b.example.com"),
        ("a.b", "example.com"),
        ("a.b.example", "com"),
    ]


def test_a_wildcard_is_a_host() -> None:
    assert RouteString.parse("*.example.com").candidates() == [("*", "example.com")]


@given(st.text(max_size=60))
def test_whatever_is_read_is_shown_as_what_is_read_again(text: str) -> None:
    try:
        route = RouteString.parse(text)
    except NotARoute:
        return
    assert RouteString.parse(str(route)) == RouteString(route.name, route.port, "" if route.port else route.path)
    assert all(f"{host}.{domain}".lstrip(".") == route.name for host, domain in route.candidates())
