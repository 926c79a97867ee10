"""Questions that are as simple as they can be: the engine's tests are about its rules, not about answers."""
# ruff: noqa: ARG002 - a question is given what others need

from typing import Any, ClassVar

from attrs import field, frozen

from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.questions.base import Given, Invalid, More, QuestionType
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.models import Option, Question


@frozen
class Text(QuestionType[str]):
    kind: ClassVar[str] = "text"
    body: str

    def content(self, texts: Texts) -> Content:
        return Content(self.body)

    def read(self, given: Given, state: Any, texts: Texts) -> str | Invalid | More:
        return given.text or Invalid("Typ iets.")

    def encode(self, value: str) -> object:
        return value

    def decode(self, document: Any) -> str:
        if not isinstance(document, str):
            raise TypeError(document)
        return document


@frozen
class Number(QuestionType[int]):
    kind: ClassVar[str] = "number"
    body: str
    most: int = 10

    def content(self, texts: Texts) -> Content:
        return Content(self.body)

    def read(self, given: Given, state: Any, texts: Texts) -> int | Invalid | More:
        if given.text is None or not given.text.isdecimal() or int(given.text) > self.most:
            return Invalid("Dat is geen getal tot en met 10.")
        return int(given.text)

    def encode(self, value: int) -> object:
        return value

    def decode(self, document: Any) -> int:
        return int(document)


@frozen
class Choice(QuestionType[str]):
    kind: ClassVar[str] = "choice"
    body: str
    options: tuple[str, ...] = ("ja", "nee")

    def content(self, texts: Texts) -> Content:
        return Content(self.body, Question([Option(name) for name in self.options]))

    def read(self, given: Given, state: Any, texts: Texts) -> str | Invalid | More:
        found = given.options[0] if given.options else (given.text or "").casefold()
        return found if found in self.options else Invalid("Kies er een.")

    def encode(self, value: str) -> object:
        return value

    def decode(self, document: Any) -> str:
        if document not in self.options:
            raise ValueError(document)
        return str(document)


@frozen
class AskAll(QuestionType[dict[str, str]]):
    kind: ClassVar[str] = "ask_all"
    body: str
    users: tuple[str, ...] = field(factory=tuple)
    break_on: str = "nee"

    def content(self, texts: Texts) -> Content:
        return Content(self.body, Question([Option("ja"), Option("nee")], users=self.users))

    def read(self, given: Given, state: Any, texts: Texts) -> dict[str, str] | Invalid | More:
        answer = given.options[0] if given.options else (given.text or "").casefold()
        if answer not in {"ja", "nee"}:
            return Invalid("Ja of nee?")
        answers = {**(state or {}), given.user_id: answer}
        if answer == self.break_on or len(answers) == len(self.users):
            return answers
        return More(answers, f"{len(answers)} van {len(self.users)}")

    def encode(self, value: dict[str, str]) -> object:
        return value

    def decode(self, document: Any) -> dict[str, str]:
        return dict(document)
