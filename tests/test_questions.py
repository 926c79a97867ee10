"""What is put together to be sent: buttons, invitations, people to import."""

import copy
import pickle
from typing import Any, Final

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from healthmsg.errors import AmbiguousAuxIdError, InvalidIdError, InvalidInputError
from healthmsg.ids import exact_aux_id
from healthmsg.models import GroupInvite, ImportUser, Option
from healthmsg.models.messages import STYLES

CANARY: Final = "c4nary"
PERSON: Final[dict[str, Any]] = {"first_name": "Ann", "last_name": "X"}
INVITE: Final[dict[str, Any]] = {"email": "a@b.nl", "invite_type": "contact", **PERSON}
IMPORT: Final[dict[str, Any]] = {"email": "a@b.nl", **PERSON}


# --- the name of an option


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Ja", "ja"),
        ("Ja, graag!", "ja_graag_"),
        ("  Nee  dank u ", "nee_dank_u"),
        ("\ufeff\u00a0\n\u2003Ja\u2028", "ja"),
        ("\x1cJa", "_ja"),
        ("Misschien-later", "misschien_later"),
        ("één keer", "een_keer"),
        ("e\u0301e\u0301n", "e_e_n"),
        ("S\u0219", "s_"),
        ("ŁÓDŹ", "lodz"),
        ("Bjørn", "bjorn"),
        ("★★★☆☆", "11100"),
        ("★ matig", "1_matig"),
        ("snake_case 7", "snake_case_7"),
        ("10:15 / 10:30", "10_15_10_30"),
        ("👍 Akkoord", "_akkoord"),
        ("a" * 40, "a" * 32),
        ("a" * 31 + " b", "a" * 31 + "_"),
        ("Keuze\n\tA", "keuze_a"),
    ],
)
def test_a_name_is_derived_from_the_label_as_the_vendors_client_does(label: str, name: str) -> None:
    option = Option(label)

    assert (option.label, option.name, option.style) == (label, name, None)


@pytest.mark.parametrize("label", ["患者", "Да", "👍", "!!!", "???", "\ud800"])
def test_a_label_of_which_no_letter_is_left_has_a_name_all_the_same(label: str) -> None:
    name = Option(label).name

    assert name.startswith("option_")
    assert Option(label).name == name != Option(f"{label}{label}").name


@given(st.text().filter(str.strip))
def test_every_derived_name_is_one_that_could_have_been_given(label: str) -> None:
    name = Option(label).name

    assert 1 <= len(name) <= 32
    assert Option("x", name=name).name == name == name.lower()
    assert Option(label).name == name


@pytest.mark.parametrize("name", ["a", "JA", "_", "ja_graag_7", "x" * 32])
def test_a_name_of_ones_own_is_kept(name: str) -> None:
    assert Option("Ja", name=name, style="green") == Option("Ja", name=name, style="green")
    assert Option("Ja", name=name).name == name


@pytest.mark.parametrize("style", ["pink", "Green", "#ff0000", "primary"])
def test_a_style_that_the_vendor_does_not_use_is_sent_with_a_warning(style: str) -> None:
    with pytest.warns(UserWarning, match="none of green, red, orange, .*, theme") as caught:
        option = Option("Ja", style=style)

    assert option.style == style
    assert caught[0].filename == __file__


@pytest.mark.parametrize("style", [None, *STYLES])
def test_a_style_of_the_vendors_is_sent_without_a_word(style: str | None) -> None:
    assert {"green", "red", "orange", "blue", "yellow", "purple", "black", "theme"} == {*STYLES}
    assert Option("Ja", style=style).style == style


# --- what is refused


@pytest.mark.parametrize(
    "wrong",
    [
        *({"label": label} for label in ("", " \n", None, 7, b"c4nary", ["c4nary"])),
        *(
            {"label": "Ja", "name": name}
            for name in ("", " ", "x" * 33, "c4nary met spatie", "c4nary-x", "één", "ja\n", 7, b"ja", ["ja"])
        ),
        *({"label": "Ja", "style": style} for style in ("", " ", 7, ["c4nary"], True)),
    ],
)
def test_an_option_that_cannot_be_right_is_refused(wrong: dict[str, Any]) -> None:
    assert_refused(Option, wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"email": None},
        {"phone_number": "+31 c4nary"},
        {"email": CANARY},
        {"email": ""},
        {"email": 7},
        {"email": None, "phone_number": ""},
        {"email": None, "phone_number": 316},
        {"email": None, "phone_number": "nan"},
        {"email": "@"},
        {"email": "a@b.nl\n"},
        *(
            {name: value}
            for name in ("first_name", "last_name")
            for value in (None, 7, b"c4nary", "c4nary\n")
        ),
        *({"invite_type": value} for value in (None, "", "private", CANARY, "Contact", 7, ["contact"])),
        *({"invite_text": value} for value in ("", " ", 7, ["c4nary"])),
        *({"create_conversation": value} for value in (None, 0, 1, "yes", CANARY)),
    ],
)
def test_an_invitation_that_cannot_be_right_is_refused(wrong: dict[str, Any]) -> None:
    assert_refused(GroupInvite, INVITE | wrong)


@pytest.mark.parametrize("aux_id", ["", ".", "..", 7, True, "c4nary\ud800", ["c4nary"]])
def test_an_invitation_with_an_auxiliary_id_that_cannot_be_one_is_refused(aux_id: Any) -> None:
    assert_refused(GroupInvite, INVITE | {"aux_id": aux_id}, InvalidIdError)


def test_an_invitation_with_an_ambiguous_auxiliary_id_is_refused() -> None:
    assert_refused(GroupInvite, INVITE | {"aux_id": "c4nary José"}, AmbiguousAuxIdError)
    assert GroupInvite(**INVITE, aux_id=exact_aux_id("José")).aux_id == "José"


@pytest.mark.parametrize(
    "wrong",
    [
        *({"email": value} for value in (None, "", " ", CANARY, 7, b"a@b.nl", "@", "c4nary@b.nl\n")),
        *(
            {name: value}
            for name in ("first_name", "last_name")
            for value in (None, 7, b"c4nary", "c4nary\n")
        ),
        *({name: value} for name in ("username", "saml_username") for value in ("", " ", 7, "c4nary\n")),
    ],
)
def test_an_import_that_cannot_be_right_is_refused(wrong: dict[str, Any]) -> None:
    assert_refused(ImportUser, IMPORT | wrong)


def assert_refused(
    kind: type, arguments: dict[str, Any], error: type[InvalidInputError] = InvalidInputError
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        kind(**arguments)

    assert type(caught.value) is error
    assert CANARY not in f"{caught.value} {caught.value!r}"
    assert caught.value.__context__ is None


# --- values


ALL = (
    Option(CANARY, name=f"{CANARY}_7", style="green"),
    Option(CANARY),
    GroupInvite(
        email=f"{CANARY}@b.nl",
        first_name=CANARY,
        last_name=CANARY,
        invite_type="private_user",
        invite_text=CANARY,
        aux_id=CANARY,
        create_conversation=True,
    ),
    GroupInvite(phone_number="+31612345678", first_name=CANARY, last_name=CANARY, invite_type="coworker"),
    ImportUser(
        email=f"{CANARY}@b.nl",
        first_name=CANARY,
        last_name=CANARY,
        username=CANARY,
        saml_username=CANARY,
    ),
)
every_value = pytest.mark.parametrize("value", ALL, ids=lambda value: type(value).__name__)


@every_value
def test_nothing_personal_is_in_the_repr(value: object) -> None:
    assert CANARY not in repr(value)


@every_value
def test_they_survive_pickle_and_copy_and_are_equal_by_value(value: object) -> None:
    again = (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value))  # noqa: S301 - our own

    assert set(again) == {value}


@every_value
def test_they_cannot_be_changed(value: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        value.email = value.label = "x"


def test_a_changed_copy_is_checked_too() -> None:
    with pytest.raises(InvalidInputError):
        evolve(GroupInvite(**INVITE), phone_number="+31 6")
    with pytest.raises(InvalidInputError):
        evolve(ImportUser(**IMPORT), email=CANARY)
    with pytest.raises(InvalidInputError):
        evolve(Option("Ja"), name="not a name")
    assert evolve(Option("Ja", name="x"), label="Nee").name == "x"
