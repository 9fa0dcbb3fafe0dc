"""A gRPC service for tests, of every kind of call, by generic handlers: messages are bytes, there is no protobuf."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import trustme

THREADS = 48
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Service:
    """What the server has seen besides what it answers."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        """Calls of ``Wait`` that are over, by their metadata field ``x-name``."""
        self.remaining: list[float] = []
        """Seconds that calls had left when they began; None is not noted."""
        self.waiting = threading.Semaphore(0)

    def unary(self, request: bytes, context: Any) -> bytes:
        context.send_initial_metadata((("x-first", "1"),))
        metadata = context.invocation_metadata()
        echoed = tuple((key, value) for key, value in metadata if key.startswith("x-echo"))
        context.set_trailing_metadata((("x-last", "2"), *echoed))
        if context.time_remaining() is not None:
            self.remaining.append(context.time_remaining())
        return request[::-1]

    def stream(self, request: bytes, _: Any) -> Iterator[bytes]:
        """``COUNT SIZE``: so many messages of so many bytes."""
        count, size = map(int, request.split())
        for number in range(count):
            yield b"%08d" % number + b"x" * (size - 8)

    def collect(self, requests: Iterator[bytes], _: Any) -> bytes:
        digest, count = hashlib.sha256(), 0
        for request in requests:
            digest.update(request)
            count += 1
        return b"%d %b" % (count, digest.hexdigest().encode())

    def chat(self, requests: Iterator[bytes], _: Any) -> Iterator[bytes]:
        for request in requests:
            yield request.upper()

    def fail(self, request: bytes, context: Any) -> bytes:
        """Nothing but a status: the response is one header block."""
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, request.decode())
        raise AssertionError

    def fail_late(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield request
        context.abort(grpc.StatusCode.DATA_LOSS, "after the first")

    def wait(self, _: bytes, context: Any) -> Iterator[bytes]:
        """One message, then nothing until the call is over."""
        name = dict(context.invocation_metadata())["x-name"]
        context.add_callback(lambda: self.ended.append(name))
        yield b"waiting"
        self.waiting.release()
        while context.is_active():
            time.sleep(0.01)

    def handlers(self, name: str) -> grpc.GenericRpcHandler:
        methods = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Stream": grpc.unary_stream_rpc_method_handler(self.stream),
            "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "FailLate": grpc.unary_stream_rpc_method_handler(self.fail_late),
            "Wait": grpc.unary_stream_rpc_method_handler(self.wait),
        }
        return grpc.method_handlers_generic_handler(name, methods)


@contextmanager
def serving(service: Service, name: str, certificate: trustme.LeafCert | None) -> Iterator[int]:
    """A server of its own for this service; gives its port. Over TLS if it has a certificate."""
    server = grpc.server(ThreadPoolExecutor(THREADS), options=UNLIMITED)
    server.add_generic_rpc_handlers((service.handlers(name),))
    if certificate is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait(10)
