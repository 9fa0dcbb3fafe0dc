"""Signatures of route services: what is signed is read again, by whoever knows the secret, until it is too old."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.route_services.signature import (
    ExpiredSignature,
    InvalidSignature,
    Signed,
    Signer,
    read_time,
    written_time,
)

URL = "https://app.example.com/a/path?q=1&r=%2F"
SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND + 123_456_789


class Clock:
    now = NOW

    def __call__(self) -> int:
        return self.now


CLOCK = Clock()
SIGNER = Signer("tUPPMXK/7tdvsbK9", clock=CLOCK)
SIGNATURE, METADATA = SIGNER.sign(URL)

# Made by a program in Go with the secret above, of URL at NOW (see tests/interop/test_route_service_signature_go.py).
GO_SIGNATURE = (
    b"aWsilu_hQMDueRmOOpU9Vebs0vCWWqu7Yaaf8SdzqQr2yIoltUNmSITBW0a8fAcYyOom2OKl6SfLJniAEpOCp-dU2y1oREoMt_AT"
    b"BXqchmU94mSC2DCYAX2yTjXv9BUjjIquri5xhI28-HFrxDoPMzLzc2pM9qOCZYxsXt_ZaKtUz2nD1yqkiQ=="
)
GO_METADATA = b"eyJub25jZSI6IlExMnNLUjNDazBBRkZZS3IifQ=="


def test_what_is_signed_is_read_again() -> None:
    assert SIGNER.read(SIGNATURE, METADATA, 60) == Signed(URL, NOW)


def test_another_router_with_the_secret_reads_it() -> None:
    assert Signer("tUPPMXK/7tdvsbK9", clock=CLOCK).read(SIGNATURE, METADATA, 60).forwarded_url == URL


def test_what_a_gorouter_signed_is_read() -> None:
    assert SIGNER.read(GO_SIGNATURE, GO_METADATA, 60) == Signed(URL, NOW)


def test_no_two_signatures_are_alike() -> None:
    assert len({SIGNER.sign(URL) for _ in range(100)}) == 100


def test_the_shape_of_the_values() -> None:
    metadata = json.loads(urlsafe_b64decode(METADATA))
    assert list(metadata) == ["nonce"]
    assert len(urlsafe_b64decode(metadata["nonce"].replace("+", "-").replace("/", "_"))) == 12
    plain = b'{"forwarded_url":"%b","requested_time":"2023-11-14T22:13:20.123456789Z"}' % URL.encode()
    assert len(urlsafe_b64decode(SIGNATURE)) == len(plain) + 16


class TestSecrets:
    def test_another_secret_reads_nothing(self) -> None:
        with pytest.raises(InvalidSignature, match=r"^cipher: message authentication failed$"):
            Signer("another", clock=CLOCK).read(SIGNATURE, METADATA, 60)

    def test_the_former_secret_is_still_believed(self) -> None:
        rotated = Signer("new", "tUPPMXK/7tdvsbK9", clock=CLOCK)
        assert rotated.read(SIGNATURE, METADATA, 60).forwarded_url == URL

    def test_and_signs_nothing_any_more(self) -> None:
        rotated = Signer("new", "tUPPMXK/7tdvsbK9", clock=CLOCK)
        values = rotated.sign(URL)
        assert rotated.read(*values, 60) == Signer("new", clock=CLOCK).read(*values, 60)
        with pytest.raises(InvalidSignature):
            SIGNER.read(*values, 60)


class TestAge:
    def test_up_to_the_limit_it_holds(self) -> None:
        late = Signer("tUPPMXK/7tdvsbK9", clock=lambda: NOW + 60 * SECOND)
        assert late.read(SIGNATURE, METADATA, 60).requested_at == NOW

    def test_beyond_it_does_not(self) -> None:
        late = Signer("tUPPMXK/7tdvsbK9", clock=lambda: NOW + 60 * SECOND + 1)
        with pytest.raises(ExpiredSignature, match=r"^route service request expired$"):
            late.read(SIGNATURE, METADATA, 60)

    def test_a_clock_that_is_behind_does_no_harm(self) -> None:
        early = Signer("tUPPMXK/7tdvsbK9", clock=lambda: NOW - 5 * SECOND)
        assert early.read(SIGNATURE, METADATA, 60).requested_at == NOW


class TestMalformed:
    @pytest.mark.parametrize(
        ("signature", "metadata", "why"),
        [
            (SIGNATURE, b"", "No metadata found"),
            (b"", METADATA, "illegal base64 data at input byte 0"),
            (b"ab*d", METADATA, "illegal base64 data at input byte 2"),
            (SIGNATURE[:-1], METADATA, "illegal base64 data"),
            (SIGNATURE, METADATA[:-2] + b"!!", "illegal base64 data"),
            (SIGNATURE, urlsafe_b64encode(b"{}"), "invalid metadata"),
            (SIGNATURE, urlsafe_b64encode(b"nonce"), "invalid metadata"),
            (SIGNATURE, urlsafe_b64encode(b'{"nonce": "AAAAAAAAAAAAAAAA"}'), "invalid metadata"),
            (SIGNATURE, urlsafe_b64encode(b'{"nonce":"AAAA"}'), "incorrect nonce length given to GCM"),
            (urlsafe_b64encode(b"short"), METADATA, "cipher: message authentication failed"),
        ],
    )
    def test_is_told_apart(self, signature: bytes, metadata: bytes, why: str) -> None:
        with pytest.raises(InvalidSignature, match=why):
            SIGNER.read(signature, metadata, 60)


@given(st.data())
def test_no_byte_can_be_changed(data: st.DataObject) -> None:
    values = [SIGNATURE, METADATA]
    which = data.draw(st.sampled_from((0, 1)))
    place = data.draw(st.integers(0, len(values[which]) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != values[which][place]))
    values[which] = values[which][:place] + bytes([other]) + values[which][place + 1 :]
    with pytest.raises(InvalidSignature):
        SIGNER.read(values[0], values[1], 1e9)


@given(st.binary(max_size=200), st.binary(max_size=80))
def test_what_was_never_signed_is_never_read(signature: bytes, metadata: bytes) -> None:
    for values in (
        (signature, metadata),
        (urlsafe_b64encode(signature), METADATA),
        (SIGNATURE, urlsafe_b64encode(metadata)),
    ):
        with pytest.raises(InvalidSignature):
            SIGNER.read(*values, 1e9)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_metadata_of_any_json_is_refused(value: object) -> None:
    for text in (json.dumps(value), json.dumps({"nonce": value})):
        with pytest.raises(InvalidSignature):
            SIGNER.read(SIGNATURE, urlsafe_b64encode(text.encode("utf-8", "replace")), 1e9)


@given(st.text().filter(lambda text: text.isprintable()))
def test_any_url_comes_back(url: str) -> None:
    assert SIGNER.read(*SIGNER.sign(url), 60) == Signed(url, NOW)


class TestSignedText:
    """Authenticated, but maybe by a router that writes it another way."""

    def sealed(self, text: bytes) -> tuple[bytes, bytes]:
        nonce = b"0123456789ab"
        metadata = b'{"nonce":"MDEyMzQ1Njc4OWFi"}'
        return urlsafe_b64encode(SIGNER._cipher.encrypt(nonce, text, None)), urlsafe_b64encode(metadata)

    def test_more_fields_and_other_zones_are_read(self) -> None:
        text = b'{ "v": 2, "requested_time": "2023-11-15T00:13:20.5+02:00", "forwarded_url": "http:\\/\\/x\\u0026" }'
        assert SIGNER.read(*self.sealed(text), 60) == Signed("http://x&", NOW - 123_456_789 + SECOND // 2)

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"null",
            b"[]",
            b"\xff",
            b'{"forwarded_url":"x"}',
            b'{"forwarded_url":1,"requested_time":"2023-11-15T00:13:20Z"}',
            b'{"forwarded_url":"x","requested_time":"yesterday"}',
            b'{"forwarded_url":"x","requested_time":"2023-02-30T00:13:20Z"}',
        ],
    )
    def test_what_names_no_url_and_no_time_is_refused(self, text: bytes) -> None:
        with pytest.raises(InvalidSignature):
            SIGNER.read(*self.sealed(text), 60)


class TestTimes:
    @pytest.mark.parametrize(
        ("nanoseconds", "text"),
        [
            (0, "1970-01-01T00:00:00Z"),
            (NOW, "2023-11-14T22:13:20.123456789Z"),
            (NOW - 456_789, "2023-11-14T22:13:20.123Z"),
            (NOW - 123_456_789, "2023-11-14T22:13:20Z"),
        ],
    )
    def test_are_written_as_go_does(self, nanoseconds: int, text: str) -> None:
        assert written_time(nanoseconds) == text

    @given(st.integers(0, 4_000_000_000 * SECOND))
    def test_are_read_as_written(self, nanoseconds: int) -> None:
        assert read_time(written_time(nanoseconds)) == nanoseconds

    @given(st.datetimes(datetime(1970, 1, 2), datetime(2500, 1, 1), timezones=st.timezones()))
    def test_with_any_offset(self, moment: datetime) -> None:
        utc = moment.astimezone(UTC)
        offset = moment.replace(microsecond=0).isoformat()
        if len(offset) == len("2023-11-14T22:13:20+01:00"):  # zones of long ago have seconds, which RFC 3339 has not
            assert read_time(offset) == int(utc.replace(microsecond=0).timestamp()) * SECOND
