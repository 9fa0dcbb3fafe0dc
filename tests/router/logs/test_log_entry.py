"""The quick way from an exchange to its line, and the careful one: they agree, and any bytes can be read back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.settings import Logging, Settings
from router.exchange import Exchange
from router.heads.forwarding import RequestPlan
from router.http1.grammar import Limits
from router.http1.request import ORIGIN, RequestLine, parse_line
from router.logs.access_line import LONG_LIMIT, UDP_LIMIT, Clock, Entry, shortened, text_of
from router.logs.log_entry import ExchangeLines
from router.logs.logged_headers import LoggedHeaders
from router.logs.logged_target import logged_target
from router.pool import Endpoint
from router.registry.records import EndpointRecord
from tests.router.access_lines import parse
from tests.router.logs.test_access_log import ENTRY

ANY = st.binary(max_size=12)
MAYBE = st.none() | ANY
LENGTHS = st.integers(0, 100_000)
LIMITS = Limits(64 * 1024, 128, 16 * 1024)


def exchange(line: RequestLine, plan: RequestPlan, endpoint: Endpoint | None, **more: Any) -> Exchange:
    """One that is over; as good as one that came by a wire, as far as lines are concerned."""
    made = Exchange.__new__(Exchange)
    client = SimpleNamespace(version=b"", origin=b"203.0.113.7:51000", ip=b"203.0.113.7", scheme=b"http")
    values = {"status": 200, "request_bytes": 3, "response_bytes": 12, "started": 5.0, "sent_at": 5.1, "error": ""}
    values |= {"client": client, "line": line, "plan": plan, "endpoint": endpoint, "attempts": None, "backend": None}
    values |= {"id_field": b"X-Vcap-Request-Id: 0f8fad5b-d9cb-469f-a165-70867728950e\r\n"}
    for name, value in (values | more).items():
        setattr(made, name, value)
    return made


def endpoint_of(**fields: Any) -> Endpoint:
    record = EndpointRecord(host="10.0.0.9", port=8080, **fields)
    return Endpoint(record.address, record.to_json())


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    plan = RequestPlan(draw(MAYBE))
    for name in ("referer", "user_agent", "forwarded_for", "forwarded_proto"):
        setattr(plan, name, draw(MAYBE))
    line = RequestLine(draw(ANY), draw(ANY), draw(st.sampled_from((0, 1))), ORIGIN, b"", "")
    words = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=8)
    endpoint = draw(
        st.none() | st.builds(endpoint_of, app=words, private_instance_id=words, private_instance_index=words)
    )
    return exchange(line, plan, endpoint, error=draw(st.text(max_size=8)), status=draw(st.integers(100, 599)))


class TestAgreement:
    @given(
        exchanges(),
        st.fixed_dictionaries({"disable_log_forwarded_for": st.booleans(), "disable_log_source_ip": st.booleans()}),
        st.floats(0, 1e4),
    )
    def test_the_quick_way_and_the_careful_way_agree(
        self, over: Exchange, hidden: dict[str, bool], took: float
    ) -> None:
        lines = ExchangeLines(Settings(logging=Logging(**hidden)))
        quick = parse(lines.line(over, took))
        careful = parse(text_of(lines.entry(over, took), lines.clock) + b"\n")
        quick.moment = careful.moment = b""
        assert quick == careful

    @given(exchanges())
    def test_what_is_kept_changes_nothing(self, over: Exchange) -> None:
        lines = ExchangeLines(Settings())
        first, again = parse(lines.line(over, 0.5)), parse(lines.line(over, 0.5))
        first.moment = again.moment = b""
        assert first == again


class TestAnyBytes:
    @given(
        st.builds(
            ENTRY._replace,
            host=ANY,
            method=ANY,
            target=ANY,
            referer=MAYBE,
            user_agent=MAYBE,
            client=ANY,
            backend=ANY,
            x_forwarded_for=MAYBE,
            x_forwarded_proto=MAYBE,
            vcap_request_id=MAYBE,
            app_id=ANY,
            app_index=ANY,
            instance_id=ANY,
            router_error=ANY,
        )
    )
    def test_never_break_the_line_and_are_read_back(self, entry: Entry) -> None:
        line = parse(text_of(entry, Clock()) + b"\n")
        assert line.host == (entry.host or b'"-"')
        assert line.request == b" ".join((entry.method, entry.target, entry.version))
        assert (line.referer, line.user_agent) == (entry.referer or b"-", entry.user_agent or b"-")
        assert (line.client, line.backend) == (entry.client or b"-", entry.backend or b"-")
        for name in ("x_forwarded_for", "x_forwarded_proto", "vcap_request_id", "app_id", "app_index", "instance_id"):
            assert line[name] == (getattr(entry, name) or b"-")
        assert line["x_cf_routererror"] == (entry.router_error or b"-")

    @given(st.lists(st.tuples(st.sampled_from((b"x-one", b"x-two", b"other")), ANY), max_size=6))
    def test_nor_do_those_of_further_headers(self, fields: list[tuple[bytes, bytes]]) -> None:
        text = LoggedHeaders(("X-One", "X-Two", "Host")).text(
            SimpleNamespace(name=name, value=value)
            for name, value in fields  # type: ignore[misc]
        )
        line = parse(text_of(ENTRY._replace(headers=text), Clock()) + b"\n")
        first = dict(reversed(fields))
        assert line["x_one"] == (first.get(b"x-one") or b"-")
        assert line["x_two"] == (first.get(b"x-two") or b"-")
        assert line["host"] == b"-"


class TestTargets:
    @pytest.mark.parametrize(
        ("target", "shown"),
        [
            ("/a%20b/%2F?x=1&y", "/a%20b/%2F?x=1&y"),
            ("//x//y", "//x//y"),
            ("/x?", "/x?"),
            ("/?a?b", "/?a?b"),
            ("http://app.test", "/"),
            ("http://app.test?q=1", "/?q=1"),
            ("http://app.test/a?q=1", "/a?q=1"),
            ("/a|b'c%2f", "/a%7Cb%27c/"),
            ('/a"b?c|d', "/a%22b?c|d"),
            ("/(a)*!'[b]", "/(a)*!'[b]"),
        ],
    )
    def test_are_path_and_query_as_go_writes_them(self, target: str, shown: str) -> None:
        assert logged_target(parse_line(f"GET {target} HTTP/1.1".encode(), LIMITS), "none").decode() == shown

    @pytest.mark.parametrize(
        ("method", "redaction", "shown"),
        [
            ("GET", "none", "/x?key=secret"),
            ("GET", "all", "/x"),
            ("GET", "hash", "/x?hash=da251a5e0a448750faa7d8df5e9982468349d956"),
            ("POST", "all", "/x?key=secret"),
            ("HEAD", "hash", "/x?key=secret"),
        ],
    )
    def test_queries_of_get_are_redacted(self, method: str, redaction: str, shown: str) -> None:
        line = parse_line(f"{method} /x?key=secret HTTP/1.1".encode(), LIMITS)
        assert logged_target(line, redaction).decode() == shown

    @pytest.mark.parametrize("redaction", ["all", "hash"])
    def test_there_is_nothing_to_redact_where_there_is_no_query(self, redaction: str) -> None:
        for target in (b"/x", b"/x?"):
            assert logged_target(parse_line(b"GET %b HTTP/1.1" % target, LIMITS), redaction) == target


class TestShortened:
    """8.5: the copy for Loggregator fits into a datagram."""

    def test_long_headers_and_a_long_target_are_halved_until_they_fit(self) -> None:
        entry = ENTRY._replace(
            target=b"/" + 40_001 * b"t", referer=1_001 * b"r", user_agent=1_000 * b"u", x_forwarded_for=4_000 * b"f"
        )
        line = parse(shortened(entry, Clock()) + b"\n")
        target = b"/" + 20_000 * b"t" + b"...REQUEST-URI-TOO-LONG-TO-LOG--TRUNCATED"
        while len(target) > LONG_LIMIT:
            target = target[: len(target) // 2] + b"...REQUEST-URI-TOO-LONG-TO-LOG--TRUNCATED"
        assert line.request == b"GET " + target + b" HTTP/1.1"
        assert line.referer == 500 * b"r" + b"...REFERER-TOO-LONG-TO-LOG--TRUNCATED"
        assert line.user_agent == entry.user_agent
        assert line["x_forwarded_for"].endswith(b"f...X-FORWARDED-FOR-TOO-LONG-TO-LOG--TRUNCATED")

    def test_further_headers_stop_where_they_are_too_many(self) -> None:
        entry = ENTRY._replace(headers=b' one:"%b" two:"-" three:"%b" four:"4"' % (9_000 * b"1", 12_000 * b"3"))
        line = shortened(entry, Clock())
        assert line.endswith(b' two:"-" ...EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED')

    @given(LENGTHS, LENGTHS, st.lists(st.integers(1, 9_000), max_size=9))
    def test_always_fits(self, target: int, referer: int, headers: list[int]) -> None:
        text = b"".join(b' h%d:"%b"' % (number, size * b"v") for number, size in enumerate(headers))
        entry = ENTRY._replace(target=target * b"t", referer=referer * b"r", headers=text)
        assert len(shortened(entry, Clock())) <= UDP_LIMIT
