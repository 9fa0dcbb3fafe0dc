"""h2spec, the conformance suite for RFC 9113 and RFC 7541, against both listeners of a running router."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from router.registry.records import EndpointRecord
from tests.router.registry.conftest import RedisServer, shared_redis
from tests.router.secured import SecuredRouter, secured_router
from tests.router.wire import answering, backend

__all__ = ["shared_redis"]

H2SPEC = os.environ.get("H2SPEC") or shutil.which("h2spec")
"""``go install github.com/summerwind/h2spec/cmd/h2spec@latest``"""
GROUPS = ("generic", "http2", "hpack")
FEWEST = {"generic": 44, "http2": 95, "hpack": 7}
"""Cases that a report must hold: an empty one is no proof."""
ANSWERED: dict[str, set[str]] = {"cleartext": {"http2/3.5: Sends invalid connection preface"}}
"""Cases that h2spec calls failed because it gets an answer. The cleartext port speaks HTTP/1.1 as well: what is no
preface of HTTP/2 is a malformed request there, answered 400 before the connection is closed (RFC 9112 section 3)."""

pytestmark = pytest.mark.skipif(not H2SPEC, reason="h2spec is neither on PATH nor named by the variable H2SPEC")


@pytest.fixture(scope="module")
def router(shared_redis: RedisServer) -> Iterator[SecuredRouter]:
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000
    with backend(answering(page)) as app:
        route = {"127.0.0.1": EndpointRecord(host="127.0.0.1", port=app.port)}
        with secured_router(shared_redis.url, route) as running:
            yield running


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("listener", ["cleartext", "tls"])
def test_every_case_passes(router: SecuredRouter, tmp_path: Path, listener: str, group: str) -> None:
    port, tls = (router.tls_port, ["--tls", "--insecure"]) if listener == "tls" else (router.port, [])
    report = tmp_path / "report.xml"
    options = ["--host", "127.0.0.1", "--port", str(port), *tls, "--strict", "--timeout", "3"]
    done = subprocess.run(
        [str(H2SPEC), *options, "--junit-report", str(report), group],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314  # a report of our own asking
    bad = {f"{case.get('package')}: {case.get('classname')}" for case in cases if _failed(case)}
    assert not bad - ANSWERED.get(listener, set()), done.stdout
    assert len(cases) >= FEWEST[group]
    assert bad or done.returncode == 0


def _failed(case: ElementTree.Element) -> bool:
    """Failed, broke or was skipped: none of them is green."""
    return any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
