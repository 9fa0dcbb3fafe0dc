"""Sticky sessions without a router: whatever bytes cookies hold, nothing raises and no field line breaks."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.settings import Settings
from router.heads.sticky import COOKIE, Session, StickyRules, Wish, route_start
from router.http1.fields import Line, our_line

SETTINGS = Settings(sticky_session_cookie_names=("JSESSIONID", "SID"))
RULES = StickyRules(SETTINGS)
NEGOTIATING = StickyRules(replace(SETTINGS, sticky_sessions_for_auth_negotiate=True))
SECURE = StickyRules(replace(SETTINGS, secure_cookies=True))
every_rules = st.sampled_from([RULES, NEGOTIATING, SECURE])

values = st.binary(max_size=60) | st.text(
    st.sampled_from('JSESSIONID__VCAP_ID__ ;,="\\/%\t0-9:Expires Max-Age SameSite GMT'), max_size=80
).map(str.encode)
cookie_words = st.sampled_from(
    [
        *(b"JSESSIONID", b"SID", b"__VCAP_ID__", b"=", b";", b"; ", b" ", b'"', b"a", b"\xff", b",", b"\t"),
        *(b"Max-Age=", b"Expires=", b"SameSite=", b"Secure", b"Partitioned", b"0", b"-1", b"Lax", b"Thu, 01 Jan"),
    ]
)
worded = st.lists(cookie_words, max_size=16).map(b"".join)
cookies = values | worded

SET_COOKIE = re.compile(
    rb"Set-Cookie: __VCAP_ID__=[!#-+\--:<-\[\]-~]*(?:\"[ !#-:<-\[\]-~]*\")?; Path=/?[ -:<-~]*"
    rb"(?:; Expires=[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT)?(?:; Max-Age=(?:0|60))?; HttpOnly"
    rb"(?:; Secure)?(?:; SameSite=(?:Lax|Strict|None))?(?:; Partitioned)?\r\n"
)


def said(*lines: bytes) -> list[Line]:
    return [our_line(*line.split(b": ", 1)) for line in lines]


class TestWish:
    @given(every_rules, st.lists(cookies, max_size=3), cookies)
    def test_any_bytes_make_a_wish_or_none(
        self, rules: StickyRules, headers: list[bytes], authorization: bytes
    ) -> None:
        wish = rules.wish(headers, authorization)
        if wish is not None:
            assert wish.instance
            assert wish.instance.encode("latin-1") in b";".join(headers)
            assert not wish.must or rules is NEGOTIATING

    @given(
        st.lists(st.sampled_from([b"a=1", b"b=JSESSIONID", b"__VCAP_ID=no", b"", b"="])),
        st.lists(st.sampled_from([b"a=1", b"b=JSESSIONID", b"c=__VCAP_ID__=x", b"", b"="])),
        st.sampled_from([b"JSESSIONID=1", b"SID", b"SID="]),
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='";'), min_size=1),
        st.booleans(),
        st.sampled_from([b"; ", b";", b" ; "]),
    )
    def test_the_two_cookies_are_found_wherever_they_stand(
        self, first: list[bytes], last: list[bytes], session: bytes, instance: str, swapped: bool, mark: bytes
    ) -> None:
        pair = [session, COOKIE + b"=" + instance.encode()]
        if swapped:
            pair.reverse()
        assert RULES.wish([mark.join([*first, *pair, *last])], b"") == Wish(instance, False)
        assert RULES.wish([mark.join([*first, pair[0]]), mark.join([pair[1], *last])], b"") == Wish(instance, False)

    def test_what_must_be_needs_no_session(self) -> None:
        assert NEGOTIATING.wish([b"__VCAP_ID__=a"], b"Negotiate x") == Wish("a", True)
        assert NEGOTIATING.wish([b"SID=1; __VCAP_ID__=a"], b"NEGOTIATE") == Wish("a", True)
        assert NEGOTIATING.wish([b"SID=1; __VCAP_ID__=a"], b"Basic x") == Wish("a", False)
        assert NEGOTIATING.wish([b"SID=1"], b"Negotiate x") is None
        assert RULES.wish([b"__VCAP_ID__=a"], b"Negotiate x") is None


class TestSession:
    @given(
        every_rules,
        st.lists(st.tuples(st.sampled_from([b"set-cookie", b"www-authenticate", b"x"]), cookies), max_size=4),
    )
    def test_any_bytes_are_read(self, rules: StickyRules, pairs: list[tuple[bytes, bytes]]) -> None:
        session = rules.session([our_line(name, value) for name, value in pairs])
        if session is not None:
            assert session.named or session.negotiates or session.attributes is not None
            assert not session.negotiates or rules is NEGOTIATING

    def test_most_responses_say_nothing(self) -> None:
        assert RULES.session([]) is None
        assert RULES.session(said(b"Set-Cookie: a=1; Secure", b"WWW-Authenticate: Negotiate")) is None


class TestCookie:
    @given(
        every_rules,
        st.lists(cookies, max_size=3),
        st.booleans(),
        st.none() | st.text(max_size=8),
        st.text(max_size=12),
        st.binary(max_size=20) | st.lists(st.sampled_from([b"/", b"a", b";", b"%", b" ", b"\r\n"])).map(b"".join),
    )
    def test_it_is_one_whole_line_or_nothing(
        self,
        rules: StickyRules,
        set_cookies: list[bytes],
        negotiates: bool,
        wanted: str | None,
        instance: str,
        path: bytes,
    ) -> None:
        lines = [our_line(b"Set-Cookie", value) for value in set_cookies]
        if negotiates:
            lines += said(b"WWW-Authenticate: Negotiate")
        session = rules.session(lines)
        line = rules.cookie(session, wanted, instance, path)
        if not line:
            return
        assert SET_COOKIE.fullmatch(line), line
        assert (b"; Secure" in line) or rules is not SECURE
        assert instance
        assert session is None or not session.named
        assert session is not None or (wanted is not None and wanted != instance)

    @given(every_rules, st.text(min_size=1, max_size=8), st.sampled_from([None, Session(False, b"; HttpOnly", False)]))
    def test_it_says_nothing_new_to_who_is_where_it_wants(
        self, rules: StickyRules, instance: str, session: Session | None
    ) -> None:
        assert bool(rules.cookie(session, instance, instance, b"/")) == (session is not None)

    @given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='";\\'), min_size=1))
    def test_an_instance_that_a_cookie_can_say_is_the_one_that_comes_back(self, instance: str) -> None:
        line = RULES.cookie(Session(False, b"; HttpOnly", False), None, instance, b"/")
        pair = line.removeprefix(b"Set-Cookie: ").partition(b"; Path")[0]
        if instance != instance.strip():
            assert pair == b'%b="%b"' % (COOKIE, instance.encode())  # only quotation marks keep the space
        assert RULES.wish([b"SID=1; " + pair], b"") == Wish(instance, False)


class TestExpiry:
    @pytest.mark.parametrize(
        ("value", "written"),
        [
            (b"Thu, 01 Jan 1970 00:00:00 GMT", b"; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
            (b"Thu, 01-Jan-1970 00:00:00 GMT", b"; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
            (b"Thu, 01 Jan 1970 01:00:00 +0100", b"; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
            (b"Fri, 31 Dec 9999 23:59:59 GMT", b"; Expires=Fri, 31 Dec 9999 23:59:59 GMT"),
            (b"Thu, 01 Jan 99999 00:00:00 GMT", b""),
            (b"", b""),
            (b"0", b""),
            (b"-1", b""),
            (b"now", b""),
        ],
    )
    def test_dates_are_written_as_every_browser_reads_them(self, value: bytes, written: bytes) -> None:
        session = RULES.session(said(b"Set-Cookie: SID=1; Expires=" + value))
        assert session is not None
        assert session.attributes == written + b"; HttpOnly"


class TestRouteStart:
    @given(
        st.lists(st.text(st.sampled_from("aB%;. ")), max_size=5), st.integers(0, 7), st.sampled_from(["", "?x/y", "?"])
    )
    def test_is_that_many_segments_of_the_target(self, segments: list[str], count: int, query: str) -> None:
        path = "".join("/" + segment for segment in segments) or "/"
        start = route_start((path + query).encode(), count).decode()
        assert path.startswith(start) or start == "/"
        assert start.count("/") == max(1, min(count, path.count("/")))
        assert route_start(f"http://host{path}{query}".encode(), count).decode() == start
        assert route_start(f"http://host{query}".encode(), count) == b"/"
