"""From the rows of recipients to the messages: all are checked before the first is sent."""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final
from unicodedata import normalize

from attrs import Factory, define, field, frozen

from healthmsg.bulk import Outgoing
from healthmsg.bulk.labels import LineLabel
from healthmsg.bulk.models import Recipient
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
from healthmsg.cli.recipients.question import Asked
from healthmsg.cli.recipients.reading import ADDRESSES, BODIES, Recipients, Row, check_columns, closest_name
from healthmsg.cli.recipients.template import Template, check_template, find_placeholders
from healthmsg.cli.service import chat_handle
from healthmsg.client import Client
from healthmsg.errors import InvalidFileError
from healthmsg.files import prepare
from healthmsg.ids import ChatAddress, exact_aux_id

# A conversation has the address of the other side's user, too.
_SAME_PERSON: Final = {"users": "conversations"}
_GROUPS: Final = ("groupchats/", "aux/groupchats/")
# Columns about the person, which are the same in all rows of one person.
_PERSONAL: Final = frozenset(
    {
        *("naam", "name", "nom", "nombre", "nome", "prénom", "prenom", "vorname", "nachname", "imię"),
        *("imie", "nazwisko", "ad", "soyad", "isim", "apellido", "apellidos", "cognome", "surname"),
        *("patient", "patiënt", "client", "cliënt", "geboortedatum", "birthdate", "birthday", "dob"),
        *("geburtsdatum", "bsn", "email", "telefoon", "telefoonnummer", "phone", "mobiel", "mobile", "gsm"),
    }
)
# Words of columns about others: the doctor, the ward, the medicine.
_OF_OTHERS: Final = re.compile(
    "arts|dokter|doctor|behandel|specialist|verleen|verpleeg|nurse|afdeling|ward|department|locat|praktijk|practice"
    "|kliniek|clinic|huis|medi|product|file|bestand|afspraak|appointment"
)
_MOST_LINES: Final = 5


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
    """That of the file, for the results of a run without it."""

    def outgoing(self, client: Client, *, is_exact: bool, asked: Asked | None = None) -> Outgoing:
        """Return it for `Client.send_many`. `is_exact`: diacritics in auxiliary ids are meant."""
        to: Recipient = self.to
        if is_exact and self.to.startswith("aux/"):
            to = chat_handle(client, ChatAddress.of_text(self.to))
        return self._outgoing(to, asked)

    def outgoing_as_text(self, *, is_exact: bool, asked: Asked | None = None) -> Outgoing:
        """Return it for a campaign, which knows no client."""
        return self._outgoing(exact_aux_id(self.to) if is_exact else self.to, asked)

    def _outgoing(self, to: Recipient, asked: Asked | None) -> Outgoing:
        label = LineLabel(self.line, self.delimiter, None if asked is None else asked.name)
        question = None if asked is None else asked.question
        return Outgoing(to, self.body, self.files, self.key, question, str(label))


@frozen
class Messages:
    """All messages of a run, in the order of their lines."""

    all: Sequence[Message]
    repeated: Sequence[tuple[int, int]]
    """Lines with the same message to the same recipient, each with the first such line."""
    doubts: Sequence[Problem] = ()
    """What may be a mistake: not sent before a person has confirmed that it is meant."""
    notes: Sequence[str] = ()
    """What is shown before sending, and needs no answer."""


def make_messages(
    recipients: Recipients,
    template: Template | None,
    folder: Path,
    *,
    allow_empty: bool = False,
    allow_repeats: bool = False,
    is_exact: bool = False,
) -> Messages:
    """Return all messages. Without a template, a column is the text; files are looked for in `folder`.

    The same message to the same recipient is refused, also with another key, unless repeats are allowed.

    Raises:
        RefusedError: with everything that is wrong with any of them.
    """
    problems, doubts = Problems([*recipients.problems]), Problems()
    if not recipients.rows:
        # Without a readable row, the columns cannot be checked.
        problems.refuse_if_any()
    own, notes = _text_of(recipients, template, problems, doubts)
    builder = _MessageBuilder(
        own, recipients, folder, problems, doubts, template is None, allow_empty, is_exact
    )
    made = [message for row in recipients.rows if (message := builder.build(row)) is not None]
    builder.report_ids()
    groups = _group_by_recipient(made)
    _report_other_names(groups, recipients, doubts)
    repeated = _find_repeats(made)
    for line, before in () if allow_repeats else repeated:
        same = f"the same message to the same recipient as on line {before}"
        problems.add(f"{same}; --allow-repeats sends it again", line)
    problems.refuse_if_any()
    notes += [*builder.notes(), *_note_of_groups(groups, repeated)]
    return Messages(made, repeated, doubts.in_order(), notes)


def _text_of(
    recipients: Recipients, template: Template | None, problems: Problems, doubts: Problems
) -> tuple[Template, list[str]]:
    """Return the template, which may be a column as it is, and notes about it."""
    notes = list[str]()
    if template is not None:
        # Without a header, the names of columns would be a patient's.
        names = recipients.columns if _has_addresses(recipients) else ()
        _check_fields(template, recipients.columns, names, problems)
        notes = check_template(template, names, problems, doubts)
    own = template or _template_of_columns(recipients.columns, problems, recipients.header_line)
    check_columns(recipients.columns, own.fields, recipients.header_line, problems)
    return own, notes


def _has_addresses(recipients: Recipients) -> bool:
    return not ADDRESSES.keys().isdisjoint(recipients.columns)


def _template_of_columns(columns: Sequence[str], problems: Problems, header: int | None) -> Template:
    found = [name for name in BODIES if name in columns]
    if not found:
        problems.add("there is no text: give --template or --template-file, or a column body", header)
    if len(found) > 1:
        problems.add("there are both a column body and a column message: which of them is the text?", header)
    return Template.of_column(next(iter(found), BODIES[0]))


def _check_fields(
    template: Template, columns: Sequence[str], names: Sequence[str], problems: Problems
) -> None:
    for name in template.fields:
        if name not in columns:
            meant = closest_name(name, filter(None, names))
            hint = f"; did you mean {{{meant}}}?" if meant else ""
            problems.add(f"the template's {{{name}}} is no column of the recipients{hint}")


@define
class _MessageBuilder:
    """Builds messages from rows, and collects what is wrong."""

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
    """Those of the template that are columns: the others are reported once."""
    has_addresses: bool = field(init=False)
    """Whether there is a column of them: that there is none is reported once, too."""

    def __attrs_post_init__(self) -> None:
        self.fields = [name for name in self.template.fields if name in self.recipients.columns]
        self.has_addresses = _has_addresses(self.recipients)

    def build(self, row: Row) -> Message | None:
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
                self.problems.add(f"no recipient: fill in one of {', '.join(ADDRESSES)}", row.line)
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
        """Add what is or may be wrong with an id, and return what certainly is."""
        problem = problem_of_id(value)
        if problem:
            self.problems.add(f"{name} {problem}", line)
        elif doubt := doubt_about_id(value):
            self.doubts.add(f"{name} {doubt}", line, value)
        self.long_numbers.setdefault(name, LongNumbers()).add(value, line)
        return problem

    def report_ids(self) -> None:
        """Add what only all ids of a column together show."""
        for name, numbers in self.long_numbers.items():
            numbers.report(name, self.problems, self.doubts)

    def notes(self) -> list[str]:
        """Return notes about the texts."""
        if not self.like_fields:
            return []
        lines = [f"line {line}" for line in self.like_fields]
        more = f" and {len(lines) - _MOST_LINES:,} more" if len(lines) > _MOST_LINES else ""
        shown = ", ".join(lines[:_MOST_LINES]) + more
        return [f"What looks like a field of another program is sent as it stands, in texts of {shown}."]

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
                # The file's name may be a patient's.
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


def recipient_key(address: str) -> str:
    """Return what is equal for addresses that are written differently, but lead to the same recipient.

    Upper and lower case make a difference to the service.
    """
    # An id can have a slash in it.
    parts = address.split("/", 2 if address.startswith("aux/") else 1)
    kind = "/".join(parts[:-1])
    return f"{_SAME_PERSON.get(kind, kind)}/{_one_space(parts[-1])}"


def _find_repeats(messages: Sequence[Message]) -> list[tuple[int, int]]:
    """Return the lines with the same message to the same recipient, each with the first such line."""
    first: dict[tuple[str, str, tuple[str, ...]], int] = {}
    real_path = cache(os.path.realpath)
    found = []
    for message in messages:
        files = tuple(sorted(map(real_path, message.files)))
        content = (recipient_key(message.to), _one_space(normalize("NFC", message.body)), files)
        line = first.setdefault(content, message.line)
        if line != message.line:
            found.append((message.line, line))
    return found


_Groups = Mapping[str, Sequence[Message]]
"""The messages of each recipient of more than one."""


def _group_by_recipient(messages: Sequence[Message]) -> _Groups:
    """Return the recipients of more than one message, with these."""
    found: dict[str, list[Message]] = {}
    for message in messages:
        found.setdefault(recipient_key(message.to), []).append(message)
    return {to: group for to, group in found.items() if len(group) > 1}


def _note_of_groups(groups: _Groups, repeated: Sequence[tuple[int, int]]) -> list[str]:
    """Return a note about recipients of several messages that are not all alike."""
    repeats = {line for line, _ in repeated}
    pairs = [
        f"line {other} as line {first.line}"
        for first, *others in groups.values()
        if (other := next((one.line for one in others if one.line not in repeats), None))
    ]
    if not pairs:
        return []
    shown = pairs[:_MOST_LINES] + (["…"] if len(pairs) > _MOST_LINES else [])
    return [f"Recipients of more than one message: {len(pairs):,} ({', '.join(shown)})."]


def _report_other_names(groups: _Groups, recipients: Recipients, doubts: Problems) -> None:
    """Add a doubt where one recipient has two names: of two patients, one would get what is the other's.

    In a group chat, several people may be spoken of.
    """
    columns = [name for name in recipients.columns if _is_personal(name)]
    lines = {one.line for to, group in groups.items() if not to.startswith(_GROUPS) for one in group}
    fields = {row.line: row.fields for row in recipients.rows if row.line in lines} if columns else {}
    for group in groups.values():
        for name in columns:
            values = [(one.line, fields.get(one.line, {}).get(name, "")) for one in group]
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


def _one_space(text: str) -> str:
    return " ".join(text.split())
