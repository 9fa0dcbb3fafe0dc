"""What rules of security groups may say (cloud_controller reference 3.6), without a server."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.v3.security_rules import problems

TEXT = st.text("a0.-,: é", max_size=12)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
PORT = st.integers(1, 65535)
PORTS = st.one_of(
    PORT.map(str),
    st.lists(PORT, min_size=1, max_size=4).map(lambda ports: ", ".join(map(str, ports))),
    st.tuples(PORT, PORT).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: f"{pair[0]}-{pair[1]}"),
)
IPV4, IPV6 = st.ip_addresses(v=4), st.ip_addresses(v=6)


def ranges(addresses: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return st.tuples(addresses, addresses).map(lambda pair: "-".join(map(str, sorted(pair))))


DESTINATION = st.one_of(IPV4.map(str), IPV6.map(str), ranges(IPV4), ranges(IPV6), IPV4.map(lambda one: f"{one}/24"))
CODE = st.integers(-1, 255)
RULE = st.one_of(
    st.fixed_dictionaries(
        {"protocol": st.sampled_from(("tcp", "udp")), "destination": DESTINATION, "ports": PORTS},
        optional={"log": st.booleans(), "description": TEXT},
    ),
    st.fixed_dictionaries(
        {"protocol": st.just("icmp"), "destination": st.one_of(IPV4.map(str), ranges(IPV4)), "code": CODE, "type": CODE}
    ),
    st.fixed_dictionaries({"protocol": st.just("icmpv6"), "destination": IPV6.map(str), "code": CODE, "type": CODE}),
    st.fixed_dictionaries({"protocol": st.just("all"), "destination": DESTINATION}),
)


@given(st.lists(RULE, max_size=4))
def test_rules_as_they_should_be_have_no_problems(rules: list[Any]) -> None:
    assert problems(rules) == []


@given(st.lists(ANYTHING, max_size=3))
def test_whatever_comes_is_judged_and_each_problem_names_its_rule(rules: list[Any]) -> None:
    found = problems(rules)
    assert all(any(problem.startswith(f"Rules[{number}]: ") for number in range(len(rules))) for problem in found)
    assert bool(found) == bool(rules), "nothing at random is a rule"


@given(RULE, st.sampled_from(("protocol", "destination")))
def test_what_every_rule_needs(rule: dict[str, Any], missing: str) -> None:
    assert problems([{key: value for key, value in rule.items() if key != missing}])


@given(IPV4, IPV4)
def test_a_range_does_not_run_backwards(one: IPv4Address, two: IPv4Address) -> None:
    high, low = max(one, two), min(one, two)
    backwards = problems([{"protocol": "all", "destination": f"{high}-{low}"}])
    assert bool(backwards) == (high != low)


@given(IPV4, IPV6)
def test_a_range_is_of_one_kind_of_address(one: IPv4Address, two: IPv6Address) -> None:
    assert problems([{"protocol": "all", "destination": f"{one}-{two}"}])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"protocol": "gre"}, "protocol must be 'tcp', 'udp', 'icmp', 'icmpv6' or 'all'"),
        ({"destination": "10.0.0.0/33"}, "destination must be a valid CIDR, IP address, or IP address range"),
        (
            {"destination": "10.0.0.1-10.0.0.2-10.0.0.3"},
            "destination must be a valid CIDR, IP address, or IP address range",
        ),
        ({"destination": "10.0.0.1 "}, "destination must not contain whitespace"),
        ({"destination": 10}, "destination must be a string"),
        ({"ports": None}, "ports are required for protocols of type TCP and UDP"),
        ({"log": "yes"}, "log must be a boolean"),
        ({"description": 1}, "description must be a string"),
        ({"colour": 1}, "unknown field(s): 'colour'"),
        ({"protocol": "all"}, "ports are not allowed for protocols of type all"),
        ({"protocol": "icmp", "code": 0}, "type is required for protocols of type ICMP"),
        ({"protocol": "icmp", "code": 256, "type": 0}, "code must be an integer between -1 and 255 (inclusive)"),
        ({"protocol": "icmp", "code": 0, "type": True}, "type must be an integer between -1 and 255 (inclusive)"),
        (
            {"protocol": "icmpv6", "code": 0, "type": 0},
            'for protocol "icmpv6" you cannot use IPv4 addresses',
        ),
    ],
)
def test_what_is_said_of_wrong_ones(change: dict[str, Any], problem: str) -> None:
    rule = {"protocol": "tcp", "destination": "10.0.0.0/24", "ports": "443"} | change
    assert f"Rules[1]: {problem}" in problems([{"protocol": "all", "destination": "::/0"}, rule])


@pytest.mark.parametrize("ports", ["0", "65536", "443-80", "443-443", "80,", "a", "1-2,5", "", "-1", "٤", 443])
def test_ports_that_are_none(ports: Any) -> None:
    (problem,) = problems([{"protocol": "udp", "destination": "10.0.0.1", "ports": ports}])
    assert problem.startswith("Rules[0]: ports must be a valid single port")
