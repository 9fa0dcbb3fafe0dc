"""The table's log lines: one per change up to a budget, and a sum of what was beyond."""

from __future__ import annotations

import logging

import pytest

from router.sources.journal import Journal


def test_beyond_the_budget_lines_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 100.0
    journal = Journal(logging.getLogger("test.journal"), lambda: now, budget=3)
    for number in range(10):
        journal.line(logging.INFO, "route-registered", {"uri": f"{number}.com"})
    journal.line(logging.DEBUG, "not-written-anyway", {})
    assert [vars(record)["data"]["uri"] for record in caplog.records] == ["0.com", "1.com", "2.com"]
    journal.settle()
    assert len(caplog.records) == 3
    now += 1.0
    journal.line(logging.INFO, "route-registered", {"uri": "x.com"})
    assert [(record.getMessage(), vars(record)["data"]) for record in caplog.records[3:]] == [
        ("more-changes", {"route-registered": 7}),
        ("route-registered", {"uri": "x.com"}),
    ]


def test_a_quiet_second_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    journal = Journal(logging.getLogger("test.journal"), lambda: now)
    now += 5.0
    journal.settle()
    assert not caplog.records


def test_a_budget_that_was_not_used_up_is_new_each_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 100.0
    journal = Journal(logging.getLogger("test.journal"), lambda: now, budget=2)
    for _ in range(3):
        journal.line(logging.INFO, "one", {})
        journal.line(logging.INFO, "two", {})
        now += 1.0
        journal.settle()
    assert len(caplog.records) == 6
