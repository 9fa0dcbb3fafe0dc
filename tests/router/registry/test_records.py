"""Route keys and endpoint records: what may be registered, and what is refused with which words."""

from __future__ import annotations

import dataclasses

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.registry.records import MAX_RECORD_BYTES, EndpointRecord, InvalidRecord, is_route_key, route_key, tcp_route

text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
records = st.builds(
    EndpointRecord,
    host=st.sampled_from(["10.0.0.1", "backend.internal", "fd00::1"]),
    port=st.integers(1, 65535),
    tls_port=st.integers(0, 65535),
    app=text,
    private_instance_id=text,
    private_instance_index=text,
    server_cert_domain_san=text,
    isolation_segment=text,
    route_service_url=st.sampled_from(["", "https://rs.example.com/x"]),
    availability_zone=text,
    protocol=st.sampled_from(["http1", "http2"]),
    endpoint_updated_at_ns=st.integers(0, 2**60),
    tags=st.dictionaries(text, text, max_size=4),
    options=st.dictionaries(text.filter(lambda name: name != "proxy"), text, max_size=4),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


class TestRouteKey:
    @pytest.mark.parametrize(
        ("registered", "key"),
        [
            ("App.Example.COM", "app.example.com"),
            ("app.example.com/", "app.example.com"),
            ("app.example.com/V1/x", "app.example.com/v1/x"),
            ("app.example.com/v1?query=1", "app.example.com/v1"),
            ("*.example.com", "*.example.com"),
            ("hello.localhost", "hello.localhost"),
            ("a.b/%2F%aa", "a.b/%2f%aa"),
            ('a.b/"<>\\^`{|}', "a.b/%22%3c%3e%5c%5e%60%7b%7c%7d"),
            ("a.b/!$&'()*+,;=:@[]~-._", "a.b/!$&'()*+,;=:@[]~-._"),
            ("TCP:5432", "tcp:5432"),
            ("tcp:65535/", "tcp:65535"),
            ("tcp:5432/DB.Example.com", "tcp:5432/db.example.com"),
            ("tcp:5432/*.example.com", "tcp:5432/*.example.com"),
        ],
    )
    def test_is_lower_case_without_query_and_last_slash(self, registered: str, key: str) -> None:
        assert route_key(registered) == key

    @pytest.mark.parametrize(
        "wrong",
        [
            *(
                "",
                "/",
                "app.example.com:80",
                "a b.com",
                "a.*.com",
                "*",
                "-a.com",
                "a..b",
                "a.com/ü",
                "a.com/x y",
                "é.com",
            ),
            *(
                "tcp:",
                "tcp:0",
                "tcp:05",
                "tcp:65536",
                "tcp:123456",
                "tcp:x",
                "tcp:5432/a.com/b",
                "tcp:5432/a b",
                "tcp:5432/a:1",
                "tcp:5432/*",
                "tcp:5432/a..b",
                "udp:53",
            ),
            "tcp:5432/" + "a" * 3000,
            "a.com/" + "x/" * 40,
            "a" * 3000,
        ],
    )
    def test_refuses_what_no_request_could_match(self, wrong: str) -> None:
        with pytest.raises(InvalidRecord, match="route"):
            route_key(wrong)

    @given(st.text(max_size=60))
    def test_is_its_own_key_or_refused(self, registered: str) -> None:
        try:
            key = route_key(registered)
        except InvalidRecord:
            return
        assert route_key(key) == key
        assert key == key.lower()
        assert is_route_key(key)

    @given(st.from_regex(r"tcp:[0-9]{0,6}(/[a-z*.-]{0,12}){0,2}", fullmatch=True) | st.text("tcp:/.*a1?", max_size=20))
    def test_and_a_reader_agrees(self, text: str) -> None:
        try:
            key = route_key(text)
        except InvalidRecord:
            key = None
        assert is_route_key(text) == (key == text)

    @given(st.integers(1, 65535), st.none() | st.sampled_from(["a.com", "*.a.com"]))
    def test_of_a_tcp_route(self, port: int, name: str | None) -> None:
        assert route_key(tcp_route(port, name)) == tcp_route(port, name)


class TestRecord:
    @given(records)
    def test_survives_json(self, record: EndpointRecord) -> None:
        assert EndpointRecord.from_json(record.to_json()) == record

    @given(records)
    def test_equal_records_give_equal_bytes(self, record: EndpointRecord) -> None:
        shuffled = dict(reversed(orjson.loads(record.to_json()).items()))
        assert EndpointRecord.from_mapping(shuffled).to_json() == record.to_json()

    @pytest.mark.parametrize("version", ["v1", "v2"])
    def test_may_ask_for_a_proxy_header(self, version: str) -> None:
        record = EndpointRecord(host="10.0.0.1", port=80, options={"proxy": version, "loadbalancing": "round-robin"})
        assert EndpointRecord.from_json(record.to_json()).options["proxy"] == version

    def test_tls_port_replaces_port(self) -> None:
        assert EndpointRecord(host="10.0.0.1", port=80, tls_port=443).address == "10.0.0.1:443"
        assert EndpointRecord(host="fd00::1", port=80).address == "[fd00::1]:80"

    def test_unknown_keys_are_ignored(self) -> None:
        record = EndpointRecord.from_json(b'{"host":"10.0.0.1","port":80,"dea":"x","uris":["a"]}')
        assert record == EndpointRecord(host="10.0.0.1", port=80)

    @pytest.mark.parametrize(
        ("text", "field"),
        [
            (b"{}", "host"),
            (b"[]", "record"),
            (b"{", "record"),
            (b'{"host":"10.0.0.1"}', "port"),
            (b'{"host":"10.0.0.1","port":"80"}', "port"),
            (b'{"host":"10.0.0.1","port":true}', "port"),
            (b'{"host":"10.0.0.1","port":65536}', "port"),
            (b'{"host":"10.0.0.1","port":-1}', "port"),
            (b'{"host":"10.0.0.1","port":80,"tls_port":70000}', "tls_port"),
            (b'{"host":"a b","port":80}', "host"),
            (b'{"host":"","port":80}', "host"),
            (b'{"host":5,"port":80}', "host"),
            (b'{"host":"10.0.0.1","port":80,"protocol":"spdy"}', "protocol"),
            (b'{"host":"10.0.0.1","port":80,"app":5}', "app"),
            (b'{"host":"10.0.0.1","port":80,"app":"x\\r\\ny"}', "app"),
            (b'{"host":"10.0.0.1","port":80,"route_service_url":"http://x"}', "route_service_url"),
            (b'{"host":"10.0.0.1","port":80,"tags":{"a":1}}', "tags"),
            (b'{"host":"10.0.0.1","port":80,"tags":"a"}', "tags"),
            (b'{"host":"10.0.0.1","port":80,"options":{"a":"\\n"}}', "options"),
            (b'{"host":"10.0.0.1","port":80,"options":{"proxy":"v3"}}', "options.proxy"),
            (b'{"host":"10.0.0.1","port":80,"endpoint_updated_at_ns":"x"}', "endpoint_updated_at_ns"),
        ],
    )
    def test_a_wrong_field_is_named(self, text: bytes, field: str) -> None:
        with pytest.raises(InvalidRecord, match=f"^{field}"):
            EndpointRecord.from_json(text)

    def test_and_so_is_too_much(self) -> None:
        with pytest.raises(InvalidRecord, match="longer"):
            EndpointRecord.from_json(b'{"host":"' + b"x" * MAX_RECORD_BYTES + b'"}')

    @given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(EndpointRecord)]), anything))
    def test_no_json_at_all_raises_anything_else(self, mapping: dict[str, object]) -> None:
        try:
            text = orjson.dumps(mapping)
        except TypeError:  # numbers that orjson cannot write
            return
        try:
            record = EndpointRecord.from_json(text)
        except InvalidRecord:
            return
        assert EndpointRecord.from_json(record.to_json()) == record
