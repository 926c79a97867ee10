"""Rows that are for the same recipient: with the same message again, or with another person's name."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol
from unicodedata import normalize

from healthmsg.cli.recipients import Problems, Recipients

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


class Row(Protocol):
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


def find_repeats(messages: Sequence[Row]) -> list[tuple[int, int]]:
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


Several = Mapping[str, Sequence[Row]]
"""The messages of each recipient of more than one."""


def find_several(messages: Sequence[Row]) -> Several:
    """Return who gets more than one message."""
    found: dict[str, list[Row]] = {}
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
