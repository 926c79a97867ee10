"""The text of the messages, with fields to fill in, and what looks like fields of other programs.

Those would be sent as they are: {{first_name}}, %voornaam%.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import Formatter
from typing import Final

from attrs import field, frozen

from healthmsg.cli.problems import Problems, RefusedError
from healthmsg.cli.recipients.cells import doubt_about_text, problem_of_value
from healthmsg.cli.recipients.reading import closest_name, fold_name

_HOW: Final = "a field is written {first_name}, and a brace as such {{ or }}"
_INNER: Final = r"[^{}\[\]<>«»%\n]{1,60}"
_PLAIN: Final = r"[^\W\d_](?:[\w .\-/]{0,38}\w)?"
_PLACEHOLDER: Final = re.compile(
    rf"""
      \$?\{{\{{?(?P<braces>[^{{}}\n]{{1,60}})\}}\}}?      # {{voornaam}}, ${{voornaam}}, {{% if voornaam %}}
    | \[\[?(?!mention=)(?P<brackets>{_INNER})\]\]?       # [voornaam], but not the service's own
    | «\s?(?P<merge>{_INNER})\s?»                           # Word's merge fields
    | <<(?P<angles>{_INNER})>> | <%=?(?P<erb>{_INNER})%>
    | <(?P<tag>/?{_PLAIN}/?)>
    | %\((?P<printf>{_INNER})\)[sd] | %(?P<percent>{_PLAIN})%
    | \*\|(?P<star>{_INNER})\|\*
    | (?<![\w#])\#(?P<hash>[^\W\d_]\w*)\#(?!\w) | (?<![\w@])@(?P<at>[^\W\d_]\w*)@(?!\w)
    | (?<!\w)__(?P<under>[^\W\d_]\w*?)__(?!\w)
    | (?<![\w$])\$(?P<dollar>[^\W\d_]\w*)
    | (?<![:\\])(?P<escape>\\[nrt])(?![a-z])              # \n, for the end of a line
    """,
    re.VERBOSE,
)
_SIGNS: Final = re.compile(r"[{\[«<%*#@_$\\]")
# A field's own name, and what stands before it (`user.first_name`) or after it (`first_name | upper`).
_PART: Final = re.compile(r"[^\W\d_][\w \-]*")
_USUAL: Final = frozenset(
    {
        *("naam", "voornaam", "achternaam", "tussenvoegsel", "roepnaam", "volledige_naam", "aanhef"),
        *("titel", "name", "first_name", "firstname", "fname", "last_name", "lastname", "lname"),
        *("full_name", "surname", "vorname", "nachname", "anrede", "nom", "prénom", "prenom", "nombre"),
        *("apellido", "nome", "cognome", "imię", "nazwisko", "ad", "soyad", "geboortedatum", "patient"),
        *("patiënt", "cliënt", "datum", "tijd", "date", "time", "dag", "arts", "behandelaar", "locatie"),
        *("afdeling", "email", "telefoon"),
    }
)


@frozen
class Template:
    """Text and fields in turn."""

    parts: Sequence[tuple[str, str | None]] = field(repr=False)
    """Text, and the folded name of the field after it, if there is one."""

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Parse a template. A field is the name of a column, and nothing else.

        Raises:
            RefusedError: it is empty, or has something else in braces.
        """
        if not text.strip():
            raise RefusedError("the template is empty")
        try:
            found = list(Formatter().parse(text))
        except ValueError:
            found = None
        if found is None:
            raise RefusedError(f"the template has a brace that is not closed, or not opened: {_HOW}")
        return cls(tuple((before, _field(name, form, how)) for before, name, form, how in found))

    @classmethod
    def of_column(cls, name: str) -> "Template":
        """Return the template that is a column as it is."""
        return cls((("", name),))

    @property
    def fields(self) -> tuple[str, ...]:
        """The folded names of its fields, each once."""
        return tuple(dict.fromkeys(name for _, name in self.parts if name is not None))

    @property
    def own_text(self) -> str:
        """The text that all recipients get, with an end of line for each field."""
        return "".join(text if name is None else f"{text}\n" for text, name in self.parts)

    def fill_in(self, fields: Mapping[str, str]) -> str:
        """Return the text for one recipient, who must have all of the fields."""
        return "".join(text if name is None else text + fields[name] for text, name in self.parts)


def _field(name: str | None, form: str | None, conversion: str | None) -> str | None:
    if name is None:
        return None
    if form or conversion or any(sign in name for sign in ".[]{}:!"):
        raise RefusedError(f"the template has more than a name in a pair of braces: {_HOW}")
    folded = fold_name(name)
    if not folded or folded.isdecimal():
        raise RefusedError(f"the template has a field without a name: {_HOW}")
    return folded


@frozen
class Placeholder:
    """Something in a text that looks like a field."""

    text: str = field(repr=False)
    """As it was found."""
    column: str | None
    """The column that is probably meant; `None`: it may be meant as it is."""


def find_placeholders(text: str, columns: Sequence[str], *, is_loose: bool = False) -> Iterator[Placeholder]:
    """Yield each. `is_loose`: a name that is nearly that of a column counts, too."""
    if not _SIGNS.search(text):
        return
    for found in _PLACEHOLDER.finditer(text):
        inner = next(filter(None, found.groups()), "")
        yield Placeholder(found[0], _column(inner, columns, is_loose=is_loose))


def check_template(
    template: Template, columns: Sequence[str], problems: Problems, doubts: Problems
) -> list[str]:
    """Check the text of a template itself, and return what is only noted."""
    text = template.own_text
    if problem := problem_of_value(text.strip()):
        problems.add(f"the template {problem}")
    elif doubt := doubt_about_text(text):
        doubts.add(f"the template {doubt}")
    likely = dict[str, str]()
    unlikely = dict[str, None]()
    for found in find_placeholders(text, columns, is_loose=True):
        if found.column is not None:
            likely.setdefault(found.text, found.column)
        else:
            unlikely[found.text] = None
    for sent, column in likely.items():
        # In the template, a brace as such is doubled.
        written = sent.replace("{", "{{").replace("}", "}}")
        problems.add(f"the template's {written} would be sent as {sent}: the field is written {{{column}}}")
    if not unlikely:
        return []
    return [f"The template has what looks like a field or a sign, sent as it stands: {', '.join(unlikely)}."]


def _column(inner: str, columns: Iterable[str], *, is_loose: bool) -> str | None:
    if inner.startswith("\\"):
        return None
    names = [name for name in columns if name]
    parts = [fold_name(part) for part in (inner, *_PART.findall(inner))]
    for part in parts:
        if part in names or part in _USUAL:
            return part
        if part.replace("_", "") in {name.replace("_", "") for name in names}:
            return part
    if is_loose and parts:
        return closest_name(parts[-1], names)
    return None
