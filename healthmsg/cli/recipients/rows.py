"""What was read: rows with named fields."""

from collections.abc import Mapping, Sequence

from attrs import Factory, define, field, frozen

from healthmsg.cli.recipients.problems import Problem


@frozen
class Row:
    """One recipient's fields, by the folded names of their columns."""

    line: int
    """Of the file, where the row begins, from 1."""
    fields: Mapping[str, str] = field(repr=False)
    files: tuple[str, ...] = field(default=(), repr=False)


@define
class Recipients:
    """The file of recipients."""

    columns: tuple[str, ...]
    """Folded."""
    rows: Sequence[Row]
    header_line: int | None = None
    problems: list[Problem] = Factory(list)
    """Rows that could not be read."""
    empty_rows: int = 0
    """Rows without anything in them, as spreadsheets leave at the end."""
    delimiter: str = ","
    form: str = ""
    """What kind of file it is, for the user to compare with what was meant."""
    is_guess: bool = False
    """Whether its encoding had to be guessed."""
