"""Files, mentions, and proving who one is."""

from datetime import UTC, datetime

import orjson
import pytest

from healthmsg import InvalidInputError
from healthmsg.bot.dialogs.questions import (
    AskAllQuestion,
    Files,
    FilesQuestion,
    Given,
    Invalid,
    MentionQuestion,
    UnreadableAnswerError,
    VerificationQuestion,
    VerificationResult,
)
from healthmsg.bot.dialogs.values import fingerprint, from_json, to_json
from healthmsg.events import VerificationAccepted, VerificationRejected
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.json_text import JSONObject
from healthmsg.models import Attachment, IdentityProvider, User, Verification
from tests.bot.dialogs.questions.given import TEXTS, answer, mentioning, more, reason, sent, typed


def image(number: int, *, size: int = 2_000) -> Attachment:
    return Attachment(f"f{number}", name=f"foto{number}.JPG", size=size, mime_type="image/jpeg")


PROGRAM = Attachment("f9", name="a.exe", size=5_000, mime_type="application/x-msdownload")


def kept(state: JSONObject | None) -> JSONObject:
    """Return a state as it comes out of the journal."""
    found: JSONObject = orjson.loads(orjson.dumps(state))
    return found


def test_a_file_is_an_answer_whatever_the_text_beside_it() -> None:
    assert answer(FilesQuestion("?"), sent(image(1), text="kijk")) == [image(1)]


def test_what_is_written_with_files_is_in_the_answer_and_survives_the_journal() -> None:
    question = FilesQuestion("?")
    files = answer(question, sent(image(1), text="ik heb pijn op de borst"))

    assert files is not None
    assert (files, files.text) == ([image(1)], "ik heb pijn op de borst")
    again = question.decode(orjson.loads(orjson.dumps(question.encode(files))))
    assert (again, again.texts) == (files, files.texts)
    assert question.encode(Files([image(1)])) == question.encode([image(1)])


def test_what_is_written_while_files_are_missing_is_in_the_answer_too() -> None:
    question = FilesQuestion("?", count=(2, 2), types=["image/*"])

    missing = question.read(typed("eerst even dit"), None, TEXTS)
    assert isinstance(missing, Invalid)
    left_out = question.read(sent(PROGRAM, text="en dit"), kept(missing.state), TEXTS)
    assert isinstance(left_out, Invalid)
    assert question.read(sent(PROGRAM), kept(left_out.state), TEXTS) == Invalid(
        left_out.reason, left_out.state
    )
    first = more(question, sent(image(1), text="klaar"), kept(left_out.state))
    files = answer(question, sent(image(2)), kept(first.state))

    assert files == [image(1), image(2)]
    assert files is not None
    assert files.texts == ("eerst even dit", "en dit", "klaar")
    assert files.text == "eerst even dit\nen dit\nklaar"


def test_the_word_that_ends_the_sending_is_no_text_of_the_answer() -> None:
    question = FilesQuestion("?", count=(1, 3), types=["image/*"])
    found = more(question, sent(PROGRAM, image(1)))

    files = answer(question, "Klaar!", kept(found.state))
    assert files is not None
    assert (files, files.text) == ([image(1)], "")
    long = "klaar" + " " * 100 + "maar ik heb pijn"
    assert isinstance(question.read(typed(long), kept(found.state), TEXTS), Invalid)


def test_each_of_several_users_keeps_what_they_wrote() -> None:
    question = AskAllQuestion(FilesQuestion("?"), ["an"])

    first = more(question, "eerst dit")
    answers = answer(question, sent(image(1), text="dan dit"), kept(first.state))
    assert answers is not None
    assert answers["an"].texts == ("eerst dit", "dan dit")


def test_files_go_through_the_steps_of_a_dialog_with_their_texts() -> None:
    found = from_json(to_json(Files([image(1)], ["pijn"])))

    assert isinstance(found, Files)
    assert (found, found.texts) == ([image(1)], ("pijn",))
    assert fingerprint((Files([image(1)]),)) == fingerprint(([image(1)],))
    assert fingerprint((found,)) != fingerprint(([image(1)],))


def test_a_text_is_no_file() -> None:
    assert reason(FilesQuestion("?"), "kijk") == TEXTS.files_missing


def test_half_an_emoji_in_a_name_does_not_keep_an_answer_out_of_the_journal() -> None:
    files = answer(FilesQuestion("?"), sent(Attachment("f1", name="\ud83d.png")))
    users = answer(MentionQuestion("?"), mentioning("", User("an", first_name="An \ud83d")))

    assert files == [Attachment("f1", name="\ufffd.png")]
    assert users == [User("an", first_name="An \ufffd")]


def test_files_come_one_by_one() -> None:
    question = FilesQuestion("?", count=(3, 3))

    first = more(question, sent(image(1)))
    assert first.say == "Ontvangen: 1. Nog nodig: 2."
    second = more(question, sent(image(1), image(2)), kept(first.state))
    assert second.say == "Ontvangen: 2. Nog nodig: 1."
    assert reason(question, "klaar", kept(second.state)) == "Ontvangen: 2. Het moeten er minstens 3 zijn."
    assert answer(question, sent(image(3)), kept(second.state)) == [image(1), image(2), image(3)]


def test_more_files_than_there_may_be_are_no_answer() -> None:
    assert "hoogstens 1" in reason(FilesQuestion("?"), sent(image(1), image(2)))
    assert answer(FilesQuestion("?", count=(1, None)), sent(*map(image, range(20)))) == [
        *map(image, range(20))
    ]


def test_files_that_do_not_fit_are_named_and_the_rest_counts() -> None:
    question = FilesQuestion("?", count=(1, 3), types=["image/*"])

    found = more(question, sent(PROGRAM, image(1)))
    assert found.say is not None
    assert "a.exe (verkeerde soort)" in found.say
    assert "klaar" in found.say
    assert answer(question, "Klaar!", kept(found.state)) == [image(1)]
    assert answer(question, sent(image(2)), kept(found.state)) == [image(1), image(2)]
    assert "klaar" in reason(question, "en nu?", kept(found.state))


def test_files_of_which_none_fits_are_no_answer() -> None:
    assert "a.exe" in reason(FilesQuestion("?", types=["image/*"]), sent(PROGRAM))


@pytest.mark.parametrize(
    ("size", "said"),
    [(999, "te klein, het moet minstens 1 kB zijn"), (1_500_001, "te groot, het mag hoogstens 1.5 MB zijn")],
)
def test_sizes_are_in_bytes_with_both_ends_included(size: int, said: str) -> None:
    question = FilesQuestion("?", size=(1_000, 1_500_000))

    assert said in reason(question, sent(image(1, size=size)))
    for fits in (1_000, 1_500_000):
        assert answer(question, sent(image(1, size=fits))) == [image(1, size=fits)]
    assert "verkeerde soort" in reason(question, sent(Attachment("f1", name="a.jpg")))


def test_extensions_are_ends_of_names_in_any_case() -> None:
    question = FilesQuestion("?", extensions=["jpg", ".PDF"])

    assert answer(question, sent(image(1))) == [image(1)]
    for name in ("xjpg", "a.jpg.exe", None):
        assert "verkeerde soort" in reason(question, sent(Attachment("f1", name=name)))


def test_a_type_is_that_of_the_service_and_else_that_of_the_name() -> None:
    question = FilesQuestion("?", types=["application/pdf"])
    fits = [
        Attachment("f1", name="a", mime_type="Application/PDF; x=1"),
        Attachment("f1", name="a.pdf"),
        Attachment("f1", name="a.pdf", mime_type="application/octet-stream"),
    ]

    for file in fits:
        assert answer(question, sent(file)) == [file]
    for file in (Attachment("f1"), Attachment("f1", name="a.pdf", mime_type="text/html")):
        assert reason(question, sent(file))


def test_what_is_said_of_many_files_stays_short() -> None:
    files = [Attachment(f"f{number}", name="x" * 5_000 + ".exe") for number in range(200)]

    said = reason(FilesQuestion("?", extensions=["jpg"]), sent(*files))
    assert len(said) < 1_500
    assert "en nog 190" in said


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": (0, 1)},
        {"count": (2, 1)},
        {"count": 1},
        {"size": (5, 2)},
        {"extensions": "jpg"},
        {"extensions": ["."]},
        {"types": ["jpg"]},
    ],
)
def test_a_question_for_files_that_cannot_be_right_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        FilesQuestion("?", **wrong)  # type: ignore[arg-type]


# --- mentions

AN = User("0f8fad5b-d9cb-469f-a165-70867728950e", first_name="An")
BO = User("7c9e6679-7425-40de-944b-e07fc1f90ae7")
BOT = User("B07e6679-7425-40de-944b-e07fc1f90ae7")


def test_users_come_back_each_once_and_as_whole_as_they_came() -> None:
    text = f"{AN.mention} en [mention={BO.id.upper()}] en {AN.mention}"

    found = answer(MentionQuestion("?"), mentioning(text, AN))
    assert found == [AN, User(BO.id.upper())]


def test_a_text_without_mentions_is_no_answer() -> None:
    assert reason(MentionQuestion("?"), "An Visser") == TEXTS.mention_missing


def test_all_members_are_an_answer_only_where_they_may_be() -> None:
    given = mentioning(f"[mention=@all] {AN.mention}", AN)

    assert reason(MentionQuestion("?"), given) == TEXTS.mention_everybody
    assert answer(MentionQuestion("?", everybody=True), given) == [User("@all")]


def test_the_bot_does_not_count_unless_it_may() -> None:
    given = mentioning(f"{BOT.mention} {AN.mention}", BOT, AN)
    robots = [BOT.id.lower()]

    assert answer(MentionQuestion("?", robots=robots), given) == [AN]
    assert reason(MentionQuestion("?", robots=robots), mentioning(BOT.mention)) == TEXTS.mention_missing
    assert answer(MentionQuestion("?", robots=robots, robots_count=True), given) == [BOT, AN]


def test_some_are_always_added_to_an_answer() -> None:
    question = MentionQuestion("?", always=[BO, AN])

    assert answer(question, mentioning(AN.mention, AN)) == [AN, BO]
    assert reason(question, "niemand") == TEXTS.mention_missing


# --- verification

IDIN, OTHER = IdentityProvider("p1", "idin"), IdentityProvider("p2", "Idin")
EVENT = {
    "id": "verified/m1",
    "chat": ChatAddress(ChatKind.CONVERSATION, "c1"),
    "received_at": datetime(2026, 11, 28, tzinfo=UTC),
    "is_own": False,
    "message_id": "m1",
}


def test_the_provider_is_found_by_its_exact_name() -> None:
    question = VerificationQuestion()

    assert question.request([OTHER, IDIN], []) is IDIN
    assert question.request([OTHER], []) is None
    assert question.request([OTHER], [Verification("Idin")]) is None
    assert question.request([OTHER], [Verification("idin")]) == VerificationResult(True, "idin")


def test_the_event_is_the_answer_and_a_text_is_not() -> None:
    question = VerificationQuestion()

    yes = answer(question, Given(event=VerificationAccepted(**EVENT)))  # type: ignore[arg-type]
    no = answer(question, Given(event=VerificationRejected(**EVENT)))  # type: ignore[arg-type]
    assert yes == VerificationResult(True, "idin", "m1")
    assert no == VerificationResult(False, "idin", "m1")
    assert (bool(yes), bool(no)) == (True, False)
    assert more(question, "ik ben het echt").say == TEXTS.verification_waiting


def test_no_text_that_was_known_before_proves_who_a_user_is() -> None:
    question = VerificationQuestion()

    for claimed in ("ja", True, VerificationResult(True, "other")):
        assert question.read_known(claimed, TEXTS) != VerificationResult(True, "idin")
    assert question.read_known(VerificationResult(True, "idin"), TEXTS) == VerificationResult(True, "idin")


def test_what_was_kept_in_another_form_cannot_be_read() -> None:
    for document in (None, "x", 1, {}, [1], ["x"], {"verified": 1}):
        for question in (FilesQuestion("?"), MentionQuestion("?"), VerificationQuestion()):
            with pytest.raises(UnreadableAnswerError):
                question.decode(document)
