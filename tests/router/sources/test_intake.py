"""Messages by their subject: what reaches the table, and what is reported, how often (gorouter reference 1.1)."""

from __future__ import annotations

import logging
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.sources.intake import MAX_REFUSED, REPEAT_AFTER, Intake
from router.sources.journal import Journal
from tests.router.sources.test_announced import Table


class Rig:
    def __init__(self) -> None:
        self.table = Table()
        log = logging.getLogger("test.intake")
        self.intake = Intake(self.table, Journal(log, lambda: self.table.now), lambda: self.table.now)

    def take(self, verb: str, **said: Any) -> None:
        payload = orjson.dumps({"host": "10.0.0.1", "port": 80, **said})
        self.intake.take(f"router.{verb}", payload)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_registration_and_its_end(rig: Rig) -> None:
    rig.take("register", uris=["a.com", "b.com"], tags={"component": "emitter"})
    assert rig.table.routes() == ["a.com", "b.com"]
    rig.take("register", uris=["a.com", "b.com"], tags={"component": "emitter"})
    assert rig.table.registered == {("emitter", "added"): 2, ("emitter", "updated"): 2}
    rig.take("unregister", uris=["a.com"], tags={"component": "emitter"})
    assert rig.table.routes() == ["b.com"]
    assert rig.table.unregistered == {"emitter": 1}


def test_what_is_said_again_tells_nobody(rig: Rig) -> None:
    rig.take("register", uris=["a.com"])
    rig.table.mirror.hear()
    rig.table.now += 20
    rig.take("register", uris=["a.com"])
    rig.take("register", uris=["a.com"], endpoint_updated_at_ns=5)
    assert rig.table.mirror.hear() == []


def test_an_endpoint_that_left_comes_back_by_the_same_message(rig: Rig) -> None:
    for _ in range(2):
        rig.take("register", uris=["a.com"])
        assert rig.table.routes() == ["a.com"]
        rig.take("unregister", uris=["a.com"])
        assert rig.table.routes() == []


def test_a_message_whose_uris_are_no_routes_does_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.take("register", uris=["no route"])
    rig.take("register", uris=[])
    rig.take("register")
    assert rig.table.mirror.told == []
    assert rig.intake.refused == 1
    assert len(caplog.records) == 1


def test_the_same_refusal_is_reported_now_and_then(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        rig.take("register", port="x")
    assert rig.intake.refused == 5
    assert len(caplog.records) == 1
    assert vars(caplog.records[0])["data"] == {
        "error": "port: a whole number, not 'x'",
        "payload": '{"host":"10.0.0.1","port":"x"}',
        "subject": "router.register",
    }
    rig.table.now += REPEAT_AFTER
    rig.take("register", port="x")
    assert len(caplog.records) == 2


def test_refusals_are_not_remembered_without_bound(rig: Rig) -> None:
    for number in range(MAX_REFUSED + 100):
        rig.take("register", port=-1 - number)
    assert len(rig.intake._refused) == MAX_REFUSED


def test_what_is_long_is_reported_short(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.intake.take("router.register", b"\xff" * 100_000)
    assert len(vars(caplog.records[0])["data"]["payload"]) == 2000


@pytest.mark.parametrize("subject", ["router.greet", "router.start", "router.active_apps"])
def test_what_routers_say_among_themselves_is_not_judged(
    rig: Rig, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig.intake.take(subject, b"\x00")
    assert (rig.intake.refused, caplog.records) == (0, [])


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(("host", "Port", "tls_port", "uris", "app", "tags", "options", "protocol", "isolation_segment"))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("router.register", "router.unregister", "router.greet", "router.x")),
            st.binary(max_size=50) | st.dictionaries(KEYS, ANYTHING).map(orjson.dumps),
        ),
        max_size=20,
    )
)
def test_whatever_comes_is_taken(messages: list[tuple[str, bytes]]) -> None:
    rig = Rig()
    for subject, payload in messages:
        rig.intake.take(subject, payload)
    assert set(rig.table.mirror.records) == {
        (route, each.address)
        for route in rig.table.routes()
        for each in rig.table.pool(route).announcements  # type: ignore[union-attr]
    }


def test_other_subjects_must_be_json_and_do_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.intake.take("router.other", b'{"host":"10.0.0.1","port":80,"uris":["a.com"]}')
    assert not caplog.records
    rig.intake.take("router.other", b"")
    assert [record.getMessage() for record in caplog.records] == ["validation-error"]
    rig.intake.take("router.unregister", b"")
    rig.take("unregister", uris=["no route"])
    assert len(caplog.records) == 3
    assert rig.table.routes() == []
