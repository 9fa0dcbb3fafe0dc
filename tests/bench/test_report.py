"""Ratios are taken within a round; warnings say when a figure does not mean what it seems to."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench.report import document, notes, ratio, show, to_baseline, warnings
from bench.rounds import Round, ScenarioResult
from bench.scenarios import SCENARIOS

NO_ERRORS = {"connect": 0, "broken": 0, "timeout": 0, "status": 0}
ROUND = Round(10_000.0, 900.0, 2_000.0, 20.0, 0.99, 0.0, 0.7, 20 << 20, 16 << 20, NO_ERRORS)

positive = st.floats(1e-3, 1e9)


def result(**rounds: list[Round]) -> ScenarioResult:
    return ScenarioResult(SCENARIOS["small"], "wrk", rounds=rounds)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # The ratio of the medians would be 20 / 10.
    told = ratio([20, 90, 10], [10, 30, 10])
    assert (told.median, told.least, told.most) == (2.0, 1.0, 3.0)


@given(st.lists(st.tuples(positive, positive), min_size=1))
def test_a_ratio_lies_within_its_range(pairs: list[tuple[float, float]]) -> None:
    told = ratio(*zip(*pairs, strict=True))
    assert told.least <= told.median <= told.most


@given(st.lists(positive, min_size=1), st.floats(0.01, 100))
def test_a_constant_factor_is_found_in_any_noise(noise: list[float], factor: float) -> None:
    told = ratio([factor * each for each in noise], noise)
    assert told.least == pytest.approx(factor)
    assert told.most == pytest.approx(factor)


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0])])
def test_a_ratio_without_like_rounds_is_refused(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match="ratio"):
        ratio(ours, theirs)


def test_ratios_are_to_nginx() -> None:
    measured = result(nginx=[ROUND], haproxy=[replace(ROUND, cpu_us_per_request=10.0)])
    assert to_baseline(measured, "haproxy")["cpu_us_per_request"].median == 0.5
    assert to_baseline(measured, "nginx")["requests_per_second"].median == 1.0


def test_without_nginx_there_are_no_ratios() -> None:
    assert to_baseline(result(haproxy=[ROUND]), "haproxy") == {}


def test_good_rounds_raise_no_warning() -> None:
    assert warnings(result(nginx=[ROUND, ROUND])) == []


def test_a_proxy_that_was_not_busy_is_named() -> None:
    (warning,) = warnings(result(nginx=[ROUND], haproxy=[replace(ROUND, core_share=0.6)]))
    assert "haproxy" in warning
    assert "nginx" not in warning
    assert "requests per second is not capacity" in warning


def test_strangers_on_the_core_are_told() -> None:
    (warning,) = warnings(result(nginx=[replace(ROUND, foreign_share=0.2)]))
    assert "others used" in warning


def test_failed_requests_are_told_and_summed_over_the_rounds() -> None:
    failed = replace(ROUND, errors=NO_ERRORS | {"status": 2, "broken": 1})
    assert warnings(result(nginx=[failed, failed])) == ["nginx: 6 requests failed"]


def test_the_document_is_json_and_holds_every_round() -> None:
    measured = result(nginx=[ROUND] * 3, haproxy=[ROUND] * 3)
    read = orjson.loads(orjson.dumps(document(measured)))
    assert read["name"] == "small"
    assert [len(proxy["rounds"]) for proxy in read["proxies"].values()] == [3, 3]
    assert read["proxies"]["haproxy"]["to_nginx"]["p99_us"] == {"median": 1.0, "least": 1.0, "most": 1.0}


@pytest.mark.parametrize(("cpu", "verdict"), [(26.0, "1.30, met"), (26.2, "1.31, missed")])
def test_a_goal_is_told_beside_what_was_reached(cpu: float, verdict: str) -> None:
    (_load, goal) = notes(result(nginx=[ROUND], router=[replace(ROUND, cpu_us_per_request=cpu)]))
    assert goal == f"goal: router's CPU at most 1.30 of nginx's: {verdict}"


def test_what_the_load_side_does_alone_is_told() -> None:
    measured = replace(result(nginx=[ROUND]), ceiling=60_000.0)
    assert notes(measured) == ["load by wrk: 60,000 req/s with no proxy between"]


def test_figures_are_named_by_what_the_scenario_counts() -> None:
    text = io.StringIO()
    failed = replace(ROUND, errors=NO_ERRORS | {"broken": 2})
    show(ScenarioResult(SCENARIOS["websocket"], rounds={"nginx": [failed]}), Console(file=text, width=140))
    assert "CPU µs/message" in text.getvalue()
    assert "nginx: 2 messages failed" in text.getvalue()


@pytest.mark.parametrize("names", [("nginx", "haproxy"), ("haproxy",)])
def test_the_table_has_a_row_per_proxy(names: tuple[str, ...]) -> None:
    text = io.StringIO()
    show(result(**{name: [ROUND] for name in names}), Console(file=text, width=140))
    assert all(f"│ {name}" in text.getvalue() for name in names)
    assert "10,000" in text.getvalue()
    assert "16.0" in text.getvalue()


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    from bench.plots import draw

    draw(result(nginx=[ROUND] * 2, router=[ROUND] * 2), tmp_path / "small.png")
    assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")
