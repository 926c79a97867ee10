"""A question for yes or no."""

import re
from functools import lru_cache
from typing import Any, ClassVar, Final

from attrs import field, frozen

from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.questions.base import Given, Invalid, More, QuestionType, unreadable
from healthmsg.bot.dialogs.questions.choices import Choice, Layout, Menu
from healthmsg.bot.dialogs.questions.matching import MOST_TEXT, folded
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.errors import InvalidInputError
from healthmsg.json_text import JSONObject

# fmt: off
_YES: Final = frozenset((
    "ja", "j", "jawel", "jazeker", "jep", "yes", "y", "yep", "yeah", "sure", "zeker", "natuurlijk", "klopt",
    "dat klopt", "akkoord", "oke", "ok", "okay", "prima", "goed", "is goed", "graag", "doe maar",
    "yes please", "of course", "correct", "agreed", "\U0001f44d",
))
_NO: Final = frozenset((
    "nee", "n", "neen", "nope", "no", "nee dank u", "nee dank je", "nee bedankt", "no thanks", "no thank you",
    "liever niet", "rather not", "klopt niet", "dat klopt niet", "niet akkoord", "zeker niet",
    "of course not", "\U0001f44e",
))
_TAKES_BACK: Final = frozenset((
    "niet", "geen", "nooit", "maar", "of", "tenzij", "behalve", "misschien",
    "not", "never", "no", "but", "or", "unless", "except", "maybe", "perhaps",
))
# fmt: on
# A sentence that begins with one of these means it, as long as nothing in it takes that back.
_YES_FIRST: Final = frozenset(("ja", "jazeker", "yes", "yep"))
_NO_FIRST: Final = frozenset(("nee", "neen", "nope"))
_WORD: Final = re.compile(r"[\w']+")


@frozen
class ConfirmQuestion(QuestionType[bool]):
    """A question for yes or no, with a green and a red button [V].

    `yes` and `no` are the buttons' labels, or `Choice`s, whose values do not matter; without them they are
    those of the texts. Beside what a `Choice` takes, the usual words are understood in Dutch and English,
    whatever the labels: "ja", "nee, dank u", "yes please", "klopt". A text with both, or with a "maar" in it,
    is no answer.

    Raises:
        InvalidInputError: both have the same label or name.
    """

    kind: ClassVar[str] = "confirm"

    body: str = field(repr=False)
    yes: str | Choice[Any] | None = field(default=None, repr=False)
    no: str | Choice[Any] | None = field(default=None, repr=False)
    layout: Layout = "horizontal"

    def __attrs_post_init__(self) -> None:
        if self.yes is not None and self.no is not None:
            self._menu_of(self.yes, self.no)

    def content(self, texts: Texts) -> Content:
        """Return what is sent."""
        return Content(self.body, self._menu(texts).buttons(several=False, layout=self.layout))

    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> bool | Invalid:  # noqa: ARG002
        """Return whether it is yes."""
        menu = self._menu(texts)
        options = given.options
        if options is None:
            found = self._typed(given.said, menu)
        else:
            found = self._chosen(menu.pressed(options[0]), menu) if len(options) == 1 else None
        if found is None:
            return Invalid(texts.choice_unknown.format(options=menu.labels(texts)))
        return found

    def _typed(self, text: str, menu: Menu[bool]) -> bool | None:
        if len(text) > MOST_TEXT:
            return None
        if (name := menu.exactly(text)) is not None:
            return self._chosen(name, menu)
        wanted = folded(text)
        # A label such as "Nee, ga door" for yes: the usual words would mean the opposite.
        if not self._has_odd_labels(menu):
            plain = " ".join(_WORD.findall(wanted)) or wanted
            meant = _meant(plain)
            if meant is not None:
                return meant
            if not {*plain.split()}.isdisjoint(_YES_FIRST | _NO_FIRST):
                return None  # it has been weighed above
        within = menu.within(text)
        return self._chosen(within.pop(), menu) if len(within) == 1 else None

    def _chosen(self, name: str | None, menu: Menu[bool]) -> bool | None:
        return None if name is None else menu.value(name, self.kind)

    def _has_odd_labels(self, menu: Menu[bool]) -> bool:
        yes, no = (_WORD.findall(folded(label))[:1] for label in menu.all_labels)
        return not {*yes}.isdisjoint(_NO) or not {*no}.isdisjoint(_YES)

    def _menu(self, texts: Texts) -> Menu[bool]:
        yes = texts.yes if self.yes is None else self.yes
        return self._menu_of(yes, texts.no if self.no is None else self.no)

    def _menu_of(self, yes: "str | Choice[Any]", no: "str | Choice[Any]") -> Menu[bool]:
        if not all(isinstance(one, str | Choice) for one in (yes, no)):
            raise InvalidInputError("yes and no must be texts or Choices")
        # A dialog makes the same question at each replay.
        return _kept_menu(yes, no) if type(yes) is str and type(no) is str else _menu_of(yes, no)

    def encode(self, value: bool) -> bool:  # noqa: FBT001 - the answer
        """Return it as it is."""
        return value

    def decode(self, document: object) -> bool:
        """Return it as it is."""
        if isinstance(document, bool):
            return document
        raise unreadable(self.kind)

    def read_known(
        self,
        value: object,
        texts: Texts,
        today: object = None,  # noqa: ARG002 - no day is needed
    ) -> bool | Invalid | More:
        """Return what an answer means that was known before: also True and False."""
        if isinstance(value, bool):
            return value
        return super().read_known(value, texts)


def _menu_of(yes: "str | Choice[Any]", no: "str | Choice[Any]") -> Menu[bool]:
    return Menu([_with_value(yes, True, "green"), _with_value(no, False, "red")])


_kept_menu: Final = lru_cache(maxsize=256)(_menu_of)


def _meant(plain: str) -> bool | None:
    """Return what the usual words mean, if that is clear."""
    if plain in _YES:
        return True
    if plain in _NO:
        return False
    first, *rest = plain.split() or [""]
    if not _TAKES_BACK.isdisjoint(rest):
        return None
    if first in _YES_FIRST and _NO_FIRST.isdisjoint(rest):
        return True
    return False if first in _NO_FIRST and _YES_FIRST.isdisjoint(rest) else None


def _with_value(choice: "str | Choice[Any]", value: bool, style: str) -> Choice[bool]:  # noqa: FBT001 - the answer
    if isinstance(choice, str):
        return Choice(choice, value, style=style)
    return Choice(
        choice.label,
        value,
        name=choice.name,
        style=choice.style or style,
        aliases=choice.aliases,
        pattern=choice.pattern,
    )
