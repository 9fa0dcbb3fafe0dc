"""What the router changes in a message's fields on its way through, decided once per field block."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.settings import HeaderToAdd, HeaderToRemove, HttpRewrite, Native, RewriteResponses, Settings
from router.heads.forwarding import ForwardingRules, RequestPlan, host_key
from router.heads.response_plan import HOP_BY_HOP, ResponsePlan
from router.http1.grammar import BadMessage
from router.http1.names import canonical

RULES = ForwardingRules(Settings())
AS_RECEIVED = ForwardingRules(Settings(millrace=Native(header_names="as_received")))
NEVER_FORWARDED = HOP_BY_HOP | {
    b"x-vcap-request-id",
    b"x-cf-applicationid",
    b"x-cf-instanceid",
    b"x-cf-instanceindex",
    b"http2-settings",
}

request_lines = st.sampled_from(
    [
        b"Host: app.test",
        b"Connection: close",
        b"Connection: keep-alive, X-Hop",
        b"connection: Upgrade",
        b"Connection: host, content-length, transfer-encoding, cookie, x-forwarded-for, X-Request-Start",
        b"X-Hop: 1",
        b"X-Other: 1",
        b"x-other:2",
        b"Cookie: a=b",
        b"Upgrade: websocket",
        b"Upgrade: h2c",
        b"TE: trailers",
        b"te: gzip",
        b"Keep-Alive: 5",
        b"Proxy-Connection: close",
        b"Proxy-Authorization: x",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Trailer: X",
        b"X-Forwarded-For: 1.1.1.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: other",
        b"X-Request-Start: 5",
        b"X-Vcap-Request-Id: spoofed",
        b"X-CF-InstanceIndex: 7",
        b"HTTP2-Settings: A",
        b"Via: 1.1 x",
    ]
)
response_lines = st.sampled_from(
    [
        b"Date: now",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Connection: keep-alive, X-Hop",
        b"Connection: date, content-length",
        b"X-Hop: 1",
        b"Set-Cookie: a=b",
        b"set-cookie: c=d",
        b"Keep-Alive: timeout=5",
        b"Upgrade: websocket",
        b"Proxy-Authenticate: Basic",
        b"X-Vcap-Request-Id: theirs",
        b"Trailer: X",
    ]
)


def block(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines)


def plan(*lines: bytes, rules: ForwardingRules = RULES) -> RequestPlan:
    return rules.request_plan(block(*lines))


def response(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> ResponsePlan:
    return RULES.response_plan(block(first, *lines) + b"\r\n")


def respelt(line: bytes) -> bytes:
    """A field line as Go writes it."""
    name, _, value = line.partition(b":")
    return canonical(name) + b": " + value.strip(b" \t")


def named(lines: list[bytes], *names: bytes) -> list[bytes]:
    return [line for line in lines if line.partition(b":")[0].lower() in names]


class TestRequests:
    @given(st.lists(request_lines, max_size=8))
    def test_lines_without_a_rule_pass_in_order_and_untouched(self, lines: list[bytes]) -> None:
        try:
            made = plan(*lines, rules=AS_RECEIVED)
        except BadMessage:
            return
        sent = made.fields.split(b"\r\n")[:-1]
        options = {o.strip().lower() for line in named(lines, b"connection") for o in line.split(b":")[1].split(b",")}
        ours = (*NEVER_FORWARDED, b"x-forwarded-for", b"x-forwarded-proto", b"content-length")
        untouched = [line for line in lines if line.partition(b":")[0].lower() not in {*ours, *(options & {b"x-hop"})}]
        assert [line for line in sent if not named([line], *ours)] == untouched
        assert plan(*lines).fields.split(b"\r\n")[:-1] == [respelt(line) for line in sent]

    @given(st.lists(request_lines, max_size=8))
    def test_hop_by_hop_fields_and_forged_identities_end_here(self, lines: list[bytes]) -> None:
        try:
            made = plan(*lines)
        except BadMessage:
            return
        sent = made.fields.split(b"\r\n")[:-1]
        expected = [b"Te: trailers"] if made.trailers else []
        expected += [b"Connection: Upgrade", b"Upgrade: " + made.upgrade] if made.upgrade else []
        assert named(sent, *NEVER_FORWARDED) == expected

    @given(st.lists(request_lines, max_size=8))
    def test_framing_is_the_one_that_was_checked(self, lines: list[bytes]) -> None:
        try:
            made = plan(*lines)
        except BadMessage:
            return
        sent = made.fields.split(b"\r\n")[:-1]
        assert named(sent, b"content-length") == ([b"Content-Length: 3"] if made.content_length == 3 else [])
        assert bool(named(sent, b"transfer-encoding")) is made.chunked
        assert len(named(sent, b"content-length", b"transfer-encoding")) <= 1
        assert len(named(sent, b"host")) == (made.host_field is not None)

    @given(st.lists(request_lines, max_size=8))
    def test_a_plain_plan_needs_nothing_of_its_own(self, lines: list[bytes]) -> None:
        try:
            made = plan(*lines)
        except BadMessage:
            return
        special = named(lines, b"x-forwarded-for", b"x-forwarded-proto", b"x-request-start")
        assert made.plain is not bool(special or made.upgrade)

    @pytest.mark.parametrize(
        ("value", "kept"),
        [
            (b"websocket", b"websocket"),
            (b"h2c", b""),
            (b"H2C", b""),
            (b"h2", b""),
            (b"h2c,", b""),
            (b"h2c/1", b""),
            (b"websocket, h2c", b"websocket"),
            (b"h2c, websocket/13 ,TLS/1.0", b"websocket/13, TLS/1.0"),
            (b"", b""),
        ],
    )
    def test_upgrades_other_than_to_http_2_may_be_asked_for(self, value: bytes, kept: bytes) -> None:
        assert plan(b"Host: a", b"Connection: upgrade", b"Upgrade: " + value).upgrade == kept

    def test_upgrade_lines_are_one_list(self) -> None:
        assert plan(b"Connection: upgrade", b"Upgrade: a", b"Upgrade: h2c", b"Upgrade: b").upgrade == b"a, b"

    def test_an_upgrade_that_connection_does_not_name_is_none(self) -> None:
        assert plan(b"Host: a", b"Upgrade: websocket").upgrade == b""

    @pytest.mark.parametrize(
        "lines", [(b"TE: trailers, gzip",), (b"TE: trailers", b"TE: gzip"), (b"te: gzip,Trailers",)]
    )
    def test_trailers_are_the_one_transfer_coding_that_passes(self, lines: tuple[bytes, ...]) -> None:
        assert plan(*lines).fields == b"Te: trailers\r\n"

    def test_forwarded_for_is_folded_in_order(self) -> None:
        made = plan(b"X-Forwarded-For: 1.1.1.1, 2.2.2.2", b"A: b", b"x-forwarded-for: 3.3.3.3")
        assert (made.forwarded_for, made.fields) == (b"1.1.1.1, 2.2.2.2, 3.3.3.3", b"A: b\r\n")

    @pytest.mark.parametrize(
        ("settings", "lines", "expected"),
        [
            (Settings(), (), None),
            (Settings(), (b"X-Forwarded-Proto: https",), b"https"),
            (Settings(), (b"X-Forwarded-Proto:",), None),
            (Settings(), (b"X-Forwarded-Proto:", b"X-Forwarded-Proto: b"), None),
            (Settings(sanitize_forwarded_proto=True), (b"X-Forwarded-Proto: a",), None),
            (Settings(force_forwarded_proto_https=True), (), b"https"),
            (Settings(force_forwarded_proto_https=True), (b"X-Forwarded-Proto: a",), b"https"),
            (Settings(force_forwarded_proto_https=True, sanitize_forwarded_proto=True), (), b"https"),
        ],
    )
    def test_forwarded_proto(self, settings: Settings, lines: tuple[bytes, ...], expected: bytes | None) -> None:
        made = plan(*lines, rules=ForwardingRules(settings))
        assert made.forwarded_proto == expected
        assert made.fields == (b"X-Forwarded-Proto: %b\r\n" % expected if expected is not None else b"")

    def test_of_several_forwarded_protos_the_first_decides_for_all(self) -> None:
        made = plan(b"X-Forwarded-Proto: a", b"x-forwarded-proto: b")
        assert made.fields == b"X-Forwarded-Proto: a\r\nX-Forwarded-Proto: b\r\n"
        assert made.forwarded_proto == b"a"

    @pytest.mark.parametrize(
        ("rule", "expected"),
        [("pass", [b"X-Forwarded-Host: o"]), ("set", [b"X-Forwarded-Host: a:1"]), ("remove", [])],
    )
    def test_forwarded_host(self, rule: str, expected: list[bytes]) -> None:
        rules = ForwardingRules(Settings(millrace=Native(forwarded_host=rule)))
        made = plan(b"Host: a:1", b"X-Forwarded-Host: o", rules=rules)
        assert named(made.fields.split(b"\r\n"), b"x-forwarded-host") == expected

    @pytest.mark.parametrize("name", [b"Idempotency-Key", b"x-idempotency-KEY"])
    def test_an_idempotency_key_makes_a_request_repeatable(self, name: bytes) -> None:
        assert plan(name + b": 1").repeatable
        assert not plan(b"X: 1").repeatable

    def test_the_authority_of_the_target_replaces_host(self) -> None:
        made = RULES.request_plan_for(block(b"A: 1", b"Host: other:1", b"B: 2"), b"App.test:80")
        assert made.fields == b"Host: App.test:80\r\nA: 1\r\nB: 2\r\n"
        assert (made.host, made.host_field) == ("app.test", b"App.test:80")

    @pytest.mark.parametrize(
        ("host", "key"),
        [
            (b"App.Test", "app.test"),
            (b"a.test:80", "a.test"),
            (b"a.test:", "a.test"),
            (b"a.test.", "a.test."),
            (b"", ""),
            (b"[::1]", "[::1]"),
            (b"[2001:DB8::1]:8080", "[2001:db8::1]"),
        ],
    )
    def test_routes_are_matched_without_port_and_case(self, host: bytes, key: str) -> None:
        assert host_key(host) == key

    @pytest.mark.parametrize(
        ("host", "address"),
        [
            (b"127.0.0.1", b"127.0.0.1"),
            (b"127.0.0.1:80", b"127.0.0.1"),
            (b"[::1]", b"::1"),
            (b"[::1]:80", b"::1"),
            (b"app.test", b""),
            (b"127.0.0.256", b""),
            (b"1", b""),
        ],
    )
    def test_an_address_in_host_is_told_without_its_port(self, host: bytes, address: bytes) -> None:
        assert plan(b"Host: " + host).host_address == address


class TestResponses:
    @given(st.lists(response_lines, max_size=8), st.sampled_from([200, 204, 206, 304, 404, 101, 103]))
    def test_plans_hold_together(self, lines: list[bytes], status: int) -> None:
        try:
            made = response(*lines, first=b"HTTP/1.1 %d X" % status)
        except BadMessage:
            return
        sent = made.head.split(b"\r\n")[1:-1]
        assert made.head.endswith(b"\r\n")
        assert made.has_date == bool(named(sent, b"date"))
        assert made.has_request_id == bool(named(sent, b"x-vcap-request-id"))
        assert made.bodiless == (status in (101, 103, 204, 304))
        if status == 101:
            assert [line for line in sent if not named([line], b"content-length")] == [
                respelt(line) for line in lines if not named([line], b"content-length")
            ]
        else:
            assert not named(sent, *HOP_BY_HOP)
            assert named(sent, b"set-cookie") == [respelt(line) for line in named(lines, b"set-cookie")]
        if status in (103, 204):
            assert not named(sent, b"content-length", b"transfer-encoding")
        elif status != 101:
            assert bool(named(sent, b"content-length")) == (made.content_length >= 0)
            assert bool(named(sent, b"transfer-encoding")) == made.chunked
        if made.plain:
            assert made.has_date
            assert not made.has_request_id
            assert made.bodiless or made.chunked or made.content_length >= 0

    @pytest.mark.parametrize("status", [103, 204, 304])
    def test_a_response_without_body_announces_no_bytes_to_wait_for(self, status: int) -> None:
        assert response(b"Content-Length: 5", first=b"HTTP/1.1 %d X" % status).body_length == -1

    @pytest.mark.parametrize(
        ("first", "lines", "reusable"),
        [
            (b"HTTP/1.1 200 OK", (), True),
            (b"HTTP/1.1 200 OK", (b"Connection: Close",), False),
            (b"HTTP/1.1 200 OK", (b"Connection: keep-alive, close",), False),
            (b"HTTP/1.0 200 OK", (), False),
            (b"HTTP/1.0 200 OK", (b"Connection: Keep-Alive",), True),
        ],
    )
    def test_which_connections_take_another_request(
        self, first: bytes, lines: tuple[bytes, ...], reusable: bool
    ) -> None:
        assert response(*lines, first=first).reusable is reusable

    def test_fields_that_connection_names_end_here_but_not_the_framing(self) -> None:
        made = response(b"Connection: X-Hop, content-length, date", b"X-Hop: 1", b"Content-Length: 3", b"Date: now")
        assert made.head == b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
        assert not made.has_date

    def test_lines_that_come_later_are_rewritten_as_all_are(self) -> None:
        def rules(**changes: tuple[HeaderToAdd | HeaderToRemove, ...]) -> ForwardingRules:
            return ForwardingRules(Settings(http_rewrite=HttpRewrite(RewriteResponses(**changes))))  # type: ignore[arg-type]

        text = block(b"HTTP/1.1 200 OK", b"Content-Length: 0", b"X-Old: 1", b"Date: now") + b"\r\n"
        unless_there = rules(add_headers_if_not_present=(HeaderToAdd("set-cookie", "default=1"),))
        made = unless_there.response_plan(text)
        assert made.head.endswith(b"Date: now\r\nSet-Cookie: default=1\r\n")
        later = made.with_lines(b"Set-Cookie: own=1\r\nX-New: 1\r\n", unless_there, frozenset((b"x-old",)))
        assert later.head == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: now\r\nSet-Cookie: own=1\r\nX-New: 1\r\n"
        assert later.plain
        never = rules(remove_headers=(HeaderToRemove("Set-Cookie"), HeaderToRemove("Date")))
        bare = never.response_plan(text).with_lines(b"Set-Cookie: own=1\r\n", never)
        assert bare.head == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Old: 1\r\n"
        assert not bare.has_date

    def test_the_status_line_says_http_1_1_and_the_same_reason(self) -> None:
        assert response(first=b"HTTP/1.0 404 Not  Here").head == b"HTTP/1.1 404 Not  Here\r\n"
        assert response(first=b"HTTP/1.1 500").head == b"HTTP/1.1 500 \r\n"

    def test_the_coding_can_be_left_out(self) -> None:
        made = response(b"A: 1", b"transfer-ENCODING: chunked", b"B: Transfer-Encoding:")
        head, recoder, delimited = made.framed_for(0, False)
        assert head == b"HTTP/1.1 200 OK\r\nA: 1\r\nB: Transfer-Encoding:\r\n"
        assert recoder is not None
        assert not delimited
