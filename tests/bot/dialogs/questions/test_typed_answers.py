"""Texts, numbers, e-mail addresses, phone numbers, dates."""

import re
from datetime import date

import pytest

from healthmsg import InvalidInputError
from healthmsg.bot.dialogs.questions import (
    DateQuestion,
    EmailQuestion,
    Given,
    NumberQuestion,
    PhoneQuestion,
    TextQuestion,
)
from tests.bot.dialogs.questions.given import TEXTS, answer, pressed, reason


def test_a_text_comes_back_without_blanks_around_it() -> None:
    assert answer(TextQuestion("?"), "  An Visser\n") == "An Visser"


@pytest.mark.parametrize("text", ["", " ", "...", "?!"])
def test_a_text_that_says_nothing_is_no_answer(text: str) -> None:
    assert reason(TextQuestion("?"), text) == TEXTS.text_missing


def test_a_smiley_and_other_scripts_are_text() -> None:
    assert [answer(TextQuestion("?"), text) for text in ("👍", "نعم", "é")] == ["👍", "نعم", "é"]


def test_lengths_of_a_text_are_kept_to() -> None:
    question = TextQuestion("?", min_length=2, max_length=4)

    assert [answer(question, text) for text in ("ab", "abcd")] == ["ab", "abcd"]
    assert "2" in reason(question, "a")
    assert "4" in reason(question, "abcde")


def test_a_pattern_is_found_somewhere_whatever_the_case() -> None:
    assert answer(TextQuestion("?", pattern="[0-9]{4} ?[a-z]{2}"), "het is 1234 AB") == "het is 1234 AB"
    assert reason(TextQuestion("?", pattern=re.compile("^[a-z]+$")), "ABC") == TEXTS.text_unfit


def test_a_pressed_button_is_no_text() -> None:
    assert reason(TextQuestion("?"), pressed("ja")) == TEXTS.text_missing


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: TextQuestion("?", min_length=-1),
        lambda: TextQuestion("?", min_length=3, max_length=2),
        lambda: TextQuestion("?", pattern="("),
        lambda: NumberQuestion("?", between=(3, 2)),
        lambda: NumberQuestion("?", between=(float("nan"), 2)),
        lambda: NumberQuestion("?", between=(1, 2, 3)),  # type: ignore[arg-type]
        lambda: EmailQuestion("?", domains="example.org"),
        lambda: EmailQuestion("?", domains=["@"]),
        lambda: PhoneQuestion("?", region="nl"),
        lambda: PhoneQuestion("?", countries=["31"]),
        lambda: DateQuestion("?", after=date(2026, 1, 1), before=date(2026, 1, 2)),
        lambda: DateQuestion("?", format="%d-%m"),
        lambda: DateQuestion("?", format="%"),
    ],
)
def test_a_question_that_cannot_be_right_is_refused_when_it_is_made(wrong: object) -> None:
    with pytest.raises(InvalidInputError):
        wrong()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("-3", -3),
        ("+3", 3),
        ("\u22123", -3),
        ("ongeveer 7 graden", 7),
        ("70kg", 70),
        ("7.", 7),
        ("1.250", 1250),
        ("1,250", 1250),
        ("12'500", 12500),
        ("1.250.000", 1250000),
        ("\u0663", 3),
        ("- 7", 7),
    ],
)
def test_whole_numbers_are_read(text: str, number: int) -> None:
    found = answer(NumberQuestion("?"), text)

    assert (found, type(found)) == (number, int)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("38,5", 38.5),
        ("38.5", 38.5),
        (",5", 0.5),
        ("-0,25", -0.25),
        ("0,125", 0.125),
        ("1.234,5", 1234.5),
        ("7", 7),
    ],
)
def test_decimals_are_read_with_a_comma_or_a_point(text: str, number: float) -> None:
    assert answer(NumberQuestion("?", whole=False), text) == number


def test_decimals_are_no_whole_number() -> None:
    assert reason(NumberQuestion("?"), "7,5") == TEXTS.number_whole


@pytest.mark.parametrize("text", ["7 of 8", "5-10", "7/10", "10:30", "31-12-2026", "5 1/2"])
def test_more_than_one_number_is_no_answer(text: str) -> None:
    assert reason(NumberQuestion("?"), text) == TEXTS.number_several


@pytest.mark.parametrize(
    "text", ["", "zeven", "9" * 16, "5½", "½", "5²", "min 3", "5 duizend", "2 miljoen", "1.2.3"]
)
def test_what_is_not_surely_a_number_is_no_answer(text: str) -> None:
    assert reason(NumberQuestion("?"), text) == TEXTS.number_missing


def test_a_number_that_can_be_read_in_two_ways_is_asked_for_again_unless_one_fits_only() -> None:
    assert reason(NumberQuestion("?", whole=False), "1.250") == TEXTS.number_unclear
    assert answer(NumberQuestion("?", whole=False, between=(0, 10)), "1.250") == 1.25
    assert answer(NumberQuestion("?", whole=False, between=(100, 9000)), "1.250") == 1250


def test_the_ends_of_a_range_belong_to_it() -> None:
    question = NumberQuestion("?", between=(0, 10))

    assert [answer(question, text) for text in ("0", "10")] == [0, 10]
    assert reason(question, "11") == "Typ een getal van 0 tot en met 10."
    assert reason(NumberQuestion("?", between=(0, None)), "-1") == "Typ een getal dat niet lager is dan 0."
    assert reason(NumberQuestion("?", between=(None, 1.5)), "2") == "Typ een getal dat niet hoger is dan 1.5."


def test_an_email_address_is_taken_with_its_domain_in_lower_case() -> None:
    assert answer(EmailQuestion("?"), " An@Zorg.Photography ") == "An@zorg.photography"


@pytest.mark.parametrize(
    "text", ["an", "an@", "an visser@zorg.nl", "an@zorg.nl en bo@zorg.nl", "an@localhost", "a" * 400]
)
def test_what_is_no_email_address_is_no_answer(text: str) -> None:
    assert reason(EmailQuestion("?"), text) == TEXTS.email_invalid


def test_an_email_address_must_be_at_an_allowed_domain_or_below_it() -> None:
    question = EmailQuestion("?", domains=["zorg.nl", "@umc.nl"])

    assert answer(question, "an@zorg.nl") == "an@zorg.nl"
    assert answer(question, "an@poli.zorg.nl") == "an@poli.zorg.nl"
    assert answer(question, "an@umc.nl") == "an@umc.nl"
    assert "zorg.nl of @umc.nl" in reason(question, "an@mijnzorg.nl")
    assert "zorg.nl" in reason(question, "an@poli.umc.nl")


@pytest.mark.parametrize(
    "text",
    [
        "0612345678",
        "06-12 34 56 78",
        "(06) 12345678",
        "+31612345678",
        "+31 (0)6 12345678",
        "0031 6 12345678",
        "06.12.34.56.78",
    ],
)
def test_a_dutch_phone_number_comes_back_in_one_form(text: str) -> None:
    assert answer(PhoneQuestion("?"), text) == "+31612345678"


def test_a_phone_number_of_another_region_is_read_by_its_rules() -> None:
    assert answer(PhoneQuestion("?", region="BE"), "0470 12 34 56") == "+32470123456"


@pytest.mark.parametrize(
    "text", ["", "06-1234", "bel 0612345678", "112", "0612345678 of 0687654321", "+310000000000", "0" * 500]
)
def test_what_is_no_phone_number_is_no_answer(text: str) -> None:
    assert reason(PhoneQuestion("?"), text) == TEXTS.phone_invalid


@pytest.mark.parametrize("country", ["+32", "BE"])
def test_a_phone_number_must_be_of_an_allowed_country(country: str) -> None:
    question = PhoneQuestion("?", countries=[country])

    assert answer(question, "+32470123456") == "+32470123456"
    assert country in reason(question, "0612345678")


@pytest.mark.parametrize(
    "text",
    [
        "31-12-2026",
        "31/12/2026",
        "31.12.2026",
        "31 - 12 - 2026",
        "2026-12-31",
        "31 december 2026",
        "31 Dec. 2026",
        "31ste december, 2026",
        "December 31, 2026",
        "31st of December 2026",
        "donderdag 31 december 2026",
        "Thursday, 31 December 2026",
        "op 31-12-2026 graag",
        "\u0663\u0661-12-2026",
    ],
)
def test_a_date_is_read_in_many_forms(text: str) -> None:
    assert answer(DateQuestion("?"), text) == date(2026, 12, 31)


@pytest.mark.parametrize(
    ("text", "day"),
    [("Morgen", 29), ("tomorrow!", 29), ("vandaag", 28), ("gisteren", 27), ("overmorgen", 30)],
)
def test_days_from_today_are_read_where_it_is_known_which_day_it_is(text: str, day: int) -> None:
    assert answer(DateQuestion("?"), text) == date(2026, 11, day)
    assert reason(DateQuestion("?"), Given(text=text)) == TEXTS.date_invalid


def test_tomorrow_at_the_end_of_time_is_no_date() -> None:
    assert reason(DateQuestion("?"), Given(text="morgen", today=date.max)) == TEXTS.date_invalid


@pytest.mark.parametrize(
    "text", ["", "30-2-2026", "12/31/2026", "3 mei", "goedemorgen", "1-2-2026-4", "00-00-0000"]
)
def test_what_is_no_date_is_no_answer(text: str) -> None:
    assert reason(DateQuestion("?"), text) == TEXTS.date_invalid


def test_two_dates_are_no_answer_and_one_twice_is() -> None:
    assert reason(DateQuestion("?"), "1-1-2026 of 2-1-2026") == TEXTS.date_several
    assert answer(DateQuestion("?"), "01-01-2026, dus 1 januari 2026") == date(2026, 1, 1)


def test_a_weekday_that_is_not_that_of_the_date_is_asked_about() -> None:
    assert reason(DateQuestion("?"), "vrijdag 31 december 2026") == TEXTS.date_weekday


def test_a_year_of_two_digits_counts_where_one_century_fits_only() -> None:
    assert reason(DateQuestion("?"), "31-12-26") == TEXTS.date_year
    assert answer(DateQuestion("?", after=date(2026, 1, 1)), "31-12-26") == date(2026, 12, 31)
    assert answer(DateQuestion("?", before=date(2020, 1, 1)), "31-12-45") == date(1945, 12, 31)


def test_a_date_is_after_and_before_the_limits() -> None:
    question = DateQuestion("?", after=date(2026, 1, 1), before=date(2026, 1, 3))

    assert answer(question, "2-1-2026") == date(2026, 1, 2)
    assert reason(question, "1-1-2026") == "Typ een datum na 01-01-2026."
    assert reason(question, "3-1-2026") == "Typ een datum voor 03-01-2026."


def test_with_a_form_of_its_own_a_date_is_taken_in_no_other() -> None:
    question = DateQuestion("?", format="%m/%d/%Y")

    assert answer(question, "12/31/2026") == date(2026, 12, 31)
    assert reason(question, "31-12-2026") == TEXTS.date_invalid


def test_the_bot_may_be_mentioned_before_an_answer() -> None:
    mention = "[mention=0f8fad5b-d9cb-469f-a165-70867728950e] "

    assert answer(NumberQuestion("?"), f"{mention}7") == 7
    assert answer(PhoneQuestion("?"), f"{mention}0612345678") == "+31612345678"
    assert answer(DateQuestion("?"), f"{mention}31-12-2026") == date(2026, 12, 31)
    assert answer(EmailQuestion("?"), f"{mention}an@zorg.nl") == "an@zorg.nl"
