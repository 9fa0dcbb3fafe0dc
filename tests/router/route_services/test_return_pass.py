"""The way back from a route service: whose signature is believed, what the application gets, who is refused."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from router.route_services.signature import Signer
from tests.router.route_services.bound import (
    APP,
    GET,
    SECRET,
    SETTINGS,
    Bound,
    bound,
    register,
    with_settings,
)
from tests.router.tls.authority import OWN, client_context, connect, issue
from tests.router.wire import OK, Message, answering, backend, running_edge

MINUTE = 60 * 1_000_000_000
FAILED = "Failed to validate Route Service Signature: "


def refused(answer: Message) -> tuple[int, str]:
    """Status and why, of an answer in the shape of all of them."""
    assert answer.get("X-Cf-RouterError") is None
    assert answer.get("Content-Type") == b"text/plain; charset=utf-8"
    status, _, text = answer.body.decode().partition(": ")
    assert int(status.split(" ")[0]) == answer.status
    assert text.startswith(FAILED), text
    assert text.endswith("\n")
    return answer.status, text.removeprefix(FAILED).rstrip("\n")


class TestTheApplicationGets:
    def test_the_request_without_any_trace_of_the_way(self) -> None:
        with bound() as it:
            assert it.ask().body == b"ok"
            (request,) = it.at_app
            assert request.first == b"GET /where?q=1 HTTP/1.1"
            assert request.get("Host") == APP.encode()
            for name in ("X-CF-Proxy-Signature", "X-CF-Proxy-Metadata", "X-CF-Forwarded-Url"):
                assert request.get(name) is None
            assert request.get("X-CF-ApplicationID") == b"app-guid"

    def test_every_client_on_the_way(self) -> None:
        with bound() as it:
            it.ask(GET[:-2] + b"X-Forwarded-For: 192.0.2.1\r\n\r\n")
            assert it.at_app[0].get("X-Forwarded-For") == b"192.0.2.1, 127.0.0.1, 127.0.0.1"

    def test_by_connections_of_one_pool(self) -> None:
        with bound() as it:
            assert [it.ask().status for _ in range(3)] == [200] * 3
            assert it.app.connections == 1

    def test_a_request_with_the_instance_of_its_session(self) -> None:
        cookies = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: JSESSIONID=x\r\n\r\n"
        with (
            bound(response=cookies + b"1!", private_instance_id="one") as it,
            backend(answering(cookies + b"2!")) as two,
        ):
            register(it.edge, APP, two, it.url(), private_instance_id="two")
            first = it.ask()
            assert len(first.all("Set-Cookie")) == 2
            name = {b"1!": b"one", b"2!": b"two"}[first.body]
            session = b"__VCAP_ID__=" + name
            assert first.all("Set-Cookie")[1].startswith(session)
            cookie = b"Cookie: JSESSIONID=x; %b\r\n\r\n" % session
            assert {it.ask(GET[:-2] + cookie).body for _ in range(4)} == {first.body}

    def test_the_instance_that_a_request_asks_for(self) -> None:
        guid = "0a1b2c3d-0000-4000-8000-0123456789ab"
        with bound(private_instance_index="0") as it, backend(answering(OK)) as two:
            it.edge.do(it.edge.table.remove, APP, f"127.0.0.1:{it.app.port}")
            for index, endpoint in enumerate((it.app, two)):
                register(it.edge, APP, endpoint, it.url(), app=guid, private_instance_index=str(index))
            for _ in range(3):
                assert it.ask(it.signed(more=b"X-CF-App-Instance: %b:1\r\n" % guid.encode())).status == 200
            assert not it.at_app
            assert two.connections == 1
            assert it.ask(GET[:-2] + b"X-CF-App-Instance: %b:7\r\n\r\n" % guid.encode()).status == 400


class TestForwardedProto:
    @pytest.mark.parametrize("setting", ["force_forwarded_proto_https", "sanitize_forwarded_proto"])
    def test_is_that_of_the_first_way(self, setting: str) -> None:
        with bound(with_settings(**{setting: True})) as it:
            it.ask(it.signed(more=b"X-Forwarded-Proto: gopher\r\n"))
            assert it.at_app[0].get("X-Forwarded-Proto") == b"gopher"

    def test_of_the_service_itself_is_believed_where_that_is_an_application(self) -> None:
        with bound(with_settings(sanitize_forwarded_proto=True)) as it:
            register(it.edge, APP, it.app)
            more = b"X-Forwarded-Proto: gopher\r\nX-CF-Forwarded-Url: http://app.example.com/\r\n"
            it.ask(it.signed(more=more))
            it.ask(it.signed(signer=Signer("other"), more=more))
            it.ask(it.signed(more=b"X-Forwarded-Proto: gopher\r\n"))
            assert [request.get("X-Forwarded-Proto") for request in it.at_app] == [b"gopher", b"http", b"http"]


class TestForwardedClientCert:
    """Gorouter reference 6.4."""

    @pytest.mark.parametrize(
        ("mode", "secure", "passed"),
        [
            ("always_forward", False, b"made"),
            ("always_forward", True, b"made"),
            ("forward", False, None),
            ("forward", True, None),
            ("sanitize_set", False, None),
            ("sanitize_set", True, b"made"),
        ],
    )
    def test_is_believed_by_mode_and_by_how_it_came(self, mode: str, secure: bool, passed: bytes | None) -> None:
        settings = with_settings(
            forwarded_client_cert=mode,
            enable_ssl=True,
            tls_pem=(OWN,),
            client_cert_validation="request",
            client_ca_certs=SETTINGS.ca_certs[0],
        )
        with bound(settings) as it:
            request = it.signed(more=b"X-Forwarded-Client-Cert: made\r\n")
            if secure:
                wire = connect(it.edge.tls_port, client_context(cert=issue("service")))
                wire.send(request)
                assert wire.message().status == 200
                wire.close()
            else:
                assert it.ask(request).status == 200
            assert it.at_app[0].get("X-Forwarded-Client-Cert") == passed


class TestSignatures:
    def test_made_with_the_former_secret_is_believed(self) -> None:
        settings = with_settings(route_services_secret="new", route_services_secret_decrypt_only=SECRET)
        with bound(settings) as it:
            assert it.ask(it.signed()).status == 200
            assert it.ask(it.signed(signer=Signer("new"))).status == 200

    def test_the_secret_can_be_changed_while_a_request_is_with_the_service(self) -> None:
        """One router signs with the old secret, another that has the new one validates."""
        with (
            bound() as it,
            running_edge(
                with_settings(route_services_secret="new", route_services_secret_decrypt_only=SECRET)
            ) as other,
        ):
            register(other, APP, it.app, it.url())
            first = it.send(it.signed())
            assert first.message().status == 200
            wire = other.connect()
            wire.send(it.signed())
            assert wire.message().status == 200
            wire.close()

    @pytest.mark.parametrize(
        ("change", "status", "why"),
        [
            (lambda it: it.signed(signer=Signer("another")), 502, "cipher: message authentication failed"),
            (
                lambda it: it.signed(signer=Signer(SECRET, clock=lambda: time.time_ns() - MINUTE - 1)),
                504,
                "route service request expired",
            ),
            (lambda it: GET[:-2] + b"X-CF-Proxy-Signature: c2ln\r\n\r\n", 502, "No metadata found"),
            (
                lambda it: GET[:-2] + b"X-CF-Proxy-Signature: ?\r\nX-CF-Proxy-Metadata: e30=\r\n\r\n",
                502,
                "invalid metadata",
            ),
            (
                lambda it: it.signed("https://nowhere.example.com/x?y"),
                502,
                "original request URL nowhere.example.com/x does not exist in the routing table",
            ),
            (
                lambda it: it.signed("https://other.example.com/x"),
                502,
                "route service forwarded URL app.example.com does not match the original request URL "
                "other.example.com/x",
            ),
            (lambda it: it.signed("nonsense"), 502, "parse 'nonsense': invalid URI for request"),
        ],
    )
    def test_that_are_not_believed(
        self, change: Callable[[Bound], bytes], status: int, why: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with bound() as it, caplog.at_level("ERROR", "router.proxy"):
            register(it.edge, "other.example.com", it.app)
            answered, text = refused(it.ask(change(it)))
            assert answered == status
            assert text.startswith(why)
            assert not it.at_app
            assert not it.at_service
            assert [record.getMessage() for record in caplog.records] == ["signature-validation-failed"]

    def test_expire_after_route_services_timeout(self) -> None:
        with bound(with_settings(route_services_timeout=0.05)) as it:
            request = it.signed()
            assert it.ask(request).status == 200
            time.sleep(0.06)
            assert refused(it.ask(request)) == (504, "route service request expired")

    def test_a_route_is_compared_without_regard_to_case_path_below_it_and_query(self) -> None:
        with bound() as it:
            for url in ("http://APP.example.com:8080", f"https://{APP}/Any/%41?where=else", f"https://{APP}/a b/é"):
                assert it.ask(it.signed(url)).status == 200

    def test_the_path_of_the_route_counts(self) -> None:
        with bound() as it:
            register(it.edge, APP + "/deep", it.app, it.url())
            deep = it.signed(f"https://{APP}/Deep/er?x").replace(b"/where", b"/deep/where")
            assert it.ask(deep).status == 200
            assert refused(it.ask(it.signed(f"https://{APP}/deep/")))[0] == 502
            assert refused(it.ask(deep.replace(b"/deep/where", b"/where")))[0] == 502

    def test_what_the_field_itself_says_does_not_matter(self) -> None:
        with bound() as it:
            assert it.ask(it.signed(more=b"X-CF-Forwarded-Url: http://evil/\r\n")).status == 200
            assert it.at_app[0].get("X-CF-Forwarded-Url") is None

    def test_websockets_are_refused_on_the_way_back_too(self) -> None:
        with bound() as it:
            answer = it.ask(it.signed(more=b"Connection: Upgrade\r\nUpgrade: websocket\r\n"))
            assert (answer.status, answer.get("X-Cf-RouterError")) == (503, b"route_service_unsupported")

    def test_a_connection_option_removes_none_of_it(self) -> None:
        with bound() as it:
            more = b"Connection: X-CF-Proxy-Signature, X-CF-Proxy-Metadata, X-CF-Forwarded-Url, CDN-Loop\r\n"
            assert it.ask(it.signed(more=more)).status == 200
            assert it.ask(GET[:-2] + more + b"\r\n").status == 200
            assert len(it.at_service) == 1
            assert it.at_service[0].get("X-CF-Proxy-Signature")


class TestRoutesWithoutAService:
    def test_pass_signatures_on(self) -> None:
        with bound() as it:
            register(it.edge, APP, it.app)
            request = it.signed(signer=Signer("another"), more=b"X-CF-Forwarded-Url: http://x/\r\n")
            assert it.ask(request).status == 200
            (seen,) = it.at_app
            assert all(seen.get(name) for name in ("X-CF-Proxy-Signature", "X-CF-Proxy-Metadata", "X-CF-Forwarded-Url"))

    def test_begin_no_session_with_a_request_that_is_for_a_service(self) -> None:
        cookies = OK.replace(b"Date", b"Set-Cookie: JSESSIONID=x\r\nDate")
        with bound(response=cookies, private_instance_id="one") as it:
            register(it.edge, APP, it.app, private_instance_id="one")
            assert len(it.ask(it.signed()).all("Set-Cookie")) == 1
            assert len(it.ask().all("Set-Cookie")) == 2


class TestStrictMode:
    STRICT = with_settings(route_services={"strict_signature_validation": True})

    def plain(self, it: Bound) -> None:
        register(it.edge, APP, it.app)

    def test_what_is_ours_passes(self) -> None:
        with bound(self.STRICT) as it:
            self.plain(it)
            assert it.ask(it.signed("https://nowhere.example.com/")).status == 200
            assert it.at_app[0].get("X-CF-Proxy-Signature")
            assert it.ask().status == 200

    @pytest.mark.parametrize("lines", [b"X-CF-Proxy-Signature: c2ln\r\n", b"X-CF-Proxy-Signature:\r\n"])
    def test_what_is_not_is_refused(self, lines: bytes) -> None:
        with bound(self.STRICT) as it:
            self.plain(it)
            answer = it.ask(GET[:-2] + lines + b"\r\n")
            assert (answer.status, answer.get("X-Cf-RouterError")) == (400, b"invalid_route_service_signature")
            assert answer.body == b"400 Bad Request: invalid route service signature detected\n"
            assert not it.at_app

    def test_what_is_too_old_is_refused(self) -> None:
        with bound(self.STRICT) as it:
            self.plain(it)
            answer = it.ask(it.signed(signer=Signer(SECRET, clock=lambda: time.time_ns() - 2 * MINUTE)))
            assert (answer.status, answer.get("X-Cf-RouterError")) == (504, b"expired_route_service_signature")
            assert answer.body == f"504 Gateway Timeout: {FAILED}route service request expired\n".encode()

    def test_without_a_secret_nothing_is_ours(self) -> None:
        with bound(with_settings(route_services={"strict_signature_validation": True}, route_services_secret="")) as it:
            self.plain(it)
            assert it.ask(it.signed()).status == 400
            assert it.ask().status == 200

    def test_an_unknown_route_is_unknown_first(self) -> None:
        with bound(self.STRICT) as it:
            request = GET.replace(APP.encode(), b"nowhere.example.com")
            assert it.ask(request[:-2] + b"X-CF-Proxy-Signature: c2ln\r\n\r\n").status == 404
