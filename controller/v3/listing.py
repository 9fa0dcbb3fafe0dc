"""Lists: which parameters they take, how rows are filtered, ordered and cut into pages (reference 2.1).

A `Listing` describes one kind of list once. It reads the query string strictly (a parameter that it does not know is
an error that names those it does), makes the condition, and presents a page with its links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlencode

from sqlalchemy import ColumnElement, Select, false, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from controller.database.base import Labelled, Resource
from controller.v3 import selectors
from controller.v3.errors import bad_query
from controller.v3.presenting import with_included

if TYPE_CHECKING:
    from controller.v3.call import Call

MAX_PER_PAGE: Final = 5000
DEFAULT_PER_PAGE: Final = 50
_MAX_PAGE: Final = 2**53
_PAGING: Final = ("page", "per_page")
_COMPARISONS: Final = ("lt", "lte", "gt", "gte")
_MOMENT: Final = "%Y-%m-%dT%H:%M:%SZ"

Filter = Callable[[list[str]], ColumnElement[bool]]
"""From the values of a parameter (at least one, maybe the empty text) to a condition."""


def among(column: InstrumentedAttribute[Any]) -> Filter:
    """The column's text is one of the values."""
    return column.in_


def among_numbers(column: InstrumentedAttribute[Any]) -> Filter:
    """The column's number is one of the values; what is no number matches nothing."""

    def condition(values: list[str]) -> ColumnElement[bool]:
        numbers = [int(value) for value in values if value.isascii() and value.isdigit() and len(value) < 18]
        return column.in_(numbers) if numbers else false()

    return condition


def truth(column: InstrumentedAttribute[bool], name: str) -> Filter:
    """The column says so."""
    return truth_of(column.is_(True), name)


def truth_of(condition: ColumnElement[bool], name: str) -> Filter:
    """The condition holds, or does not."""

    def either(values: list[str]) -> ColumnElement[bool]:
        if len(values) != 1 or values[0] not in ("true", "false"):
            raise bad_query(f"{name.capitalize()} must be 'true' or 'false'")
        return condition if values[0] == "true" else ~condition

    return either


def ignoring_case(column: InstrumentedAttribute[Any]) -> Filter:
    return lambda values: func.lower(column).in_([value.lower() for value in values])


class Listing:
    def __init__(
        self,
        model: type[Resource],
        filters: Mapping[str, Filter] | None = None,
        *,
        orders: Sequence[str] = (),
        includes: Sequence[str] = (),
        fields: Mapping[str, Sequence[str]] | None = None,
        others: Sequence[str] = (),
        default_order: str = "id",
    ) -> None:
        """``orders``: columns besides the two of time; ``includes``: what ``include`` may name; ``fields``: what
        ``fields[...]`` may select, by resource; ``others``: parameters that the endpoint reads itself."""
        self.model = model
        self.filters = dict(filters or {})
        self.orders = ("created_at", "updated_at", *orders)
        self.includes = tuple(includes)
        self.fields = dict(fields or {})
        self.others = tuple(others)
        self._default_order = default_order

    @property
    def parameters(self) -> list[str]:
        """All parameters, in the order in which errors list them."""
        names = [*_PAGING, "order_by", "guids", "created_ats", "updated_ats", *self.filters, *self.others]
        if issubclass(self.model, Labelled):
            names.append("label_selector")
        if self.includes:
            names.append("include")
        return names + [f"fields[{resource}]" for resource in self.fields]

    def page(
        self,
        call: Call,
        present: Callable[[Any], dict[str, Any]],
        *conditions: ColumnElement[bool],
        statement: Select[Any] | None = None,
        prepare: Callable[[Sequence[Any]], None] | None = None,
        included: Callable[[Sequence[Any]], dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """One page of the list that the call asks for, of rows that meet ``conditions``.

        ``statement`` selects the model, joined with what conditions need. ``prepare`` sees the page's rows before they
        are presented: to read at once what all of them need. Raises ApiError (BadQueryParameter).
        """
        query = call.query
        self.check(query)
        page, per_page = page_of(query)
        rows = select(self.model) if statement is None else statement
        rows = rows.where(*conditions, *self.conditions(query))
        session = call.session
        order = self._order(query)
        ids = rows.with_only_columns(self.model.id)
        total = session.scalar(select(func.count()).select_from(ids.order_by(None).subquery())) or 0
        offset = (page - 1) * per_page
        found: Sequence[Any] = ()
        if offset < total:
            page_of_ids = session.scalars(ids.order_by(*order).offset(offset).limit(per_page)).all()
            found = self._rows(session, rows, page_of_ids)
        if prepare is not None:
            prepare(found)
        body = {
            "pagination": pagination(call, page, per_page, total),
            "resources": [present(row) for row in found],
        }
        return with_included(body, included(found) if included is not None else {})

    def _rows(self, session: Session, statement: Select[Any], ids: Sequence[int]) -> Sequence[Any]:
        """In the order of ``ids``. Only these are joined with what is shown of them; what a page skips is not."""
        rows = {row.id: row for row in session.scalars(statement.where(self.model.id.in_(ids))).unique()} if ids else {}
        return [rows[one] for one in ids if one in rows]

    def check(self, query: Mapping[str, str]) -> None:
        """Raises ApiError: a parameter that this list does not know, or an include that it does not have."""
        known = set(self.parameters)
        unknown = [name for name in query if name not in known and not is_comparison(name)]
        if unknown:
            raise unknown_parameters(unknown, self.parameters)
        check_include(query, self.includes)

    def conditions(self, query: Mapping[str, str]) -> Iterable[ColumnElement[bool]]:
        """Of the parameters that filter."""
        model = self.model
        for name, text in query.items():
            if name == "guids":
                yield model.guid.in_(values(text))
            elif name.startswith(("created_ats", "updated_ats")):
                column = model.created_at if name.startswith("created") else model.updated_at
                yield _moments(column, name, text)
            elif name == "label_selector" and issubclass(model, Labelled):
                yield selectors.condition(selectors.parse(text), model.labels)
            elif name in self.filters:
                yield self.filters[name](values(text))

    def _order(self, query: Mapping[str, str]) -> list[Any]:
        text = query.get("order_by", self._default_order)
        name = text.removeprefix("-").removeprefix("+")
        if name not in self.orders and name not in ("id", self._default_order):
            raise bad_query(f"Order by can only be: {', '.join(repr(order) for order in self.orders)}")
        column = getattr(self.model, name)
        descending = text.startswith("-")
        keys = [column.desc() if descending else column.asc()]
        if name != "id":
            keys.append(self.model.id.desc() if descending else self.model.id.asc())
        return keys


def values(text: str) -> list[str]:
    """The elements of a list-valued parameter; the empty text is a list of the empty text.

    Commas within an element arrive encoded twice, so every element is decoded once more.
    """
    return [unquote(part) for part in text.split(",")]


def check_include(query: Mapping[str, str], known: Sequence[str]) -> None:
    """Raises ApiError: an include that is not there."""
    if "include" in query:
        wrong = [name for name in values(query["include"]) if name not in known]
        if wrong:
            shown = ", ".join(repr(name) for name in known)
            raise bad_query(f"Invalid included resource: '{wrong[0]}'. Valid included resources are: {shown}")


def unknown_parameters(unknown: Sequence[str], known: Sequence[str]) -> Exception:
    names = ", ".join(repr(name) for name in unknown)
    valid = ", ".join(repr(name) for name in known)
    return bad_query(f"Unknown query parameter(s): {names}. Valid parameters are: {valid}")


def page_of(query: Mapping[str, str]) -> tuple[int, int]:
    """Which page, and how many to a page. Raises ApiError (BadQueryParameter)."""
    return _number(query, "page", 1, _MAX_PAGE), _number(query, "per_page", DEFAULT_PER_PAGE, MAX_PER_PAGE)


def pagination(call: Call, page: int, per_page: int, total: int) -> dict[str, Any]:
    pages = max(1, -(-total // per_page))

    def link(number: int) -> dict[str, str]:
        rest = [(name, text) for name, text in call.query.items() if name not in _PAGING]
        query = urlencode([*rest, ("page", number), ("per_page", per_page)])
        return {"href": f"{call.url(call.path)}?{query}"}

    return {
        "total_results": total,
        "total_pages": pages,
        "first": link(1),
        "last": link(pages),
        "next": link(page + 1) if page < pages else None,
        "previous": link(min(page - 1, pages)) if page > 1 else None,
    }


def _number(query: Mapping[str, str], name: str, default: int, highest: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    label = name.replace("_", " ").capitalize()
    if not (text.isascii() and text.isdigit() and len(text) < 18) or int(text) < 1:
        raise bad_query(f"{label} must be a positive integer")
    if int(text) > highest:
        raise bad_query(f"{label} must be between 1 and {highest}")
    return int(text)


def is_comparison(name: str) -> bool:
    """Whether it is a parameter such as ``created_ats[lt]``."""
    column, bracket, rest = name.partition("[")
    return column in ("created_ats", "updated_ats") and bool(bracket) and rest.rstrip("]") in _COMPARISONS


def times(name: str, text: str) -> list[datetime]:
    """The values of ``created_ats`` or ``updated_ats``, or of a comparison of these. Raises ApiError."""
    kind, _, comparison = name.partition("[")
    label = kind.replace("_", " ").capitalize()
    found = []
    for value in values(text):
        try:
            found.append(datetime.strptime(value, _MOMENT).replace(tzinfo=UTC))
        except ValueError:
            raise bad_query(
                f"{label} has an invalid timestamp format. Timestamps should be formatted as 'YYYY-MM-DDThh:mm:ssZ'"
            ) from None
    if comparison and len(found) != 1:
        raise bad_query(f"{label} only accepts one value when using an inequality filter")
    return found


def _moments(column: InstrumentedAttribute[datetime], name: str, text: str) -> ColumnElement[bool]:
    found = times(name, text)
    match name.partition("[")[2].rstrip("]"):
        case "":
            return column.in_(found)
        case "lt":
            return column < found[0]
        case "lte":
            return column <= found[0]
        case "gt":
            return column > found[0]
    return column >= found[0]
