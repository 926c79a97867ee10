"""Questions with buttons: how one is read, shown and answered."""

import re
from collections.abc import Sequence
from typing import Final

from attrs import asdict, field, frozen

from healthmsg.sandbox import hub
from healthmsg.sandbox.call import Body, bad_request
from healthmsg.sandbox.records import JSON, Person, StoredChat, StoredMessage

STYLES: Final = ("horizontal", "vertical")
"""How the buttons are laid out [V]; the first one is the default [A]."""
_is_name: Final = re.compile(r"\w{1,32}", re.ASCII).fullmatch


@frozen
class Option:
    """A button of a question [V]."""

    name: str
    label: str
    style: str | None


@frozen(eq=False)
class Question:
    """A question with options to choose from [V]."""

    style: str
    multi_answer: bool
    users: Sequence[str]
    """Ids of those who are asked; empty: all members [A]."""
    options: Sequence[Option]
    answers: dict[str, Sequence[str]] = field(factory=dict)
    """The names of the chosen options, by the id of the user who chose."""

    @classmethod
    def read(cls, body: Body) -> "Question":
        """Read the `question` of a message [V].

        What may be left out, and what a strict sandbox refuses, is assumed [A].
        """
        style = body.optional_text("style") or STYLES[0]
        if body.strict and style not in STYLES:
            raise bad_request(f"style must be one of {', '.join(STYLES)}.")
        options = [_read_option(option) for option in body.objects("options")]
        share_a_name = len({option.name for option in options}) < len(options)
        if not options or (body.strict and share_a_name):
            raise bad_request("options must not be empty, and their names must differ.")
        return cls(
            style=style,
            multi_answer=body.flag("multi_answer"),
            users=body.optional_texts("users"),
            options=options,
        )

    def to_json(self) -> JSON:
        """Describe the question [V]; where its answers are is assumed [A]."""
        return {
            "type": "question",
            "multi_answer": self.multi_answer,
            "style": self.style,
            "users": self.users,
            "options": [asdict(option, filter=lambda _, value: value is not None) for option in self.options],
            "answers": [{"user_id": user_id, "options": names} for user_id, names in self.answers.items()],
        }


def _read_option(body: Body) -> Option:
    name = body.text("name", may_be_blank=not body.strict)
    if body.strict and not _is_name(name):
        raise bad_request("An option's name must be 1 to 32 letters (a-z), digits or underscores.")
    label = body.text("label", may_be_blank=not body.strict)
    return Option(name=name, label=label, style=body.optional_text("style"))


def answer_question(
    chat: StoredChat, message: StoredMessage, names: Sequence[str], person: Person | None
) -> hub.Announcement:
    """Record what a person chose, in place of what the same person chose before [A]; return what to announce.

    Raises:
        ValueError: the message asks nothing, or not this person, or these cannot be chosen.
    """
    question = message.payload
    if not isinstance(question, Question):
        raise ValueError("this message is no question")  # noqa: TRY004 - the caller passed an id
    asked = [member for member in chat.members if not question.users or member.id in question.users]
    if person is None:
        person = next((member for member in asked if member is not message.sender), None)
    if person not in asked:
        raise ValueError("this question is not for that user")
    if not names or not set(names) <= {option.name for option in question.options}:
        raise ValueError("the question has no such options")
    if len(names) > 1 and not question.multi_answer:
        raise ValueError("the question takes one option")
    question.answers[person.id] = list(names)
    return hub.question_answered(chat, message, person, names)
