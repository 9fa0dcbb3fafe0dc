"""Lists of what no table holds: the feature flags, and collections that are empty here, asked as strictly as others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.v3 import selectors
from controller.v3.call import Call
from controller.v3.errors import bad_query
from controller.v3.listing import (
    check_include,
    is_comparison,
    page_of,
    pagination,
    times,
    unknown_parameters,
    values,
)


class Catalogue:
    """Which parameters such a list takes, and a page of what there is."""

    def __init__(
        self,
        *filters: str,
        orders: Sequence[str] = ("created_at", "updated_at"),
        guids: bool = True,
        changing: bool = True,
        labelled: bool = False,
        includes: Sequence[str] = (),
        fields: Mapping[str, Sequence[str]] | None = None,
        choices: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """``orders``: what ``order_by`` may name, the first by default. ``changing``: they have a time of change.
        ``choices``: the values that a filter may have. ``fields``: what ``fields[...]`` may select, by resource."""
        self._filters = filters
        self.orders = tuple(orders)
        self._general = ("guids",) * guids + ("created_ats",) + ("updated_ats",) * changing
        self._labelled = labelled
        self.includes = tuple(includes)
        self.fields = dict(fields or {})
        self._choices = dict(choices or {})

    @property
    def parameters(self) -> list[str]:
        """All parameters, in the order in which errors list them."""
        return [
            *("page", "per_page", "order_by"),
            *self._general,
            *self._filters,
            *("label_selector",) * self._labelled,
            *("include",) * bool(self.includes),
            *(f"fields[{name}]" for name in self.fields),
        ]

    def page(self, call: Call, resources: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """``resources`` in the default order. Raises ApiError (BadQueryParameter)."""
        self._check(call.query)
        page, per_page = page_of(call.query)
        ordered = resources[::-1] if call.query.get("order_by", "").startswith("-") else resources
        return {
            "pagination": pagination(call, page, per_page, len(ordered)),
            "resources": list(ordered[(page - 1) * per_page : page * per_page]),
        }

    def _check(self, query: Mapping[str, str]) -> None:
        known = set(self.parameters)
        unknown = [name for name in query if name not in known and not (is_comparison(name) and _plain(name) in known)]
        if unknown:
            raise unknown_parameters(unknown, self.parameters)
        check_include(query, self.includes)
        if query.get("order_by", self.orders[0]).lstrip("+-") not in self.orders:
            raise bad_query(f"Order by can only be: {', '.join(repr(order) for order in self.orders)}")
        for name, text in query.items():
            if name.startswith(("created_ats", "updated_ats")):
                times(name, text)
            elif name == "label_selector":
                selectors.parse(text)
            elif name in self._choices and text not in self._choices[name]:
                shown = " or ".join(repr(choice) for choice in self._choices[name])
                raise bad_query(f"{name.capitalize()} only accepts values {shown}")
            elif name.startswith("fields["):
                choices = self.fields[name[7:-1]]
                if any(value not in choices for value in values(text)):
                    raise bad_query(f"Fields valid values are: {', '.join(repr(choice) for choice in choices)}")


def _plain(comparison: str) -> str:
    return comparison.partition("[")[0]
