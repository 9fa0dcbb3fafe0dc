"""What a template can do with values: fields, methods, and the functions that are built in. All raise RenderError."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from router.error_template.escapers import html_by_hand, js_by_hand, url_query_by_hand
from router.error_template.values import (
    NO_STRINGS,
    Byte,
    Header,
    Page,
    RenderError,
    Strings,
    Value,
    bounded,
    formatted,
    kind_of,
    octets,
    printed,
    truth,
)

PAGE_FIELDS: Final = {
    "Status": lambda page: page.status,
    "StatusText": lambda page: page.status_text,
    "Message": lambda page: page.message,
    "Header": lambda page: page.header,
}
HEADER_METHODS: Final[dict[str, Callable[[Header, str], Value]]] = {"Get": Header.first, "Values": Header.all}
UNSUPPORTED_METHODS: Final = frozenset(("Add", "Clone", "Del", "Set", "Write", "WriteSubset"))
"""Methods of http.Header that are no keys either."""


def field(of: Value, name: str, arguments: Sequence[Value]) -> Value:
    """``of.name``, called with ``arguments`` if it is a method."""
    if of is None:
        return None
    if isinstance(of, Header):
        method = HEADER_METHODS.get(name)
        if method is not None:
            if len(arguments) != 1 or not isinstance(arguments[0], str):
                raise RenderError(f".Header.{name} wants the name of a field in quotes")
            return method(of, arguments[0])
        if name in UNSUPPORTED_METHODS:
            raise RenderError(f".Header.{name} is not supported; there are Get and Values")
        if not arguments:
            return of.get(name)
    elif isinstance(of, Page) and name in PAGE_FIELDS and not arguments:
        value: Value = PAGE_FIELDS[name](of)
        return value
    raise RenderError(f"a value of type {kind_of(of)} has no {name} that could be asked for like this")


# Comparison -----------------------------------------------------------------------------------------------------------


def _family(value: Value) -> str:
    """Values of one family can be compared; empty for what has no order."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    return {float: "float64", str: "string"}.get(type(value), "")


def _is_nil(value: Value) -> bool:
    return value is None or value is NO_STRINGS


def _equal(one: Value, other: Value) -> bool:
    family = _family(one)
    if family != _family(other):
        if one is None or other is None:
            return False
        raise RenderError(f"{kind_of(one)} and {kind_of(other)} cannot be compared")
    if family:
        return one == other
    if not _is_nil(one) and not _is_nil(other):
        raise RenderError(f"values of type {kind_of(one)} cannot be compared")
    return _is_nil(one) == _is_nil(other)


def _eq(values: Sequence[Value]) -> bool:
    return any(_equal(values[0], other) for other in values[1:])


def _ne(values: Sequence[Value]) -> bool:
    return not _equal(values[0], values[1])


def _less(values: Sequence[Value]) -> bool:
    one, other = values
    family = _family(one)
    if family in ("", "bool") or family != _family(other):
        raise RenderError(f"{kind_of(one)} and {kind_of(other)} have no order")
    return octets(one) < octets(other) if isinstance(one, str) and isinstance(other, str) else one < other  # type: ignore[operator]  # numbers of one family


def _less_or_equal(values: Sequence[Value]) -> bool:
    return _less(values) or _equal(values[0], values[1])


def _greater(values: Sequence[Value]) -> bool:
    return not _less_or_equal(values)


def _greater_or_equal(values: Sequence[Value]) -> bool:
    return not _less(values)


# The rest -------------------------------------------------------------------------------------------------------------


def _not(values: Sequence[Value]) -> bool:
    return not truth(values[0])


def _len(values: Sequence[Value]) -> int:
    value = values[0]
    if isinstance(value, str):
        return len(octets(value))
    if isinstance(value, Strings | Header):
        return len(value)
    raise RenderError(f"a value of type {kind_of(value)} has no length")


def _index(values: Sequence[Value]) -> Value:
    item, *path = values
    for step in path:
        if isinstance(item, Header) and isinstance(step, str):
            item = item.get(step, NO_STRINGS)
        elif isinstance(item, str | Strings) and isinstance(step, int) and not isinstance(step, bool):
            series: Sequence[str | int] = octets(item) if isinstance(item, str) else item
            if not 0 <= step < len(series):
                raise RenderError(f"index out of range: {step}")
            item = Byte(series[step]) if isinstance(item, str) else series[step]
        else:
            raise RenderError(f"a value of type {kind_of(item)} has no index of type {kind_of(step)}")
    if item is None:
        raise RenderError("index of nil")
    return item


def _printf(values: Sequence[Value]) -> str:
    form, *arguments = values
    if not isinstance(form, str):
        raise RenderError(f"the format of printf is of type {kind_of(form)}, not string")
    return formatted(form, arguments)


def _println(values: Sequence[Value]) -> str:
    return bounded(" ".join([printed((value,)) for value in values]) + "\n")


def by_hand(escape: Callable[[str], str]) -> Callable[[Sequence[Value]], str]:
    """An escaper as a function of templates."""
    return lambda values: bounded(escape(printed(["<no value>" if value is None else value for value in values])))


class Function(NamedTuple):
    call: Callable[[Sequence[Value]], Value]
    least: int
    """Arguments."""
    most: int | None = None


FUNCTIONS: Final = {
    "eq": Function(_eq, 2),
    "ne": Function(_ne, 2, 2),
    "lt": Function(_less, 2, 2),
    "le": Function(_less_or_equal, 2, 2),
    "gt": Function(_greater, 2, 2),
    "ge": Function(_greater_or_equal, 2, 2),
    "not": Function(_not, 1, 1),
    "len": Function(_len, 1, 1),
    "index": Function(_index, 1),
    "print": Function(printed, 0),
    "printf": Function(_printf, 1),
    "println": Function(_println, 0),
    "html": Function(by_hand(html_by_hand), 1),
    "js": Function(by_hand(js_by_hand), 1),
    "urlquery": Function(by_hand(url_query_by_hand), 1),
}
"""Besides ``and`` and ``or``, which look at no more of their arguments than they need."""
LOGICAL: Final = {"and": False, "or": True}
"""By name: the truth of an argument at which no further one is looked at."""
BY_HAND: Final = {"html": html_by_hand, "urlquery": url_query_by_hand}
"""Functions that stand for escapers of the same kind when a pipe ends with them."""
