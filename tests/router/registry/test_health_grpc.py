"""The gRPC health check against a real gRPC server, and its messages against the real protobuf."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import trio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypothesis import example, given
from hypothesis import strategies as st

from router.registry.grpc_health import GrpcCheck, decode_answer, decode_varint, encode_request, encode_varint
from router.registry.health import CheckFailed, failure_of

Servicer = health.HealthServicer
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def failure(check: GrpcCheck, seconds: float = 5.0) -> str:
    return trio.run(failure_of, check, seconds)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[int, Servicer]]:
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = Servicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port, servicer
    server.stop(None).wait(5)


@pytest.fixture(scope="module")
def without_health() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait(5)


def test_a_serving_server_passes(served: tuple[int, Servicer]) -> None:
    port, servicer = served
    servicer.set("", SERVING)
    assert failure(GrpcCheck("127.0.0.1", port)) == ""


def test_a_server_that_is_not_serving_fails_until_it_is(served: tuple[int, Servicer]) -> None:
    port, servicer = served
    check = GrpcCheck("127.0.0.1", port, "shop.Orders")
    servicer.set("shop.Orders", NOT_SERVING)
    assert failure(check) == f"127.0.0.1:{port}: NOT_SERVING"
    servicer.set("shop.Orders", SERVING)
    assert failure(check) == ""


def test_a_service_with_a_long_name_is_asked_for(served: tuple[int, Servicer]) -> None:
    port, servicer = served
    name = "päckage." * 40
    servicer.set(name, SERVING)
    assert failure(GrpcCheck("127.0.0.1", port, name)) == ""


def test_an_unknown_service_fails(served: tuple[int, Servicer]) -> None:
    port, _ = served
    assert failure(GrpcCheck("127.0.0.1", port, "nobody")) == f"127.0.0.1:{port}: gRPC status 5: unknown service"


def test_a_server_without_a_health_service_fails(without_health: int) -> None:
    reason = failure(GrpcCheck("127.0.0.1", without_health))
    assert reason == f"127.0.0.1:{without_health}: gRPC status 12: the server has no health service"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "closed without an answer"),
        (bytes.fromhex("000001000000000000" + "00"), "the server does not speak HTTP/2"),
        (b"", "closed without an answer"),
        (bytes.fromhex("000000040000000000" + "000008070000000000" + "0000000000000000"), "the server is going away"),
        (bytes.fromhex("000000040000000000" + "000004030000000001" + "00000007"), "refused with HTTP/2 error 7"),
    ],
)
def test_a_server_that_does_not_answer_the_call_fails(answer: bytes, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                connection.recv(4096)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        said = failure(GrpcCheck("127.0.0.1", port))
        thread.join(5)
    assert said.startswith(f"127.0.0.1:{port}: {reason}")


@given(st.text(max_size=150))
def test_requests_are_what_protobuf_makes(service: str) -> None:
    message = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    assert encode_request(service) == b"\0" + len(message).to_bytes(4, "big") + message


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


@given(st.sampled_from([0, 1, 2, 3]))
def test_answers_of_protobuf_are_read(status: int) -> None:
    assert decode_answer(framed(health_pb2.HealthCheckResponse(status=status).SerializeToString())) == status


@given(st.binary(max_size=60))
@example(b"\x80\x80\x80\x80\x10\x00\x08\x01").via("a tag of more than 32 bits")
@example(b"\x88\x80\x80\x80\x80\x00\x01").via("a tag of six bytes")
@example(b"\x12\x81\x80\x80\x80\x80\x00x\x08\x01").via("a length of six bytes")
def test_any_message_is_read_as_protobuf_reads_it_or_refused(message: bytes) -> None:
    try:
        status = decode_answer(framed(message))
    except CheckFailed:
        return
    if status < 2**31:
        assert health_pb2.HealthCheckResponse.FromString(message).status == status


@given(st.binary(max_size=40))
def test_any_frame_is_read_or_refused(frame: bytes) -> None:
    try:
        status = decode_answer(frame)
    except CheckFailed:
        return
    assert 0 <= status < 2**64


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_numbers_come_back(value: int, before: bytes) -> None:
    encoded = encode_varint(value)
    assert decode_varint(before + encoded, len(before)) == (value, len(before) + len(encoded))
