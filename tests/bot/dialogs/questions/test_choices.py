"""Questions with buttons, pressed and typed."""

from enum import Enum
from typing import Any

import pytest

from healthmsg import InvalidInputError, Option
from healthmsg.bot.dialogs.questions import (
    Choice,
    ChoiceQuestion,
    ChoicesQuestion,
    ConfirmQuestion,
    Texts,
    UnreadableAnswerError,
)
from tests.bot.dialogs.questions.given import TEXTS, answer, buttons, pressed, reason


class Visit(Enum):
    KEEP = "Laat staan"
    MOVE = Choice("Verzet", "move", style="orange", aliases=["verplaats"])
    CANCEL = Option("Zeg af", name="cancel", style="red")
    CALL_ME = 7


COLOURS = ("Rood", "Donkerrood", "Groen")


def colours() -> ChoiceQuestion[str]:
    return ChoiceQuestion("Welke kleur?", COLOURS)


@pytest.mark.parametrize(
    "text", ["donkerrood", " DONKERROOD! ", "2", "2.", "optie 2", "Nr. 2", "donkerrood graag", '"Donkerrood"']
)
def test_a_label_or_number_that_is_typed_is_as_good_as_a_button(text: str) -> None:
    assert answer(colours(), text) == answer(colours(), pressed("donkerrood")) == "Donkerrood"


def test_buttons_have_the_labels_and_names_that_the_wire_takes() -> None:
    labels = ["Ja, graag", "Ja - graag", "Ja/graag", "日本", "ä" * 40, "ä" * 41]
    found = buttons(ChoiceQuestion[str]("?", labels))

    names = [name for name, _, _ in found]
    assert names[:3] == ["ja_graag", "ja_graag_2", "ja_graag_3"]
    assert len(set(names)) == len(labels)
    assert all(len(name) <= 32 and name.isascii() for name in names)
    assert [label for _, label, _ in found] == labels


@pytest.mark.parametrize("text", ["geel", "", "4", "0", "x" * 2000])
def test_what_is_no_option_is_told_which_there_are(text: str) -> None:
    assert reason(colours(), text) == "Kies een van deze: Rood, Donkerrood of Groen."


@pytest.mark.parametrize(
    "text", ["niet rood", "rood of groen", "alles behalve groen", "groen?", "groen, rood"]
)
def test_what_may_mean_another_option_is_asked_again(text: str) -> None:
    assert reason(colours(), text) == TEXTS.choice_unclear.format(options="Rood, Donkerrood of Groen")


def test_a_button_of_another_question_is_no_answer() -> None:
    assert "Rood" in reason(colours(), pressed("ja"))
    assert "Rood" in reason(colours(), pressed())
    assert "Rood" in reason(colours(), pressed("rood", "groen"))


def test_the_longest_match_of_patterns_wins() -> None:
    question = ChoiceQuestion[str](
        "?", [Choice("A", "short", pattern="rood"), Choice("B", "long", pattern="donker ?rood")]
    )

    assert answer(question, "iets donker roods") == "long"
    assert answer(question, "roodachtig") == "short"


def test_a_number_is_no_place_in_the_list_where_labels_begin_with_numbers() -> None:
    question = ChoiceQuestion[str]("Hoe lang?", ["2 dagen", "3 dagen"])

    assert "2 dagen" in reason(question, "2")
    assert answer(question, "3 dagen") == "3 dagen"
    assert answer(ChoiceQuestion[str]("?", ["10", "20", "2"]), "2") == "2"


def test_an_enum_is_its_members() -> None:
    question = ChoiceQuestion[Visit]("?", Visit)

    assert buttons(question) == [
        ("laat_staan", "Laat staan", "theme"),
        ("verzet", "Verzet", "orange"),
        ("cancel", "Zeg af", "red"),
        ("call_me", "Call me", "theme"),
    ]
    assert answer(question, pressed("cancel")) is Visit.CANCEL
    assert answer(question, "verplaats") is Visit.MOVE
    assert answer(question, "call me") is Visit.CALL_ME


def test_values_and_aliases_are_those_of_the_choice() -> None:
    question = ChoiceQuestion[int | None](
        "?", [Choice("Goed", 5, aliases=["prima", "top"]), Choice("Weet niet", None, name="unknown")]
    )

    assert answer(question, "top") == 5
    assert question.read(pressed("unknown"), None, TEXTS) is None
    assert question.decode(question.encode(None)) is None


def test_an_option_that_is_not_shown_is_no_answer_and_one_that_was_given_stays_readable() -> None:
    options = [Choice("Arts", 1, shown_if=False), Choice("Balie", 2)]
    question = ChoiceQuestion[int]("?", options)

    assert [label for _, label, _ in buttons(question)] == ["Balie"]
    assert answer(question, "1") == 2
    assert "Balie" in reason(question, "arts")
    assert question.decode("arts") == 1


def test_an_answer_of_which_the_option_is_gone_cannot_be_read() -> None:
    for document in ("blauw", None, 1, ["rood"]):
        with pytest.raises(UnreadableAnswerError):
            colours().decode(document)


@pytest.mark.parametrize(
    "options",
    [
        [],
        "Ja",
        ["Ja", "ja!"],
        [Choice("A", name="x"), Choice("B", name="x")],
        [Choice("A", shown_if=False)],
        [1],
    ],
)
def test_options_that_cannot_be_told_apart_are_refused(options: Any) -> None:
    with pytest.raises(InvalidInputError):
        ChoiceQuestion("?", options)


def test_a_label_goes_before_the_name_of_another_option() -> None:
    question = ChoiceQuestion[str]("?", ["Rood", Choice("Groen", name="rood")])

    assert answer(question, "rood") == "Rood"
    assert answer(question, pressed("rood")) == "Groen"
    assert answer(question, pressed("rood_2")) == "Rood"


def test_a_choice_that_cannot_be_right_is_refused() -> None:
    for wrong in ({"name": "a b"}, {"aliases": "x"}, {"pattern": "("}, {"style": ""}):
        with pytest.raises(InvalidInputError):
            Choice("A", **wrong)  # type: ignore[call-overload]


def test_options_with_equal_values_of_other_types_keep_their_own() -> None:
    first, second = (
        ChoiceQuestion[object]("?", [Choice("A", 1)]),
        ChoiceQuestion[object]("?", [Choice("A", True)]),
    )

    assert answer(first, "a") is not True
    assert answer(second, "a") is True
    mixed = ChoiceQuestion[object]("?", [Choice("A", 1), Choice("B", True)])
    assert mixed.encode(True) == "b"


@pytest.mark.parametrize(
    "text",
    [
        "rood|groen",
        "Rood, groen",
        "rood en groen",
        "rood and groen",
        "1 en 3",
        "rood\ngroen",
        "rood & groen, rood",
    ],
)
def test_several_are_separated_in_many_ways(text: str) -> None:
    question = ChoicesQuestion[str]("?", COLOURS)

    assert answer(question, text) == answer(question, pressed("rood", "groen")) == ["Rood", "Groen"]


def test_labels_with_commas_and_and_in_them_can_be_typed() -> None:
    question = ChoicesQuestion[str]("?", ["Peper en zout", "Ja, graag", "Rood"])

    assert answer(question, "rood, ja, graag en peper en zout") == ["Rood", "Ja, graag", "Peper en zout"]


def test_a_part_that_is_no_option_makes_it_no_answer() -> None:
    assert "wit" in reason(ChoicesQuestion[str]("?", COLOURS), "rood en wit")
    assert "Rood" in reason(ChoicesQuestion[str]("?", COLOURS), pressed("rood", "wit"))


@pytest.mark.parametrize("text", ["", ",", "|", ", " * 400, "rood of groen", "x" * 2000])
def test_what_names_no_options_is_no_answer(text: str) -> None:
    assert "Rood" in reason(ChoicesQuestion[str]("?", COLOURS), text)


def test_the_number_of_options_is_kept_to() -> None:
    question = ChoicesQuestion[str]("?", COLOURS, count=(1, 2))

    assert reason(question, pressed("rood", "groen", "donkerrood")) == "Kies er hoogstens 2."
    assert reason(ChoicesQuestion[str]("?", COLOURS, count=(2, None)), "rood, rood") == "Kies er minstens 2."
    assert reason(question, pressed()) == "Kies er minstens 1."
    assert answer(ChoicesQuestion[str]("?", COLOURS, count=(0, None)), pressed()) == []


YES = [
    "ja",
    "Ja!",
    "J",
    "yes",
    "ok",
    "Oké",
    "jazeker",
    "klopt",
    "👍",
    "ja hoor",
    "Ja, graag.",
    "Yes please",
    "1",
    "ja_",
]
NO = [
    "nee",
    "NEE",
    "n",
    "no",
    "nope",
    "nee dank u",
    "Nee, bedankt",
    "no thanks",
    "dat klopt niet",
    "👎",
    "2",
    "niet akkoord",
]
NEITHER = [
    "",
    "niet",
    "weet ik niet",
    "ja of nee",
    "ja, maar niet morgen",
    "nee, geen probleem",
    "no problem",
    "misschien",
    "nou ja",
    "janee",
    "3",
    "x" * 2000,
]


@pytest.mark.parametrize("text", [text for text in YES if text != "ja_"])
def test_yes_is_understood(text: str) -> None:
    assert answer(ConfirmQuestion("?"), text) is True


@pytest.mark.parametrize("text", NO)
def test_no_is_understood(text: str) -> None:
    assert ConfirmQuestion("?").read(pressed("nee"), None, TEXTS) is False
    assert answer(ConfirmQuestion("?"), text) is False


@pytest.mark.parametrize("text", NEITHER)
def test_what_is_neither_yes_nor_no_is_asked_again(text: str) -> None:
    assert reason(ConfirmQuestion("?"), text) == "Kies een van deze: Ja of Nee."


def test_yes_and_no_have_the_words_of_the_texts_or_their_own() -> None:
    assert buttons(ConfirmQuestion("?"), Texts.english()) == [("yes", "Yes", "green"), ("no", "No", "red")]
    question = ConfirmQuestion("?", yes="Akkoord", no=Choice("Weiger", name="reject", pattern="weiger"))
    assert buttons(question) == [("akkoord", "Akkoord", "green"), ("reject", "Weiger", "red")]
    assert [answer(question, text) for text in ("akkoord", "ja", "ik ga akkoord")] == [True] * 3
    assert [answer(question, text) for text in ("weigeren", "nee", "niet akkoord")] == [False] * 3
    assert "Akkoord" in reason(question, "ik ga niet akkoord")
    assert answer(question, pressed("reject")) is False


def test_the_usual_words_do_not_count_where_the_labels_turn_them_around() -> None:
    question = ConfirmQuestion("Wilt u stoppen?", yes="Nee, ga door", no="Stop")

    assert answer(question, "nee, ga door") is True
    assert "Stop" in reason(question, "nee")


def test_yes_and_no_cannot_have_one_label() -> None:
    with pytest.raises(InvalidInputError):
        ConfirmQuestion("?", yes="Ja", no="ja")
