"""Records in little memory: what goes in comes out, and equal ones are equal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.registry.records import EndpointRecord
from router.squeezed import squeezed, whole
from router.table import RouteTable
from tests.router.registry.test_records import records

GUID = "9f1f2b7c-1111-2222-3333-000000000000"
OF_AN_APP = EndpointRecord(
    host="10.0.1.11",
    tls_port=61003,
    app=GUID,
    private_instance_id=GUID[::-1],
    private_instance_index="0",
    server_cert_domain_san=GUID[::-1],
    availability_zone="z1",
    tags={"component": "route-emitter", "app_id": GUID, "source_id": GUID},
)


@given(records)
def test_a_record_comes_back(record: EndpointRecord) -> None:
    packed = record.to_json()
    assert whole(squeezed(packed)) == packed
    assert squeezed(packed) == squeezed(bytes(packed))


@given(st.binary(max_size=500))
def test_whatever_it_holds(text: bytes) -> None:
    assert whole(squeezed(text)) == text


def test_what_is_not_squeezed_is_whole() -> None:
    assert whole(b'{"host":"a"}') == b'{"host":"a"}'


def test_a_usual_record_takes_a_third_at_most() -> None:
    packed = OF_AN_APP.to_json()
    assert len(squeezed(packed)) < len(packed) / 3


class TestATableThatSqueezes:
    def test_says_the_same(self) -> None:
        plain, lean = RouteTable(), RouteTable(squeeze=True)
        for table in (plain, lean):
            table.upsert("a.com", OF_AN_APP)
            table.upsert("b.com", OF_AN_APP)
            table.upsert("a.com", EndpointRecord("10.0.0.2", 80))
        for route in ("a.com", "b.com", "nobody.com"):
            assert list(lean.packed(route)) == list(plain.packed(route))
            assert list(lean.records(route)) == list(plain.records(route))
        assert lean.endpoint_count == 2

    def test_knows_what_did_not_change(self) -> None:
        table = RouteTable(squeeze=True)
        table.upsert("a.com", OF_AN_APP)
        pool = table.lookup("a.com", "")
        assert pool is not None
        [before] = pool.endpoints
        table.upsert("a.com", EndpointRecord.from_json(OF_AN_APP.to_json()))
        assert pool.endpoints == (before,)
        assert before.record == OF_AN_APP
        table.upsert("a.com", EndpointRecord("10.0.1.11", tls_port=61003))
        assert pool.endpoints != (before,)
