import copy
import pickle
import string
import unicodedata
from collections.abc import Callable
from urllib.parse import unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from healthmsg.errors import AmbiguousAuxIdError, InvalidIdError
from healthmsg.ids import encode_aux_id, encode_segment, exact_aux_id, fold_aux_id

# What ECMAScript says of encodeURIComponent: uriUnreserved is alphanumerics and uriMark.
JAVASCRIPT_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-_.!~*'()")
DIACRITICS = "Jos\u00e9 Bj\u00f8rn e\u0301 \u0142 \u01d8 \u0439 \u1ec7"

ids = st.text().filter(lambda text: text not in {"", ".", ".."})
accented = (
    st.text(st.sampled_from(DIACRITICS + "\u0300\u034f\u0344\u05bc\u05b0\u3099abZ\u1100\u1161\u304b"))
    | st.text()
)

unusable = pytest.mark.parametrize(
    "value",
    ["", ".", "..", None, 7, 7.5, True, b"canary", ["canary"], object(), "canary\ud800", "\udcff"],
)
encoders = pytest.mark.parametrize("encode", [encode_segment, lambda value, _: encode_aux_id(value)])


def javascript(text: str) -> str:
    return "".join(c if c in JAVASCRIPT_UNRESERVED else f"%{ord(c):02X}" for c in text)


@given(ids)
@example("../../me")
@example("a/b?c#d%2F")
@example("%2e%2e")
@example("\x00")
def test_any_id_becomes_one_segment_that_gives_it_back(text: str) -> None:
    segment = encode_segment(text, "id")

    assert segment.isascii()
    assert not set(segment) & set("/?#\\ \r\n")
    assert segment not in {"", ".", ".."}
    assert unquote(segment, errors="strict") == text


@pytest.mark.parametrize("code", range(128))
def test_every_ascii_character_is_encoded_as_javascript_does(code: int) -> None:
    assert encode_segment(f"a{chr(code)}", "id") == javascript(f"a{chr(code)}")


@given(st.text(st.characters(max_codepoint=127)).filter(lambda text: text not in {"", ".", ".."}))
@example("".join(map(chr, range(128))))
def test_ascii_text_is_encoded_as_javascript_does(text: str) -> None:
    assert encode_segment(text, "id") == javascript(text)


def test_the_contracts_example() -> None:
    assert encode_aux_id("ward 3/e") == "ward%203%2Fe"


@encoders
@unusable
def test_what_cannot_be_an_id_is_refused_without_repeating_it(
    encode: Callable[[object, str], str], value: object
) -> None:
    with pytest.raises(InvalidIdError) as caught:
        encode(value, "the id")

    assert not isinstance(caught.value, AmbiguousAuxIdError)
    assert "canary" not in str(caught.value)
    assert not any(0xD800 <= ord(c) < 0xE000 for c in str(caught.value))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_refusal_names_the_argument() -> None:
    with pytest.raises(InvalidIdError, match=r"^message_id must be text, not int$"):
        encode_segment(7, "message_id")


@pytest.mark.parametrize(
    ("aux_id", "folded"),
    [
        ("Jos\u00e9", "Jose"),
        ("Bj\u00f8rn", "Bjorn"),
        ("\u0141\u00f3d\u017a", "Lodz"),
        ("\u00c5ngstr\u00f6m 7", "Angstrom 7"),
    ],
)
def test_an_aux_id_with_a_diacritic_is_refused_and_its_fold_or_its_exact_form_is_not(
    aux_id: str, folded: str
) -> None:
    with pytest.raises(AmbiguousAuxIdError) as caught:
        encode_aux_id(aux_id)

    assert aux_id not in str(caught.value)
    assert "fold_aux_id" in str(caught.value)
    assert "exact_aux_id" in str(caught.value)
    assert fold_aux_id(aux_id) == folded
    assert unquote(encode_aux_id(folded)) == folded
    assert unquote(encode_aux_id(exact_aux_id(aux_id))) == aux_id


@pytest.mark.parametrize("aux_id", ["Jos\u00e9", "e\u0301", "\u00f8"])
def test_an_id_of_the_service_may_have_diacritics(aux_id: str) -> None:
    assert unquote(encode_segment(aux_id, "id")) == aux_id


@pytest.mark.parametrize(
    "aux_id",
    [
        "patient 7",
        "WITH",
        "患者7",
        "がん",  # composed, and below decomposed
        unicodedata.normalize("NFD", "がん"),
        "Пациент",
        "환자",
        unicodedata.normalize("NFD", "환자"),
        "مريض",
        "Straße",
        "Jose\u0301",  # composed, it would be folded
        "Viện",
        "Ștefan ǆ ǿ Ƶ",
        "Þor Ðað Œ ĳ ĸ \u017f",
        "й",
        "Ærø".replace("ø", "o"),
        "5 µg",
        "😀",
    ],
)
def test_other_scripts_stay_exactly_as_they_are(aux_id: str) -> None:
    assert fold_aux_id(aux_id) == aux_id
    assert unquote(encode_aux_id(aux_id)) == aux_id


# A plain letter, and what becomes it.
VENDORS_TABLE = """
    aàáâãäåāăą cçćĉċč dďđ eèéëêēĕėęě gĝğġģ hĥħ iìíîïĩīĭį\u0131 jĵ kķ lĺļľŀł nñńņňŉŋ oòóôõöøōŏő rŕŗř sśŝşš tţťŧ
    uùúûüũūŭůűų wŵ yýÿŷ zźżž
    AÀÁÂÃÄÅĀĂĄ CÇĆĈĊČ DĎĐ EÈÉËÊĒĔĖĘĚ GĜĞĠĢ HĤĦ IÌÍÎÏĨĪĬĮİ JĴ KĶ LĹĻĽĿŁ NÑŃŅŇŊ OÒÓÔÕÖØŌŎŐ RŔŖŘ SŚŜŞŠ TŢŤŦ
    UÙÚÛÜŨŪŬŮŰŲ WŴ YÝŸŶ ZŹŻŽ
"""


@pytest.mark.slow
def test_exactly_the_letters_of_the_vendors_table_are_folded() -> None:
    table = {letter: row[0] for row in VENDORS_TABLE.split() for letter in row[1:]}
    assert len(table) == 177

    every_letter = map(chr, (*range(0xD800), *range(0xE000, 0x110000)))
    folded = {letter: fold_aux_id(letter) for letter in every_letter if fold_aux_id(letter) != letter}

    assert folded == table


def test_a_letter_that_holds_two_letters_loses_none_of_them() -> None:
    # "LATIN CAPITAL LETTER L WITH SMALL LETTER J" has a second letter, no diacritic.
    assert fold_aux_id("\u01c8iljana") != "Liljana"


@given(accented)
@example("\u05bc\u034f\u05b0")
@example("\u1100\u034f\u1161")
def test_folding_twice_is_folding_once(text: str) -> None:
    once = fold_aux_id(text)

    assert fold_aux_id(once) == once


@given(accented)
def test_what_was_folded_is_accepted(text: str) -> None:
    folded = fold_aux_id(text)
    assume(folded not in {"", ".", ".."})

    assert unquote(encode_aux_id(folded)) == folded


@given(accented)
def test_an_aux_id_is_refused_as_ambiguous_exactly_when_folding_changes_it(text: str) -> None:
    assume(text not in {"", ".", ".."})
    try:
        accepted = bool(encode_aux_id(text))
    except AmbiguousAuxIdError:
        accepted = False

    assert accepted == (fold_aux_id(text) == text)


@given(ids)
def test_an_exact_aux_id_is_sent_as_it_is(text: str) -> None:
    assert encode_aux_id(exact_aux_id(text)) == encode_segment(text, "aux_id")


@pytest.mark.parametrize("aux_id", ["", ".", ".."])
def test_exact_is_no_way_around_what_cannot_be_a_segment(aux_id: str) -> None:
    with pytest.raises(InvalidIdError):
        encode_aux_id(exact_aux_id(aux_id))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_exact_aux_id_stays_exact_through_pickle(protocol: int) -> None:
    restored = pickle.loads(pickle.dumps(exact_aux_id("Jos\u00e9"), protocol))  # noqa: S301 - our own

    assert encode_aux_id(restored) == "Jos%C3%A9"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_an_exact_aux_id_stays_exact_through_copy(duplicate: Callable[[str], str]) -> None:
    assert encode_aux_id(duplicate(exact_aux_id("Jos\u00e9"))) == "Jos%C3%A9"


def test_an_exact_aux_id_is_the_text_it_marks() -> None:
    assert exact_aux_id("Jos\u00e9") == "Jos\u00e9"
    assert hash(exact_aux_id("Jos\u00e9")) == hash("Jos\u00e9")


@pytest.mark.parametrize("helper", [exact_aux_id, fold_aux_id])
@pytest.mark.parametrize("value", [None, 7, b"canary"])
def test_what_is_not_text_does_not_become_an_aux_id(helper: Callable[[object], str], value: object) -> None:
    with pytest.raises(InvalidIdError):
        helper(value)
