"""What the sources process counted, over all of its lives."""

from __future__ import annotations

from router.sources.figures import LATEST, Latencies, summed


def test_counts_of_earlier_lives_are_added_and_states_are_not() -> None:
    earlier = {
        "register": {"a": {"added": 1, "updated": 2}},
        "routes_pruned": 3,
        "total_routes": 9,
        "registration_latency": {"counts": [1, 0], "sum": 0.5, "count": 1},
    }
    latest = {
        "register": {"a": {"added": 1}, "b": {"added": 5}},
        "routes_pruned": 1,
        "total_routes": 7,
        "registration_latency": {"counts": [1, 2], "sum": 1.0, "count": 3},
    }
    assert summed(earlier, latest) == {
        "register": {"a": {"added": 2, "updated": 2}, "b": {"added": 5}},
        "routes_pruned": 4,
        "total_routes": 7,
        "registration_latency": {"counts": [2, 2], "sum": 1.5, "count": 4},
    }
    assert summed(earlier, {}) == {key: value for key, value in earlier.items() if key != "total_routes"}
    assert summed({}, {}) == {}


def test_latencies_fall_into_buckets_by_their_upper_bounds() -> None:
    latencies = Latencies((0.1, 1.0))
    for seconds in (-5.0, 0.1, 0.5, 3.0):
        latencies.add(seconds)
    report = latencies.report()
    assert report["registration_latency"] == {"counts": [2, 1, 1], "sum": 3.6, "count": 4}
    assert report["registration_latency_latest"] == [0.0, 0.1, 0.5, 3.0]
    for _ in range(LATEST):
        latencies.add(0.2)
    assert len(latencies.report()["registration_latency_latest"]) == LATEST
