"""Questions with buttons: one of several, several of several, yes or no."""

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar, overload

from attrs import NOTHING, field, frozen

from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.questions.base import Given, Invalid, QuestionType, kept_text, unreadable
from healthmsg.bot.dialogs.questions.contact import listed
from healthmsg.bot.dialogs.questions.matching import MOST_TEXT, Words, folded, named_exactly, named_within
from healthmsg.bot.dialogs.questions.text import compiled
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.bot.options import label_of
from healthmsg.errors import InvalidInputError
from healthmsg.json_text import JSONObject
from healthmsg.models import Option, Question

V = TypeVar("V")
Layout = Literal["horizontal", "vertical"]

_LONGEST_NAME: Final = 32
_LONGEST_PART: Final = 40
_MOST_PARTS: Final = 50
_SEPARATOR: Final = re.compile(r"(\s*[|,;\n]\s*(?:(?:en|and)\s+)?|\s+(?:en|and|&|\+)\s+)", re.IGNORECASE)


@frozen(init=False)
class Choice(Generic[V]):
    """An option of a question, with a button of its own.

    `label` is what the user sees, `value` what the dialog gets: the label, if there is none. `name` is what
    a pressed button gives back and what is kept of the answer: it must stay the same as long as there are
    open dialogs. Without it, it is derived from the label. `style` is the button's colour [V].

    A typed text means this option if it is its label, its name, one of `aliases`, or its number from 1; else
    if it has one of them in it as a word, or `pattern`, a regular expression, finds something in it.

    `shown_if=False`: it is neither shown nor taken as an answer.

    Raises:
        InvalidInputError: one of them cannot be right.
    """

    label: str = field(repr=False)
    value: V = field(repr=False)
    name: str | None = field(repr=False)
    style: str | None
    aliases: tuple[str, ...] = field(repr=False)
    pattern: re.Pattern[str] | None = field(repr=False)
    shown_if: bool
    _wire_name: str = field(repr=False, eq=False)

    @overload
    def __init__(
        self: "Choice[str]",
        label: str,
        *,
        name: str | None = None,
        style: str | None = None,
        aliases: Sequence[str] = (),
        pattern: str | re.Pattern[str] | None = None,
        shown_if: bool = True,
    ) -> None: ...
    @overload
    def __init__(
        self,
        label: str,
        value: V,
        *,
        name: str | None = None,
        style: str | None = None,
        aliases: Sequence[str] = (),
        pattern: str | re.Pattern[str] | None = None,
        shown_if: bool = True,
    ) -> None: ...
    def __init__(  # noqa: PLR0913 - what the vendor's options have
        self,
        label: str,
        value: object = NOTHING,
        *,
        name: str | None = None,
        style: str | None = None,
        aliases: Sequence[str] = (),
        pattern: str | re.Pattern[str] | None = None,
        shown_if: bool = True,
    ) -> None:
        wire_name = Option(label, name=name, style=style).name  # it checks them
        if isinstance(aliases, str) or not all(isinstance(alias, str) for alias in aliases):
            raise InvalidInputError("aliases must be a list of texts")
        found = None if pattern is None else compiled(pattern)
        chosen: Any = label if value is NOTHING else value
        self.__attrs_init__(label, chosen, name, style, tuple(aliases), found, bool(shown_if), wire_name)


Options = Sequence[str | Choice[V]] | type[Enum]


@frozen
class _Kept(Generic[V]):
    """An option with its name settled."""

    choice: Choice[V] = field(repr=False)
    name: str = field(repr=False)
    style: str | None

    @property
    def option(self) -> Option:
        return Option(self.choice.label, name=self.name, style=self.style)

    @property
    def words(self) -> Words:
        choice = self.choice
        return Words.of(self.name, choice.label, choice.aliases, choice.pattern)


class Menu(Generic[V]):
    """The options of a question: which are shown, and which of them an answer means."""

    __slots__ = ("_all", "_shown", "_words")

    def __init__(self, options: "Options[V]", *, style: str | None = "theme") -> None:
        """Style: the colour of buttons that have none of their own.

        Raises:
            InvalidInputError: there is none to be shown, or two have one name or one label.
        """
        choices: list[Choice[V]] = _choices(options)
        names = _names(choices)
        self._all = {
            name: _Kept(choice, name, choice.style or style)
            for name, choice in zip(names, choices, strict=True)
        }
        self._shown = tuple(kept for kept in self._all.values() if kept.choice.shown_if)
        if not self._shown:
            raise InvalidInputError("a question with buttons needs at least one option that is shown")
        labels = [folded(kept.choice.label) or kept.choice.label for kept in self._shown]
        if len(set(labels)) < len(labels):
            raise InvalidInputError("two options have the same label, so that a typed answer may mean either")
        self._words: tuple[Words, ...] | None = None

    def __repr__(self) -> str:
        return f"<Menu of {len(self._shown)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Menu) and self._all == other._all

    def __hash__(self) -> int:
        return hash(tuple(self._all))

    def buttons(self, *, several: bool, layout: Layout) -> Question:
        """Return what is sent."""
        options = tuple(kept.option for kept in self._shown)
        return Question(options, multi_answer=several, style=layout)

    @property
    def words(self) -> tuple[Words, ...]:
        """By what the options that are shown are known; a replay needs none of it."""
        if self._words is None:
            self._words = tuple(kept.words for kept in self._shown)
        return self._words

    @property
    def all_labels(self) -> tuple[str, ...]:
        """The labels of the options that are shown."""
        return tuple(kept.choice.label for kept in self._shown)

    def labels(self, texts: Texts) -> str:
        """Return the labels as a sentence lists them."""
        return listed(self.all_labels, texts)

    def pressed(self, name: str) -> str | None:
        """Return the name of the shown option that a button's name stands for; it may be typed as well."""
        exact = next((words.name for words in self.words if words.name == name), None)
        return exact or named_exactly(name[:MOST_TEXT], self.words)

    def exactly(self, text: str) -> str | None:
        """Return the name of the option that a text is."""
        return named_exactly(text, self.words) if len(text) <= MOST_TEXT else None

    def within(self, text: str) -> set[str]:
        """Return the names of the options that a text may mean."""
        return named_within(text, self.words) if len(text) <= MOST_TEXT else set()

    def value(self, name: str, kind: str) -> V:
        """Return the value of an option, one that is not shown (any more) too.

        Raises:
            UnreadableAnswerError: there is none of that name.
        """
        if name in self._all:
            value: V = self._all[name].choice.value
            return value
        raise unreadable(kind)

    def name_of(self, value: object, kind: str) -> str:
        """Return the name of the option with a value.

        Raises:
            UnreadableAnswerError: there is none.
        """
        for name, kept in self._all.items():
            found = kept.choice.value
            if found is value or (type(found) is type(value) and found == value):
                return name
        raise unreadable(kind)


@frozen
class ChoiceQuestion(QuestionType[V]):
    """A question for one of several options: texts, `Choice`s, or the members of an `Enum`.

    A member's value is the button's label (`YES = "Ja"`), or a `Choice` or `Option`; of any other value the
    member's name is: `CALL_ME` is "Call me".

    A typed text that fits several options is no answer, and neither is one with a "niet" or "of" in it; one
    that is exactly an option is.

    Raises:
        InvalidInputError: there is no option to be shown, or two have one name or one label.
    """

    kind: ClassVar[str] = "choice"

    body: str = field(repr=False)
    options: "Options[V]" = field(repr=False)
    layout: Layout = "horizontal"
    _menu: Menu[V] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_menu", menu_of(self.options))

    def content(self, texts: Texts) -> Content:  # noqa: ARG002
        """Return what is sent."""
        return Content(self.body, self._menu.buttons(several=False, layout=self.layout))

    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> V | Invalid:  # noqa: ARG002
        """Return the value of the option."""
        name = _one(self._menu, given, texts)
        return name if isinstance(name, Invalid) else self._menu.value(name, self.kind)

    def encode(self, value: V) -> str:
        """Return the option's name."""
        return self._menu.name_of(value, self.kind)

    def decode(self, document: object) -> V:
        """Return the value of the option with that name."""
        return self._menu.value(kept_text(document, self.kind), self.kind)


@frozen
class ChoicesQuestion(QuestionType[list[V]]):
    """A question for several options, each once, in the order in which they were chosen.

    Typed ones are separated by a bar [V], a comma, a new line, "en" or "and"; each must be an option.
    `count` is how many there must be at least and at most; `None` is no end. See `ChoiceQuestion`.

    Raises:
        InvalidInputError: as for `ChoiceQuestion`; `count` cannot be right.
    """

    kind: ClassVar[str] = "choices"

    body: str = field(repr=False)
    options: "Options[V]" = field(repr=False)
    count: tuple[int, int | None] = (1, None)
    layout: Layout = "horizontal"
    _menu: Menu[V] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        check_range(self.count)
        object.__setattr__(self, "_menu", menu_of(self.options))

    def content(self, texts: Texts) -> Content:  # noqa: ARG002
        """Return what is sent."""
        return Content(self.body, self._menu.buttons(several=True, layout=self.layout))

    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> list[V] | Invalid:  # noqa: ARG002
        """Return the values of the options."""
        names = (
            self._pressed(given.options, texts) if given.options is not None else self._typed(given, texts)
        )
        if isinstance(names, Invalid):
            return names
        chosen = list(dict.fromkeys(names))
        least, most = self.count
        if len(chosen) < least:
            return Invalid(texts.choices_too_few.format(least=least))
        if most is not None and len(chosen) > most:
            return Invalid(texts.choices_too_many.format(most=most))
        return [self._menu.value(name, self.kind) for name in chosen]

    def _pressed(self, options: Sequence[str], texts: Texts) -> list[str] | Invalid:
        names = [self._menu.pressed(option) for option in options]
        known = [name for name in names if name is not None]
        return known if len(known) == len(names) else Invalid(self._unknown(texts))

    def _typed(self, given: Given, texts: Texts) -> list[str] | Invalid:
        parts = _SEPARATOR.split(given.said) if len(given.said) <= MOST_TEXT else []
        if not parts or len(parts) > 2 * _MOST_PARTS:
            return Invalid(self._unknown(texts))
        names: list[str] = []
        at = 0
        while at < len(parts):
            name, after = self._next(parts, at)
            if name is None and parts[at].strip():
                part = " ".join(parts[at].split())[:_LONGEST_PART]
                return Invalid(texts.choices_unknown.format(part=part, options=self._menu.labels(texts)))
            names += [name] if name is not None else []
            at = after
        return names or Invalid(self._unknown(texts))

    def _next(self, parts: Sequence[str], at: int) -> tuple[str | None, int]:
        """Return the option that comes next: a label may have a comma or an "en" in it."""
        for end in range(len(parts), at, -1):
            if (end - at) % 2 and (name := self._menu.exactly("".join(parts[at:end]))) is not None:
                return name, end + 1
        within = self._menu.within(parts[at])
        return (within.pop() if len(within) == 1 else None), at + 2

    def _unknown(self, texts: Texts) -> str:
        return texts.choice_unknown.format(options=self._menu.labels(texts))

    def encode(self, value: list[V]) -> list[str]:
        """Return the options' names."""
        return [self._menu.name_of(one, self.kind) for one in value]

    def decode(self, document: object) -> list[V]:
        """Return the values of the options with those names."""
        if not isinstance(document, list):
            raise unreadable(self.kind)
        return [self._menu.value(kept_text(name, self.kind), self.kind) for name in document]


def _one(menu: Menu[V], given: Given, texts: Texts) -> str | Invalid:
    """Return the name of the one option that was typed or pressed."""
    if given.options is not None:
        name = menu.pressed(given.options[0]) if len(given.options) == 1 else None
        return name or Invalid(texts.choice_unknown.format(options=menu.labels(texts)))
    if (name := menu.exactly(given.said)) is not None:
        return name
    within = menu.within(given.said)
    if len(within) == 1:
        return within.pop()
    said = texts.choice_unclear if within else texts.choice_unknown
    return Invalid(said.format(options=menu.labels(texts)))


def menu_of(options: "Options[V]") -> Menu[V]:
    """Return the menu of a question's options. A dialog makes the same question at each replay."""
    if isinstance(options, type) and issubclass(options, Enum):
        return _kept_menu(options)
    # Not of `Choice`s: those with the values 1 and True are equal.
    if isinstance(options, Iterable) and not isinstance(options, str):
        options = tuple(options)
        if all(type(one) is str for one in options):
            return _kept_menu(options)
    return Menu(options)


@lru_cache(maxsize=256)
def _kept_menu(options: Any) -> Menu[Any]:
    return Menu(options)


def check_range(count: object, name: str = "count") -> None:
    """Refuse what is not a lowest and a highest number, from 0."""
    if isinstance(count, tuple | list) and len(count) == 2:  # noqa: PLR2004 - two ends
        low, high = count
        is_low = isinstance(low, int) and not isinstance(low, bool) and low >= 0
        is_high = high is None or (isinstance(high, int) and not isinstance(high, bool) and high >= 1)
        if is_low and is_high and (high is None or low <= high):
            return
    raise InvalidInputError(
        f"{name} must be two whole numbers, the lowest and the highest, or None for no highest"
    )


def _choices(options: object) -> list[Any]:
    """Return all options in one form."""
    if isinstance(options, type) and issubclass(options, Enum):
        return [_of_member(member) for member in options]
    if isinstance(options, str) or not isinstance(options, Iterable):
        raise InvalidInputError("options must be a list of texts or Choices, or an Enum")
    found = [Choice(one) if isinstance(one, str) else one for one in options]
    if not all(isinstance(one, Choice) for one in found):
        raise InvalidInputError("options must be a list of texts or Choices, or an Enum")
    return found


def _of_member(member: Enum) -> Choice[Enum]:
    value: object = member.value
    if isinstance(value, Choice):
        return Choice(
            value.label,
            member,
            name=value.name,
            style=value.style,
            aliases=value.aliases,
            pattern=value.pattern,
            shown_if=value.shown_if,
        )
    if isinstance(value, Option):
        return Choice(value.label, member, name=value.name, style=value.style)
    return Choice(label_of(member), member)


def _names(choices: Sequence[Choice[V]]) -> list[str]:
    """Return a name for each: its own, or one that is derived from its label and belongs to no other."""
    given = [choice.name for choice in choices if choice.name is not None]
    if len(set(given)) < len(given):
        raise InvalidInputError("two options have the same name, so that their answers would look the same")
    taken = set(given)
    names = []
    for choice in choices:
        name = choice.name
        if name is None:
            name = derived = choice._wire_name  # noqa: SLF001 - of the same module
            number = 2
            while name in taken:
                end = f"_{number}"
                name, number = derived[: _LONGEST_NAME - len(end)] + end, number + 1
            taken.add(name)
        names.append(name)
    return names
