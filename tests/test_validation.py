import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from healthmsg.errors import AmbiguousAuxIdError, InvalidIdError, InvalidInputError
from healthmsg.ids import check_aux_id, exact_aux_id
from healthmsg.validation import (
    check_all,
    check_choice,
    check_count,
    check_flag,
    check_moment,
    check_name,
    check_reachable_by_one,
    check_text,
)

CANARY = "c4nary"
Check = Callable[[Any, str], object]
MOMENT = datetime(2026, 3, 29, 12, 30, 15, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        *((check_text, value) for value in ("x", " x ", "\u200d", "é 🙏")),
        *((check_name, value) for value in ("", " ", "x", "'t Hart")),
        *((check_flag, value) for value in (True, False)),
        *((check_count, value) for value in (0, 1, 10**12)),
        (check_moment, MOMENT),
    ],
)
def test_what_is_right_comes_back_as_it_is(check: Check, value: object) -> None:
    assert check(value, "it") == value
    assert type(check(value, "it")) is type(value)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        *(
            (check_text, value)
            for value in ("", " \t\n", "\u00a0\u2003", None, 7, True, b"c4nary", ["c4nary"])
        ),
        *((check_name, value) for value in (None, 7, True, b"c4nary", ["c4nary"], {"c4nary"})),
        *((check_flag, value) for value in (0, 1, None, "", "c4nary", "true", ())),
        *((check_count, value) for value in (-1, True, False, 1.0, "1", "c4nary", None, float("nan"))),
        *(
            (check_moment, value)
            for value in (MOMENT.replace(tzinfo=None), date(2026, 1, 1), "c4nary", 0, None)
        ),
        (check_moment, datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
        (check_moment, datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))),
    ],
)
def test_what_is_wrong_is_refused_by_the_name_of_the_argument(check: Check, value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^the_argument must be ") as caught:
        check(value, "the_argument")

    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("hours", [-12, -5, 0, 1, 14])
def test_a_moment_is_given_in_utc(hours: int) -> None:
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=hours)))

    assert check_moment(elsewhere, "start") == MOMENT
    assert check_moment(elsewhere, "start").utcoffset() == timedelta()


def test_a_choice_is_one_of_the_words() -> None:
    check_choice("move", "if_taken", ("error", "move"))

    for wrong in ("Move", "", "mov", CANARY, None, 7, ["move"], ("error", "move")):
        with pytest.raises(InvalidInputError, match=r"^if_taken must be one of 'error', 'move'$"):
            check_choice(wrong, "if_taken", ("error", "move"))


def test_an_auxiliary_id_must_fit_into_a_path() -> None:
    assert check_aux_id("ward 3/e") == "ward 3/e"
    for wrong in ("", ".", "..", None, 7, True, "c4nary\ud800", ["c4nary"]):
        with pytest.raises(InvalidIdError) as caught:
            check_aux_id(wrong)
        assert CANARY not in str(caught.value)


def test_an_auxiliary_id_with_a_diacritic_must_be_meant_so() -> None:
    assert check_aux_id(exact_aux_id("José")) == "José"
    with pytest.raises(AmbiguousAuxIdError):
        check_aux_id("José")


@pytest.mark.parametrize(
    ("email", "phone_number", "sent"),
    [
        ("a@b.nl", None, "a@b.nl"),
        ("Jan.de-Vries+zorg@ZORG.Example", None, "Jan.de-Vries+zorg@zorg.example"),
        ("o'brien@x.nl", None, "o'brien@x.nl"),
        ("zoë@bücher.de", None, "zoë@bücher.de"),
        ("zoe@XN--bcher-kva.de", None, "zoe@xn--bcher-kva.de"),
        ("e\u0301@x.nl", None, "\u00e9@x.nl"),
        (None, "+31612345678", "+31612345678"),
        (None, "+31 6 12345678", "+31612345678"),
        (None, "+31 (0)6-1234 5678", "+31612345678"),
        (None, "+31/20.123.45.67", "+31201234567"),
        (None, "+32470123456", "+32470123456"),
        (None, "+297 560 1234", "+2975601234"),
        (None, "+1 800 555 0100", "+18005550100"),
    ],
)
def test_a_person_is_reached_by_one_of_two(email: object, phone_number: object, sent: str) -> None:
    assert check_reachable_by_one(email, phone_number) == ((sent, None) if email else (None, sent))


LEFT_TO_RIGHT, RIGHT_TO_LEFT, ISOLATE, BLANK = "\u200e", "\u200f", "\u2066", "\u00a0"


@pytest.mark.parametrize(
    ("email", "phone_number"),
    [
        (None, None),
        ("c4nary@b.nl", "+31 c4nary"),
        ("c4nary@b.nl", ""),
        *((email, None) for email in (7, b"c4nary@b.nl", ["c4nary@b.nl"], "", " ", "c4nary", "nan", "@")),
        *(
            (f"c4nary{odd}@b.nl", None)
            for odd in ("\n", "\r\n", " ", LEFT_TO_RIGHT, ISOLATE, BLANK, "\ud800")
        ),
        *((f"c4nary@b.nl{odd}", None) for odd in ("\n", "\t", " ", RIGHT_TO_LEFT, ";d@e.nl", ",d@e.nl", ">")),
        *((email, None) for email in ("c4nary@b", "c4nary@", "@b.nl", "c4nary@@b.nl", "c4nary@1.2.3.4")),
        *((email, None) for email in ("c4nary <a@b.nl>", "mailto:c4nary@b.nl", "a..c4nary@b.nl", "c4@-b.nl")),
        (f"{'c4nary' * 20}@b.nl", None),
        (None, False),
        (False, None),
        *((None, number) for number in (31612345678, b"+31612345678", "", " ", "nan", "None", "c4nary", "+")),
        *((None, f"+31612345678{odd}") for odd in ("\n", " ", LEFT_TO_RIGHT, ";ext=5", "x5", "--", "0", "*")),
        *((None, f"{odd}+31612345678") for odd in ("\n", " ", RIGHT_TO_LEFT, ISOLATE, "tel:", "'", "+")),
        *((None, number) for number in ("+31\u00a0612345678", "+\uff13\uff11612345678", "+31 6\n12345678")),
        *((None, number) for number in ("0612345678", "0031612345678", "31612345678", "+31 6", "+31 112")),
        *((None, number) for number in ("+99912345678", "+316CANARY45", "6.12346E+10", "3,16123E+10")),
    ],
)
def test_a_person_who_is_not_reached_by_exactly_one_is_refused(email: object, phone_number: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_reachable_by_one(email, phone_number)

    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", ["", "Jan", "'t Hart-Zoë", "\u0639\u0644\u06cc\u200c\u0631\u0636"])
def test_a_name_is_one_line_of_text(name: str) -> None:
    assert check_name(name, "first_name") == name


@pytest.mark.parametrize("name", ["c4nary\n", "c4nary\u2028x", "\tc4nary", "c4nary\0", "c4nary\x85", None, 7])
def test_a_name_with_a_line_break_is_refused(name: object) -> None:
    with pytest.raises(InvalidInputError, match="first_name") as caught:
        check_name(name, "first_name")
    assert CANARY not in str(caught.value)


def test_the_libraries_for_addresses_are_imported_only_when_needed() -> None:
    seen = "import sys, healthmsg.client, healthmsg.models; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", seen], check=True, capture_output=True, text=True)  # noqa: S603 - our own words
    assert not {"phonenumbers", "email_validator", "dns"} & set(run.stdout.split())


@pytest.mark.parametrize("values", [[], [1, 2], (1,), {1}, {1: 2}, range(3), iter([1, 2]), (x for x in (1,))])
def test_a_collection_of_one_kind_comes_back_as_a_tuple(values: Any) -> None:
    found = check_all(values, int, "numbers")

    assert type(found) is tuple
    assert all(isinstance(item, int) for item in found)


@pytest.mark.parametrize("values", [None, 7, "", "c4nary", b"12", [1, "c4nary"], [None], {"c4nary": 1}, int])
def test_another_kind_or_no_collection_is_refused(values: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^numbers must be a collection of int$"):
        check_all(values, int, "numbers")


def test_text_is_no_collection_of_text() -> None:
    with pytest.raises(InvalidInputError):
        check_all("c4nary", str, "names")
