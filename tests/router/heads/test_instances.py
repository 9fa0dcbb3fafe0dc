"""Requests for one instance: what the two headers may say, and which endpoints of a pool are meant."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from router.heads.answers import Answer
from router.heads.instances import Chosen, chosen
from router.pool import Endpoint, Pool
from router.registry.records import EndpointRecord

GUIDS = ["11111111-2222-3333-4444-555555555555", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"]
GUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

guids = st.sampled_from(GUIDS)
indexes = st.sampled_from(["0", "1", "2", "10"])
records = st.lists(
    st.builds(
        lambda app, process, index: {"app": app, "tags": {"process_id": process}, "private_instance_index": index},
        guids,
        guids,
        indexes,
    ),
    max_size=6,
)
texts = st.binary(max_size=50) | st.builds(
    lambda guid, rest: guid.encode() + rest,
    guids,
    st.sampled_from([b"", b":", b":0", b":12", b":x", b":0:0", b": 0", b"\n"]),
)


def pool_of(fields: list[dict[str, object]]) -> Pool:
    pool = Pool("a.test")
    made = [EndpointRecord(host="127.0.0.1", port=port, **f) for port, f in enumerate(fields, 1)]  # type: ignore[arg-type]
    pool.endpoints = tuple(Endpoint(record.address, record.to_json()) for record in made)
    return pool


class TestHeaders:
    def test_neither(self) -> None:
        assert chosen(b"", b"") is None

    @given(texts)
    def test_an_app_instance_is_a_guid_and_an_index(self, value: bytes) -> None:
        guid, _, index = value.partition(b":")
        valid = GUID.fullmatch(guid) is not None and index.isdigit()
        found = chosen(value, b"")
        if valid:
            assert found == Chosen(guid.decode(), index.decode(), of_process=False)
        elif value:
            assert isinstance(found, Answer)
            assert (found.status, found.error) == (400, "invalid_cf_app_instance_header")

    @given(texts)
    def test_a_process_instance_may_go_without_an_index(self, value: bytes) -> None:
        guid, colon, index = value.partition(b":")
        valid = GUID.fullmatch(guid) is not None and (index.isdigit() if colon else True)
        found = chosen(b"", value)
        if valid:
            assert found == Chosen(guid.decode(), index.decode(), of_process=True)
        elif value:
            assert isinstance(found, Answer)
            assert (found.status, found.error) == (400, "invalid_cf_process_instance_header")

    @given(texts.filter(bool), texts)
    def test_the_app_instance_decides_alone(self, app: bytes, process: bytes) -> None:
        assert chosen(app, process) == chosen(app, b"")


class TestAmong:
    @given(records, guids, indexes)
    def test_an_app_instance_is_the_last_that_matches(
        self, fields: list[dict[str, object]], guid: str, index: str
    ) -> None:
        pool = pool_of(fields)
        wanted = [e for e in pool.endpoints if (e.record.app, e.record.private_instance_index) == (guid, index)]
        narrowed = Chosen(guid, index, of_process=False).among(pool)
        assert (list(narrowed.endpoints) if narrowed else []) == wanted[-1:]

    @given(records, guids, st.just("") | indexes)
    def test_a_process_is_all_that_match(self, fields: list[dict[str, object]], guid: str, index: str) -> None:
        pool = pool_of(fields)
        wanted = [
            e
            for e in pool.endpoints
            if e.record.tags["process_id"] == guid and index in ("", e.record.private_instance_index)
        ]
        narrowed = Chosen(guid, index, of_process=True).among(pool)
        assert (list(narrowed.endpoints) if narrowed else []) == wanted

    def test_the_pool_itself_stays_as_it_is(self) -> None:
        pool = pool_of([{"app": GUIDS[0], "private_instance_index": str(n)} for n in range(3)])
        pool.algorithm = "least-connection"
        before = pool.endpoints
        narrowed = Chosen(GUIDS[0], "1", of_process=False).among(pool)
        assert narrowed is not None
        assert narrowed is not pool
        assert (narrowed.route, narrowed.algorithm) == ("a.test", "least-connection")
        assert pool.endpoints is before

    def test_endpoints_without_a_process_are_no_process(self) -> None:
        assert Chosen(GUIDS[0], "", of_process=True).among(pool_of([{"app": GUIDS[0]}])) is None

    def test_what_is_missing_is_named(self) -> None:
        answer = Chosen(GUIDS[0], "7", of_process=False).unknown(b"a.test:80")
        assert (answer.status, answer.error) == (400, "unknown_route")
        assert (
            answer.body == f"Requested instance ('7') with guid ('{GUIDS[0]}') does not exist for route ('a.test:80')"
        )
