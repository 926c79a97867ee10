"""Many rows as one parameter, or as one answer: JSON, which the database takes apart or makes.

With a parameter or an answer for each row, SQLite's module would release and take Python's lock for each, in
turn with the event loop: that costs more than SQLite's own work.
"""

from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, BindParameter, ColumnElement, Select, bindparam, cast, column, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from healthmsg.database.tables import Utc


class _Elements(FunctionElement[Any]):
    """The elements of a JSON array, each as a row of one column, `value`."""

    inherit_cache = True
    name = "elements"


class _AllRows(FunctionElement[Any]):
    """A JSON array of the rows of a query, each of which is an array."""

    inherit_cache = True
    name = "all_rows"
    type = JSON()


class _Moment(FunctionElement[Any]):
    """A text that `moment` made, as the database keeps moments."""

    inherit_cache = True
    name = "moment"
    type = Utc()


def _write(form: str, element: FunctionElement[Any], compiler: SQLCompiler, **options: Any) -> str:
    return form.format(compiler.process(element.clauses, **options))


_FORMS: Final[dict[type[FunctionElement[Any]], dict[str, str]]] = {
    _Elements: {"sqlite": "json_each({})", "postgresql": "json_array_elements({})"},
    _AllRows: {
        "sqlite": "json_group_array(json_array({}))",
        "postgresql": "coalesce(json_agg(json_build_array({})), '[]')",
    },
    # SQLite's without the zone, as SQLAlchemy writes it.
    _Moment: {"sqlite": "substr({}, 1, 26)", "postgresql": "CAST({} AS TIMESTAMP WITH TIME ZONE)"},
}
for _function, _forms in _FORMS.items():
    for _dialect, _form in _forms.items():
        compiles(_function, _dialect)(partial(_write, _form))

_ROWS: Final[BindParameter[Any]] = bindparam("rows", type_=JSON)
_ELEMENTS: Final = _Elements(_ROWS).table_valued(column("value", JSON), name="element")


def text_at(place: int) -> ColumnElement[str]:
    """Return the text at a place of each row of the parameter `rows`."""
    found: ColumnElement[str] = _ELEMENTS.c.value[place].as_string()
    return found


def number_at(place: int) -> ColumnElement[int]:
    """Return the number at a place of each row of the parameter `rows`."""
    found: ColumnElement[int] = _ELEMENTS.c.value[place].as_integer()
    return found


def big_number_at(place: int) -> ColumnElement[int]:
    """Return the number at a place of each row of the parameter `rows`, which may have more than 32 bits."""
    return cast(text_at(place), BigInteger)


def moment_at(place: int) -> ColumnElement[datetime]:
    """Return the moment that `moment` has written at a place of each row of the parameter `rows`."""
    return _Moment(text_at(place))


def moment(value: datetime) -> str:
    """Write a moment into a row of the parameter `rows`."""
    return value.astimezone(UTC).isoformat(" ", "microseconds")


def flag_at(place: int) -> ColumnElement[bool]:
    """Return what is true or false at a place of each row of the parameter `rows`."""
    found: ColumnElement[bool] = _ELEMENTS.c.value[place].as_boolean()
    return found


FIRST_TEXTS: Final[Select[tuple[str]]] = select(text_at(0))
"""The first of each row of the parameter `rows`."""


def in_one_row(found: Select[Any]) -> Select[Any]:
    """Have all that a query finds in one value, a list of lists, in no order."""
    rows = found.subquery()
    return select(_AllRows(*rows.c))
