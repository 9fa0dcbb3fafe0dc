"""Meters: counts by component and source, with as many labels as there may be, whatever registrars write into tags."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.settings import Meters as MeterSettings
from router.config.settings import Native, Prometheus, Settings
from router.metrics import meters as module
from router.metrics.counters import Metrics
from router.metrics.gorouter_metrics import Sums
from router.metrics.gorouter_page import NOTHING_OUTSIDE, page
from router.metrics.meters import DEFAULT_BOUNDS, LABEL_LENGTH, OTHER, Bounds, Labels, Meters
from router.metrics.metrics_page import COUNTERS, UNSHOWN, counted
from router.pool import Endpoint
from tests.router.prometheus_text import Family, families

NUMBERS = dict.fromkeys((*COUNTERS, *UNSHOWN), 0.0)


def endpoint(**tags: str) -> Endpoint:
    return Endpoint("192.0.2.1:80", json.dumps({"host": "192.0.2.1", "port": 80, "tags": tags}).encode())


def shown(*metrics: Metrics) -> dict[str, Family]:
    sums = Sums(DEFAULT_BOUNDS)
    for one in metrics:
        sums.add(counted(one, 0)["gorouter"])
    return families("\n".join(page(sums, NUMBERS, {}, NOTHING_OUTSIDE)) + "\n")


def test_endpoints_with_the_same_labels_share_a_meter() -> None:
    metrics = Metrics()
    one, same, other = (endpoint(component=name) for name in ("a", "a", "b"))
    assert metrics.meters.of(one) is metrics.meters.of(same)
    assert metrics.meters.of(one) is not metrics.meters.of(other)
    assert one.meter is metrics.meters.of(one), "an endpoint keeps it"


def test_sources_are_told_apart_only_where_asked_for() -> None:
    together, apart = Metrics(), Metrics(per_source=True)
    for number in range(3):
        for metrics in (together, apart):
            metrics.meters.of(endpoint(component="a", source_id=f"s{number}")).durations.append(0.05)
    assert "http_latency_seconds" not in shown(together)
    latencies = shown(apart)["http_latency_seconds"]
    assert [latencies.count(source_id=f"s{number}") for number in range(3)] == [1, 1, 1]
    assert shown(apart)["latency"].count(component="a") == 3


def test_what_comes_after_the_last_label_counts_as_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COMPONENTS", 3)
    metrics = Metrics()
    for number in range(10):
        metrics.meters.of(endpoint(component=f"c{number}")).requests += 1
    requests = shown(metrics)["total_requests"]
    assert sum(requests.samples.values()) == 10
    assert len(requests.samples) == 3, "one name is taken by endpoints without the tag"
    assert requests.value(component=OTHER) == 8


def test_a_label_that_was_admitted_stays_its_own() -> None:
    labels = Labels(2)
    assert [labels.admit(name) for name in ("a", "b", "c", "a", "c")] == ["a", "b", OTHER, "a", OTHER]


def test_sums_admit_no_more_than_workers_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that come and go bring labels of their own: all of them together are bounded, too."""
    monkeypatch.setattr("router.metrics.gorouter_metrics.MAX_COMPONENTS", 5)
    sums = Sums(DEFAULT_BOUNDS)
    for number in range(20):
        metrics = Metrics()
        metrics.meters.of(endpoint(component=f"c{number}")).requests += 1
        sums.add(counted(metrics, 0)["gorouter"])
    assert (len(sums.requests), sum(sums.requests.values())) == (6, 20)
    assert sums.copy().requests == sums.requests


def test_long_labels_are_cut() -> None:
    metrics = Metrics()
    metrics.meters.of(endpoint(component="x" * 1000)).requests += 1
    assert shown(metrics)["total_requests"].value(component="x" * LABEL_LENGTH) == 1


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=LABEL_LENGTH))
def test_any_text_may_be_a_label(text: str) -> None:
    sums = Sums(DEFAULT_BOUNDS)
    sums.requests[text] = 7
    read = families("\n".join(page(sums, NUMBERS, {}, NOTHING_OUTSIDE)) + "\n")
    assert read["total_requests"].value(component=text) == 7


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 10)), max_size=100), st.integers(1, 8))
def test_turns_settle_every_duration_once(exchanges: list[tuple[int, float]], parts: int) -> None:
    meters = Meters(DEFAULT_BOUNDS, per_request=True, per_source=False)
    for number, took in exchanges:
        meters.of(endpoint(component=str(number))).durations.append(took)
    settled = [took for part in range(parts) for took in meters.settle(part, parts)]
    assert sorted(settled) == sorted(took for _, took in exchanges)
    assert meters.settle() == []
    counts = {name: sum(told["counts"]) for name, told in meters.plain()["latency"].items()}
    assert sum(counts.values()) == len(exchanges)


class TestBounds:
    NUMBERS = (1.0, 50.0)

    def settings(self, **native: str) -> Settings:
        names = MeterSettings.__dataclass_fields__
        return Settings(
            prometheus=Prometheus(meters=MeterSettings(**dict.fromkeys(names, self.NUMBERS))),
            millrace=Native(**native),  # type: ignore[arg-type]
        )

    def test_are_read_in_the_unit_of_their_keys(self) -> None:
        bounds = Bounds.from_settings(self.settings())
        assert bounds.lookup == (1, 50), "nanoseconds"
        assert bounds.own_time == bounds.latency == bounds.registration == (0.001, 0.05), "milliseconds"
        assert bounds.source == (1, 50), "seconds"

    def test_those_of_gorouter_time_may_be_given_in_seconds(self) -> None:
        assert Bounds.from_settings(self.settings(gorouter_time_bucket_unit="s")).own_time == (1, 50)

    def test_defaults_are_those_of_the_settings(self) -> None:
        assert Bounds.from_settings(Settings()) == DEFAULT_BOUNDS
