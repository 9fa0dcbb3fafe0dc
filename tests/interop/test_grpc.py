"""gRPC through the router: grpcio's client and server, each over cleartext and over TLS, with every kind of call."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import trustme

from router.registry.records import EndpointRecord
from tests.interop.grpc_service import UNLIMITED, Service, serving
from tests.router.registry.conftest import RedisServer, shared_redis
from tests.router.secured import NAME, SecuredRouter, secured_router
from tests.router.wire import wait_until

__all__ = ["shared_redis"]

SAN = "backend.test"
PATIENCE = 10
MIB = 1 << 20


@dataclass
class Calls:
    """One client's channel to one service."""

    channel: grpc.Channel
    name: str
    service: Service

    def unary(self, request: bytes, **more: Any) -> bytes:
        return bytes(self.call("Unary")(request, timeout=more.pop("timeout", PATIENCE), **more))

    def call(self, method: str) -> Any:
        path = f"/{self.name}/{method}"
        kind = {"Stream": "unary_stream", "FailLate": "unary_stream", "Wait": "unary_stream"}
        kind |= {"Collect": "stream_unary", "Chat": "stream_stream"}
        return getattr(self.channel, kind.get(method, "unary_unary"))(path)


@dataclass
class Running:
    router: SecuredRouter
    services: dict[str, Service]

    def channel(self, listener: str) -> grpc.Channel:
        options: list[tuple[str, int | str]] = [*UNLIMITED, ("grpc.use_local_subchannel_pool", 1)]
        if listener == "cleartext":
            options.append(("grpc.default_authority", NAME))
            return grpc.insecure_channel(f"127.0.0.1:{self.router.port}", options)
        options.append(("grpc.ssl_target_name_override", NAME))
        credentials = grpc.ssl_channel_credentials(self.router.ca_file.read_bytes())
        return grpc.secure_channel(f"127.0.0.1:{self.router.tls_port}", credentials, options)


@pytest.fixture(scope="module")
def running(shared_redis: RedisServer) -> Iterator[Running]:
    ca = trustme.CA()
    services = {"plain": Service(), "secure": Service()}
    with (
        serving(services["plain"], "plain", None) as plain,
        serving(services["secure"], "secure", ca.issue_cert(SAN)) as secure,
    ):
        routes = {
            f"{NAME}/plain": EndpointRecord(host="127.0.0.1", port=plain, protocol="http2"),
            f"{NAME}/secure": EndpointRecord(
                host="127.0.0.1", tls_port=secure, protocol="http2", server_cert_domain_san=SAN
            ),
            f"{NAME}/nobody": EndpointRecord(host="127.0.0.1", port=1, protocol="http2"),
        }
        with secured_router(shared_redis.url, routes, ca=ca) as router:
            yield Running(router, services)


@pytest.fixture(params=["cleartext", "tls"])
def channel(running: Running, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    with running.channel(request.param) as made:
        yield made


@pytest.fixture(params=["plain", "secure"])
def calls(running: Running, channel: grpc.Channel, request: pytest.FixtureRequest) -> Calls:
    return Calls(channel, request.param, running.services[request.param])


class TestCalls:
    def test_unary(self, calls: Calls) -> None:
        assert [calls.unary(b"abc"), calls.unary(b""), calls.unary(b"x" * 5000)] == [b"cba", b"", b"x" * 5000]

    def test_server_stream(self, calls: Calls) -> None:
        messages = list(calls.call("Stream")(b"500 1000", timeout=PATIENCE))
        assert [int(message[:8]) for message in messages] == list(range(500))
        assert {len(message) for message in messages} == {1000}

    def test_client_stream(self, calls: Calls) -> None:
        parts = [b"%d" % number * 200 for number in range(300)]
        digest = hashlib.sha256(b"".join(parts)).hexdigest()
        assert calls.call("Collect")(iter(parts), timeout=PATIENCE) == b"300 " + digest.encode()

    def test_both_streams_answer_for_answer(self, calls: Calls) -> None:
        """The next request is made only when the last one's answer is here: nothing may be held back on the way."""
        heard = threading.Semaphore(1)

        def ask() -> Iterator[bytes]:
            for number in range(50):
                assert heard.acquire(timeout=PATIENCE)
                yield b"question %d" % number

        answers = []
        for answer in calls.call("Chat")(ask(), timeout=PATIENCE):
            answers.append(answer)
            heard.release()
        assert answers == [b"QUESTION %d" % number for number in range(50)]

    def test_metadata_both_ways(self, calls: Calls) -> None:
        sent = (("x-echo-text", "a, b; c"), ("x-echo-twice", "1"), ("x-echo-twice", "2"), ("x-echo-bin", b"\0\xff\r\n"))
        response, call = calls.call("Unary").with_call(b"x", timeout=PATIENCE, metadata=sent)
        assert response == b"x"
        assert ("x-first", "1") in tuple(call.initial_metadata())
        trailing = tuple((key, value) for key, value in call.trailing_metadata())
        assert ("x-last", "2") in trailing
        for pair in sent:
            assert pair in trailing
        assert call.code() == grpc.StatusCode.OK

    @pytest.mark.parametrize("size", [MIB, 8 * MIB])
    def test_large_messages(self, calls: Calls, size: int) -> None:
        message = hashlib.sha256(b"%d" % size).digest() * (size // 32)
        assert calls.unary(message) == message[::-1]


class TestErrors:
    def test_a_status_and_nothing_else(self, calls: Calls) -> None:
        with pytest.raises(grpc.RpcError) as raised:
            calls.call("Fail")(b"why: 100% \xc3\xa9", timeout=PATIENCE)
        assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert raised.value.details() == "why: 100% é"

    def test_a_status_after_messages(self, calls: Calls) -> None:
        responses = calls.call("FailLate")(b"first", timeout=PATIENCE)
        assert next(responses) == b"first"
        with pytest.raises(grpc.RpcError) as raised:
            next(responses)
        assert raised.value.code() == grpc.StatusCode.DATA_LOSS
        assert raised.value.details() == "after the first"

    def test_an_unknown_method(self, calls: Calls) -> None:
        with pytest.raises(grpc.RpcError) as raised:
            calls.channel.unary_unary(f"/{calls.name}/Unknown")(b"", timeout=PATIENCE)
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED

    def test_no_route_and_no_backend_are_errors_of_the_call(self, channel: grpc.Channel) -> None:
        """404 and 502 as gRPC clients read them: UNIMPLEMENTED and UNAVAILABLE."""
        for name, code in (("nowhere", grpc.StatusCode.UNIMPLEMENTED), ("nobody", grpc.StatusCode.UNAVAILABLE)):
            with pytest.raises(grpc.RpcError) as raised:
                channel.unary_unary(f"/{name}/Unary")(b"", timeout=PATIENCE)
            assert raised.value.code() == code

    def test_deadlines_reach_the_server(self, calls: Calls) -> None:
        calls.service.remaining.clear()
        calls.unary(b"x", timeout=7)
        assert 0 < calls.service.remaining[0] < 7.5

    def test_a_deadline_that_passes(self, calls: Calls) -> None:
        responses = calls.call("Wait")(b"", timeout=0.3, metadata=(("x-name", "late"),))
        assert next(responses) == b"waiting"
        with pytest.raises(grpc.RpcError) as raised:
            next(responses)
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        wait_until(lambda: "late" in calls.service.ended, "the end of the call at the server")
        calls.service.ended.clear()

    def test_the_server_sees_a_cancellation(self, calls: Calls) -> None:
        first = calls.call("Wait")(b"", timeout=PATIENCE, metadata=(("x-name", "cancelled"),))
        second = calls.call("Wait")(b"", timeout=PATIENCE, metadata=(("x-name", "kept"),))
        assert next(first) == next(second) == b"waiting"
        first.cancel()
        wait_until(lambda: "cancelled" in calls.service.ended, "the end of the call at the server")
        assert calls.unary(b"still") == b"llits"
        assert "kept" not in calls.service.ended
        second.cancel()
        wait_until(lambda: "kept" in calls.service.ended, "the end of the other")
        calls.service.ended.clear()


class TestManyAtOnce:
    def test_unary(self, calls: Calls) -> None:
        def ask(number: int) -> bool:
            message = b"%d " % number * (number % 97 + 1)
            return calls.unary(message) == message[::-1]

        with ThreadPoolExecutor(32) as callers:
            assert all(callers.map(ask, range(600)))

    def test_streams_side_by_side(self, calls: Calls) -> None:
        """40 at once on one connection, each whole and in order."""

        def read(number: int) -> bool:
            size = 100 + 500 * (number % 7)
            messages = list(calls.call("Stream")(b"60 %d" % size, timeout=30))
            return [int(message[:8]) for message in messages] == list(range(60))

        with ThreadPoolExecutor(40) as callers:
            assert all(callers.map(read, range(80)))

    def test_a_reader_that_pauses_holds_up_no_other(self, calls: Calls) -> None:
        paused = calls.call("Stream")(b"2000 10000", timeout=30)
        next(paused)
        for _ in range(20):
            assert calls.unary(b"quick") == b"kciuq"
        assert sum(1 for _ in paused) == 1999
