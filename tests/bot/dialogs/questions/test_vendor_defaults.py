"""What the vendor's framework accepts, type by type (vendor-bots.md), and where ours differs on purpose."""

from datetime import date

from healthmsg.bot.dialogs.questions import (
    AskAllQuestion,
    Choice,
    ChoiceQuestion,
    ChoicesQuestion,
    ConfirmQuestion,
    DateQuestion,
    EmailQuestion,
    FilesQuestion,
    MentionQuestion,
    NumberQuestion,
    PhoneQuestion,
    TextQuestion,
    VerificationQuestion,
    VerificationResult,
)
from healthmsg.models import Attachment, IdentityProvider, User, Verification
from tests.bot.dialogs.questions.given import (
    TEXTS,
    answer,
    buttons,
    mentioning,
    more,
    pressed,
    reason,
    sent,
    typed,
)


def test_text_is_any_text_with_a_word_character() -> None:
    assert answer(TextQuestion("?"), "a") == "a"
    assert reason(TextQuestion("?"), "...")
    # Theirs knows ASCII's letters alone: "é" and "Ω" are no text there. Ours takes all, and smileys.
    assert answer(TextQuestion("?"), "é") == "é"


def test_text_has_a_pattern_and_lengths_of_its_own() -> None:
    assert answer(TextQuestion("?", pattern="^[0-9]+$"), "12") == "12"
    assert reason(TextQuestion("?", min_length=8, max_length=200), "kort")
    # Theirs counts blanks around the text as its length; ours leaves them out.
    assert reason(TextQuestion("?", min_length=4), "  a  ")


def test_number_is_the_first_run_of_digits_in_a_range() -> None:
    assert answer(NumberQuestion("?", between=(12, 90)), "ik ben 34 jaar") == 34
    assert reason(NumberQuestion("?", between=(12, 90)), "91")
    # Theirs reads -3 as 3, 38.5 as 38 and "7 of 8" as 7. Ours reads signs and decimals, and asks which.
    assert answer(NumberQuestion("?"), "-3") == -3
    assert answer(NumberQuestion("?", whole=False), "38,5") == 38.5
    assert reason(NumberQuestion("?"), "7 of 8")


def test_email_is_the_whole_text_with_allowed_endings() -> None:
    assert answer(EmailQuestion("?"), "an.visser+x@zorg.nl") == "an.visser+x@zorg.nl"
    assert reason(EmailQuestion("?"), "mijn adres is an@zorg.nl")
    assert answer(EmailQuestion("?", domains=["zorg.nl"]), "an@poli.zorg.nl") == "an@poli.zorg.nl"
    # Theirs knows no ending of more than six letters, and takes mijnzorg.nl for zorg.nl.
    assert answer(EmailQuestion("?"), "an@zorg.photography") == "an@zorg.photography"
    assert reason(EmailQuestion("?", domains=["zorg.nl"]), "an@mijnzorg.nl")


def test_phone_leaves_out_marks_and_puts_31_for_a_leading_zero() -> None:
    for written in ("0612345678", "06-12345678", "(06) 12_34_56_78", "[06]12345678", "+31612345678"):
        assert answer(PhoneQuestion("?"), written) == "+31612345678"
    assert reason(PhoneQuestion("?", countries=["+31"]), "+32470123456")
    # Theirs takes any 9 to 12 digits, so that +31 (0)6… keeps its zero and 0031… becomes +31031…
    assert answer(PhoneQuestion("?"), "+31 (0)6 12345678") == "+31612345678"
    assert answer(PhoneQuestion("?"), "0031612345678") == "+31612345678"
    assert reason(PhoneQuestion("?"), "0000000000")


def test_date_has_a_form_of_its_own() -> None:
    assert answer(DateQuestion("?", format="%d-%m-%Y"), "31-12-2026") == date(2026, 12, 31)
    # Theirs needs a form, finds it within a text, and makes a moment in UTC of it: midnight in Amsterdam is
    # the day before. Ours is a day; it must be the whole text, and needs no form.
    assert answer(DateQuestion("?"), "31 december 2026") == date(2026, 12, 31)


def test_polar_has_a_green_and_a_red_button_and_a_regular_expression_for_each() -> None:
    question = ConfirmQuestion(
        "?",
        yes=Choice("Akkoord", name="accept", pattern="accept"),
        no=Choice("Weiger", name="reject", pattern="reject"),
    )

    assert buttons(question) == [("accept", "Akkoord", "green"), ("reject", "Weiger", "red")]
    asked = question.content(TEXTS).question
    assert asked is not None
    assert (asked.style, asked.multi_answer) == ("horizontal", False)
    assert answer(question, pressed("accept")) is answer(question, "I accept it") is True
    assert answer(question, "rejected") is False
    # Theirs takes the positive one where both match; ours asks again. Ours also knows the usual words.
    assert reason(question, "accept or reject")
    assert answer(question, "ja hoor") is True


def test_multiple_choice_takes_the_longest_match_and_has_values_and_conditions() -> None:
    options = [
        Choice("Mood", 1, name="ok", pattern="good"),
        Choice("Best", 2, name="great", style="green", pattern="good enough"),
        Choice("Gone", 3, shown_if=False),
    ]
    question = ChoiceQuestion[int]("?", options)

    assert buttons(question) == [("ok", "Mood", "theme"), ("great", "Best", "green")]
    assert answer(question, "it is good enough") == 2
    assert answer(question, pressed("ok")) == 1
    assert reason(question, "gone")
    # Theirs keeps label and value beside each other; ours returns the value, and the journal has the name.
    assert question.encode(2) == "great"


def test_multiple_choice_takes_several_separated_by_bars() -> None:
    question = ChoicesQuestion[str]("?", ["Red", "Green", "Blue"])
    asked = question.content(TEXTS).question

    assert asked is not None
    assert asked.multi_answer
    assert answer(question, "red|blue") == answer(question, pressed("red", "blue")) == ["Red", "Blue"]
    # Theirs drops what is no option; ours asks again. Ours takes commas and "en" too.
    assert reason(question, "red|yellow")


def test_attachments_have_ranges_of_number_and_size_and_those_outside_are_left_out() -> None:
    question = FilesQuestion(
        "?", count=(1, 3), size=(1_024, 1_048_576), types=["image/jpeg"], extensions=["jpg"]
    )
    fits = Attachment("f1", name="A.JPG", size=1_024, mime_type="image/JPEG")
    outside = Attachment("f2", name="a.gif", size=2_000, mime_type="image/gif")

    assert answer(question, sent(fits)) == [fits]
    assert reason(question, sent(outside))
    # Theirs leaves files out in silence, and needs all in one message. Ours names them, waits on, and
    # collects; one file is asked for, unless more are: theirs takes any number.
    found = more(question, sent(fits, outside))
    assert answer(question, typed("klaar"), found.state) == [fits]
    assert reason(FilesQuestion("?"), sent(fits, outside))


def test_mentions_are_each_once_without_the_robot_and_with_those_always_included() -> None:
    an, robot, nurse = User("an"), User("robot"), User("nurse")
    question = MentionQuestion("?", robots=["robot"], always=[nurse])

    given = mentioning("[mention=robot] [mention=an] [mention=an]", robot, an)
    assert answer(question, given) == [an, nurse]
    assert answer(MentionQuestion("?", everybody=True), mentioning("[mention=@all]")) == [User("@all")]
    # Theirs allows @all by default. Ours does not: who is meant then changes with the group's members.
    assert reason(question, mentioning("[mention=@all]"))


def test_verification_is_by_the_exact_name_of_a_provider_and_verified_already_is_success() -> None:
    question = VerificationQuestion("idin")

    assert question.request([IdentityProvider("p", "idin")], []) == IdentityProvider("p", "idin")
    assert question.request([], [Verification("idin")]) == VerificationResult(True, "idin")
    # Theirs stops the flow with an error; for ours that is the engine's to say.
    assert question.request([IdentityProvider("p", "IDIN")], []) is None
    # Theirs ignores texts meanwhile; ours says what is awaited.
    assert more(question, "hallo").say == TEXTS.verification_waiting


def test_several_users_are_asked_with_one_message_with_a_break_and_a_summary() -> None:
    question = AskAllQuestion(ConfirmQuestion("?"), ["an", "bo", "cas"], stop_on=False, summary=True)
    asked = question.content(TEXTS).question
    assert asked is not None
    assert asked.users == ("an", "bo", "cas")

    first = more(question, pressed("ja", user="an"))
    assert first.say is not None
    again = question.content_again(first.state, TEXTS).question
    assert again is not None
    assert again.users == ("bo", "cas")
    assert answer(question, pressed("nee", user="bo"), first.state) == {"an": True, "bo": False}


def test_answers_known_before_are_checked_by_their_question() -> None:
    question = NumberQuestion("?", between=(0, 10))

    assert question.read_known("7", TEXTS) == question.read_known(7, TEXTS) == 7
    assert question.read_known(11, TEXTS) == question.read(typed("11"), None, TEXTS)
