"""HTTP/2 clients that others wrote, through a router with a cleartext and a TLS listener."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

from router.registry.records import EndpointRecord
from tests.router.registry.conftest import RedisServer, shared_redis
from tests.router.secured import NAME, SecuredRouter, secured_router
from tests.router.wire import Message, answering, backend, wait_until

__all__ = ["shared_redis"]

LISTENERS = pytest.mark.parametrize("listener", ["cleartext", "tls"])
BIG = 3_000_000


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not on PATH")


def respond(request: Message) -> bytes:
    """What came, or so many bytes as the path says; with a trailer where the path is /trailer."""
    path = request.first.split(b" ")[1]
    if path == b"/trailer":
        return (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"
        )
    size = re.fullmatch(rb"/big/(\d+)", path)
    body = b"x" * int(size[1]) if size else request.body or b"ok"
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + (b"" if b"HEAD" in request.first else body)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "access.log"


@pytest.fixture(scope="module")
def router(shared_redis: RedisServer, log: Path) -> Iterator[SecuredRouter]:
    with backend(answering(respond)) as app:
        route = EndpointRecord(host="127.0.0.1", port=app.port)
        routes = {NAME: route, "127.0.0.1": route}
        with secured_router(shared_redis.url, routes, access_log={"file": str(log)}) as running:
            yield running


def port(router: SecuredRouter, listener: str) -> int:
    return router.tls_port if listener == "tls" else router.port


@needs("curl")
class TestCurl:
    def curl(
        self, router: SecuredRouter, listener: str, *arguments: str, paths: tuple[str, ...] = ("/",)
    ) -> subprocess.CompletedProcess[bytes]:
        number = port(router, listener)
        base = f"{'https' if listener == 'tls' else 'http'}://{NAME}:{number}"
        how = ["--http2", "--cacert", str(router.ca_file)] if listener == "tls" else ["--http2-prior-knowledge"]
        common = ["-sS", "--resolve", f"{NAME}:{number}:127.0.0.1", *how]
        urls = [base + path for path in paths]
        done = subprocess.run(["curl", *common, *arguments, *urls], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done

    @LISTENERS
    def test_one_request(self, router: SecuredRouter, listener: str) -> None:
        assert self.curl(router, listener, "-w", "/%{http_version}").stdout == b"ok/2"

    def test_several_requests_on_one_connection(self, router: SecuredRouter) -> None:
        """Over TLS: by prior knowledge, curl 7.88 fails to use a connection twice, whoever the server is."""
        done = self.curl(router, "tls", "-w", "%{num_connects}/%{http_version} ", paths=("/",) * 5)
        assert done.stdout == b"ok1/2 " + b"ok0/2 " * 4

    def test_in_parallel(self, router: SecuredRouter, tmp_path: Path) -> None:
        outputs = [part for number in range(20) for part in ("-o", str(tmp_path / str(number)))]
        paths = tuple(f"/big/{10_000 * number + 1}" for number in range(20))
        self.curl(router, "tls", "-Z", "--parallel-max", "20", *outputs, paths=paths)
        assert [(tmp_path / str(n)).stat().st_size for n in range(20)] == [10_000 * n + 1 for n in range(20)]

    @LISTENERS
    def test_upload_and_download(self, router: SecuredRouter, listener: str, tmp_path: Path) -> None:
        upload = tmp_path / "upload"
        upload.write_bytes(bytes(range(256)) * (BIG // 256))
        assert self.curl(router, listener, "-T", str(upload), paths=("/upload",)).stdout == upload.read_bytes()

    @LISTENERS
    def test_head(self, router: SecuredRouter, listener: str) -> None:
        head = self.curl(router, listener, "-I", paths=("/big/77",)).stdout
        assert head.startswith(b"HTTP/2 200")
        assert b"content-length: 77\r\n" in head

    def test_an_upgrade_to_h2c_is_declined_and_the_request_served(self, router: SecuredRouter) -> None:
        """RFC 9113 section 3.1: the upgrade is deprecated."""
        url = f"http://127.0.0.1:{router.port}/"
        done = subprocess.run(
            ["curl", "-sS", "--http2", "-w", "/%{http_version}", url], capture_output=True, timeout=30, check=False
        )
        assert done.stdout == b"ok/1.1", done.stderr

    def test_without_a_choice_of_protocol_it_is_http_1_1(self, router: SecuredRouter) -> None:
        url = f"https://127.0.0.1:{router.tls_port}/"
        for option in ("--no-alpn", "--http1.1"):
            command = ["curl", "-sS", "--cacert", str(router.ca_file), option, "-w", "/%{http_version}", url]
            done = subprocess.run(command, capture_output=True, timeout=30, check=False)
            assert done.stdout == b"ok/1.1", done.stderr

    @LISTENERS
    def test_the_access_log_says_http_2(self, router: SecuredRouter, listener: str, log: Path) -> None:
        self.curl(router, listener, paths=(f"/logged-{listener}",))
        router.router.until_healthy()
        line = _logged(log, f"/logged-{listener}")
        assert f'"GET /logged-{listener} HTTP/2.0" 200' in line


def _logged(log: Path, path: str) -> str:
    wait_until(lambda: log.exists() and path in log.read_text(), "the line in the access log")
    return next(line for line in log.read_text().splitlines() if path in line)


@needs("h2load")
@LISTENERS
@pytest.mark.parametrize("size", [2, 100_000])
def test_h2load(router: SecuredRouter, listener: str, size: int) -> None:
    count = 2000 if size == 2 else 200
    url = f"{'https' if listener == 'tls' else 'http'}://127.0.0.1:{port(router, listener)}/big/{size}"
    command = ["h2load", "-n", str(count), "-c", "8", "-m", "16", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert f"{count} succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout
    assert f"status codes: {count} 2xx" in done.stdout


class H2Client:
    """The h2 package over a blocking socket; it raises ProtocolError at whatever the router does wrong."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._connection.initiate_connection()
        self._flush()
        self.events: list[Any] = []

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())

    def ask(self, path: str, body: bytes = b"", method: str = "GET") -> int:
        stream = int(self._connection.get_next_available_stream_id())
        head = [(":method", method), (":scheme", "http"), (":authority", NAME), (":path", path)]
        self._connection.send_headers(stream, head, end_stream=not body)
        while body:
            room = min(
                self._connection.local_flow_control_window(stream), self._connection.max_outbound_frame_size, len(body)
            )
            if room:
                self._connection.send_data(stream, body[:room], end_stream=room == len(body))
                body = body[room:]
                self._flush()
            else:
                self._read()
        self._flush()
        return stream

    def _read(self) -> None:
        data = self._socket.recv(65536)
        assert data, "closed"
        for event in self._connection.receive_data(data):
            self.events.append(event)
            if isinstance(event, DataReceived):
                self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self._flush()

    def answer(self, stream: int) -> tuple[dict[bytes, bytes], bytes, dict[bytes, bytes]]:
        """Head, body, trailers."""
        while not any(isinstance(e, (StreamEnded, StreamReset)) and e.stream_id == stream for e in self.events):
            self._read()
        mine = [event for event in self.events if getattr(event, "stream_id", None) == stream]
        assert not any(isinstance(event, StreamReset) for event in mine)
        (head,) = [dict(event.headers) for event in mine if isinstance(event, ResponseReceived)]
        trailers = [dict(event.headers) for event in mine if isinstance(event, TrailersReceived)]
        body = b"".join(event.data for event in mine if isinstance(event, DataReceived))
        return head, body, trailers[0] if trailers else {}


@LISTENERS
def test_python_h2(router: SecuredRouter, listener: str) -> None:
    sock = socket.create_connection(("127.0.0.1", port(router, listener)), 10)
    if listener == "tls":
        sock = router.context("h2").wrap_socket(sock, server_hostname=NAME)
    client = H2Client(sock)
    streams = [client.ask(f"/big/{number * 1000}") for number in range(1, 50)]
    assert [len(client.answer(stream)[1]) for stream in streams] == [number * 1000 for number in range(1, 50)]
    assert client.answer(client.ask("/echo", b"y" * 500_000, "POST"))[1] == b"y" * 500_000
    head, body, trailers = client.answer(client.ask("/trailer"))
    assert (head[b":status"], body, trailers) == (b"200", b"ok", {b"x-sum": b"7"})
    sock.close()


def test_httpx(router: SecuredRouter) -> None:
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    with httpx.Client(http1=False, http2=True, verify=router.context()) as client:
        base = f"https://127.0.0.1:{router.tls_port}"
        for method, content in (("GET", None), ("POST", b"some"), ("PUT", iter([b"a", b"b"])), ("DELETE", None)):
            response = client.request(method, base + "/echo", content=content)
            assert (response.http_version, response.status_code) == ("HTTP/2", 200)
            assert response.content == {"POST": b"some", "PUT": b"ab"}.get(method, b"ok")
        assert len(client.get(base + f"/big/{BIG}").content) == BIG


GO_CLIENT = """
package main

import ("crypto/tls"; "crypto/x509"; "fmt"; "io"; "net/http"; "os"; "strings"; "sync")

func main() {
	pool := x509.NewCertPool()
	pem, _ := os.ReadFile(os.Args[2])
	pool.AppendCertsFromPEM(pem)
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, Protocols: protocols}
	client := &http.Client{Transport: transport}
	var all sync.WaitGroup
	for number := 0; number < 50; number++ {
		all.Add(1)
		go func() {
			defer all.Done()
			sent := strings.Repeat(fmt.Sprint(number, " "), 1+number*1000)
			response, err := client.Post(os.Args[1]+"/echo", "text/plain", strings.NewReader(sent))
			if err != nil { fmt.Println(err); os.Exit(1) }
			got, err := io.ReadAll(response.Body)
			if err != nil || string(got) != sent || response.ProtoMajor != 2 {
				fmt.Println(number, err, len(got), len(sent), response.Proto)
				os.Exit(1)
			}
		}()
	}
	all.Wait()
	response, err := client.Get(os.Args[1] + "/trailer")
	if err != nil { fmt.Println(err); os.Exit(1) }
	io.ReadAll(response.Body)
	fmt.Print("fine ", response.Trailer.Get("X-Sum"))
}
"""


@pytest.fixture(scope="module")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the standard library alone; built without reaching for the network."""
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(GO_CLIENT)
    (folder / "go.mod").write_text("module client\n\ngo 1.24\n")
    build = subprocess.run(
        ["go", "build", "-o", "client", "."], cwd=folder, capture_output=True, text=True, check=False
    )
    if build.returncode:
        pytest.skip(f"go cannot build: {build.stderr.strip().splitlines()[-1]}")
    return folder / "client"


@needs("go")
@LISTENERS
def test_go_net_http(router: SecuredRouter, go_client: Path, listener: str) -> None:
    url = f"{'https' if listener == 'tls' else 'http'}://127.0.0.1:{port(router, listener)}"
    done = subprocess.run(
        [str(go_client), url, str(router.ca_file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "fine 7"), done.stderr
