"""Sticky sessions: gorouter reference section 3.9, rule by rule, the cookie to the letter, by whole routers.

Tests named "ours" are where this router differs on purpose: see docs/compatibility.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

import pytest

from router.registry.records import EndpointRecord
from tests.router.http2 import peer
from tests.router.registered import Registered, at, backends, head, registered_router, resetting, silent_end, telling
from tests.router.wire import Backend, Message, Wire, backend, wait_until

SESSION = "JSESSIONID=s1"


@pytest.fixture(scope="module")
def apps() -> Iterator[list[Backend]]:
    with backends(3) as running:
        yield running


@pytest.fixture(scope="module")
def router(registry_url: str) -> Iterator[Registered]:
    """With two names of cookies, and one exchange per endpoint."""
    names = ["JSESSIONID", "SID"]
    with registered_router(
        registry_url, "sticky", sticky_session_cookie_names=names, backends={"max_conns": 1}
    ) as running:
        yield running


@pytest.fixture(scope="module")
def negotiating(registry_url: str) -> Iterator[Registered]:
    with registered_router(
        registry_url, "negotiating", sticky_sessions_for_auth_negotiate=True, backends={"max_conns": 1}
    ) as running:
        yield running


@pytest.fixture(scope="module")
def secure(registry_url: str) -> Iterator[Registered]:
    with registered_router(
        registry_url, "secure", sticky_sessions_for_auth_negotiate=True, secure_cookies=True
    ) as running:
        yield running


def pool(router: Registered, host: str, apps: list[Backend], **fields: Any) -> list[EndpointRecord]:
    """Register instances a, b, ... of an app of this route's own."""
    records = [at(app, name, app=host, **fields) for app, name in zip(apps, ascii_lowercase, strict=False)]
    router.register(*[(host, record) for record in records])
    return records


def wants(instance: str, session: str = SESSION) -> str:
    return f"Cookie: {session}; __VCAP_ID__={instance}"


def vcap(answer: Message) -> list[str]:
    """The cookies that name an instance."""
    return [value.decode() for value in answer.all("Set-Cookie") if b"__VCAP_ID__" in value]


class TestWhoIsAsked:
    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, router: Registered, apps: list[Backend]) -> str:
        pool(router, "asked.test", apps)
        return "asked.test"

    @pytest.mark.parametrize("instance", "abc")
    @pytest.mark.parametrize(
        "lines",
        [
            pytest.param([f"Cookie: {SESSION}; __VCAP_ID__=@"], id="both cookies"),
            pytest.param(["Cookie: __VCAP_ID__=@; JSESSIONID=s1"], id="in any order"),
            pytest.param(["Cookie: x=1; __VCAP_ID__=@; JSESSIONID=s1; y=2"], id="among others"),
            pytest.param(["Cookie: JSESSIONID=; __VCAP_ID__=@"], id="whatever the session's value"),
            pytest.param(["Cookie: SID=7; __VCAP_ID__=@"], id="by another of the names"),
            pytest.param(["Cookie: JSESSIONID=1", "Cookie: __VCAP_ID__=@"], id="on several lines"),
            pytest.param(["Cookie:JSESSIONID=1;__VCAP_ID__=@"], id="without white space"),
            pytest.param(['Cookie: JSESSIONID=1; __VCAP_ID__="@"'], id="in quotation marks"),
            pytest.param(["Cookie: JSESSIONID=1; __VCAP_ID__=@; __VCAP_ID__=other"], id="the first of two"),
        ],
    )
    def test_the_instance_of_the_session(self, router: Registered, host: str, lines: list[str], instance: str) -> None:
        lines = [line.replace("@", instance) for line in lines]
        for _ in range(2):
            seen = router.see(host, "/", *lines)
            assert seen.instance == instance
            assert vcap(seen.answer) == []

    @pytest.mark.parametrize(
        "line",
        [
            pytest.param("Cookie: __VCAP_ID__=a", id="without a session"),
            pytest.param("Cookie: JSESSIONID=1", id="without an instance"),
            pytest.param("Cookie: JSESSIONID=1; __VCAP_ID__=", id="with an empty instance"),
            pytest.param("Cookie: jsessionid=1; __VCAP_ID__=a", id="session in other letters"),
            pytest.param("Cookie: JSESSIONID=1; __vcap_id__=a", id="instance in other letters"),
            pytest.param("Cookie: OTHER=1; __VCAP_ID__=a", id="with another cookie"),
            pytest.param("Cookie: x=JSESSIONID=1; __VCAP_ID__=a", id="with the name in a value"),
            pytest.param("Authorization: Negotiate x\r\nCookie: __VCAP_ID__=a", id="Negotiate, where it is off"),
        ],
    )
    def test_anybody_else(self, router: Registered, host: str, line: str) -> None:
        answers = [router.see(host, "/", line) for _ in range(3)]
        assert {one.instance for one in answers} == set("abc")
        assert all(vcap(one.answer) == [] for one in answers)

    def test_an_address_names_an_instance_too(self, router: Registered, apps: list[Backend], host: str) -> None:
        """The cookie is then rewritten: what answered has another name."""
        seen = router.see(host, "/", wants(f"127.0.0.1:{apps[1].port}"))
        assert seen.instance == "b"
        assert vcap(seen.answer) == ["__VCAP_ID__=b; Path=/; HttpOnly"]

    def test_a_missing_one_is_replaced_for_this_request(self, router: Registered, host: str) -> None:
        answers = [router.see(host, "/", wants("gone")) for _ in range(3)]
        assert {one.instance for one in answers} == set("abc")
        assert [vcap(one.answer) for one in answers] == [
            [f"__VCAP_ID__={one.instance}; Path=/; HttpOnly"] for one in answers
        ]

    def test_one_of_another_route_is_a_missing_one(self, router: Registered, apps: list[Backend], host: str) -> None:
        router.register(("other.test", at(apps[0], "elsewhere")))
        assert router.see(host, "/", wants("elsewhere")).instance in "abc"

    def test_so_is_an_overloaded_one(self, router: Registered, apps: list[Backend]) -> None:
        pool(router, "busy.test", apps[:2])
        with router.held("busy.test", wants("a")) as busy:
            assert busy == "a"
            for _ in range(2):
                seen = router.see("busy.test", "/", wants("a"))
                assert seen.instance == "b"
                assert vcap(seen.answer) == ["__VCAP_ID__=b; Path=/; HttpOnly"]

    def test_one_that_is_marked_as_failed_is_taken(self, router: Registered, apps: list[Backend]) -> None:
        failing = True
        tell = telling()

        def script(wire: Wire) -> None:
            if failing:
                resetting(wire)
            else:
                tell(wire)

        with backend(script) as flaky:
            pool(router, "marked.test", [apps[0], flaky])
            wait_until(lambda: router.see("marked.test") and flaky.connections, "its mark")
            failing = False
            assert router.instances(4, "marked.test") == ["a"] * 4
            assert router.instances(4, "marked.test", "/", wants("b")) == ["b"] * 4

    def test_for_the_first_attempt_only(self, router: Registered, apps: list[Backend]) -> None:
        with backend(silent_end) as bad:
            pool(router, "first.test", [apps[0], bad, apps[1]])
            for number in range(1, 4):
                seen = router.see("first.test", "/", wants("b"))
                assert seen.instance in "ac"
                assert vcap(seen.answer) == [f"__VCAP_ID__={seen.instance}; Path=/; HttpOnly"]
                assert bad.connections == number

    @pytest.mark.parametrize(
        "options", [{"loadbalancing": "least-connection"}, {"loadbalancing": "hash", "hash_header": "X-Key"}]
    )
    def test_before_every_algorithm(self, router: Registered, apps: list[Backend], options: dict[str, str]) -> None:
        host = f"{options['loadbalancing']}.test"
        pool(router, host, apps, options=options)
        for instance in "abc":
            assert router.instances(3, host, "/", wants(instance), "X-Key: k") == [instance] * 3

    def test_stays_when_its_connection_was_closed_meanwhile(self, router: Registered) -> None:
        """3.6: the same endpoint on a new connection."""

        def once(wire: Wire) -> None:
            request = wire.head()
            who = (request.get("X-Cf-Instanceid") or b"").decode()
            wire.send(head("200 OK", "Content-Length: 0", f"X-Instance: {who}"))
            wire.head()

        with backend(once) as one, backend(once) as other:
            pool(router, "closed.test", [one, other])
            for _ in range(4):
                assert router.ask("closed.test", "/", wants("b")).get("X-Instance") == b"b"


@dataclass
class Said:
    """What a response says of its session, and what the router adds to its cookie, ``None`` where it makes none."""

    name: str
    cookies: list[str]
    added: str | None
    asked: str = ""


SAID = [
    Said("a session begins", ["JSESSIONID=x"], "HttpOnly"),
    Said("another of the names", ["SID=x"], "HttpOnly"),
    Said("an empty value", ["JSESSIONID="], "HttpOnly"),
    Said("no session", [], None),
    Said("another cookie", ["OTHER=x; Secure"], None),
    Said("the name in other letters", ["jsessionid=x"], None),
    Said("the name at the beginning of another", ["JSESSIONID2=x"], None),
    Said("no Domain, a Path of its own", ["JSESSIONID=x; Domain=example.com; Path=/deep; HttpOnly"], "HttpOnly"),
    Said("Secure", ["JSESSIONID=x; Secure"], "HttpOnly; Secure"),
    Said("SameSite=Lax", ["JSESSIONID=x; SameSite=Lax"], "HttpOnly; SameSite=Lax"),
    Said("SameSite=strict", ["JSESSIONID=x; samesite=strict"], "HttpOnly; SameSite=Strict"),
    Said("SameSite=NONE", ["JSESSIONID=x; SameSite=NONE; Secure"], "HttpOnly; Secure; SameSite=None"),
    Said("SameSite of no kind", ["JSESSIONID=x; SameSite=Other"], "HttpOnly"),
    Said("SameSite without a value", ["JSESSIONID=x; SameSite"], "HttpOnly"),
    Said("Partitioned", ["JSESSIONID=x; Secure; Partitioned"], "HttpOnly; Secure; Partitioned"),
    Said("Expires", ["JSESSIONID=x; Expires=Wed, 21 Oct 2026 07:28:00 GMT"],
         "Expires=Wed, 21 Oct 2026 07:28:00 GMT; HttpOnly"),
    Said("Expires in Netscape's form", ["JSESSIONID=x; expires=Wed, 21-Oct-2026 07:28:00 GMT"],
         "Expires=Wed, 21 Oct 2026 07:28:00 GMT; HttpOnly"),
    Said("Expires that is no date", ["JSESSIONID=x; Expires=tomorrow"], "HttpOnly"),
    Said("a positive Max-Age is not copied", ["JSESSIONID=x; Max-Age=3600"], "HttpOnly"),
    Said("a negative Max-Age deletes", ["JSESSIONID=x; Max-Age=-1"], "Max-Age=0; HttpOnly"),
    Said("so does 0", ["JSESSIONID=x; max-age=0"], "Max-Age=0; HttpOnly"),
    Said("so does 00", ["JSESSIONID=x; max-age=00"], "Max-Age=0; HttpOnly"),
    Said("Max-Age that is no number", ["JSESSIONID=x; Max-Age=-x"], "HttpOnly"),
    Said("as Java deletes a session", ["JSESSIONID=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:10 GMT; Path=/"],
         "Expires=Thu, 01 Jan 1970 00:00:10 GMT; Max-Age=0; HttpOnly"),
    Said("all of them, in Go's order",
         ["JSESSIONID=x; Partitioned; SameSite=None; Secure; Max-Age=-5; Expires=Wed, 21 Oct 2026 07:28:00 GMT"],
         "Expires=Wed, 21 Oct 2026 07:28:00 GMT; Max-Age=0; HttpOnly; Secure; SameSite=None; Partitioned"),
    Said("attributes in any letters and spacing", ["JSESSIONID=x;SECURE ;  SAMESITE = lax ;partitioned"],
         "HttpOnly; Secure; SameSite=Lax; Partitioned"),
    Said("the last of an attribute counts", ["JSESSIONID=x; SameSite=Lax; SameSite=Strict"],
         "HttpOnly; SameSite=Strict"),
    Said("an attribute's name in the value is none", ["JSESSIONID=Secure"], "HttpOnly"),
    Said("the first sticky cookie counts", ["OTHER=1; Partitioned", "SID=2; Secure", "JSESSIONID=3; SameSite=Lax"],
         "HttpOnly; Secure"),
    Said("not where the app names an instance itself", ["JSESSIONID=x", "__VCAP_ID__=mine; Path=/x"], None),
    Said("before or behind", ["__VCAP_ID__=mine", "JSESSIONID=x"], None),
    Said("a stuck request of the same instance", [], None, wants("a")),
    Said("a stuck request whose session goes on", ["JSESSIONID=x; Secure"], "HttpOnly; Secure", wants("a")),
    Said("a stuck request that another instance answers", [], "HttpOnly", wants("gone")),
    Said("and whose session begins anew", ["JSESSIONID=x; SameSite=Lax"], "HttpOnly; SameSite=Lax", wants("gone")),
    Said("and to which the app names an instance itself", ["__VCAP_ID__=mine"], None, wants("gone")),
    Said("WWW-Authenticate is nothing where negotiating is off", ["WWW-Authenticate: Negotiate"], None),
]  # fmt: skip

NEGOTIATED = "Max-Age=60; HttpOnly; SameSite=Strict"

NEGOTIATING = [
    Said("an authentication begins", ["WWW-Authenticate: Negotiate"], NEGOTIATED),
    Said("with a token", ["WWW-Authenticate: Negotiate dG9rZW4="], NEGOTIATED),
    Said("in other letters", ["www-authenticate: nEGOTIATE"], NEGOTIATED),
    Said("ours: on any line", ["WWW-Authenticate: Basic realm=x", "WWW-Authenticate: Negotiate"], NEGOTIATED),
    Said("another scheme", ["WWW-Authenticate: Basic"], None),
    Said("a session besides: overruled", ["JSESSIONID=x; Secure; Partitioned", "WWW-Authenticate: Negotiate"],
         NEGOTIATED),
    Said("it goes on with the same instance", ["WWW-Authenticate: Negotiate"], None, wants("a")),
    Said("which begins a session", ["JSESSIONID=x; Secure", "WWW-Authenticate: Negotiate"], "HttpOnly; Secure",
         wants("a")),
    Said("the session's instance is gone", ["WWW-Authenticate: Negotiate"], NEGOTIATED, wants("gone")),
    Said("the app names an instance itself", ["WWW-Authenticate: Negotiate", "__VCAP_ID__=mine"], None),
    Said("a session alone", ["JSESSIONID=x; SameSite=Lax"], "HttpOnly; SameSite=Lax"),
]  # fmt: skip

SECURE = [
    Said("secure_cookies", ["JSESSIONID=x"], "HttpOnly; Secure"),
    Said("secure_cookies, and the app's", ["JSESSIONID=x; Secure; SameSite=Lax"], "HttpOnly; Secure; SameSite=Lax"),
    Said("secure_cookies of a rewritten one", [], "HttpOnly; Secure", wants("gone")),
    Said("secure_cookies of an authentication", ["WWW-Authenticate: Negotiate"],
         "Max-Age=60; HttpOnly; Secure; SameSite=Strict"),
    Said("secure_cookies, and no session", [], None),
]  # fmt: skip


def check(router: Registered, apps: list[Backend], said: Said) -> None:
    pool(router, "said.test", apps[:1])
    lines = [line if ":" in line.split("=")[0] else f"Set-Cookie: {line}" for line in said.cookies]
    answer = router.ask("said.test", "/x/y?z", *[f"X-Say: {line}" for line in lines], *filter(None, [said.asked]))
    own = [cookie.partition(": ")[2] for cookie in lines if cookie.startswith("Set-Cookie")]
    ours = [] if said.added is None else [f"__VCAP_ID__=a; Path=/; {said.added}"]
    assert [value.decode() for value in answer.all("Set-Cookie")] == own + ours


class TestCookie:
    @pytest.mark.parametrize("said", SAID, ids=[said.name for said in SAID])
    def test_by_session(self, router: Registered, apps: list[Backend], said: Said) -> None:
        check(router, apps, said)

    @pytest.mark.parametrize("said", NEGOTIATING, ids=[said.name for said in NEGOTIATING])
    def test_by_authentication(self, negotiating: Registered, apps: list[Backend], said: Said) -> None:
        check(negotiating, apps, said)

    @pytest.mark.parametrize("said", SECURE, ids=[said.name for said in SECURE])
    def test_secure(self, secure: Registered, apps: list[Backend], said: Said) -> None:
        check(secure, apps, said)

    def test_none_for_an_endpoint_without_an_instance_id(self, router: Registered, apps: list[Backend]) -> None:
        router.register(("nameless.test", at(apps[0])))
        answer = router.ask("nameless.test", "/", "X-Say: Set-Cookie: JSESSIONID=1", wants("gone"))
        assert vcap(answer) == []

    @pytest.mark.parametrize(
        ("instance", "value"),
        [("1a2b-3c", "1a2b-3c"), ("a b", '"a b"'), ("a,b", '"a,b"'), ("a=b", "a=b"), ("a/b@c", "a/b@c")],
    )
    def test_its_value_comes_back(self, router: Registered, apps: list[Backend], instance: str, value: str) -> None:
        router.register(*[("value.test", at(app, f"{instance}{n}", app="v")) for n, app in enumerate(apps)])
        wanted = f"{instance}1"
        cookie = vcap(router.ask("value.test", "/", wants(f"127.0.0.1:{apps[1].port}")))[0]
        closing = '"' if value.endswith('"') else ""
        assert cookie == f"__VCAP_ID__={value.removesuffix(closing)}1{closing}; Path=/; HttpOnly"
        pair = cookie.partition(";")[0]
        assert router.instances(3, "value.test", "/", f"Cookie: JSESSIONID=1; {pair}") == [wanted] * 3

    @pytest.mark.parametrize(
        ("route", "target", "path"),
        [
            ("@", "/deep/path", "/"),
            ("@/app", "/app", "/app"),
            ("@/app", "/app/", "/app"),
            ("@/app", "/app/x/y?z=/", "/app"),
            ("@/app", "/app?x", "/app"),
            ("@/one/two", "/one/two/three", "/one/two"),
            ("*.@/app", "/app/x", "/app"),
            ("@/a%20b", "/a%20b/c", "/a%20b"),
            ("@/a=b,c", "/a=b,c/d", "/a=b,c"),
            pytest.param("@/Context", "/conTEXT/x", "/conTEXT", id="ours: as the client wrote it"),
            pytest.param("@/caf%C3%A9", "/caf%c3%a9/x", "/caf%c3%a9", id="ours: escapes too"),
            pytest.param("@/one/a;b/c", "/one/a;b/c/d", "/one", id="ours: as far as a cookie can say it"),
            pytest.param("@/a;b", "/a;b", "/", id="ours: or everywhere"),
            pytest.param("@/app", "http://@/app/x", "/app", id="of an absolute target"),
            pytest.param("@//app", "//app/x", "//app", id="with an empty segment"),
        ],
    )
    def test_its_path_is_the_routes(
        self, router: Registered, apps: list[Backend], route: str, target: str, path: str
    ) -> None:
        host = f"p{abs(hash((route, target)))}.test"
        router.register((route.replace("@", host), at(apps[0], "a")))
        asked = f"sub.{host}" if route.startswith("*") else host
        answer = router.ask(asked, target.replace("@", asked), "X-Say: Set-Cookie: JSESSIONID=1; Path=/other")
        assert vcap(answer) == [f"__VCAP_ID__=a; Path={path}; HttpOnly"]

    def test_with_an_upgrade(self, router: Registered) -> None:
        def upgrading(wire: Wire) -> None:
            wire.head()
            lines = ("Connection: Upgrade", "Upgrade: websocket", "Set-Cookie: JSESSIONID=1; Secure")
            wire.send(head("101 Switching Protocols", *lines))
            wire.read_to_end()

        with backend(upgrading) as app:
            pool(router, "upgrade.test", [app])
            with router.waiting("upgrade.test", "/", "Connection: Upgrade", "Upgrade: websocket") as wire:
                assert vcap(wire.head()) == ["__VCAP_ID__=a; Path=/; HttpOnly; Secure"]

    def test_not_with_the_routers_own_answers(self, router: Registered) -> None:
        with backend(silent_end) as bad:
            pool(router, "own.test", [bad])
            answer = router.ask("own.test", "/", wants("gone"))
            assert answer.status == 502
            assert answer.all("Set-Cookie") == []

    def test_with_every_kind_of_response(self, router: Registered) -> None:
        """With a body of unknown length, of an error, to HEAD."""

        def script(wire: Wire) -> None:
            request = wire.head()
            status = "500 Broken" if b"broken" in request.first else "200 OK"
            wire.send(head(status, "Set-Cookie: SID=1", "Connection: close"))

        with backend(script) as app:
            pool(router, "kinds.test", [app])
            for method, target in (("GET", "/"), ("GET", "/broken"), ("HEAD", "/"), ("POST", "/")):
                answer = router.ask("kinds.test", target, method=method)
                assert vcap(answer) == ["__VCAP_ID__=a; Path=/; HttpOnly"]


class TestNegotiating:
    """Kerberos and NTLM authenticate a connection in several steps, which must meet one instance."""

    STEP = "Authorization: Negotiate dG9rZW4="

    @pytest.mark.parametrize("authorization", ["Negotiate dG9rZW4=", "negotiate x", "NEGOTIATE", "Negotiatex"])
    def test_the_instance_alone_is_enough(
        self, negotiating: Registered, apps: list[Backend], authorization: str
    ) -> None:
        pool(negotiating, "steps.test", apps)
        for instance in "abc":
            lines = (f"Authorization: {authorization}", f"Cookie: __VCAP_ID__={instance}")
            assert negotiating.instances(2, "steps.test", "/", *lines) == [instance] * 2

    @pytest.mark.parametrize(
        "lines", [(STEP,), ("Authorization: Basic x", "Cookie: __VCAP_ID__=a"), ("Cookie: __VCAP_ID__=a",)]
    )
    def test_otherwise_anybody_is_asked(
        self, negotiating: Registered, apps: list[Backend], lines: tuple[str, ...]
    ) -> None:
        pool(negotiating, "anybody.test", apps)
        assert set(negotiating.instances(3, "anybody.test", "/", *lines)) == set("abc")

    def test_ordinary_sessions_do_as_ever(self, negotiating: Registered, apps: list[Backend]) -> None:
        pool(negotiating, "ordinary.test", apps)
        assert negotiating.instances(3, "ordinary.test", "/", wants("b")) == ["b"] * 3
        assert set(negotiating.instances(3, "ordinary.test", "/", wants("gone"))) == set("abc")

    @pytest.mark.parametrize("session", ["", f"{SESSION}; "])
    def test_a_missing_instance_is_502(self, negotiating: Registered, apps: list[Backend], session: str) -> None:
        pool(negotiating, "missing.test", apps)
        answer = negotiating.ask("missing.test", "/", self.STEP, f"Cookie: {session}__VCAP_ID__=gone")
        assert answer.status == 502
        assert answer.get("X-Cf-RouterError") == b"endpoint_failure (No endpoints available)"
        assert answer.body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"

    def test_so_is_an_overloaded_one(self, negotiating: Registered, apps: list[Backend]) -> None:
        pool(negotiating, "busy.test", apps[:2])
        with negotiating.held("busy.test", wants("a")):
            answer = negotiating.ask("busy.test", "/", self.STEP, "Cookie: __VCAP_ID__=a")
            assert answer.status == 502
            assert answer.get("X-Cf-RouterError") == b"endpoint_failure (No endpoints available)"

    def test_every_attempt_goes_to_the_same_endpoint(self, negotiating: Registered, apps: list[Backend]) -> None:
        with backend(silent_end) as bad:
            pool(negotiating, "every.test", [apps[0], bad, apps[1]])
            answer = negotiating.ask("every.test", "/", self.STEP, "Cookie: __VCAP_ID__=b")
            assert answer.get("X-Cf-RouterError") == b"endpoint_failure (EOF)"
            assert bad.connections == 3

    def test_marked_as_failed_or_not(self, negotiating: Registered, apps: list[Backend]) -> None:
        attempts: list[int] = []
        tell = telling()

        def third_time_lucky(wire: Wire) -> None:
            attempts.append(1)
            if len(attempts) < 3:
                resetting(wire)
            else:
                tell(wire)

        with backend(third_time_lucky) as flaky:
            pool(negotiating, "lucky.test", [apps[0], flaky])
            seen = negotiating.see("lucky.test", "/", self.STEP, "Cookie: __VCAP_ID__=b")
            assert seen.instance == "b"
            assert len(attempts) == 3


class TestHttp2Clients:
    def test_are_stuck_by_the_same_cookies(self, router: Registered, apps: list[Backend]) -> None:
        """Which browsers send on a line of its own each (RFC 9113 section 8.2.3)."""
        pool(router, "h2.test", apps)
        client = peer.connect(router.router.port)
        begins = [("x-say", "Set-Cookie: JSESSIONID=1; Secure; SameSite=Lax")]
        response = client.exchange("/", *begins, authority="h2.test")
        name, cookie = (value.decode() for value in response.all("set-cookie"))
        instance = (response.get("x-instance") or b"").decode()
        assert name == "JSESSIONID=1; Secure; SameSite=Lax"
        assert cookie == f"__VCAP_ID__={instance}; Path=/; HttpOnly; Secure; SameSite=Lax"
        crumbs = [("cookie", "JSESSIONID=1"), ("cookie", cookie.partition(";")[0])]
        for _ in range(4):
            response = client.exchange("/", *crumbs, authority="h2.test")
            assert response.get("x-instance") == instance.encode()
            assert response.all("set-cookie") == []
        client.close()
