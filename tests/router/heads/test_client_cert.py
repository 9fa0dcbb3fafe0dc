"""X-Forwarded-Client-Cert, the decision alone: gorouter reference 6.4 and its exceptions for route services."""

from __future__ import annotations

import itertools

import pytest

from router.heads.client_cert import ALWAYS_FORWARD, FORWARD, MODES, SANITIZE_SET, Treatment, lines, treatment

KEEP, REMOVE, REPLACE = Treatment.KEEP, Treatment.REMOVE, Treatment.REPLACE


@pytest.mark.parametrize(
    ("mode", "mutual", "expected"),
    [
        (ALWAYS_FORWARD, False, KEEP),
        (ALWAYS_FORWARD, True, KEEP),
        (FORWARD, False, REMOVE),
        (FORWARD, True, KEEP),
        (SANITIZE_SET, False, REMOVE),
        (SANITIZE_SET, True, REPLACE),
    ],
)
def test_section_6_4(mode: str, mutual: bool, expected: Treatment) -> None:
    assert treatment(mode, mutual=mutual, tls=True) is expected
    if not mutual:
        assert treatment(mode, mutual=False, tls=False) is expected


@pytest.mark.parametrize(
    ("mode", "tls", "expected"),
    [
        (ALWAYS_FORWARD, False, KEEP),
        (ALWAYS_FORWARD, True, KEEP),
        (FORWARD, False, REMOVE),
        (FORWARD, True, REMOVE),
        (SANITIZE_SET, False, REMOVE),
        (SANITIZE_SET, True, KEEP),
    ],
)
def test_what_comes_back_from_a_route_service(mode: str, tls: bool, expected: Treatment) -> None:
    for mutual in {False, tls}:
        assert treatment(mode, mutual=mutual, tls=tls, returned=True) is expected


def test_lines_are_those_of_the_treatment() -> None:
    for mode, own, tls in itertools.product(MODES, (b"", b"own"), (False, True)):
        made = lines(mode, b"sent", own, tls=tls)
        assert made == {KEEP: b"sent", REMOVE: b"", REPLACE: own}[treatment(mode, mutual=bool(own), tls=tls)]
