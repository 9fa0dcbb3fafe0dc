"""What the tests of whole routers share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.registry.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def registry_url() -> Iterator[str]:
    """A real Redis for all of them; each takes a namespace of its own."""
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder:
        server = EmbeddedRedis(Path(folder))
        server.start()
        yield server.url
        server.stop()
