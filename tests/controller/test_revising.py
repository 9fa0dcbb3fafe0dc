"""What makes a new revision (cloud_controller reference 3.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller import revising
from controller.database.applications import Sidecar
from controller.revising import Content

BEFORE = Content("droplet", {"A": "1"}, {"web": None, "worker": "work"}, ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"droplet_guid": "another"}, ["New droplet deployed."]),
        ({"environment_variables": {}}, ["New environment variables deployed."]),
        (
            {"commands": {"web": "mine", "worker": "work"}},
            ["Custom start command added for 'web' process."],
        ),
        (
            {"commands": {"web": None, "worker": "another"}},
            ["Custom start command updated for 'worker' process."],
        ),
        (
            {"commands": {"web": None, "worker": None}},
            ["Custom start command removed for 'worker' process."],
        ),
        (
            {"commands": {"web": None, "clock": None}},
            ["New process type 'clock' added.", "Process type 'worker' removed."],
        ),
        ({"sidecars": ({"name": "s"},)}, ["Sidecars updated."]),
        (
            {"droplet_guid": "another", "environment_variables": {"A": "2"}},
            ["New droplet deployed.", "New environment variables deployed."],
        ),
    ],
)
def test_each_difference_is_told(change: dict[str, Any], said: list[str]) -> None:
    assert revising.reasons(BEFORE, replace(BEFORE, **change)) == said


def test_the_order_of_sidecars_does_not_count() -> None:
    one = Sidecar(name="a", command="x", process_types=["web", "worker"], memory_in_mb=None)
    two = Sidecar(name="b", command="y", process_types=["worker", "web"], memory_in_mb=1)
    assert revising.described([one, two]) == revising.described([two, one])
    assert revising.described([two])[0]["process_types"] == ["web", "worker"]
