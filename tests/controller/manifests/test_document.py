"""The YAML of manifests, read without trust (cloud_controller reference 3.4)."""

from __future__ import annotations

import time
from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.v3.errors import ApiError
from controller.v3.manifests import document

YAML = "application/x-yaml"


def refused(raw: bytes, content_type: str = YAML) -> tuple[int, str]:
    with pytest.raises(ApiError) as error:
        document.applications(raw, content_type)
    return error.value.code, error.value.details[0]


def test_applications_are_read() -> None:
    raw = b"---\nversion: 1\napplications:\n- name: one\n  env: {on: yes, day: 2001-01-01, port: 010}\n"
    (one,) = document.applications(raw, "text/yaml; charset=utf-8")
    assert one == {"name": "one", "env": {"true": True, "day": "2001-01-01", "port": 8}}


def test_json_is_yaml_too() -> None:
    assert document.applications(b'{"applications": [{"name": "one"}]}', YAML) == [{"name": "one"}]


@pytest.mark.parametrize(
    ("raw", "code", "text"),
    [
        (b"", 1001, "Request invalid due to parse error: invalid request body"),
        (b"- a", 1001, "Request invalid due to parse error: invalid request body"),
        (b"a: [", 1001, "Request invalid due to parse error: "),
        (b"\xff", 1001, "Request invalid due to parse error: "),
        (b"a: !!python/object/apply:os.system [ls]", 1001, "Request invalid due to parse error: "),
        (b"--- {}\n--- {}", 1001, "Request invalid due to parse error: "),
        (b"a: &x b\nc: *x", 1004, "Bad request: Manifest does not support Anchors and Aliases"),
        (b"a: &x b", 1004, "Bad request: Manifest does not support Anchors and Aliases"),
        (b"version: 2", 10008, "Unsupported manifest schema version. Currently supported versions: [1]."),
        (b"a: b", 10008, "Cannot parse manifest with no 'applications' field."),
        (b"applications: []", 10008, "Cannot parse manifest with no 'applications' field."),
        (b"applications: [one]", 10008, "Applications must be an array of application configurations"),
        (b"applications: {a: b}", 10008, "Applications must be an array of application configurations"),
    ],
)
def test_what_is_no_manifest(raw: bytes, code: int, text: str) -> None:
    found = refused(raw)
    assert found[0] == code
    assert found[1].startswith(text)


def test_the_type_has_to_say_yaml() -> None:
    assert refused(b"applications: [{name: one}]", "application/json") == (
        1004,
        "Bad request: Content-Type must be yaml",
    )


def test_too_much_is_not_even_read() -> None:
    assert refused(b"#" * (document.MAX_BYTES + 1))[1].endswith("The maximum supported manifest size is 1MB.")


@pytest.mark.parametrize("raw", [b"[" * 100_000, b"{a: " * 100_000, b"- " * 100_000, b"? " * 100_000])
def test_depth_is_bounded(raw: bytes) -> None:
    began = time.monotonic()
    assert refused(raw)[0] == 1001
    assert time.monotonic() - began < 5


@given(st.one_of(st.binary(max_size=200), st.text("[]{}:,-? &*!|>'\"#\nab1\t%@`", max_size=60).map(str.encode)))
def test_any_bytes_are_a_manifest_of_plain_json_or_refused(raw: bytes) -> None:
    with suppress(ApiError):
        orjson.dumps(document.applications(b"applications: [{x: [" + raw + b"]}]", YAML))
