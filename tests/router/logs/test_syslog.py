"""The access log streamed to syslog: the messages, and receivers that come, go, and do not read."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.settings import Logging
from router.logs import line_queue
from router.logs.syslog import MAX_DATAGRAM, Syslog, receiver
from tests.router.wire import PATIENCE, wait_until

HOST = re.escape(socket.gethostname().encode())
MESSAGE = re.compile(
    rb"<14>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z " + HOST + rb" vcap\.gorouter (\d+) - - \xef\xbb\xbf(.*)", re.DOTALL
)


@contextlib.contextmanager
def streaming(network: str, port: int, *, structured: bool = True, truncate: int = 0) -> Iterator[Syslog]:
    settings = Logging(
        syslog="vcap.gorouter", syslog_addr=f"127.0.0.1:{port}", syslog_network=network, syslog_truncate=truncate
    )
    syslog = Syslog(settings, structured=structured)
    syslog.start()
    try:
        yield syslog
    finally:
        syslog.close()


@contextlib.contextmanager
def udp(port: int = 0) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
        sock.settimeout(PATIENCE)
        yield sock


def listener(port: int = 0) -> socket.socket:
    sock = socket.create_server(("127.0.0.1", port))
    sock.settimeout(PATIENCE)
    return sock


def accept(server: socket.socket) -> socket.socket:
    sock, _ = server.accept()
    sock.settimeout(PATIENCE)
    return sock


def line(number: int) -> bytes:
    return b'app.example.com - "GET /%d HTTP/1.1"\n' % number


def text(message: bytes) -> bytes:
    match = MESSAGE.fullmatch(message)
    assert match is not None, message
    assert int(match[1]) == os.getpid()
    return match[2]


class TestMessages:
    def test_by_udp_each_is_a_datagram(self) -> None:
        with udp() as sock, streaming("udp", sock.getsockname()[1]) as syslog:
            for number in range(3):
                syslog.offer(line(number))
            assert [text(sock.recv(1 << 16)) for _ in range(3)] == [line(number)[:-1] for number in range(3)]
            assert syslog.dropped == 0

    def test_by_tcp_each_is_a_line(self) -> None:
        with listener() as server, streaming("tcp", server.getsockname()[1]) as syslog:
            for number in range(3):
                syslog.offer(line(number))
            with accept(server) as sock, sock.makefile("rb") as file:
                received = [file.readline() for _ in range(3)]
        assert [text(message.removesuffix(b"\n")) for message in received] == [line(n)[:-1] for n in range(3)]

    def test_begin_as_gorouters_do_if_that_is_wanted(self) -> None:
        with udp() as sock, streaming("udp", sock.getsockname()[1], structured=False) as syslog:
            syslog.offer(line(1))
            message = sock.recv(1 << 16)
        moment = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)"
        assert re.fullmatch(
            rb"<14>1 " + moment + rb" " + HOST + rb" vcap\.gorouter %d - \xef\xbb\xbf" % os.getpid() + line(1)[:-1],
            message,
        )

    @pytest.mark.parametrize("network", ["udp", "tcp"])
    def test_are_cut_where_the_settings_say_so(self, network: str) -> None:
        said = "héé".encode()
        with udp() as sock, listener() as server:
            port = (sock if network == "udp" else server).getsockname()[1]
            with streaming(network, port, truncate=4) as syslog:
                syslog.offer(said + b"\n")
                message = sock.recv(100) if network == "udp" else accept(server).makefile("rb").readline()[:-1]
        assert text(message) == "hé".encode(), "no half of a character"

    def test_are_cut_where_they_fit_into_no_datagram(self) -> None:
        with udp() as sock, streaming("udp", sock.getsockname()[1]) as syslog:
            syslog.offer(b"x" * 100_000 + b"\n")
            message = sock.recv(1 << 17)
        assert len(message) == MAX_DATAGRAM
        assert set(text(message)) == set(b"x")

    @given(st.integers(0, 12), st.text(max_size=8))
    def test_a_cut_never_leaves_half_a_character(self, most: int, said: str) -> None:
        cut = Syslog._cut(said.encode(), most)
        assert said.startswith(cut.decode())
        assert len(cut) <= (most or len(said.encode()))
        assert most == 0 or len(said.encode()) - len(cut) < 4 or len(cut) > most - 4


class TestReceivers:
    def test_one_that_starts_later_gets_what_waited(self) -> None:
        with listener() as server:
            port = server.getsockname()[1]
        with streaming("tcp", port) as syslog:
            syslog.offer(line(1))
            wait_until(lambda: syslog._pause > 0, "a try that failed")
            with listener(port) as server, accept(server) as sock, sock.makefile("rb") as file:
                assert text(file.readline()[:-1]) == line(1)[:-1]
            assert syslog.dropped == 0

    def test_one_that_restarts_misses_nothing_that_is_said_later(self) -> None:
        with listener() as server, streaming("tcp", server.getsockname()[1]) as syslog:
            syslog.offer(line(0))
            with accept(server) as sock, sock.makefile("rb") as file:
                assert text(file.readline()[:-1]) == line(0)[:-1]
            for number in range(1, 100):
                syslog.offer(line(number))
            with accept(server) as sock, sock.makefile("rb") as file:
                received = [text(file.readline()[:-1]) for _ in range(1, 100)]
        assert received == [line(number)[:-1] for number in range(1, 100)]

    def test_a_message_that_a_reset_cut_off_is_said_again_as_a_whole(self) -> None:
        with listener() as server, streaming("tcp", server.getsockname()[1]) as syslog:
            for number in range(20_000):
                syslog.offer(b"%06d" % number + b"x" * 200 + b"\n")
            with accept(server) as sock:
                first = sock.recv(1 << 16)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # its end is a reset
            with accept(server) as sock, sock.makefile("rb") as file:
                numbers = [int(text(file.readline()[:-1])[:6])]
                while numbers[-1] != 19_999:
                    numbers.append(int(text(file.readline()[:-1])[:6]))
        assert numbers == list(range(numbers[0], 20_000)), "whole messages in their order"
        assert numbers[0] >= len(first.splitlines()) - 1

    def test_one_that_reads_nothing_costs_lines_and_never_time(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(line_queue, "MAX_PENDING_BYTES", 200_000)
        monkeypatch.setattr(line_queue, "CLOSE_GRACE", 0.05)
        with listener() as server, caplog.at_level(logging.WARNING):
            with streaming("tcp", server.getsockname()[1]) as syslog:
                syslog.offer(line(0))
                with accept(server):
                    longest = 0.0
                    while not syslog.dropped:
                        began = time.thread_time()
                        syslog.offer(b"x" * 10_000 + b"\n")
                        longest = max(longest, time.thread_time() - began)
                assert longest < 0.1
            assert "access-log-lines-dropped" in caplog.messages

    def test_nobody_at_an_udp_port_is_noticed_and_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        with udp() as sock:
            port = sock.getsockname()[1]
        with caplog.at_level(logging.WARNING), streaming("udp", port) as syslog:
            for number in range(3):
                syslog.offer(line(number))
                wait_until(lambda: not syslog.lines, "the line to be sent")
                time.sleep(0.02)  # for the answer that nobody is there
            wait_until(lambda: syslog.dropped > 0, "a loss that was noticed")
            with udp(port) as sock:
                syslog.offer(line(9))
                assert text(sock.recv(1 << 16)) == line(9)[:-1]
            assert 1 <= syslog.dropped <= 3
        [complaint] = caplog.records
        assert complaint.message == "access-log-not-streamed"

    def test_a_name_that_does_not_exist_is_complained_of(self, caplog: pytest.LogCaptureFixture) -> None:
        syslog = Syslog(Logging(syslog_addr="nowhere.invalid:514"))
        with caplog.at_level(logging.WARNING):
            syslog.start()
            syslog.offer(line(1))
            wait_until(lambda: caplog.records, "a complaint")
            syslog.close()
        assert caplog.records[0].__dict__["data"]["file"] == "udp://nowhere.invalid:514"
        assert syslog.dropped == 1


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:514", ("127.0.0.1", 514)),
        ("logs.example.com:6514", ("logs.example.com", 6514)),
        ("[::1]:1", ("::1", 1)),
    ],
)
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    assert receiver(address) == parts


@pytest.mark.parametrize("address", ["", "514", "host", "host:", ":514", "host:0", "host:65536", "::1:514", "a b:1"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match="is not host:port, such as"):
        receiver(address)
