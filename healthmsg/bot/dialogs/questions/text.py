"""A question for any text."""

import re
from datetime import date
from typing import ClassVar

from attrs import field, frozen

from healthmsg.bot.dialogs.questions.base import Given, Invalid, More, QuestionType, kept_text
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.errors import InvalidInputError
from healthmsg.json_text import JSONObject
from healthmsg.validation import check_count

# With a letter, a digit or an underscore in it [V], in any script. A smiley alone is an answer too.
_says_something = re.compile(r"\w|[^\x00-\u2fff\ufffd]").search


@frozen
class TextQuestion(QuestionType[str]):
    """A question for text with a letter or a digit in it [V]. Blanks around it are left out.

    Lengths are in characters. `pattern` is a regular expression that is found somewhere in the text, as the
    vendor's are; `^` and `$` make it the whole text. One that takes long holds up the bot.

    Raises:
        InvalidInputError: a length is below 0, they exclude each other, or `pattern` is none.
    """

    kind: ClassVar[str] = "text"

    body: str = field(repr=False)
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | re.Pattern[str] | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        low, high = self.min_length, self.max_length
        if low is None and high is None and self.pattern is None:
            return  # the usual one, which a replay makes for each answer
        for length, name in ((low, "min_length"), (high, "max_length")):
            if length is not None:
                check_count(length, name)
        if low is not None and high is not None and low > high:
            raise InvalidInputError("min_length must not be above max_length")
        if self.pattern is not None:
            compiled(self.pattern)

    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> str | Invalid:  # noqa: ARG002
        """Return the text."""
        text = given.typed
        if self.pattern is None and not _says_something(text):
            return Invalid(texts.text_missing)
        if self.min_length is not None and len(text) < self.min_length:
            return Invalid(texts.text_too_short.format(min_length=self.min_length))
        if self.max_length is not None and len(text) > self.max_length:
            return Invalid(texts.text_too_long.format(max_length=self.max_length))
        if self.pattern is not None and compiled(self.pattern).search(text) is None:
            return Invalid(texts.text_unfit)
        return text

    def read_known(self, value: object, texts: Texts, today: date | None = None) -> str | Invalid | More:
        """Return a text that was known before, or a number or a date as text; True and False are none."""
        return (
            Invalid(texts.text_missing)
            if isinstance(value, bool)
            else super().read_known(value, texts, today)
        )

    def encode(self, value: str) -> str:
        """Return it as it is."""
        return value

    def decode(self, document: object) -> str:
        """Return it as it is."""
        return kept_text(document, self.kind)


def compiled(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    """Return a regular expression; the case of letters does not matter, unless it is compiled already.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        return re.compile(pattern, re.IGNORECASE) if isinstance(pattern, str) else re.compile(pattern)
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        problem = type(error).__name__
    raise InvalidInputError(f"pattern must be a regular expression, and cannot be compiled ({problem})")
