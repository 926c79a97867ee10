"""A method for each type of question."""

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, timedelta
from enum import Enum
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

from healthmsg.bot.dialogs.asking import Ask
from healthmsg.bot.dialogs.questions.base import QuestionType
from healthmsg.bot.dialogs.questions.choices import Choice, ChoiceQuestion, ChoicesQuestion, Layout
from healthmsg.bot.dialogs.questions.confirm import ConfirmQuestion
from healthmsg.bot.dialogs.questions.contact import EmailQuestion, PhoneQuestion
from healthmsg.bot.dialogs.questions.dates import DateQuestion
from healthmsg.bot.dialogs.questions.files import Files, FilesQuestion, Size
from healthmsg.bot.dialogs.questions.mentions import MentionQuestion
from healthmsg.bot.dialogs.questions.numbers import Between, NumberQuestion
from healthmsg.bot.dialogs.questions.several import AskAllQuestion, Summary
from healthmsg.bot.dialogs.questions.text import TextQuestion
from healthmsg.bot.dialogs.questions.verification import VerificationQuestion, VerificationResult
from healthmsg.bot.dialogs.run import Run
from healthmsg.models import User

T = TypeVar("T")
V = TypeVar("V")
A = TypeVar("A")
E = TypeVar("E", bound=Enum)


class AskOptions(TypedDict, total=False):
    """What every question takes; see `Dialog.ask`."""

    key: str | None
    remind: timedelta | Sequence[timedelta]
    timeout: timedelta | None
    tries: int | None
    invalid: str | None


class Asks:
    """The questions of a dialog. Each raises what `ask` raises."""

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    def ask(  # noqa: PLR0913 - what every question has
        self,
        question: QuestionType[T],
        *,
        key: str | None = None,
        remind: timedelta | Sequence[timedelta] = (),
        timeout: timedelta | None = None,
        tries: int | None = None,
        invalid: str | None = None,
    ) -> Awaitable[T]:
        """Ask a question, and wait for its answer.

        *key* is what it is known by after its wording was changed, and by which an answer can be given
        before; without it, its text. *remind* repeats it so long after it was asked, or after each of several
        times. After *tries* invalid answers there is no further one. *invalid* is said in place of the
        question's own words on what is wrong.

        Raises:
            Stopped: the user typed a stop word.
            NoAnswer: *timeout* has passed.
            TooManyTries: *tries* has been reached.
            HandedOver: a person had taken the chat over meanwhile.
        """
        return Ask(self._run, question, key, remind, timeout, tries, invalid)

    def text(
        self,
        body: str,
        *,
        min_length: int | None = None,
        max_length: int | None = None,
        pattern: str | re.Pattern[str] | None = None,
        **ask: Unpack[AskOptions],
    ) -> Awaitable[str]:
        """Ask for a text; see `TextQuestion`."""
        return Ask(self._run, TextQuestion(body, min_length, max_length, pattern), **ask)

    @overload
    def number(
        self,
        body: str,
        *,
        between: Between | None = None,
        whole: Literal[True] = True,
        **ask: Unpack[AskOptions],
    ) -> Awaitable[int]: ...
    @overload
    def number(
        self, body: str, *, between: Between | None = None, whole: bool, **ask: Unpack[AskOptions]
    ) -> Awaitable[int | float]: ...
    def number(
        self, body: str, *, between: Between | None = None, whole: bool = True, **ask: Unpack[AskOptions]
    ) -> Awaitable[Any]:
        """Ask for a number; see `NumberQuestion`."""
        return Ask(self._run, NumberQuestion(body, between, whole), **ask)

    def email(
        self, body: str, *, domains: Sequence[str] | None = None, **ask: Unpack[AskOptions]
    ) -> Awaitable[str]:
        """Ask for an e-mail address; see `EmailQuestion`."""
        return Ask(self._run, EmailQuestion(body, domains), **ask)

    def phone(
        self,
        body: str,
        *,
        countries: Sequence[str] | None = None,
        region: str = "NL",
        **ask: Unpack[AskOptions],
    ) -> Awaitable[str]:
        """Ask for a phone number; see `PhoneQuestion`."""
        return Ask(self._run, PhoneQuestion(body, countries, region), **ask)

    def date(
        self,
        body: str,
        *,
        after: date | None = None,
        before: date | None = None,
        format: str | None = None,  # noqa: A002 - the vendor's word
        **ask: Unpack[AskOptions],
    ) -> Awaitable[date]:
        """Ask for a date; see `DateQuestion`."""
        return Ask(self._run, DateQuestion(body, after, before, format), **ask)

    def confirm(
        self,
        body: str,
        *,
        yes: str | Choice[Any] | None = None,
        no: str | Choice[Any] | None = None,
        layout: Layout = "horizontal",
        **ask: Unpack[AskOptions],
    ) -> Awaitable[bool]:
        """Ask for yes or no, with buttons; see `ConfirmQuestion`."""
        return Ask(self._run, ConfirmQuestion(body, yes, no, layout), **ask)

    @overload
    def choice(
        self, body: str, options: type[E], *, layout: Layout = "horizontal", **ask: Unpack[AskOptions]
    ) -> Awaitable[E]: ...
    @overload
    def choice(
        self, body: str, options: Sequence[str], *, layout: Layout = "horizontal", **ask: Unpack[AskOptions]
    ) -> Awaitable[str]: ...
    @overload
    def choice(
        self,
        body: str,
        options: Sequence[Choice[V]],
        *,
        layout: Layout = "horizontal",
        **ask: Unpack[AskOptions],
    ) -> Awaitable[V]: ...
    def choice(
        self, body: str, options: Any, *, layout: Layout = "horizontal", **ask: Unpack[AskOptions]
    ) -> Awaitable[Any]:
        """Ask for one of several, with buttons; see `ChoiceQuestion`."""
        return Ask(self._run, ChoiceQuestion(body, options, layout), **ask)

    @overload
    def choices(
        self,
        body: str,
        options: type[E],
        *,
        count: tuple[int, int | None] = (1, None),
        layout: Layout = "horizontal",
        **ask: Unpack[AskOptions],
    ) -> Awaitable[list[E]]: ...
    @overload
    def choices(
        self,
        body: str,
        options: Sequence[str],
        *,
        count: tuple[int, int | None] = (1, None),
        layout: Layout = "horizontal",
        **ask: Unpack[AskOptions],
    ) -> Awaitable[list[str]]: ...
    @overload
    def choices(
        self,
        body: str,
        options: Sequence[Choice[V]],
        *,
        count: tuple[int, int | None] = (1, None),
        layout: Layout = "horizontal",
        **ask: Unpack[AskOptions],
    ) -> Awaitable[list[V]]: ...
    def choices(
        self,
        body: str,
        options: Any,
        *,
        count: tuple[int, int | None] = (1, None),
        layout: Layout = "horizontal",
        **ask: Unpack[AskOptions],
    ) -> Awaitable[list[Any]]:
        """Ask for some of several, with buttons; see `ChoicesQuestion`."""
        return Ask(self._run, ChoicesQuestion(body, options, count, layout), **ask)

    def files(
        self,
        body: str,
        *,
        count: tuple[int, int | None] = (1, 1),
        size: Size | None = None,
        extensions: Sequence[str] | None = None,
        types: Sequence[str] | None = None,
        **ask: Unpack[AskOptions],
    ) -> Awaitable[Files]:
        """Ask for files, in one message or several; see `FilesQuestion`.

        The answer is a list of attachments; its `text` is what the user wrote beside them.
        """
        return Ask(self._run, FilesQuestion(body, count, size, extensions, types), **ask)

    def mention(
        self,
        body: str,
        *,
        everybody: bool = False,
        robots: bool = False,
        always: Sequence[User] = (),
        **ask: Unpack[AskOptions],
    ) -> Awaitable[list[User]]:
        """Ask for users to be mentioned; the bot itself counts with *robots* only. See `MentionQuestion`."""
        me = self._run.tools.me
        return Ask(self._run, MentionQuestion(body, everybody, (me,) if me else (), robots, always), **ask)

    def verification(
        self, provider: str = "idin", *, body: str = "", **ask: Unpack[AskOptions]
    ) -> Awaitable[VerificationResult]:
        """Have the user prove who they are; see `VerificationQuestion`.

        A user who cannot be verified with this provider is not asked: the result is not verified, without a
        message. A refusal may get lost with the line, and is in no list: set a *timeout*.
        """
        options: AskOptions = {**ask}
        options["key"] = ask.get("key") or body or provider
        return Ask(self._run, VerificationQuestion(provider, body), **options)

    def ask_all(
        self,
        users: Sequence[User | str],
        question: QuestionType[A],
        *,
        stop_on: A | Callable[[A], bool] | None = None,
        count: int | None = None,
        summary: Summary[A] | bool = False,
        **ask: Unpack[AskOptions],
    ) -> Awaitable[dict[str, A]]:
        """Ask several users of the chat at once; see `AskAllQuestion`."""
        return Ask(self._run, AskAllQuestion(question, users, stop_on, count, summary), **ask)
