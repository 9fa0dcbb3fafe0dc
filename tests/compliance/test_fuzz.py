"""A short run of the fuzzer, and that it notices what it is there for."""

from __future__ import annotations

import pytest

from router.heads.forwarding import ForwardingRules, RequestPlan
from router.http1.request import RequestFields
from router.pool import Endpoint
from router.table import RouteTable
from tests.compliance.fuzz import run
from tests.compliance.memory import Fault


def test_some_hundred_rounds_find_no_fault() -> None:
    assert run(first=1, rounds=1500, seconds=10) >= 100


def test_a_field_lost_on_its_way_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = ForwardingRules.plan_request

    def forgetful(rules: ForwardingRules, fields: RequestFields) -> RequestPlan:
        fields.lines = [line for line in fields.lines if line.name != b"cookie"]
        return planned(rules, fields)

    monkeypatch.setattr(ForwardingRules, "plan_request", forgetful)
    with pytest.raises(Fault, match="nobody sent"):
        run(first=1, rounds=200, seconds=10)


def test_an_endpoint_that_stays_busy_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = RouteTable._endpoint

    def busy(table: RouteTable, *arguments: object) -> Endpoint:
        endpoint = made(table, *arguments)  # type: ignore[arg-type]
        endpoint.in_flight += 1
        return endpoint

    monkeypatch.setattr(RouteTable, "_endpoint", busy)
    with pytest.raises(Fault, match="left over"):
        run(first=1, rounds=5, seconds=10)
