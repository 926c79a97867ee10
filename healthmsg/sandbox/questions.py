"""Questions with buttons: asked, and answered."""

import re
from collections.abc import Sequence
from typing import Final

from healthmsg.sandbox.answers import bad_request
from healthmsg.sandbox.body import Body
from healthmsg.sandbox.records import Option, Person, Question, StoredChat, StoredMessage

_STYLES: Final = ("horizontal", "vertical")
_is_name: Final = re.compile(r"\w{1,32}", re.ASCII).fullmatch


def read_question(question: Body) -> Question:
    """Read a question [V]; what may be left out, and what a strict sandbox refuses, is assumed [A]."""
    style = question.optional_text("style") or _STYLES[0]
    if question.strict and style not in _STYLES:
        raise bad_request(f"style must be one of {', '.join(_STYLES)}.")
    options = [_read_option(option) for option in question.objects("options")]
    have_one_name = len({option.name for option in options}) < len(options)
    if not options or (question.strict and have_one_name):
        raise bad_request("options must not be empty, and their names must differ.")
    return Question(
        style=style,
        multi_answer=question.flag("multi_answer"),
        users=question.optional_texts("users"),
        options=options,
    )


def _read_option(option: Body) -> Option:
    name = option.words("name")
    if option.strict and not _is_name(name):
        raise bad_request("An option's name must be 1 to 32 letters (a-z), digits or underscores.")
    return Option(name=name, label=option.words("label"), style=option.optional_text("style"))


def answer_question(
    chat: StoredChat, message: StoredMessage, names: Sequence[str], person: Person | None
) -> None:
    """Record what a person chose, in place of what the same person chose before [A].

    Raises:
        ValueError: the message asks nothing, or not this person, or these cannot be chosen.
    """
    question = message.payload
    if not isinstance(question, Question):
        raise ValueError("this message is no question")  # noqa: TRY004 - the caller gave an id
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
