"""What is wrong with the settings for route services is said before anything starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from router.config.config_file import ConfigError
from router.config.settings import RouteServices, Settings
from router.config.settings_rules import check
from router.tls.contexts import service_context
from tests.router.tls.authority import chain_of, issue

PAIR = issue("router")
KEY = PAIR.private_key_pem.bytes().decode()


def problem(settings: Settings) -> str:
    with pytest.raises(ConfigError) as raised:
        check(settings)
    return str(raised.value)


def test_an_allowlist_with_an_entry_that_is_no_name() -> None:
    text = problem(Settings(route_services_hairpinning_allowlist=("fine.example.com", "*.*.example.com")))
    assert "route_services_hairpinning_allowlist: '*.*.example.com' is no name such as app.example.com" in text


def test_a_certificate_without_a_key() -> None:
    text = problem(Settings(route_services=RouteServices(cert_chain=chain_of(PAIR))))
    assert "route_services.private_key is not set, but route_services.cert_chain is; give both or neither" in text


def test_a_key_of_another_certificate() -> None:
    other = issue("other")
    text = problem(Settings(route_services=RouteServices(cert_chain=chain_of(other), private_key=KEY)))
    assert "route_services.private_key does not belong to the first certificate of the chain" in text


def test_good_ones_pass() -> None:
    check(
        Settings(
            route_services=RouteServices(cert_chain=chain_of(PAIR), private_key=KEY),
            route_services_hairpinning_allowlist=("fine.example.com", "*.example.com"),
        )
    )


def test_old_versions_of_tls_are_spoken_to_services_where_clients_are_offered_them() -> None:
    old = service_context(Settings(min_tls_version="TLSv1.0", max_tls_version="TLSv1.2"))
    assert (old.minimum_version.name, old.maximum_version.name) == ("TLSv1", "TLSv1_2")


def test_a_worker_without_secret_and_certificates_loads_no_cryptography() -> None:
    """It costs every worker 12 MiB."""
    text = """
import asyncio, sys
import router.processes.worker
from router.edge import Edge
from router.listeners import Listeners
from router.metrics.counters import Metrics
from router.config.settings import Settings
from router.table import RouteTable
settings = Settings()
Listeners(settings, Edge(settings, RouteTable(), Metrics(), None, asyncio.new_event_loop()))
sys.exit(", ".join(name for name in sys.modules if name.startswith("cryptography.hazmat")) or 0)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
