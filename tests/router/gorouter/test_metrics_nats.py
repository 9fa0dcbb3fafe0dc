"""Gorouter's metrics of what comes by NATS (reference 8.6), for Prometheus and as dropsonde, by a whole router."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.router.loggregator.dropsonde import Agent, agent
from tests.router.prometheus_text import Family, families
from tests.router.sources.nats import Registrar, running_nats
from tests.router.supervised import Router, running_router
from tests.router.wire import wait_until

TAGS = {"component": "route-emitter"}


@dataclass
class Scene:
    router: Router
    registrar: Registrar
    agent: Agent

    def families(self) -> dict[str, Family]:
        return families(self.router.status("/metrics").body.decode())

    def until(self, name: str, value: float, **labels: str) -> None:
        wait_until(lambda: self.families()[name].value(**labels) == value, f"{name}{labels} {value}")


@pytest.fixture
def scene() -> Iterator[Scene]:
    with (
        tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder,
        running_nats(Path(folder)) as nats,
        agent() as listening,
        Registrar(nats) as registrar,
        running_router(
            "",
            nats={"hosts": [nats.host]},
            millrace={"workers": 2},
            logging={"loggregator_enabled": True, "metron_address": listening.address},
            start_response_delay_interval="0s",
            route_latency_metric_muzzle_duration="0s",
            prune_stale_droplets_interval="1s",
            droplet_stale_threshold="5s",
        ) as router,
    ):
        yield Scene(router.until_healthy(), registrar, listening)


def test_registrations_by_component_and_action(scene: Scene) -> None:
    counted = {"component": "route-emitter", "action": "added"}
    scene.registrar.register(8080, "a.test", "b.test", tags=TAGS)
    scene.until("registry_message", 2, **counted)
    scene.registrar.register(8080, "a.test", tags=TAGS)
    scene.until("registry_message", 1, component="route-emitter", action="updated")
    scene.registrar.register(8081, "c.test")
    scene.until("registry_message", 1, component="", action="added")
    assert scene.families()["total_routes"].value() == 3
    assert 0 <= scene.families()["ms_since_last_registry_update"].value() < 5000

    scene.registrar.unregister(8080, "a.test", "b.test", tags=TAGS)
    scene.until("unregistry_message", 2, component="route-emitter")

    wait_until(lambda: scene.agent.counted("registry_message.route-emitter") == 3, "dropsonde's counter")
    wait_until(lambda: scene.agent.counted("registry_message") == 1, "the one without a component")
    wait_until(lambda: scene.agent.counted("unregistry_message.route-emitter") == 2, "what left")


def test_endpoints_that_were_not_announced_again(scene: Scene) -> None:
    assert scene.families()["routes_pruned"].value() == 0
    scene.registrar.register(8080, "a.test", "b.test", stale_threshold_in_seconds=1)
    scene.until("routes_pruned", 2)
    wait_until(lambda: scene.agent.counted("routes_pruned") == 2, "dropsonde's counter")


def test_registration_latency_is_counted_once_whatever_the_number_of_workers(scene: Scene) -> None:
    made = time.time_ns() - 2_000_000_000
    scene.registrar.register(8080, "a.test", endpoint_updated_at_ns=made)
    scene.registrar.register(8080, "a.test", endpoint_updated_at_ns=made)
    wait_until(lambda: scene.families()["route_registration_latency"].count() == 1, "the histogram")
    assert 2000 <= scene.families()["route_registration_latency"].sum() < 30_000, "milliseconds"
    assert scene.families()["route_registration_latency"].buckets()["4"] == 0
    wait_until(lambda: len(scene.agent.values("route_registration_latency")) == 1, "dropsonde's value")
    [value] = scene.agent.values("route_registration_latency")
    assert 2000 <= value < 30_000
    assert scene.agent.unit("route_registration_latency") == "ms"
