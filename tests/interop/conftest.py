"""One whole system for all real clients of the control plane."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.controller.system import System, names_of_localhost, running_system


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """Clients find it by its names."""
    with running_system(app_domains=["apps.localhost"]) as running, names_of_localhost():
        yield running
