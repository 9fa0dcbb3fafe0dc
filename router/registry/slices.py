"""Long work on the event loop, cut into short slices: requests are served on the same loop and must not wait for it.

Holds no work of its own. A slice is measured in time, not in items, because a busy machine makes items slower.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from time import perf_counter
from typing import Final, TypeVar

SLICE_SECONDS: Final = 0.001
"""Half of what the loop may be held at most: the last item of a slice may take some time as well."""

T = TypeVar("T")


async def sliced(items: Iterable[T], step: int) -> AsyncIterator[list[T]]:
    """The items in lists of `step`, with the loop let go whenever a slice is used up.

    `items` must not change meanwhile. Choose `step` so that one list takes far less than a slice.
    """
    iterator = iter(items)
    started = perf_counter()
    while part := list(islice(iterator, step)):
        yield part
        if perf_counter() - started > SLICE_SECONDS:
            await asyncio.sleep(0)
            started = perf_counter()
