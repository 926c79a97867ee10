"""Reading JSON Lines: one object a line."""

import json
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from healthmsg.cli.recipients.columns import fold
from healthmsg.cli.recipients.problems import Problem, RefusedError
from healthmsg.cli.recipients.rows import Recipients, Row

# Up to here every program writes a whole number as it is: beyond, many round it to what 64 bits hold.
_MOST_EXACT: Final = 2**53 - 1
_MOST_DIGITS: Final = 100
_ROUNDED: Final = 'programs round or rewrite these, so write it as text, in quotation marks: "…"'


def read_json_lines(text: str) -> Recipients:
    """Read all objects; those that cannot be read are among the problems.

    Raises:
        RefusedError: it is one list of objects.
    """
    if text.lstrip().startswith("["):
        raise RefusedError("one JSON object a line is needed, not a list of them")
    recipients = Recipients((), [], form="JSON Lines")
    rows = []
    columns: dict[str, None] = {}
    # Not by `splitlines`: within its texts, JSON can have what that takes for the end of a line.
    for line, written in enumerate(text.split("\n"), 1):
        if not written.strip():
            continue
        try:
            row = _row(line, written)
        except ValueError as error:
            recipients.problems.append(Problem(str(error), line))
        else:
            rows.append(row)
            columns.update(dict.fromkeys((*row.fields, "files") if row.files else row.fields))
    recipients.rows, recipients.columns = rows, tuple(columns)
    return recipients


def _row(line: int, written: str) -> Row:
    try:
        document = json.loads(
            # Where files were joined, there can be a mark of the encoding within.
            written.lstrip("\ufeff"),
            strict=False,  # a raw tab within a text is meant as one
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_int=_whole_number,
        )
    except RecursionError:
        raise ValueError("this is nested too deeply") from None
    except json.JSONDecodeError:
        raise ValueError("this is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("this is not an object: {…} is needed")  # noqa: TRY004 - one kind for all of these
    files = document.pop("files", None)
    return Row(line, {name: _text(name, value) for name, value in document.items()}, _files(files))


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        folded = fold(name)
        if folded in found:
            raise ValueError(f"the field {folded} is there twice")
        found[folded] = value
    return found


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > _MOST_EXACT:
            raise ValueError(f"the field {name} is a number beyond {_MOST_EXACT:,}: {_ROUNDED}")
        text = str(value)
    elif isinstance(value, float):
        raise ValueError(f"the field {name} is a number with a fraction or an exponent: {_ROUNDED}")  # noqa: TRY004 - as above
    else:
        # How yes and no, or a list, are to be written is the sender's to say.
        raise ValueError(f"the field {name} must be text or a whole number")  # noqa: TRY004 - as above
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"the field {name} has half of a surrogate pair, which is no letter")
    return text


def _files(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(name, str) and name for name in value):
        return tuple(value)
    raise ValueError("the field files must be a list of texts")


def _whole_number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:  # more than Python reads
        return _MOST_EXACT + 1
    return int(digits)


def _no_constant(_: str) -> NoReturn:
    raise ValueError("this is not JSON")
