"""Numbers and dates with words beside them that may make them mean something else."""

from datetime import date

import pytest

from healthmsg.bot.dialogs.questions import DateQuestion, Invalid, NumberQuestion, Texts
from tests.bot.dialogs.questions.given import TEXTS, answer, reason, typed


@pytest.mark.parametrize(
    "text",
    [
        *("drie of 4", "vier tot 5", "tussen de 3 en vijf", "zes (was 5)", "acht eerst, nu 3", "half 5"),
        *("één 4", "een, 4", "een a 4", "drieëntwintig 4", "4 or five", "anderhalf, 4", "one 4"),
    ],
)
def test_a_number_in_words_beside_one_in_digits_is_a_second_one(text: str) -> None:
    assert reason(NumberQuestion("?"), text) == TEXTS.number_several


@pytest.mark.parametrize(
    "text",
    [
        *("niet 4", "geen 4", "not 4", "isn't 4", "don\u2019t 4", "4?", "misschien 4", "4, maar soms meer"),
        *("minder dan 3", "meer dan 4", "niet meer dan 5", "minstens 4", "ten minste 4", "max 4", "min. 3"),
        *("bijna 5", "tot 4", "vanaf 4", "voor 4", "vóór de 4", "na 4", "<4", "up to 4", "over 4", "4+"),
        *("B12", "v4", "u2", "1e", "2e", "4abc", "COVID-19", "pijn-4", "--3", "3-"),
    ],
)
def test_a_number_that_may_mean_another_one_is_asked_for_alone(text: str) -> None:
    assert reason(NumberQuestion("?"), text) == TEXTS.number_alone


@pytest.mark.parametrize(
    "text",
    [
        *("4", "ik heb er 4", "ongeveer 4", "circa 4", "about 4", "~4", "een 4", "een beetje pijn, 4"),
        *("4x", "4mg", "4 keer per dag", "4 voor de pijn", "€4", "4%", "4!", "*4*", "mijn tenen: 4", "4 min"),
    ],
)
def test_words_that_change_nothing_may_stand_around_a_number(text: str) -> None:
    assert answer(NumberQuestion("?"), text) == 4


@pytest.mark.parametrize(
    "text",
    [
        *("niet op 1-5-2028", "behalve 1 mei 2028", "1 mei 2028?", "voor 1 mei 2028", "vóór 1 mei 2028"),
        *("na 1 mei 2028", "vanaf 1 mei 2028", "tot 1 mei 2028", "t/m 1-5-2028", "eerder dan 1-5-2028"),
        *("before 1 May 2028", "after 1 May 2028", "except 1 May 2028", "until 1 May 2028"),
    ],
)
def test_a_date_that_may_mean_another_one_is_asked_for_alone(text: str) -> None:
    assert reason(DateQuestion("?"), text) == TEXTS.date_alone


@pytest.mark.parametrize("text", ["1 en 2 mei 2028", "1 mei 2028 en 3 mei", "drie of 4 mei 2028"])
def test_another_number_beside_a_date_may_be_a_second_day(text: str) -> None:
    assert reason(DateQuestion("?"), text) == TEXTS.date_several


@pytest.mark.parametrize(
    "text",
    [
        "1 mei 2028 om 10:30",
        "1 mei 2028 10 uur",
        "op 1-5-2028 om 9.30 uur",
        "ongeveer 1 mei 2028",
        "1st of May 2028",
    ],
)
def test_words_and_a_time_of_day_may_stand_around_a_date(text: str) -> None:
    assert answer(DateQuestion("?"), text) == date(2028, 5, 1)


def test_what_is_asked_for_alone_is_so_in_english_too() -> None:
    texts = Texts.english()

    assert NumberQuestion("?").read(typed("not 4"), None, texts) == Invalid(texts.number_alone)
    assert "number alone" in texts.number_alone


def test_a_number_that_was_known_before_is_taken_as_it_is() -> None:
    decimals = NumberQuestion("?", whole=False)

    assert decimals.read_known(1.125, TEXTS) == 1.125
    assert decimals.read_known(0.0000001, TEXTS) == 0.0000001
    assert NumberQuestion("?").read_known(-7.0, TEXTS) == -7
    assert NumberQuestion("?").read_known(7.5, TEXTS) == Invalid(TEXTS.number_whole)
