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
        labelled: bool = False,
        includes: Sequence[str] = (),
        fields: Mapping[str, Sequence[str]] | None = None,
        choices: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """``orders``: what ``order_by`` may name, the first by default. ``choices``: the values that a filter may have.
        ``fields``: what ``fields[...]`` may select, by resource."""
        self._filters = filters
        self._orders = tuple(orders)
        self._guids = guids
        self._labelled = labelled
        self._includes = tuple(includes)
        self._fields = dict(fields or {})
        self._choices = dict(choices or {})

    @property
    def parameters(self) -> list[str]:
        """All parameters, in the order in which errors list them."""
        names = ["page", "per_page", "order_by", *(("guids",) if self._guids else ()), "created_ats", "updated_ats"]
        names += [*self._filters, *(("label_selector",) if self._labelled else ())]
        names += [*(("include",) if self._includes else ()), *(f"fields[{name}]" for name in self._fields)]
        return names

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
        unknown = [name for name in query if name not in self.parameters and not is_comparison(name)]
        if unknown:
            raise unknown_parameters(unknown, self.parameters)
        check_include(query, self._includes)
        if query.get("order_by", self._orders[0]).lstrip("+-") not in self._orders:
            raise bad_query(f"Order by can only be: {', '.join(repr(order) for order in self._orders)}")
        for name, text in query.items():
            if name.startswith(("created_ats", "updated_ats")):
                times(name, text)
            elif name == "label_selector":
                selectors.parse(text)
            elif name in self._choices and text not in self._choices[name]:
                shown = " or ".join(repr(choice) for choice in self._choices[name])
                raise bad_query(f"{name.capitalize()} only accepts values {shown}")
            elif name.startswith("fields["):
                known = self._fields[name[7:-1]]
                if any(value not in known for value in values(text)):
                    raise bad_query(f"Fields valid values are: {', '.join(repr(value) for value in known)}")
