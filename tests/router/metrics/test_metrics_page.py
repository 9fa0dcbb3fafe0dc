"""The metrics page: Prometheus text whose counters never go backwards, whatever happens to the workers."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from router.metrics.counters import BUCKETS, Metrics
from router.metrics.metrics_page import COUNTERS, GAUGES, PER_WORKER, UNSHOWN, Totals, counted, page
from router.pool import Endpoint
from router.processes.control import Message
from tests.router.prometheus_text import families

BY_GOROUTER = {"meters", "unrouted", "service_responses", "lookup", "own_time", "registration"}
"""What `router.metrics.gorouter_metrics` reports."""
GATHERING = {"durations", "own_times", "lookup_times", "registration_times", "without_lookup", "_lookups", "_listener"}
"""What only waits to be settled."""


def report(**counts: Any) -> Message:
    metrics = Metrics()
    for status, seconds in counts.pop("observed", ()):
        metrics.observe(status, seconds)
    for name, count in counts.items():
        setattr(metrics, name, count)
    return {"counted": counted(metrics, 0), **dict.fromkeys(PER_WORKER, 1)}


def samples(text: str) -> dict[str, float]:
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def shown(*serving: Message, ended: Totals | None = None, leaving: tuple[Message, ...] = ()) -> dict[str, float]:
    named = [(str(slot), report) for slot, report in enumerate(serving)]
    return samples(page(ended or Totals(), named, leaving, restarts=0, healthy=True))


def test_every_figure_of_a_worker_is_on_the_page() -> None:
    published = {*COUNTERS, *UNSHOWN, *GAUGES, "latency", "statuses", *BY_GOROUTER}
    assert published == set(Metrics.__slots__) - GATHERING - {"per_request"}


def test_is_prometheus_text() -> None:
    text = page(Totals(), [("0", report(observed=[(200, 0.1), (404, 1e-6)]))], [], restarts=1, healthy=True)
    for family in families(text).values():
        if family.name.startswith("millrace_"):
            assert (family.kind == "counter") == family.name.endswith("_total")


def test_counters_and_connections_are_sums_and_the_rest_is_per_worker() -> None:
    got = shown(report(requests=3, client_connections=1), {**report(requests=4, client_connections=5), "routes": 7})
    assert got["millrace_requests_total"] == 7
    assert got["millrace_client_connections"] == 6
    assert got['millrace_routes{worker="0"}'] == 1
    assert got['millrace_routes{worker="1"}'] == 7


def test_responses_are_counted_by_code_and_group() -> None:
    got = shown(report(observed=[(200, 0.1), (200, 0.1), (499, 0.1)]), report(observed=[(200, 0.1), (0, 0.1)]))
    assert {name: count for name, count in got.items() if name.startswith("millrace_responses")} == {
        'millrace_responses_total{status_group="0xx",code="000"}': 1,
        'millrace_responses_total{status_group="2xx",code="200"}': 3,
        'millrace_responses_total{status_group="4xx",code="499"}': 1,
    }


def test_the_histogram_is_cumulative() -> None:
    got = shown(report(observed=[(200, 0.001), (200, 0.04)]), report(observed=[(200, 3600.0)]))
    name = "millrace_request_duration_seconds"
    buckets = [got[f'{name}_bucket{{le="{bound}"}}'] for bound in (*BUCKETS, "+Inf")]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[-2], buckets[-1]) == (1, 2, 3)
    assert got[f"{name}_count"] == 3
    assert abs(got[f"{name}_sum"] - 3600.041) < 1e-6


def test_a_worker_that_said_nothing_yet_is_no_error() -> None:
    got = shown({}, report(requests=2), leaving=({},))
    assert got["millrace_requests_total"] == 2
    assert 'millrace_routes{worker="0"}' not in got


def test_connections_of_a_worker_that_leaves_count_until_it_is_gone() -> None:
    leaving = report(requests=5, client_connections=2)
    assert shown(report(), leaving=(leaving,))["millrace_client_connections"] == 2
    ended = Totals()
    ended.add(leaving)
    after = shown(report(), ended=ended)
    assert after["millrace_client_connections"] == 0
    assert after["millrace_requests_total"] == 5


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["serve", "die", "roll"]), st.integers(0, 1), st.integers(0, 999))))
def test_no_counter_ever_goes_backwards(events: list[tuple[str, int, int]]) -> None:
    ended, leaving = Totals(), list[Metrics]()
    slots = [Metrics(), Metrics()]
    before: dict[str, float] = {}
    gauges = {
        family.name
        for family in families(page(ended, [], [], restarts=0, healthy=True)).values()
        if family.kind == "gauge"
    }
    for event, slot, number in events:
        if event == "serve":
            slots[slot].requests += number
            slots[slot].observe(number, number / 10)
            meter = slots[slot].meters.of(
                Endpoint("", b'{"host":"h","port":1,"tags":{"component":"%d"}}' % (number % 3))
            )
            meter.requests += 1
            meter.durations.append(number / 10)
        elif event == "die":
            ended.add({"counted": counted(slots[slot], 0)})
            slots[slot] = Metrics()
        else:
            leaving.append(slots[slot])
            slots[slot] = Metrics()
        reports = [{"counted": counted(metrics, 0), **dict.fromkeys(PER_WORKER, 0)} for metrics in [*slots, *leaving]]
        now = shown(*reports[:2], ended=ended, leaving=tuple(reports[2:]))
        for name, count in before.items():
            if name.partition("{")[0] not in gauges:
                assert now[name] >= count or abs(now[name] - count) < 1e-3
        before = now
