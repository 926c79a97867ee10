"""Whatever users type, press or send: it never raises, and an answer comes back out of the journal."""

from datetime import date
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthmsg.bot.dialogs.questions import (
    AskAllQuestion,
    Choice,
    ChoiceQuestion,
    ChoicesQuestion,
    ConfirmQuestion,
    DateQuestion,
    EmailQuestion,
    Files,
    FilesQuestion,
    Given,
    Invalid,
    MentionQuestion,
    More,
    NumberQuestion,
    PhoneQuestion,
    QuestionType,
    TextQuestion,
    UnreadableAnswerError,
    VerificationQuestion,
    VerificationResult,
)
from healthmsg.models import Attachment, Message, User
from tests.bot.dialogs.questions.given import TEXTS, TODAY

QUESTIONS: list[QuestionType[Any]] = [
    TextQuestion("?", min_length=1, max_length=50),
    TextQuestion("?", pattern="[a-z]+"),
    NumberQuestion("?"),
    NumberQuestion("?", between=(-5, 1e6), whole=False),
    EmailQuestion("?", domains=["zorg.nl"]),
    EmailQuestion("?"),
    PhoneQuestion("?"),
    PhoneQuestion("?", countries=["+31"]),
    DateQuestion("?", after=date(1900, 1, 1), before=date(2100, 1, 1)),
    DateQuestion("?", format="%d %B %Y"),
    ConfirmQuestion("?"),
    ChoiceQuestion("?", ["Rood", "Ja, graag", "?", "👍"]),
    ChoiceQuestion("?", [Choice("A", 1, pattern="a+"), Choice("B", 2, aliases=[""])]),
    ChoicesQuestion("?", ["Rood", "Peper en zout", "2 dagen"], count=(0, 2)),
    FilesQuestion("?", size=(1, 10), types=["image/*"], extensions=["png"]),
    FilesQuestion("?", count=(2, None)),
    MentionQuestion("?", everybody=True),
    MentionQuestion("?", robots=["bot"]),
    VerificationQuestion(),
    AskAllQuestion(NumberQuestion("?"), ["an", "bo"], summary=True),
    AskAllQuestion(FilesQuestion("?", count=(2, 3)), ["an", "bo"]),
]
IDS = [f"{question.kind}-{number}" for number, question in enumerate(QUESTIONS)]

# Words of the answers themselves, so that some of what is tried is one.
_WORDS = st.sampled_from(
    [
        *("ja", "nee", "niet", "of", "en", "rood", "peper", "zout", "2 dagen", "a", "aa", "klaar"),
        *("7", "-3", "1.250", "38,5", "99999999999999999999", "1e400", "½", "²", "\u0663"),
        *("31-12-2026", "00-00-0000", "31", "december", "2026", "morgen"),
        *("06", "12345678", "+31", "(0)6", "an@zorg.nl", "@", "[mention=an]", "[mention=@all]"),
        *("|", ",", ";", "{}", "{0}", "%", "\\", "\ud800", "\u200b", "\x00"),
    ]
)
TEXT = st.one_of(st.text(st.characters(), max_size=80), st.lists(_WORDS, max_size=8).map(" ".join))
FILES = st.builds(
    Attachment,
    st.text(min_size=1, max_size=4),
    st.none() | st.text(max_size=20) | st.sampled_from(["a.png", "A.PNG", ".png"]),
    st.none() | st.integers(-5, 20),
    st.none() | st.text(max_size=10) | st.sampled_from(["image/png", "application/octet-stream"]),
)
USERS = st.builds(User, st.text(min_size=1, max_size=4), first_name=st.none() | TEXT)
ANSWERS = st.builds(
    Given,
    st.none() | TEXT,
    st.none() | st.lists(TEXT, max_size=3).map(tuple),
    st.none()
    | st.builds(
        Message,
        st.just("m1"),
        body=st.none() | TEXT,
        attachments=st.lists(FILES, max_size=4).map(tuple),
        mentions=st.lists(USERS, max_size=3).map(tuple),
    ),
    st.sampled_from(["an", "bo", "stranger", ""]),
    st.none(),
    st.sampled_from([None, TODAY, date.max, date.min]),
)


@pytest.mark.parametrize("question", QUESTIONS, ids=IDS)
@settings(deadline=None)
@given(answers=st.lists(ANSWERS, min_size=1, max_size=4))
def test_no_answer_raises_and_each_one_comes_back_out_of_the_journal(
    question: QuestionType[Any], answers: list[Given]
) -> None:
    state = None
    for one in answers:
        found = question.read(one, state, TEXTS)
        if isinstance(found, Invalid):
            assert found.reason
        elif isinstance(found, More):
            state = orjson.loads(orjson.dumps(found.state))
        else:
            document = orjson.loads(orjson.dumps(question.encode(found)))
            back = question.decode(document)
            assert (back, type(back)) == (found, type(found))
            assert question.encode(back) == document


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "an", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("question", QUESTIONS, ids=IDS)
@settings(deadline=None)
@given(document=DOCUMENTS)
def test_what_another_question_kept_is_read_or_refused_by_name(
    question: QuestionType[Any], document: object
) -> None:
    try:
        value = question.decode(document)
    except UnreadableAnswerError as error:
        assert error.__context__ is None  # noqa: PT017 - reading it is right, too
    else:
        assert question.decode(question.encode(value)) == value


@pytest.mark.parametrize("question", QUESTIONS, ids=IDS)
@settings(deadline=None)
@given(value=st.one_of(DOCUMENTS, TEXT, st.dates()))
def test_what_was_known_before_is_an_answer_or_asked_for(question: QuestionType[Any], value: object) -> None:
    found = question.read_known(value, TEXTS, TODAY)

    if not isinstance(found, Invalid | More):
        assert question.decode(orjson.loads(orjson.dumps(question.encode(found)))) == found


VALUES: list[tuple[QuestionType[Any], object]] = [
    (TextQuestion("?"), "é\n"),
    (NumberQuestion("?"), -3),
    (NumberQuestion("?"), 38.5),
    (EmailQuestion("?"), "an@zorg.nl"),
    (PhoneQuestion("?"), "+31612345678"),
    (DateQuestion("?"), date(2026, 12, 31)),
    (ConfirmQuestion("?"), False),
    (ChoiceQuestion("?", ["Ja", "Nee"]), "Nee"),
    (ChoicesQuestion("?", ["Ja", "Nee"]), ["Nee", "Ja"]),
    (FilesQuestion("?"), Files([Attachment("f1", name="a", size=1)])),
    (MentionQuestion("?"), [User("an", first_name="An", private_user=True)]),
    (VerificationQuestion(), VerificationResult(True, "idin", None)),
    (AskAllQuestion(DateQuestion("?"), ["an"]), {"an": date(2026, 12, 31)}),
]


@pytest.mark.parametrize(("question", "value"), VALUES)
def test_values_go_into_the_journal_and_come_back(question: QuestionType[Any], value: object) -> None:
    back = question.decode(orjson.loads(orjson.dumps(question.encode(value))))

    assert (back, type(back)) == (value, type(value))


CANARY = "kanarie"


@pytest.mark.parametrize(
    "shown",
    [
        TextQuestion(CANARY, pattern=CANARY),
        NumberQuestion(CANARY),
        EmailQuestion(CANARY),
        PhoneQuestion(CANARY),
        DateQuestion(CANARY),
        ConfirmQuestion(CANARY, yes=CANARY, no="x"),
        ChoiceQuestion(CANARY, [CANARY]),
        ChoicesQuestion(CANARY, [Choice(CANARY, CANARY, name=CANARY, aliases=[CANARY], pattern=CANARY)]),
        Choice(CANARY, CANARY, name=CANARY, aliases=[CANARY], pattern=CANARY),
        FilesQuestion(CANARY),
        MentionQuestion(CANARY, robots=[CANARY], always=[User("u", first_name=CANARY)]),
        VerificationQuestion(body=CANARY),
        AskAllQuestion(TextQuestion(CANARY), [CANARY], stop_on=CANARY),
        AskAllQuestion(TextQuestion(CANARY), [CANARY]).progress({"answers": {CANARY: CANARY}}),
        Given(CANARY, (CANARY,), Message("m", body=CANARY), CANARY),
        Invalid(CANARY),
        More({CANARY: CANARY}, CANARY),
        TEXTS,
        VerificationResult(True, "idin", CANARY),
    ],
)
def test_nothing_that_is_said_or_asked_is_in_a_repr(shown: object) -> None:
    assert CANARY not in repr(shown)
    assert "Gestopt" not in repr(shown)
