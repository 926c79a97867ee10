"""One question to several users."""

from collections.abc import Mapping, Sequence

import orjson
import pytest

from healthmsg import InvalidInputError
from healthmsg.bot.dialogs.questions import (
    AskAllQuestion,
    ConfirmQuestion,
    FilesQuestion,
    Given,
    Invalid,
    More,
    NumberQuestion,
    QuestionType,
    TextQuestion,
    UnreadableAnswerError,
    VerificationQuestion,
)
from healthmsg.json_text import JSONObject
from healthmsg.models import Attachment, Message, User
from tests.bot.dialogs.questions.given import TEXTS, answer, more, pressed, typed

PEOPLE = ("an", "bo", "cas")
AGREE = ConfirmQuestion("Akkoord?")


def kept(found: More) -> JSONObject:
    """Return a state as it comes out of the journal."""
    state: JSONObject = orjson.loads(orjson.dumps(found.state))
    return state


def test_it_is_over_when_all_have_answered_typed_or_pressed() -> None:
    question = AskAllQuestion(AGREE, PEOPLE)

    first = more(question, pressed("ja", user="bo"))
    second = more(question, typed("nee", user="an"), kept(first))
    done = answer(question, pressed("ja", user="cas"), kept(second))
    assert done == {"bo": True, "an": False, "cas": True}
    assert list(done) == ["bo", "an", "cas"]
    assert first.say is second.say is None


def test_the_buttons_are_for_all_and_then_for_those_who_are_missing() -> None:
    question = AskAllQuestion(AGREE, [*PEOPLE, "an"])
    state = more(question, pressed("ja", user="bo")).state

    first, again = question.content(TEXTS).question, question.content_again(state, TEXTS).question
    assert first is not None
    assert again is not None
    assert (first.users, again.users) == (PEOPLE, ("an", "cas"))
    assert question.users == PEOPLE
    assert question.progress(state).missing == ("an", "cas")
    assert question.progress(state).answers == {"bo": True}


@pytest.mark.parametrize("given", [pressed("nee", user="bo"), typed("ja", user="stranger")])
def test_a_second_answer_and_those_of_others_change_nothing(given: Given) -> None:
    question = AskAllQuestion(AGREE, PEOPLE, summary=True)
    state = kept(more(question, pressed("ja", user="bo")))

    found = more(question, given, state)
    assert (kept(found), found.say) == (state, None)


def test_what_is_no_answer_is_said_and_changes_nothing() -> None:
    found = more(AskAllQuestion(AGREE, PEOPLE), typed("eh", user="an"))

    assert found.say == "Kies een van deze: Ja of Nee."
    assert AskAllQuestion(AGREE, PEOPLE).progress(found.state).answers == {}


@pytest.mark.parametrize("stop_on", [False, lambda agrees: not agrees])
def test_a_value_or_a_function_ends_it(stop_on: object) -> None:
    question = AskAllQuestion(AGREE, PEOPLE, stop_on=stop_on)
    state = kept(more(question, pressed("ja", user="bo")))

    assert answer(question, pressed("nee", user="an"), state) == {"bo": True, "an": False}


def test_a_value_of_another_type_does_not_end_it() -> None:
    assert answer(AskAllQuestion(NumberQuestion("?"), PEOPLE, stop_on=True), typed("1")) is None
    assert answer(AskAllQuestion(NumberQuestion("?"), PEOPLE, stop_on=1), typed("1")) == {"an": 1}


def test_a_number_of_answers_can_be_enough() -> None:
    question = AskAllQuestion(AGREE, PEOPLE, count=2)
    state = kept(more(question, pressed("ja", user="cas")))

    assert answer(question, pressed("nee", user="an"), state) == {"cas": True, "an": False}


def test_a_summary_runs_along() -> None:
    people: list[User | str] = [User("an", first_name="An", last_name="Visser"), "bo", "cas"]
    question = AskAllQuestion(AGREE, people, summary=True)

    found = more(question, pressed("ja", user="cas"))
    assert found.say == "Antwoorden: 1 van 3. Nog geen antwoord van An Visser of [mention=bo]."


def test_a_summary_of_ones_own_gets_the_answers_and_who_is_missing() -> None:
    def said(answers: Mapping[str, bool], missing: Sequence[str]) -> str:
        return f"{dict(answers)} {missing}"

    question = AskAllQuestion(AGREE, PEOPLE, summary=said)
    state = kept(more(question, pressed("ja", user="cas")))

    assert more(question, pressed("nee", user="an"), state).say == "{'cas': True, 'an': False} ('bo',)"


def test_each_user_may_answer_in_parts() -> None:
    question = AskAllQuestion(FilesQuestion("?", count=(2, 2)), ("an", "bo"))

    def sends(user: str, number: int) -> Given:
        return Given("", None, Message("m", attachments=(Attachment(f"{user}{number}"),)), user)

    state: JSONObject | None = None
    for user, number in (("an", 1), ("bo", 1), ("an", 2)):
        state = kept(more(question, sends(user, number), state))
    done = answer(question, sends("bo", 2), state)
    assert done is not None
    assert {user: [file.id for file in files] for user, files in done.items()} == {
        "an": ["an1", "an2"],
        "bo": ["bo1", "bo2"],
    }


def test_answers_that_were_known_before_are_not_asked_for() -> None:
    question = AskAllQuestion(AGREE, PEOPLE)

    found = question.read_known({"an": "ja", "bo": False, "stranger": True, "cas": "eh"}, TEXTS)
    assert isinstance(found, More)
    assert question.progress(kept(found)).answers == {"an": True, "bo": False}
    assert question.read_known(dict.fromkeys(PEOPLE, True), TEXTS) == dict.fromkeys(PEOPLE, True)
    assert isinstance(question.read_known("ja", TEXTS), Invalid)


@pytest.mark.parametrize(
    ("ask", "people", "count"),
    [
        (AGREE, [], None),
        (AGREE, "an", None),
        (AGREE, [""], None),
        (AGREE, PEOPLE, 4),
        (AGREE, PEOPLE, 0),
        (VerificationQuestion(), PEOPLE, None),
        (AskAllQuestion(AGREE, PEOPLE), PEOPLE, None),
    ],
)
def test_what_cannot_be_asked_of_several_is_refused(
    ask: QuestionType[object], people: Sequence[str], count: int | None
) -> None:
    with pytest.raises(InvalidInputError):
        AskAllQuestion(ask, people, count=count)


def test_the_text_is_that_of_the_question() -> None:
    question = AskAllQuestion(TextQuestion("Wie bent u?"), PEOPLE)

    assert (question.body, question.content(TEXTS).body) == ("Wie bent u?", "Wie bent u?")
    assert question.content(TEXTS).question is None


def test_what_was_kept_in_another_form_cannot_be_read() -> None:
    documents: list[object] = [None, [], {"an": "eh"}]
    for document in documents:
        with pytest.raises(UnreadableAnswerError):
            AskAllQuestion(AGREE, PEOPLE).decode(document)
