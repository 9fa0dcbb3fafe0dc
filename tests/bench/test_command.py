"""The command: it measures for real, leaves a document, leaves nothing running, and says what it cannot do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from bench.command import PROXIES, bench, is_loopback
from bench.machine import raise_file_limit
from bench.meter import tree
from bench.registry import run
from bench.rounds import Effort
from bench.scenarios import SCENARIOS
from bench.session import session

needs_nginx = pytest.mark.skipif(not shutil.which("nginx"), reason="no nginx on PATH")


def invoke(*arguments: str) -> Result:
    return CliRunner(catch_exceptions=False).invoke(bench, arguments)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one short go with the router and nginx."""
    results = tmp_path_factory.mktemp("results")
    only = "router,nginx,gorouter" if shutil.which("nginx") else "router,gorouter"
    short = ("--rounds", "1", "--seconds", "1", "--warm-up", "0", "--scenario", "large")
    done = invoke("http", "--only", only, *short, "--results", str(results))
    assert done.exit_code == 0, done.output
    assert "gorouter left out: GOROUTER_BIN is not set" in done.output
    return results


def test_a_go_leaves_a_document_with_true_figures(measured: Path) -> None:
    (path,) = measured.glob("*.json")
    document = orjson.loads(path.read_bytes())
    assert document["left_out"].keys() == {"gorouter"}
    (scenario,) = document["scenarios"]
    assert scenario["name"] == "large"
    for proxy in scenario["proxies"].values():
        (only_round,) = proxy["rounds"]
        assert only_round["errors"] == {"connect": 0, "broken": 0, "timeout": 0, "status": 0}
        assert only_round["requests_per_second"] > 10
        assert 0 < only_round["p50_us"] <= only_round["p99_us"]
        assert 1 < only_round["cpu_us_per_request"] < 100_000
        assert 0 < only_round["core_share"] < 1.1
        assert 1 << 20 < only_round["peak_pss_bytes"] <= only_round["peak_rss_bytes"]


@needs_nginx
def test_a_go_tells_ratios_to_nginx(measured: Path) -> None:
    (path,) = measured.glob("*.json")
    proxies = orjson.loads(path.read_bytes())["scenarios"][0]["proxies"]
    assert proxies["nginx"]["to_nginx"]["cpu_us_per_request"] == {"median": 1, "least": 1, "most": 1}
    assert proxies["router"]["to_nginx"]["cpu_us_per_request"]["median"] > 0


def test_a_go_leaves_a_picture_per_scenario(measured: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    assert {path.stem.rpartition("-")[2] for path in measured.glob("*.png")} == {"large"}


def test_the_registry_scenarios_with_a_few_routes() -> None:
    told: list[str] = []
    with session(Effort(1, 1, 0)) as running:
        result = run(running, 300, told.append)
    assert (result.routes, result.lookups.hosts) == (300, 30)
    assert 0 < result.changes.p50_ms <= result.changes.p99_ms
    assert result.burst.call_seconds > 0
    assert result.burst.lag_seconds > 0
    assert (result.changes.errors, result.burst.errors, sum(result.lookups.errors.values())) == (0, 0, 0)
    assert min(result.size.before_bytes, result.size.after_bytes, result.size.redis_bytes) > 1 << 20
    assert min(result.lookups.one_host_cpu_us, result.lookups.many_hosts_cpu_us) > 1
    assert min(result.start.one_route_seconds, result.start.all_routes_seconds) > 0.01
    assert told[-1] == "starting a fresh router with 300 routes"


@needs_nginx
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_by_a_signal_it_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    arguments = ["http", "--only", "nginx", "--rounds", "100", "--results", str(tmp_path / "results")]
    command = "from bench.command import bench; bench()"
    with subprocess.Popen([sys.executable, "-c", command, *arguments], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while len(started := tree(process.pid)) < 6:  # itself, two masters with a worker each, the generator
            assert time.monotonic() < deadline, f"only {started} came up"
            assert process.poll() is None
            time.sleep(0.02)
        folders = {Path(f"/proc/{pid}/cwd").resolve() for pid in started if pid != process.pid}
        process.send_signal(number)
        assert process.wait(20) == 1
    left = started
    while left := [pid for pid in left if tree(pid)]:  # who was killed last may not be buried yet
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.02)
    assert not any(folder.exists() for folder in folders if folder.name.startswith("bench-"))
    assert not (tmp_path / "results").exists()


def test_an_unknown_proxy_is_named_with_those_there_are() -> None:
    done = invoke("http", "--only", "nginx,squid")
    assert done.exit_code == 2
    assert "no proxy is called squid; there are router, nginx" in done.output


def test_when_every_proxy_is_left_out_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOROUTER_BIN", raising=False)
    done = invoke("http", "--only", "gorouter")
    assert done.exit_code == 1
    assert "nothing to measure" in done.output


def test_load_stays_on_this_machine_unless_told_otherwise() -> None:
    done = invoke("load", "--url", "http://router.example.com")
    assert done.exit_code == 1
    assert "--anywhere" in done.output


def test_load_without_a_url_starts_a_router_and_no_request_fails(capfd: pytest.CaptureFixture[str]) -> None:
    if find_spec("locust") is None:  # not imported here: it would patch this process's sockets and threads
        pytest.skip("the extra `bench` is not installed")
    done = invoke("load", "--users", "10", "--seconds", "1")
    told = capfd.readouterr()
    assert done.exit_code == 0, told
    assert "/pages/[number]" in told.out + told.err


@pytest.mark.parametrize("url", ["http://localhost:8081", "http://127.0.0.1", "http://127.9.9.9:1", "http://[::1]:80"])
def test_loopback_urls(url: str) -> None:
    assert is_loopback(url)


@given(st.ip_addresses().filter(lambda address: not address.is_loopback))
def test_other_addresses_are_not_loopback(address: object) -> None:
    assert not is_loopback(f"http://[{address}]/" if ":" in str(address) else f"http://{address}/")


@pytest.mark.parametrize("url", ["", "router", "http://localhost.example.com", "http://127.0.0.1.example.com"])
def test_names_are_not_loopback(url: str) -> None:
    assert not is_loopback(url)


def test_every_scenario_has_the_name_it_is_listed_by() -> None:
    assert all(name == scenario.name for name, scenario in SCENARIOS.items())
    assert all(name == proxy.name for name, proxy in PROXIES.items())


def test_the_file_limit_is_as_high_as_it_may_be() -> None:
    assert raise_file_limit() == os.sysconf("SC_OPEN_MAX")
