"""One question to several users."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, ClassVar, Final, Generic, TypeVar

from attrs import evolve, field, frozen

from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.questions.base import (
    Given,
    Invalid,
    More,
    QuestionType,
    unreadable,
)
from healthmsg.bot.dialogs.questions.contact import listed
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.bot.dialogs.questions.verification import VerificationQuestion
from healthmsg.errors import InvalidInputError
from healthmsg.json_text import JSONObject
from healthmsg.models import User
from healthmsg.validation import check_count

A = TypeVar("A")
Summary = Callable[[Mapping[str, A], Sequence[str]], str | None]
"""Of the answers by user id, and the ids of those who have not answered, makes a text; `None` for none."""

_ANY: Final = object()
_ANSWERS: Final = "answers"
_PARTS: Final = "parts"


@frozen
class Progress(Generic[A]):
    """Who has answered what, and who has not yet."""

    answers: Mapping[str, A] = field(repr=False)
    missing: tuple[str, ...] = field(repr=False)


@frozen
class AskAllQuestion(QuestionType[dict[str, A]]):
    """One question to several users of a chat; the answers come back by user id, in the order they came in.

    One message asks them all. Each answers once, and the first answer stands. It is over when all have
    answered, or when `count` of them have, or when an answer is `stop_on`: a value, or a function of the
    answer that returns whether it is over. Who has not answered is then not in the result.

    `summary`: after each answer but the last one it is said how far it is: with True in the words of the
    texts, or a function makes the text. What is no answer is said to its user, and the others are not asked
    again.

    `ask` may be any question but one for verification, which is a request to one user. `people` are users or
    their ids; of a `User` with a name the summary has the name, of others a mention.

    Raises:
        InvalidInputError: `people` is empty, or `count` is not from 1 to their number, or `ask` cannot be.
    """

    kind: ClassVar[str] = "ask_all"

    ask: QuestionType[A] = field(repr=False)
    people: Sequence[User | str] = field(repr=False)
    stop_on: A | Callable[[A], bool] | object = field(default=_ANY, repr=False)
    count: int | None = None
    summary: "Summary[A] | bool" = field(default=False, repr=False)
    _names: Mapping[str, str] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.ask, VerificationQuestion | AskAllQuestion) or not isinstance(
            self.ask, QuestionType
        ):
            raise InvalidInputError("ask: this question cannot be put to several users at once")
        if isinstance(self.people, str | User) or not all(isinstance(one, str | User) for one in self.people):
            raise InvalidInputError("people must be a list of users or of their ids")
        users = {one.id: one for one in (one if isinstance(one, User) else User(one) for one in self.people)}
        if not users or not all(user.strip() for user in users):
            raise InvalidInputError("people must be at least one user, and no id may be empty")
        if self.count is not None and check_count(self.count, "count", at_least=1) > len(users):
            raise InvalidInputError("count must not be above the number of users")
        names = {user_id: user.full_name or user.mention for user_id, user in users.items()}
        object.__setattr__(self, "_names", names)

    @property
    def body(self) -> str:  # type: ignore[override] # that of the question which is put to all
        """The question's text."""
        return self.ask.body

    @property
    def users(self) -> tuple[str, ...]:
        """The ids of those who are asked, each once."""
        return tuple(self._names)

    def content(self, texts: Texts) -> Content:
        """Return what is sent: buttons are for those who are asked."""
        return _asking(self.ask.content(texts), self.users)

    def content_again(self, state: JSONObject | None, texts: Texts) -> Content:
        """Return what is sent when it is asked once more: only those who have not answered are asked [V]."""
        return _asking(self.ask.content(texts), self.progress(state).missing)

    def progress(self, state: JSONObject | None) -> Progress[A]:
        """Return how far it is; *state* is that of the last `More`."""
        answers = self._answers(_part_of(state, _ANSWERS))
        return Progress(answers, tuple(user for user in self.users if user not in answers))

    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> dict[str, A] | Invalid | More:
        """Return all answers, or what is known of them so far."""
        encoded, parts = dict(_part_of(state, _ANSWERS)), dict(_part_of(state, _PARTS))
        user = given.user_id
        if user not in self._names or user in encoded:
            return More({_ANSWERS: encoded, _PARTS: parts})
        part: Any = parts.get(user)
        found = self.ask.read(given, part if isinstance(part, dict) else None, texts)
        if isinstance(found, Invalid):
            kept = parts if found.state is None else {**parts, user: found.state}
            return More({_ANSWERS: encoded, _PARTS: kept}, found.reason)
        if isinstance(found, More):
            return More({_ANSWERS: encoded, _PARTS: {**parts, user: found.state}}, found.say)
        encoded[user] = self.ask.encode(found)
        parts.pop(user, None)
        answers = {**self._answers(_part_of(state, _ANSWERS)), user: found}
        if len(answers) >= (self.count or len(self.users)) or self._ends_it(found):
            return answers
        missing = tuple(one for one in self.users if one not in answers)
        return More({_ANSWERS: encoded, _PARTS: parts}, self._summary(answers, missing, texts))

    def _ends_it(self, answer: A) -> bool:
        if self.stop_on is _ANY or self.stop_on is None:
            return False
        if callable(self.stop_on):
            return bool(self.stop_on(answer))
        # True is not 1: a question for a number may end at 1, one for yes or no at True.
        return type(self.stop_on) is type(answer) and self.stop_on == answer

    def _summary(self, answers: Mapping[str, A], missing: Sequence[str], texts: Texts) -> str | None:
        if not self.summary:
            return None
        if callable(self.summary):
            return self.summary(answers, missing)
        names = listed([self._names[user] for user in missing], texts)
        said = texts.summary.format(count=len(answers), total=len(self.users))
        return f"{said} {texts.summary_missing.format(names=names)}"

    def _answers(self, encoded: Mapping[str, object]) -> dict[str, A]:
        return {user: self.ask.decode(answer) for user, answer in encoded.items()}

    def read_known(
        self, value: object, texts: Texts, today: date | None = None
    ) -> dict[str, A] | Invalid | More:
        """Return what answers mean that were known before, by user id. The others are asked still."""
        if not isinstance(value, Mapping):
            return Invalid(self.ask.body)
        found: dict[str, A] | Invalid | More = More({_ANSWERS: {}, _PARTS: {}})
        for user, answer in value.items():
            if answer is None or str(user) not in self._names:
                continue
            known = self.ask.read_known(answer, texts, today)
            if isinstance(known, Invalid | More):
                continue
            state: Any = found.state if isinstance(found, More) else {}
            encoded = {**state.get(_ANSWERS, {}), str(user): self.ask.encode(known)}
            answers = self._answers(encoded)
            found = More({_ANSWERS: encoded, _PARTS: {}})
            if len(answers) >= (self.count or len(self.users)) or self._ends_it(known):
                return answers
        return found

    def encode(self, value: dict[str, A]) -> dict[str, object]:
        """Return the answers as JSON, by user id."""
        return {user: self.ask.encode(answer) for user, answer in value.items()}

    def decode(self, document: object) -> dict[str, A]:
        """Return the answers by user id."""
        if not isinstance(document, dict):
            raise unreadable(self.kind)
        return self._answers(document)


def _asking(content: Content, users: Sequence[str]) -> Content:
    if content.question is None:
        return content
    return evolve(content, question=evolve(content.question, users=tuple(users)))


def _part_of(state: JSONObject | None, name: str) -> Mapping[str, object]:
    part = None if state is None else state.get(name)
    return part if isinstance(part, Mapping) else {}
