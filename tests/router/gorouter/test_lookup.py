"""Which route a request meets: gorouter reference section 2, sentence by sentence, by a whole router with real routes.

Every case has a host of its own, written ``HOST``. Cases named "ours" are where this router differs on purpose: see
docs/compatibility.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from router.registry.records import InvalidRecord, route_key
from tests.router.http2.peer import Peer, connect
from tests.router.registered import Registered, at, backends, registered_router, resetting
from tests.router.wire import Backend, Message, backend

UNKNOWN = (404, "unknown_route")
NO_ENDPOINTS = (503, "no_endpoints")
EMPTY_HOST = (400, "empty_host")


@dataclass
class Case:
    """``routes`` without an instance had an endpoint, and have lost it."""

    name: str
    routes: tuple[str, ...]
    empty: tuple[str, ...]
    host: str
    target: str | bytes
    meets: str | tuple[int, str]


def case(
    name: str,
    routes: str,
    target: str | bytes,
    meets: str | tuple[int, str],
    *,
    host: str = "HOST",
    empty: str = "",
) -> Case:
    """Routes are separated by spaces, and a route that is met is told by its name."""
    return Case(name, tuple(routes.split()), tuple(empty.split()), host, target, meets)


CASES = [
    case("2 key: host without regard to case", "app.HOST", "/", "app.HOST", host="aPp.HOST"),
    case("2 key: a registered host without regard to case", "UPPER.HOST", "/", "UPPER.HOST", host="upper.HOST"),
    case("2 key: port in Host is ignored", "HOST", "/", "HOST", host="HOST:8080"),
    case("2 key: an empty port in Host is ignored", "HOST", "/", "HOST", host="HOST:"),
    case("2 key: path without regard to case", "HOST HOST/Api", "/aPI/X", "HOST/Api"),
    case("2 key: cut at the first ?", "HOST HOST/api", "/api?/v1?x", "HOST/api"),
    case("2 key: what follows ? is no path", "HOST HOST/api", "/?/api", "HOST"),
    case("2 key: a registered query is cut off", "HOST HOST/api?x=1", "/api?y", "HOST/api?x=1"),
    case("2 key: one trailing slash dropped", "HOST HOST/api", "/api/", "HOST/api"),
    case("2 key: one trailing slash of the registered path dropped", "HOST HOST/api/", "/api", "HOST/api/"),
    case("2 key: ours: all trailing slashes of the registered path dropped", "HOST HOST/api//", "/api", "HOST/api//"),
    case("2 key: no decoding: /%61 is not /a", "HOST HOST/a", "/%61", "HOST"),
    case("2 key: no decoding: /a is not /%61", "HOST HOST/%61", "/a", "HOST"),
    case("2 key: %2F separates no segments", "HOST HOST/a", "/a%2Fb", "HOST"),
    case("2 key: percent-encoded as on the wire", "HOST HOST/a%20b", "/a%20b/c", "HOST/a%20b"),
    case("2 key: hexadecimal digits without regard to case", "HOST HOST/caf%C3%A9", "/caf%c3%a9", "HOST/caf%C3%A9"),
    case("2 key: raw bytes beyond ASCII in %XX form", "HOST HOST/caf%C3%A9", "/café".encode(), "HOST/caf%C3%A9"),
    case("2 key: raw latin-1 bytes in %XX form", "HOST HOST/caf%E9", "/café".encode("latin-1"), "HOST/caf%E9"),
    *[
        case(f"2 key: raw {c} in %XX form", f"HOST HOST/a%{ord(c):02X}b", f"/a{c}b", f"HOST/a%{ord(c):02X}b")
        for c in '"<>\\^`{|}'
    ],
    *[
        case(f"2 key: {c} is legal in a path and stays", f"HOST HOST/a%{ord(c):02X}b", f"/a{c}b", "HOST")
        for c in "!$&'()*+,;=:@[]~-._"
    ],
    case("2 key: no // normalisation at the start", "HOST HOST/api", "//api", "HOST"),
    case("2 key: no // normalisation within", "HOST HOST/a HOST/a/b", "/a//b", "HOST/a"),
    case("2 key: a registered // is met by //", "HOST HOST//api", "//api/x", "HOST//api"),
    case("2 key: no .. normalisation", "HOST HOST/api", "/x/../api", "HOST"),
    case("2 key: a registered .. is met literally", "HOST HOST/x/../api", "/x/../api", "HOST/x/../api"),
    case("2 key: no . normalisation", "HOST HOST/api", "/./api", "HOST"),
    case("2 key: trailing-dot hosts do not match", "HOST *.HOST", "/", UNKNOWN, host="HOST."),
    case("2 key: ours: an IPv6 host is its whole literal, and no route", "HOST", "/", UNKNOWN, host="[::1]"),
    case("2 key: ours: an IPv6 host with a port", "HOST", "/", UNKNOWN, host="[2001:db8::1]:8080"),
    case(
        "2 key: a Host with two ports is malformed",
        "HOST",
        "/",
        (400, "malformed_request (malformed Host field)"),
        host="HOST:80:81",
    ),
    case("2 match: whole segments only", "HOST HOST/api", "/apiary", "HOST"),
    case("2 match: by segments, whatever the last one holds", "HOST HOST/api", "/api/.hidden/x.y", "HOST/api"),
    case("2 match: the longest prefix", "HOST HOST/a HOST/a/b", "/a/b/c", "HOST/a/b"),
    case("2 match: a shorter one where the longest is another", "HOST HOST/a HOST/a/b", "/a/bc", "HOST/a"),
    case("2 match: the host alone where no path fits", "HOST HOST/a", "/c", "HOST"),
    case("2 match: a route with a path only does not stand for its host", "HOST/a", "/", UNKNOWN),
    case("2 match: nor for its siblings", "HOST/a", "/b", UNKNOWN),
    case("2 match: nor for what is above it", "HOST/a/b", "/a", UNKNOWN),
    case("2 match: other hosts are other routes", "HOST", "/", UNKNOWN, host="other.HOST"),
    case("2 match: an empty pool gives way to a shorter prefix", "HOST", "/a/b", "HOST", empty="HOST/a HOST/a/b"),
    case(
        "2 match: an empty pool gives way to the nearest shorter prefix",
        "HOST HOST/a",
        "/a/b/c",
        "HOST/a",
        empty="HOST/a/b",
    ),
    case("2 match: an empty pool in between hides nothing", "HOST HOST/a/b", "/a/b", "HOST/a/b", empty="HOST/a"),
    case("2 match: if none has endpoints, the empty one", "", "/", NO_ENDPOINTS, empty="HOST"),
    case("2 match: if none has endpoints, the deepest empty one", "", "/a/b", NO_ENDPOINTS, empty="HOST HOST/a"),
    case("2 match: an empty pool of another path is none", "", "/b", UNKNOWN, empty="HOST/a"),
    case(
        "2 match: ours: an empty exact host does not shadow a wildcard",
        "*.HOST",
        "/",
        "*.HOST",
        host="app.HOST",
        empty="app.HOST",
    ),
    case(
        "2 match: ours: an empty exact path does not shadow a wildcard",
        "*.HOST",
        "/x/y",
        "*.HOST",
        host="app.HOST",
        empty="app.HOST/x",
    ),
    case(
        "2 match: an empty exact host comes before an empty wildcard",
        "",
        "/",
        NO_ENDPOINTS,
        host="app.HOST",
        empty="app.HOST *.HOST",
    ),
    case("2 wildcards: one label", "*.HOST", "/", "*.HOST", host="a.HOST"),
    case("2 wildcards: several labels", "*.HOST", "/", "*.HOST", host="a.b.c.HOST"),
    case("2 wildcards: without regard to case, with a port", "*.HOST", "/", "*.HOST", host="A.HOST:80"),
    case("2 wildcards: the most specific first", "*.HOST *.b.HOST", "/", "*.b.HOST", host="a.b.HOST"),
    case("2 wildcards: then the wider ones", "*.HOST *.b.HOST", "/", "*.HOST", host="a.c.HOST"),
    case("2 wildcards: not for the bare host", "*.HOST", "/", UNKNOWN),
    case("2 wildcards: only if the full host gave no pool", "a.HOST *.HOST", "/", "a.HOST", host="a.HOST"),
    case("2 wildcards: however long the wildcard's path", "a.HOST *.HOST/x/y", "/x/y", "a.HOST", host="a.HOST"),
    case("2 wildcards: where the host has other paths only", "a.HOST/x *.HOST", "/y", "*.HOST", host="a.HOST"),
    case("2 wildcards: with a path", "*.HOST/x", "/X/y", "*.HOST/x", host="a.HOST"),
    case("2 wildcards: with another path", "*.HOST/x", "/y", UNKNOWN, host="a.HOST"),
    case(
        "2 wildcards: the longest path of the same wildcard",
        "*.HOST *.HOST/x *.HOST/x/y",
        "/x/y/z",
        "*.HOST/x/y",
        host="a.HOST",
    ),
    case("2 wildcards: labels before paths", "*.b.HOST *.HOST/x", "/x", "*.b.HOST", host="a.b.HOST"),
    case(
        "2 wildcards: the path decides where the nearer one has none",
        "*.b.HOST/y *.HOST/x",
        "/x",
        "*.HOST/x",
        host="a.b.HOST",
    ),
    case(
        "2 wildcards: ours: an empty one does not hide a wider one",
        "*.HOST",
        "/",
        "*.HOST",
        host="a.b.HOST",
        empty="*.b.HOST",
    ),
    case("2 wildcards: an empty one alone", "", "/", NO_ENDPOINTS, host="a.HOST", empty="*.HOST"),
    case("2 wildcards: ours: dots of the path are not eaten", "*.eaten.HOST", "/x.eaten.HOST/y", UNKNOWN),
    case("2 wildcards: dots of the path are the path's", "*.HOST/x.y", "/x.y/z", "*.HOST/x.y", host="a.HOST"),
    case("2 wildcards: a label may be missing", "*.HOST", "/", "*.HOST", host=".HOST"),
    case("2 wildcards: a Host that is the wildcard itself", "*.HOST", "/", "*.HOST", host="*.HOST"),
    case("2 empty_host: an empty Host", "HOST", "/", EMPTY_HOST, host=""),
    case("2 empty_host: Host equal to the client's IP", "HOST", "/", EMPTY_HOST, host="127.0.0.1"),
    case(
        "2 empty_host: Host without its port equal to the client's IP", "HOST", "/", EMPTY_HOST, host="127.0.0.1:8080"
    ),
    case("2 empty_host: another IP is an unknown route", "HOST", "/", UNKNOWN, host="127.0.0.2"),
]


def hosted(text: str, number: int) -> str:
    return text.replace("HOST", f"case{number}.test")


@pytest.fixture(scope="module")
def apps() -> Iterator[list[Backend]]:
    with backends(3) as running:
        yield running


@pytest.fixture(scope="module")
def router(registry_url: str, apps: list[Backend]) -> Iterator[Registered]:
    """With the routes of all cases."""
    with registered_router(registry_url, "lookup", backends={"max_conns": 1}) as running:
        held = [(hosted(route, n), at(apps[0], route)) for n, one in enumerate(CASES) for route in one.routes]
        lost = [(hosted(route, n), at(apps[0], route)) for n, one in enumerate(CASES) for route in one.empty]
        running.register(*held, *lost)
        running.unregister(*lost)
        yield running


def error(answer: Message) -> tuple[int, str]:
    return answer.status, (answer.get("X-Cf-RouterError") or b"").decode()


@pytest.mark.parametrize(("number", "one"), list(enumerate(CASES)), ids=[one.name for one in CASES])
def test_lookup(router: Registered, number: int, one: Case) -> None:
    host = hosted(one.host, number)
    target = one.target if isinstance(one.target, bytes) else hosted(one.target, number).encode()
    if isinstance(one.meets, str):
        seen = router.see(host, target)
        assert seen.instance == one.meets
        assert seen.target.encode("latin-1") == target  # 2 context path: not stripped when proxying
        assert seen.all("Host") == [host]
    else:
        assert error(router.ask(host, target)) == one.meets


def test_names_of_cases_are_unique() -> None:
    assert len({one.name for one in CASES}) == len(CASES)


class TestKey:
    def test_ours_a_registered_uri_with_a_port_is_refused(self) -> None:
        """2 key: the original takes it in, and no request ever meets it."""
        with pytest.raises(InvalidRecord, match="host"):
            route_key("app.test:8080/x")

    def test_ours_a_route_named_like_the_clients_ip_is_served(self, registry_url: str, apps: list[Backend]) -> None:
        """2 empty_host: the original refuses such a Host before it looks; on one machine that is every route by IP."""
        with registered_router(registry_url, "own-address") as router:
            assert error(router.ask("127.0.0.1")) == EMPTY_HOST
            router.register(("127.0.0.1", at(apps[0], "a")))
            assert router.ask("127.0.0.1").status == 200

    def test_a_request_of_http_1_0_without_host(self, router: Registered) -> None:
        answer = router.ask(None)
        assert error(answer) == EMPTY_HOST
        assert answer.get("Cache-Control") == b"public,max-age=2"
        assert answer.body == b"400 Bad Request: Request had empty Host header\n"

    def test_the_host_of_an_absolute_target_counts(self, router: Registered, apps: list[Backend]) -> None:
        """5.1: what Host says is not looked at."""
        router.register(("absolute.test/x", at(apps[0], "a")))
        assert router.see("other.test", "http://ABSOLUTE.test:80/X/y").instance == "a"


G1 = "11111111-2222-3333-4444-555555555555"
G2 = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
G3 = "deadbeef-dead-beef-dead-beefdeadbeef"


@pytest.fixture(scope="module")
def _app_instances(router: Registered, apps: list[Backend]) -> None:
    records = [
        at(apps[0], "one", app=G1, private_instance_index="0"),
        at(apps[1], "two", app=G1, private_instance_index="1"),
        at(apps[2], "three", app=G2, private_instance_index="0"),
    ]
    router.register(*[("inst.test", record) for record in records], ("inst.test/deep", records[0]))
    both = [at(apps[n], name, app=G1, private_instance_index="7") for n, name in enumerate(("first", "last"))]
    router.register(*[("twice.test", record) for record in both])


@pytest.mark.usefixtures("_app_instances")
class TestAppInstance:
    """2.1"""

    NAME = "X-CF-App-Instance"

    @pytest.mark.parametrize(("asked", "meets"), [(f"{G1}:0", "one"), (f"{G1}:1", "two"), (f"{G2}:0", "three")])
    def test_selects_by_app_and_index(self, router: Registered, asked: str, meets: str) -> None:
        assert set(router.instances(4, "inst.test", "/", f"{self.NAME}: {asked}")) == {meets}

    def test_the_last_match_wins_and_is_the_only_one(self, router: Registered) -> None:
        assert set(router.instances(4, "twice.test", "/", f"{self.NAME}: {G1}:7")) == {"last"}

    def test_white_space_around_it_is_no_part_of_it(self, router: Registered) -> None:
        assert router.see("inst.test", "/", f"{self.NAME}:  \t{G1}:1 ").instance == "two"

    def test_is_deleted_before_forwarding(self, router: Registered) -> None:
        assert router.see("inst.test", "/", f"x-cf-app-instance: {G1}:1").all(self.NAME) == []

    @pytest.mark.parametrize(
        "bad",
        [
            G1,
            f"{G1}:",
            f"{G1}:x",
            f"{G1}:-1",
            f"{G1}:1 2",
            f"{G1}:1:2",
            f"{G1}: 1",
            f"x{G1}:1",
            f"{{{G1}}}:1",
            f"{G2.upper()}:0",
            f"{G1.replace('-', '')}:0",
            f"{G1[:-1]}:0",
            f"{G1}\xa0:1",
            f"{G1}:\xb2",
            ":0",
            "0",
        ],
    )
    def test_bad_ones_are_400(self, router: Registered, bad: str) -> None:
        for host in ("inst.test", "no.test"):
            answer = router.ask(host, "/", f"{self.NAME}: {bad}")
            assert error(answer) == (400, "invalid_cf_app_instance_header")
            assert answer.body == b"400 Bad Request: Invalid X-CF-App-Instance Header\n"
            assert answer.get("Cache-Control") == b"no-cache, no-store"

    def test_an_empty_one_is_none(self, router: Registered) -> None:
        seen = {router.see("inst.test", "/", f"{self.NAME}:").instance for _ in range(3)}
        assert seen == {"one", "two", "three"}

    def test_the_first_line_counts(self, router: Registered) -> None:
        lines = (f"{self.NAME}: {G1}:0", f"{self.NAME}: {G1}:1")
        assert set(router.instances(3, "inst.test", "/", *lines)) == {"one"}

    @pytest.mark.parametrize("asked", [f"{G1}:2", f"{G3}:0", f"{G1}:00", f"{G2}:1"])
    def test_none_is_400_and_not_404(self, router: Registered, asked: str) -> None:
        guid, _, index = asked.partition(":")
        answer = router.ask("INST.test:80", "/", f"{self.NAME}: {asked}")
        assert error(answer) == (400, "unknown_route")
        assert answer.get("Cache-Control") == b"no-cache, no-store"
        text = f"Requested instance ('{index}') with guid ('{guid}') does not exist for route ('INST.test:80')"
        assert answer.body.decode() == f"400 Bad Request: {text}\n"

    def test_only_the_matched_pool_is_looked_at(self, router: Registered) -> None:
        assert router.see("inst.test", "/deep", f"{self.NAME}: {G1}:0").instance == "one"
        assert error(router.ask("inst.test", "/deep", f"{self.NAME}: {G1}:1")) == (400, "unknown_route")

    def test_an_unknown_route_stays_404(self, router: Registered) -> None:
        assert error(router.ask("no.test", "/", f"{self.NAME}: {G1}:0")) == UNKNOWN

    def test_failures_mark_nothing_in_the_real_pool(self, router: Registered, apps: list[Backend]) -> None:
        """Nor is anybody else asked, and the next request for the instance asks it at once."""
        with backend(resetting) as bad:
            failing = at(bad, "bad", app=G1, private_instance_index="1")
            router.register(
                ("fail.test", at(apps[0], "good", app=G1, private_instance_index="0")), ("fail.test", failing)
            )
            for number in (1, 2):
                status, text = error(router.ask("fail.test", "/", f"{self.NAME}: {G1}:1"))
                assert status == 502
                assert "connection reset by peer" in text
                assert bad.connections == number
            assert router.instances(2, "fail.test") == ["good", "good"]
            assert bad.connections == 3  # one of the two was its turn: then it was marked
            assert router.instances(4, "fail.test") == ["good"] * 4
            assert bad.connections == 3
            assert error(router.ask("fail.test", "/", f"{self.NAME}: {G1}:1"))[0] == 502
            assert bad.connections == 4  # marked or not, it is the one that was asked for
            router.unregister(("fail.test", failing))

    def test_a_full_instance_is_the_connection_limit(self, router: Registered, apps: list[Backend]) -> None:
        """2.3, of the pool of this one request."""
        for n, name in enumerate(("free", "full")):
            record = at(apps[n], name, app=G1, private_instance_index=str(n))
            router.register(("full.test", record))
        with router.held("full.test", f"{self.NAME}: {G1}:1") as instance:
            assert instance == "full"
            answer = router.ask("full.test", "/", f"{self.NAME}: {G1}:1")
            assert error(answer) == (503, "Connection Limit Reached")
            assert router.instances(3, "full.test") == ["free"] * 3


@pytest.fixture(scope="module")
def _processes(router: Registered, apps: list[Backend]) -> None:
    process = ({"process_id": G2}, {"process_id": G2}, {"process_id": G3})
    records = [
        at(apps[n], name, app=G1, private_instance_index=index, tags=process[n])
        for n, (name, index) in enumerate([("web-0", "0"), ("web-1", "1"), ("other-0", "0")])
    ]
    router.register(*[("proc.test", record) for record in records])


@pytest.mark.usefixtures("_processes")
class TestProcessInstance:
    """2.2"""

    NAME = "X-CF-Process-Instance"

    @pytest.mark.parametrize(
        ("asked", "meets"),
        [
            (G2, {"web-0", "web-1"}),
            (f"{G2}:0", {"web-0"}),
            (f"{G2}:1", {"web-1"}),
            (G3, {"other-0"}),
            (f"{G3}:0", {"other-0"}),
        ],
    )
    def test_selects_by_process_and_index_if_given(self, router: Registered, asked: str, meets: set[str]) -> None:
        assert set(router.instances(24, "proc.test", "/", f"{self.NAME}: {asked}")) == meets

    def test_is_not_stripped(self, router: Registered) -> None:
        assert router.see("proc.test", "/", f"{self.NAME}: {G2}:1").all(self.NAME) == [f"{G2}:1"]

    @pytest.mark.parametrize("bad", ["x", f"{G2}:", f"{G2}:a", f"{G2.upper()}", f"{G2}:1:2", f"{G2} ,{G3}", ":1"])
    def test_bad_ones_are_400(self, router: Registered, bad: str) -> None:
        answer = router.ask("proc.test", "/", f"{self.NAME}: {bad}")
        assert error(answer) == (400, "invalid_cf_process_instance_header")
        assert answer.body == b"400 Bad Request: Invalid X-CF-Process-Instance Header\n"
        assert answer.get("Cache-Control") == b"no-cache, no-store"

    @pytest.mark.parametrize(("asked", "index"), [(G1, ""), (f"{G2}:2", "2"), (f"{G3}:1", "1")])
    def test_none_is_400_and_not_404(self, router: Registered, asked: str, index: str) -> None:
        answer = router.ask("proc.test", "/", f"{self.NAME}: {asked}")
        assert error(answer) == (400, "unknown_route")
        text = (
            f"Requested instance ('{index}') with process guid ('{asked[:36]}') does not exist for route ('proc.test')"
        )
        assert answer.body.decode() == f"400 Bad Request: {text}\n"

    @pytest.mark.parametrize("process", [f"{G3}:0", "malformed", f"{G1}:9"])
    def test_is_not_considered_beside_an_app_instance(self, router: Registered, process: str) -> None:
        lines = (f"{self.NAME}: {process}", f"X-CF-App-Instance: {G1}:1")
        assert router.see("proc.test", "/", *lines).instance == "web-1"

    def test_an_empty_one_is_none(self, router: Registered) -> None:
        assert set(router.instances(3, "proc.test", "/", f"{self.NAME}:")) == {"web-0", "web-1", "other-0"}

    def test_attempts_stay_among_the_selected(self, router: Registered, apps: list[Backend]) -> None:
        with backend(resetting) as one, backend(resetting) as two:
            bad = [at(app, f"bad-{app.port}", tags={"process_id": G2}) for app in (one, two)]
            router.register(("narrow.test", at(apps[0], "good")), *[("narrow.test", record) for record in bad])
            assert error(router.ask("narrow.test", "/", f"{self.NAME}: {G2}"))[0] == 502
            assert (one.connections, two.connections) == (1, 1)
            router.unregister(*[("narrow.test", record) for record in bad])


class TestPrecedence:
    """2.3"""

    def test_no_pool_is_404(self, router: Registered) -> None:
        answer = router.ask("Nowhere.test:80", "/x")
        assert error(answer) == UNKNOWN
        assert answer.get("Cache-Control") == b"no-cache, no-store"
        assert answer.get("Content-Type") == b"text/plain; charset=utf-8"
        assert answer.get("X-Content-Type-Options") == b"nosniff"
        assert answer.body == b"404 Not Found: Requested route ('Nowhere.test:80') does not exist.\n"

    def test_an_empty_pool_is_503(self, router: Registered, apps: list[Backend]) -> None:
        router.register(("gone.test", at(apps[0])))
        router.unregister(("gone.test", at(apps[0])))
        for lines in ((), (f"X-CF-App-Instance: {G1}:0",), (f"X-CF-Process-Instance: {G1}",)):
            answer = router.ask("gone.test", "/", *lines)
            assert error(answer) == NO_ENDPOINTS
            assert answer.get("Cache-Control") == b"public,max-age=2"
            assert (
                answer.body == b"503 Service Unavailable: Requested route ('gone.test') has no available endpoints.\n"
            )
        router.register(("gone.test", at(apps[0], "back")))
        assert router.see("gone.test").instance == "back"

    def test_all_endpoints_at_max_conns_is_503(self, router: Registered, apps: list[Backend]) -> None:
        router.register(("busy.test", at(apps[0], "one")), ("busy.test", at(apps[1], "two")))
        with router.held("busy.test") as one, router.held("busy.test") as two:
            assert {one, two} == {"one", "two"}
            answer = router.ask("busy.test")
            assert error(answer) == (503, "Connection Limit Reached")
            text = "Requested route ('busy.test') has reached the connection limit."
            assert answer.body.decode() == f"503 Service Unavailable: {text}\n"
            assert answer.get("Cache-Control") is None


class TestHttp2Clients:
    """They get the same answers."""

    @pytest.fixture(scope="class")
    @classmethod
    def client(cls, router: Registered, apps: list[Backend]) -> Iterator[Peer]:
        with backend(resetting) as bad:
            records = (at(apps[0], "one", app=G1, private_instance_index="0"), at(apps[1]), at(bad))
            router.register(*zip(("h2.test", "h2-gone.test", "h2-bad.test"), records, strict=True))
            router.unregister(("h2-gone.test", records[1]))
            peer = connect(router.router.port)
            yield peer
            peer.close()
            router.unregister(("h2-bad.test", records[2]))

    @pytest.mark.parametrize(
        ("authority", "lines", "status", "said"),
        [
            ("h2-no.test", {}, 404, "unknown_route"),
            ("h2-gone.test", {}, 503, "no_endpoints"),
            ("h2-bad.test", {}, 502, r"endpoint_failure \(read tcp .*: read: connection reset by peer\)"),
            ("127.0.0.1:80", {}, 400, "empty_host"),
            ("h2.test", {"x-cf-app-instance": "bad"}, 400, "invalid_cf_app_instance_header"),
            ("h2.test", {"x-cf-process-instance": "bad"}, 400, "invalid_cf_process_instance_header"),
            ("h2.test", {"x-cf-app-instance": f"{G1}:1"}, 400, "unknown_route"),
            ("h2.test", {"x-cf-process-instance": G1}, 400, "unknown_route"),
        ],
    )
    def test_errors(self, client: Peer, authority: str, lines: dict[str, str], status: int, said: str) -> None:
        response = client.exchange("/", *lines.items(), authority=authority)
        assert response.status == status
        assert re.fullmatch(said, (response.get("x-cf-routererror") or b"").decode())
        assert response.body.startswith(b"%d " % status)

    def test_the_connection_limit(self, router: Registered, apps: list[Backend], client: Peer) -> None:
        router.register(("h2-busy.test", at(apps[0], "busy")))
        with router.held("h2-busy.test"):
            response = client.exchange("/", authority="h2-busy.test")
            assert (response.status, response.get("x-cf-routererror")) == (503, b"Connection Limit Reached")

    def test_an_instance_that_is_there(self, client: Peer) -> None:
        response = client.exchange("/", ("x-cf-app-instance", f"{G1}:0"), authority="H2.test:443")
        assert (response.status, response.get("x-instance")) == (200, b"one")
