"""Rows that are for the same recipient: with the same message again, or with another person's name."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol
from unicodedata import normalize

from attrs import Factory, define, field, frozen

from healthmsg.bulk import Outgoing
from healthmsg.bulk.messages import Recipient
from healthmsg.cli.problems import Problem, Problems
from healthmsg.cli.recipients.cells import (
    LongNumbers,
    doubt_about_field,
    doubt_about_id,
    doubt_about_text,
    is_null,
    problem_of_address,
    problem_of_id,
    problem_of_value,
)
from healthmsg.cli.recipients.reading import ADDRESSES, BODIES, Recipients, Row, check_columns, similar
from healthmsg.cli.recipients.template import Template, check_template, find_placeholders
from healthmsg.client import Client
from healthmsg.errors import InvalidFileError
from healthmsg.files import prepare
from healthmsg.ids import exact_aux_id

# A conversation has the address of the other side's user, too.
_SAME_PERSON: Final = {"users": "conversations"}
_GROUPS: Final = ("groupchats/", "aux/groupchats/")
# Columns that say who a person is: of one person, they are always the same.
_PERSONAL: Final = frozenset(
    {
        *("naam", "name", "nom", "nombre", "nome", "prénom", "prenom", "vorname", "nachname", "imię", "imie"),
        *(
            "nazwisko",
            "ad",
            "soyad",
            "isim",
            "apellido",
            "apellidos",
            "cognome",
            "surname",
            "patient",
            "patiënt",
        ),
        *(
            "client",
            "cliënt",
            "geboortedatum",
            "birthdate",
            "birthday",
            "dob",
            "geburtsdatum",
            "bsn",
            "email",
        ),
        *("telefoon", "telefoonnummer", "phone", "mobiel", "mobile", "gsm"),
    }
)
# Not of the recipient's: a name of the doctor, the ward or the medicine.
_OF_OTHERS: Final = re.compile(
    "arts|dokter|doctor|behandel|specialist|verleen|verpleeg|nurse|afdeling|ward|department|locat|praktijk|practice"
    "|kliniek|clinic|huis|medi|product|file|bestand|afspraak|appointment"
)
_MOST_LINES: Final = 5


class Addressed(Protocol):
    """What is looked at of a message."""

    @property
    def line(self) -> int:
        """Its line in the file."""

    @property
    def to(self) -> str:
        """Its address."""

    @property
    def body(self) -> str:
        """Its text."""

    @property
    def files(self) -> Sequence[Path]:
        """Its files."""


def same_recipient(address: str) -> str:
    """Return what is equal for addresses that are written differently, but lead to the same recipient.

    Upper and lower case make a difference to the service.
    """
    # An id can have a slash in it.
    parts = address.split("/", 2 if address.startswith("aux/") else 1)
    kind = "/".join(parts[:-1])
    return f"{_SAME_PERSON.get(kind, kind)}/{_one_space(parts[-1])}"


def find_repeats(messages: Sequence[Addressed]) -> list[tuple[int, int]]:
    """Return the lines that say the same to the same recipient, each with the first line that does."""
    first: dict[tuple[str, str, tuple[str, ...]], int] = {}
    real: dict[Path, str] = {}
    found = []
    for message in messages:
        for path in message.files:
            if path not in real:
                real[path] = os.path.realpath(path)
        files = tuple(sorted(real[path] for path in message.files))
        said = (same_recipient(message.to), _one_space(normalize("NFC", message.body)), files)
        line = first.setdefault(said, message.line)
        if line != message.line:
            found.append((message.line, line))
    return found


Several = Mapping[str, Sequence[Addressed]]
"""The messages of each recipient of more than one."""


def find_several(messages: Sequence[Addressed]) -> Several:
    """Return who gets more than one message."""
    found: dict[str, list[Addressed]] = {}
    for message in messages:
        found.setdefault(same_recipient(message.to), []).append(message)
    return {to: rows for to, rows in found.items() if len(rows) > 1}


def note_of_several(several: Several, repeated: Sequence[tuple[int, int]]) -> list[str]:
    """Say who gets several messages that are not all alike."""
    again = {line for line, _ in repeated}
    pairs = list[str]()
    for first, *others in several.values():
        pairs += [f"line {other.line} as line {first.line}" for other in others if other.line not in again][
            :1
        ]
    if not pairs:
        return []
    shown = pairs[:_MOST_LINES] + (["…"] if len(pairs) > _MOST_LINES else [])
    return [f"Recipients of more than one message: {len(pairs):,} ({', '.join(shown)})."]


def report_other_names(several: Several, recipients: Recipients, doubts: Problems) -> None:
    """Note where one recipient has two names: of two patients, one would get what is the other's.

    In a group chat, that is as it may be.
    """
    columns = [name for name in recipients.columns if _is_personal(name)]
    lines = {row.line for to, rows in several.items() if not to.startswith(_GROUPS) for row in rows}
    fields = {row.line: row.fields for row in recipients.rows if row.line in lines} if columns else {}
    for rows in several.values():
        for name in columns:
            values = [(row.line, fields.get(row.line, {}).get(name, "")) for row in rows]
            (line, known), *others = [*filter(lambda one: one[1], values)] or [(0, "")]
            for other, value in others:
                if _plain(known) != _plain(value):
                    doubt = f"the same recipient as on line {line}, but another {name}"
                    doubts.add(doubt, other, f"{known} and {value}")


def _is_personal(column: str) -> bool:
    if _OF_OTHERS.search(column):
        return False
    return any(word in _PERSONAL or word.endswith(("naam", "name")) for word in column.split("_"))


def _plain(value: str) -> str:
    return _one_space(normalize("NFC", value).casefold())


def lines_of(lines: Sequence[int]) -> str:
    """Say which lines, of many only the first."""
    shown = ", ".join(f"line {line}" for line in lines[:_MOST_LINES])
    return f"{shown} and {len(lines) - _MOST_LINES:,} more" if len(lines) > _MOST_LINES else shown


def _one_space(text: str) -> str:
    return " ".join(text.split())


_AUX_CONVERSATION = "aux/conversations/"
_AUX_GROUP_CHAT = "aux/groupchats/"
_LABEL = re.compile(r"(\d{1,12})([,;\t|])")


@frozen
class Label:
    """What a journal keeps of a message's place in its file, so that results can name it without the file."""

    line: int
    delimiter: str = ","

    @classmethod
    def parse(cls, text: str | None) -> "Label | None":
        """Read what `str` wrote; `None`: it is nothing of the kind."""
        found = _LABEL.fullmatch(text or "")
        return None if found is None else cls(int(found[1]), found[2])

    def __str__(self) -> str:
        return f"{self.line}{self.delimiter}"


@frozen
class Message:
    """One message, checked and filled in."""

    line: int
    to: str = field(repr=False)
    """The address, as text."""
    body: str = field(repr=False)
    files: tuple[Path, ...] = field(default=(), repr=False)
    key: str | None = field(default=None, repr=False)
    delimiter: str = ","
    """Of the file: a run without it writes its results alike."""

    def outgoing(self, client: Client, *, is_exact: bool) -> Outgoing:
        """Return it as the client takes it. `is_exact`: diacritics in auxiliary ids are meant."""
        to: Recipient = self.to
        if is_exact and self.to.startswith(_AUX_CONVERSATION):
            aux_id = exact_aux_id(self.to.removeprefix(_AUX_CONVERSATION))
            to = client.auxiliary.conversations(aux_id)
        elif is_exact and self.to.startswith(_AUX_GROUP_CHAT):
            aux_id = exact_aux_id(self.to.removeprefix(_AUX_GROUP_CHAT))
            to = client.auxiliary.groupchats(aux_id)
        label = Label(self.line, self.delimiter)
        return Outgoing(to, self.body, self.files, self.key, label=str(label))


@frozen
class Messages:
    """All messages of a run, in the order of their lines."""

    all: Sequence[Message]
    repeated: Sequence[tuple[int, int]]
    """Lines that say the same to the same recipient, each with the line before it that does."""
    doubts: Sequence[Problem] = ()
    """What may be a mistake, and may be meant: not to be sent before a person has said so."""
    notes: Sequence[str] = ()
    """What is shown before sending, and needs no answer."""

    def outgoing(self, client: Client, *, is_exact: bool) -> Iterator[Outgoing]:
        """Give them as the client takes them."""
        return (message.outgoing(client, is_exact=is_exact) for message in self.all)


def make_messages(
    recipients: Recipients,
    template: Template | None,
    folder: Path,
    *,
    allow_empty: bool = False,
    allow_repeats: bool = False,
    is_exact: bool = False,
) -> Messages:
    """Make all messages. Without a template, a column is the text; files are looked for in `folder`.

    The same message to the same recipient is refused, unless repeats are allowed; also with a key of its own.

    Raises:
        RefusedError: with everything that is wrong with any of them.
    """
    problems, doubts = Problems(), Problems()
    problems.add_all(recipients.problems)
    if not recipients.rows:
        # Without a row that could be read, nothing can be said of columns.
        problems.refuse_if_any()
    own, notes = _text_of(recipients, template, problems, doubts)
    making = _Making(own, recipients, folder, problems, doubts, template is None, allow_empty, is_exact)
    made = [message for row in recipients.rows if (message := making.message(row)) is not None]
    making.report_ids()
    several = find_several(made)
    report_other_names(several, recipients, doubts)
    repeated = find_repeats(made)
    _refuse_repeats(() if allow_repeats else repeated, problems)
    problems.refuse_if_any()
    notes += [*making.notes(), *note_of_several(several, repeated)]
    return Messages(made, repeated, doubts.in_order(), notes)


def _text_of(
    recipients: Recipients, template: Template | None, problems: Problems, doubts: Problems
) -> tuple[Template, list[str]]:
    """Return the template, be it a column, and what there is to tell of it."""
    notes = list[str]()
    if template is not None:
        _check_fields(template, recipients.columns, problems)
        # Without a header, its names would be a patient's.
        columns = recipients.columns if _has_addresses(recipients) else ()
        notes = check_template(template, columns, problems, doubts)
    own = template or _template_of_columns(recipients.columns, problems, recipients.header_line)
    check_columns(recipients.columns, own.fields, recipients.header_line, problems)
    return own, notes


def _has_addresses(recipients: Recipients) -> bool:
    return not ADDRESSES.keys().isdisjoint(recipients.columns)


def _refuse_repeats(repeated: Sequence[tuple[int, int]], problems: Problems) -> None:
    for line, before in repeated:
        same = f"the same message to the same recipient as on line {before}"
        problems.add(f"{same}; --allow-repeats sends it again", line)


def _template_of_columns(columns: Sequence[str], problems: Problems, header: int | None) -> Template:
    there = [name for name in BODIES if name in columns]
    if not there:
        problems.add("there is no text: give --template or --template-file, or a column body", header)
    if len(there) > 1:
        problems.add("there are both a column body and a column message: which of them is the text?", header)
    return Template.of_column(next(iter(there), BODIES[0]))


def _check_fields(template: Template, columns: Sequence[str], problems: Problems) -> None:
    # Without a header, its names would be a patient's.
    names = [] if ADDRESSES.keys().isdisjoint(columns) else [name for name in columns if name]
    for name in template.fields:
        if name not in columns:
            meant = similar(name, names)
            hint = f"; did you mean {{{meant}}}?" if meant else ""
            problems.add(f"the template's {{{name}}} is no column of the recipients{hint}")


@define
class _Making:
    """Makes messages, and notes what is wrong."""

    template: Template
    recipients: Recipients
    folder: Path
    problems: Problems
    doubts: Problems
    is_column: bool
    """Whether the template is a column as it is."""
    allow_empty: bool
    is_exact: bool
    keys: dict[str, int] = Factory(dict)
    long_numbers: dict[str, LongNumbers] = Factory(dict)
    like_fields: dict[int, None] = Factory(dict)
    """The lines where something looks like a field of another program."""
    known_files: dict[str, str | None] = Factory(dict)
    fields: Sequence[str] = field(init=False)
    """Those of the template that are columns: of the others, it is said once."""
    has_addresses: bool = field(init=False)
    """Whether there is a column of them: if not, that is said once, too."""

    def __attrs_post_init__(self) -> None:
        self.fields = [name for name in self.template.fields if name in self.recipients.columns]
        self.has_addresses = _has_addresses(self.recipients)

    def message(self, row: Row) -> Message | None:
        to = self._address(row)
        files = self._files(row)
        body = self._body(row, has_files=bool(files))
        key = self._key(row)
        if to is None or body is None:
            return None
        return Message(row.line, to, body, files, key, self.recipients.delimiter)

    def _address(self, row: Row) -> str | None:
        filled = [name for name in ADDRESSES if row.fields.get(name)]
        if not filled:
            if self.has_addresses:
                self.problems.add(f"nobody it is for: fill in one of {', '.join(ADDRESSES)}", row.line)
            return None
        if len(filled) > 1:
            self.problems.add(f"more than one address: {' and '.join(filled)}", row.line)
            return None
        (name,) = filled
        value = row.fields[name]
        address = ADDRESSES[name] + value
        problem = self._check_id(name, value, row.line)
        if not problem and (problem := problem_of_address(address, is_exact=self.is_exact)):
            self.problems.add(f"{name} {problem}", row.line)
        return address

    def _check_id(self, name: str, value: str, line: int) -> str | None:
        """Note what is wrong with an id, or may be; return what certainly is."""
        problem = problem_of_id(value)
        if problem:
            self.problems.add(f"{name} {problem}", line)
        elif doubt := doubt_about_id(value):
            self.doubts.add(f"{name} {doubt}", line, value)
        self.long_numbers.setdefault(name, LongNumbers()).add(value, line)
        return problem

    def report_ids(self) -> None:
        """Note what only all ids of a column show together."""
        for name, numbers in self.long_numbers.items():
            numbers.report(name, self.problems, self.doubts)

    def notes(self) -> list[str]:
        """Return what is shown of the texts."""
        if not self.like_fields:
            return []
        lines = lines_of(list(self.like_fields))
        return [f"What looks like a field of another program is sent as it stands, in texts of {lines}."]

    def _body(self, row: Row, *, has_files: bool) -> str | None:
        may_be_empty = has_files if self.is_column else self.allow_empty
        wrong = False
        for name in self.fields:
            value = row.fields.get(name)
            problem = _problem_of_field(value, may_be_empty=may_be_empty) or self._placeholder(
                value, row.line
            )
            if problem:
                self.problems.add(f"{name} {problem}", row.line)
                wrong = True
            elif value and (doubt := self._doubt_about(value)):
                self.doubts.add(f"{name} {doubt}", row.line, value)
        if wrong or len(self.fields) < len(self.template.fields):
            return None
        body = self.template.fill_in(row.fields)
        if not body.strip() and not has_files:
            self.problems.add("there is nothing to read in the message", row.line)
        return body

    def _placeholder(self, value: str | None, line: int) -> str | None:
        for found in find_placeholders(value or "", self.recipients.columns):
            if found.column is not None:
                return f"has what looks like the field {{{found.column}}}: only a template is filled in"
            self.like_fields[line] = None
        return None

    def _doubt_about(self, value: str) -> str | None:
        if not self.is_column:
            return doubt_about_field(value)
        return doubt_about_field(value) if is_null(value) else doubt_about_text(value)

    def _key(self, row: Row) -> str | None:
        key = row.fields.get("key")
        if not key:
            return None
        self._check_id("key", key, row.line)
        line = self.keys.setdefault(key, row.line)
        if line != row.line:
            self.problems.add(f"its key is also that of line {line}", row.line)
        return key

    def _files(self, row: Row) -> tuple[Path, ...]:
        for position, name in enumerate(row.files, 1):
            if name not in self.known_files:
                self.known_files[name] = _problem_of_file(self.folder / name)
            problem = self.known_files[name]
            if problem:
                # Its name may be a patient's.
                self.problems.add(f"file {position} of {len(row.files)}: {problem}", row.line)
        return tuple(self.folder / name for name in row.files)


def _problem_of_field(value: str | None, *, may_be_empty: bool) -> str | None:
    if value is None:
        return "is missing"
    if not value:
        return None if may_be_empty else "is empty"
    return problem_of_value(value)


def _problem_of_file(path: Path) -> str | None:
    try:
        prepare([path], field_name="files")
    except InvalidFileError as error:
        return error.problems[0][1]
    return None
