"""The kinds of value that a setting may be: what stands in the annotations of `router.config.settings`, and nothing
more.

`router.config.config_file` reads values by these rules, `router.config.config_page` writes them. In the program
durations are seconds and sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number from ``low`` on, with or without a fraction."""

    low: float


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes: in the file a whole number, or one with KiB, MiB or GiB."""

    low: int = 0
    zero: bool = False
    """Whether 0 is allowed as well, though below ``low``."""


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds: in the file a Go duration such as ``500ms``, ``30s`` or ``1m30s``."""

    zero: bool = True
    """Whether 0s is allowed."""


@dataclass(frozen=True, slots=True)
class OneOf:
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matching:
    """Text that matches a pattern; ``what`` says in words what the pattern asks for."""

    pattern: str
    what: str


@dataclass(frozen=True, slots=True)
class Secret:
    """Text that is never shown to anybody."""


@dataclass(frozen=True, slots=True)
class Unsaid:
    """true or false, and a third meaning where the file says neither."""


Port = Annotated[int, Whole(0, 65535)]
Count = Annotated[int, Whole(0, 1_000_000)]
PositiveCount = Annotated[int, Whole(1, 1_000_000)]
Bytes = Annotated[int, Size()]
HeadBytes = Annotated[int, Size(low=1024)]
HeadBytesOrZero = Annotated[int, Size(low=1024, zero=True)]
Seconds = Annotated[float, Duration()]
PositiveSeconds = Annotated[float, Duration(zero=False)]
Bound = Annotated[float, Number(0.0)]
SecretText = Annotated[str, Secret()]
