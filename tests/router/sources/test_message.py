"""Payloads of router.register and router.unregister (gorouter reference 1.2): what is taken, and what is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.registry.records import EndpointRecord, is_route_key
from router.sources.message import (
    NO_SECURE_ROUTE_SERVICE,
    RefusedMessage,
    Registration,
    read_registration,
    read_unregistration,
)

DIEGO: dict[str, Any] = {
    "host": "10.0.1.11",
    "port": 61002,
    "tls_port": 61003,
    "uris": ["a.example.com", "A.example.com/v1/", "a.example.com"],
    "app": "app-guid",
    "private_instance_id": "instance-guid",
    "private_instance_index": "0",
    "server_cert_domain_san": "instance-guid",
    "tags": {"component": "route-emitter", "app_name": "dora"},
    "availability_zone": "z1",
    "isolation_segment": "east",
    "route_service_url": "https://rs.example.com/x",
    "protocol": "http2",
    "endpoint_updated_at_ns": 1700000000000000000,
    "stale_threshold_in_seconds": 60,
    "options": {"loadbalancing": "least-connection"},
    "dea": "ignored",
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


def registration(**said: Any) -> Registration:
    """With a host and a port, unless something else is said."""
    return read_registration(orjson.dumps({"host": "10.0.0.1", "port": 80, **said}))


def refusal(**said: Any) -> str:
    with pytest.raises(RefusedMessage) as refused:
        registration(**said)
    return str(refused.value)


class TestRegistration:
    def test_says_every_field(self) -> None:
        read = read_registration(orjson.dumps(DIEGO))
        assert read.routes == ("a.example.com", "a.example.com/v1")
        assert (read.ttl, read.updated_at_ns, read.refused) == (60, 1700000000000000000, ())
        assert read.record == EndpointRecord(
            host="10.0.1.11",
            port=61002,
            tls_port=61003,
            app="app-guid",
            private_instance_id="instance-guid",
            private_instance_index="0",
            server_cert_domain_san="instance-guid",
            isolation_segment="east",
            route_service_url="https://rs.example.com/x",
            availability_zone="z1",
            protocol="http2",
            tags={"component": "route-emitter", "app_name": "dora"},
            options={"loadbalancing": "least-connection"},
        )

    def test_tls_port_replaces_port(self) -> None:
        assert registration(tls_port=8443).record.address == "10.0.0.1:8443"
        assert registration(tls_port=0).record.address == "10.0.0.1:80"

    def test_is_packed_as_the_registry_packs_it(self) -> None:
        record = registration(app="x").record
        assert record.packed == record.to_json() == b'{"app":"x","host":"10.0.0.1","port":80}'

    def test_the_time_of_a_change_makes_no_other_endpoint(self) -> None:
        assert registration(endpoint_updated_at_ns=1).record.packed == registration().record.packed

    @pytest.mark.parametrize("key", ["host", "Host", "HOST"])
    def test_keys_may_be_written_in_any_case(self, key: str) -> None:
        assert read_registration(orjson.dumps({key: "10.0.0.2", "PORT": 81})).record.address == "10.0.0.2:81"

    @pytest.mark.parametrize("field", sorted(set(DIEGO) - {"host", "port", "tls_port", "dea"}))
    def test_null_is_not_said(self, field: str) -> None:
        assert registration(**{field: None}) == registration()

    def test_a_protocol_that_is_not_http2_is_http1(self) -> None:
        assert registration(protocol="grpc").record.protocol == "http1"

    @pytest.mark.parametrize(
        ("options", "kept"),
        [
            ({"loadbalancing": "round-robin"}, {"loadbalancing": "round-robin"}),
            ({"lb_algo": "round-robin"}, {"loadbalancing": "round-robin"}),
            ({"loadbalancing": "hash", "lb_algo": "round-robin"}, {"loadbalancing": "hash"}),
            ({"lb_algo": "round-robin", "loadbalancing": "hash"}, {"loadbalancing": "hash"}),
            ({"lb_algo": "round-robin", "loadbalancing": ""}, {"loadbalancing": "round-robin"}),
            ({"hash_header": "X-Id", "hash_balance": "1.2"}, {"hash_header": "X-Id", "hash_balance": "1.2"}),
            ({"hash_balance": 1.5}, {"hash_balance": "1.5"}),
            ({"hash_balance": 2}, {"hash_balance": "2"}),
            (
                {"route_policy_scope": "org", "route_policy_sources": "cf:any"},
                {"route_policy_scope": "org", "route_policy_sources": "cf:any"},
            ),
            ({"proxy": "v2", "other": 5, "loadbalancing": None}, {}),
        ],
    )
    def test_options_have_two_spellings_and_unknown_ones_are_ignored(
        self, options: dict[str, Any], kept: dict[str, str]
    ) -> None:
        assert dict(registration(options=options).record.options) == kept

    def test_names_that_people_made_up_cost_no_route(self) -> None:
        tags = registration(tags={"app_name": "family \N{WOMAN}\N{ZERO WIDTH JOINER}\N{BOY}\n", "x": None}).record.tags
        assert tags == {"app_name": "family \N{WOMAN}\ufffd\N{BOY}\ufffd", "x": ""}

    def test_a_uri_that_is_no_route_leaves_the_others(self) -> None:
        read = registration(uris=["good.com", "bad..com", "host.com:80", "tcp:5432", None, "x.com?q=1"])
        assert read.routes == ("good.com", "x.com")
        assert len(read.refused) == 3
        assert "bad..com" in read.refused[0]

    @pytest.mark.parametrize(
        ("said", "reason"),
        [
            ({"port": 65536}, "port: a number from 0 to 65535, not 65536"),
            ({"port": -1}, "port: a number from 0 to 65535, not -1"),
            ({"port": "80"}, "port: a whole number, not '80'"),
            ({"port": 80.0}, "port: a whole number, not 80.0"),
            ({"port": True}, "port: a whole number, not True"),
            ({"tls_port": 70000}, "tls_port: a number from 0 to 65535, not 70000"),
            ({"port": 0}, "port: give port or tls_port"),
            ({"host": ""}, "host: an IP address or a DNS name, not ''"),
            ({"host": "a b"}, "host: an IP address or a DNS name, not 'a b'"),
            ({"uris": "a.com"}, "uris: an array of strings, not 'a.com'"),
            ({"uris": ["a.com", 5]}, "uris: an array of strings, not one with 5"),
            ({"tags": {"a": 1}}, "tags: an object of strings, not one with 1"),
            ({"tags": []}, "tags: an object, not []"),
            ({"options": {"lb_algo": 1}}, "options.lb_algo: a string, not 1"),
            ({"private_instance_index": 0}, "private_instance_index: a string, not 0"),
            ({"stale_threshold_in_seconds": 2**63}, f"stale_threshold_in_seconds: a number of 64 bits, not {2**63}"),
            ({"stale_threshold_in_seconds": "60"}, "stale_threshold_in_seconds: a whole number, not '60'"),
            ({"route_service_url": "http://rs.example.com"}, NO_SECURE_ROUTE_SERVICE),
            ({"app": "a\nb"}, "app: holds a character that cannot be printed"),
            ({"tags": {"a": "b" * 20_000}}, "record: longer than 16384 bytes"),
        ],
    )
    def test_is_refused_whole(self, said: dict[str, Any], reason: str) -> None:
        assert refusal(**said) == reason

    @pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"5", b'"x"', b"\xff", b"null", b"{}", b'{"port":80}'])
    def test_what_is_no_registration(self, payload: bytes) -> None:
        with pytest.raises(RefusedMessage):
            read_registration(payload)

    @given(st.dictionaries(st.sampled_from(sorted(DIEGO)) | st.text(max_size=5), anything))
    def test_whatever_comes_is_taken_or_refused(self, changes: dict[str, Any]) -> None:
        try:
            read = read_registration(orjson.dumps({**DIEGO, **changes}))
        except RefusedMessage:
            return
        assert all(map(is_route_key, read.routes))
        assert EndpointRecord.from_json(read.record.packed) == read.record

    @given(st.binary(max_size=200))
    def test_bytes_of_any_kind(self, payload: bytes) -> None:
        with pytest.raises(RefusedMessage):
            read_registration(payload)


class TestUnregistration:
    def test_says_who_leaves_what(self) -> None:
        read = read_unregistration(orjson.dumps(DIEGO))
        assert read.routes == ("a.example.com", "a.example.com/v1")
        assert (read.address, read.segment, read.component) == ("10.0.1.11:61003", "east", "route-emitter")

    def test_needs_nothing_else(self) -> None:
        read = read_unregistration(b'{"host":"fd00::1","port":80,"uris":["a.com","no:1"],"app":"\\n"}')
        assert (read.routes, read.address, read.segment, read.component) == (("a.com",), "[fd00::1]:80", "", "")
        assert len(read.refused) == 1

    @pytest.mark.parametrize(
        "said", [{"port": 65536}, {"app": 5}, {"host": ""}, {"port": 0}, {"route_service_url": "http://x"}]
    )
    def test_is_refused_as_a_registration_would_be(self, said: dict[str, Any]) -> None:
        with pytest.raises(RefusedMessage):
            read_unregistration(orjson.dumps({"host": "10.0.0.1", "port": 80, **said}))

    @given(st.dictionaries(st.sampled_from(sorted(DIEGO)), anything))
    def test_whatever_is_a_registration_can_be_taken_back(self, changes: dict[str, Any]) -> None:
        payload = orjson.dumps({**DIEGO, **changes})
        try:
            registered = read_registration(payload)
        except RefusedMessage:
            return
        left = read_unregistration(payload)
        assert (left.routes, left.address) == (registered.routes, registered.record.address)
        assert left.segment == registered.record.isolation_segment
