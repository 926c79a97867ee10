"""Cells that hold no value, and ids that a spreadsheet has spoilt: what is refused, what is a doubt."""

import pytest

from healthmsg.cli.problems import Problems
from healthmsg.cli.recipients.cells import (
    LongNumbers,
    doubt_about_field,
    doubt_about_id,
    doubt_about_text,
    problem_of_id,
    problem_of_value,
)

FAILED = [
    # Excel, in the languages that matter here.
    *("#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!", "#CALC!", "#FIELD!"),
    *("#BLOCKED!", "#UNKNOWN!", "#CONNECT!", "#BUSY!", "#PYTHON!", "#TIMEOUT!", "#EXTERNAL!"),
    *("#GETTING_DATA", "#N/B", "#VERW!", "#WAARDE!", "#NAAM?", "#DEEL/0!", "#GETAL!", "#LEEG!"),
    *("#OVERLOPEN!", "#OVERLOOP!", "#GEBLOKKEERD!", "#VELD!", "#BEREKENEN!", "#GEGEVENS_OPHALEN", "#BEZIG!"),
    *("#ONBEKEND!", "#NV", "#BEZUG!", "#WERT!", "#ZAHL!", "#ÜBERLAUF!", "#DATEN_ABRUFEN", "#KALK!"),
    *("#FELD!", "#VALEUR!", "#NOM?", "#NOMBRE!", "#NUL!", "#PROPAGATION!", "#EPARS!", "#CALCUL!", "#ARG!"),
    *("#ADR!", "#NAZWA?", "#LICZBA!", "#ROZLANIE!", "#N/D", "#N/D!", "#¡VALOR!", "#¿NOMBRE?", "#¡REF!"),
    *("#RIF!", "#VALORE!", "#NOME?", "#ESPANSIONE!", "#YOK", "#DEĞER!", "#AD?", "#SAYI!", "#BAŞV!"),
    *("#TAŞMA!", "#HODNOTA!", "#ODKAZ!", "#SAKNAS!", "#PUUTTUU!", "#I/T", "#\u041d/\u0414", "#ЗНАЧ!"),
    *("#n/a", "#ref!", "####", "##"),
    # LibreOffice and Google.
    *("Err:502", "Err:508", "err: 522", "Fout:502", "Fehler:504", "Błąd:502", "Hata:502", "Erro:502"),
    *("#ERROR!", "#FOUT!", "Laden...", "Laden…", "Loading...", "Wird geladen...", "Chargement..."),
    "Cargando...",
]
CERTAIN = [
    *('="Jan"', '="0012"', "='x'", "=A1", "=VERT.ZOEKEN(A2;B:C;2;0)", "+VLOOKUP(A1)", "@SUM(A1)", "=$B$2"),
    *("'0012", "'+31612345678", "'=x", "'-5"),
    *("Zo\ufffd", "\ufffd", "\u200b", "\u00ad\u2060", "\u3164", "\u2800", "\ufeff", "Jan\x85", "J\x92n"),
    *("O&#39;Brien", "Jan &amp; Piet", "Zo&euml;", "Zo&#xEB;", "a&nbsp;b", r"Zo\u00eb", "Zo<U+00EB>"),
    *(r"\N", "<NA>", "NaT", "(null)", "<null>", "(leeg)", "[object Object]", "undefined", "1.#QNAN"),
    "x" * 100_001,
]
REAL = [
    *("Jan", "Zoë", "O'Brien", "O\u2019Brien", "'t Hart", "\u2019t Hooft", "'s-Gravenhage", "'T HART"),
    *("D'Souza", "Nul", "Nullens", "Nanna", "Nonet", "Na-Ra", "X Æ", "李", "محمد", "Ng", "Ó", "#7", "#metoo"),
    *("no. 1", "C#", "R&D", "Jan & Piet", "AT&T", "12-03-2026", "9:30", "€ 5,-", "+31 6 12345678"),
    *("@huisarts", "1.5", "50%", "vóór 9 uur", "één", "CAFÉ…", "RENÉ\u2019S", "MATÚŠ", "HÚŠEK", "Ağaoğlu"),
    *("Łukasz", "20 °C", "👨‍👩‍👧", "Jan\u200b", "nat", "https://poli.nl/a?id=12&s=%C3%AB"),
    *("www.poli.nl/?q=Zo%C3%AB", "Zie https://poli.nl/a?b", "Laden", "Err", "Hoe gaat het?"),
    *("Kom om 9 uur. Neem mee: pas", "a\nb", "JOÃO", "Ångström"),
]
DOUBTFUL = [
    *("Null", "NULL", "nan", "NaN", "None", "none", "nil", "N/A", "n/a", "NA", "nvt", "None None"),
    *("null NULL", "-", ".", "?", "--", "01-01-1900", "30-12-1899", "0000-00-00", "1900-01-00"),
    *("1970-01-01 00:00:00", "3.16E+10", "Ren?e", "Ren?e https://poli.nl", "Zo=C3=AB", "Zo%C3%AB", '"Jan"'),
    *("'Jan'", "\u201cJan\u201d", "'Jan", "\u202ejan"),
]


def misread(name: str, encoding: str) -> str:
    return name.encode().decode(encoding)


@pytest.mark.parametrize("value", FAILED)
def test_what_a_spreadsheet_shows_instead_of_a_value_is_refused(value: str) -> None:
    assert "when a formula failed" in (problem_of_value(value) or "")


@pytest.mark.parametrize("value", CERTAIN, ids=lambda value: ascii(value)[:20])
def test_what_is_certainly_no_value_is_refused(value: str) -> None:
    assert problem_of_value(value)


@pytest.mark.parametrize("value", REAL)
def test_what_people_are_called_and_write_is_taken(value: str) -> None:
    assert problem_of_value(value) is None
    assert doubt_about_field(value) is None


@pytest.mark.parametrize("value", DOUBTFUL)
def test_what_may_be_meant_is_a_doubt(value: str) -> None:
    assert problem_of_value(value) is None
    assert doubt_about_field(value)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "mac_roman", "cp850", "cp437", "cp1250", "cp1254"])
def test_utf_8_that_was_read_as_something_else_is_a_doubt(encoding: str) -> None:
    for name in ("Zoë", "José", "Müller", "François", "Søren", "é", "Şahin", "Łukasz", "O\u2019Brien", "€ 5"):
        try:
            garbled = misread(name, encoding)
        except UnicodeDecodeError:
            continue  # it would have been noticed
        assert "wrong encoding" in (doubt_about_text(f"Beste {garbled}, één") or ""), (name, garbled)


def test_cyrillic_and_greek_that_were_misread_are_a_doubt() -> None:
    for name in ("Наталья", "Νίκος", "محمد"):
        assert doubt_about_text(misread(name, "latin-1"))


# --- ids


@pytest.mark.parametrize(
    "value",
    [
        *("1.23E+15", "1,23E+15", "1.23e+18", "12.3E+15", "1.23E15", "1,23e15", "1E+15", "1.23E+015"),
        *("-1.2E+12", "1.2\u00d710^15", "1.2E-5", "4711.0", "4711,0", "4711.00", "7.0", "-7.0", "1.234.567"),
        *("1.234.567.890", "1,234,567", "1'234'567", "12,34,567", "1\u00a0234", "1.234.567,00", "1,234.00"),
        *("1,234,567.5", '="0012"', "'0012", "'P1'", "=x", "nan", "None", "NULL", r"\N", "#N/A", "Err:502"),
        *("P\u200b1", "P\u00a01", "P\n1", "P\ufffd", "\u3164", "P\ufe0f", "x" * 1_001),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_an_id_that_cannot_be_right_is_refused(value: str) -> None:
    assert problem_of_id(value)
    assert problem_of_id(f"aux/conversations/{value}")


@pytest.mark.parametrize(
    "value",
    [
        *("007", "12E5", "5E-10", "1.5", "A/B c", "#7", "4711", "1.2.3", "192.168.1.1", "2.16.840.1.113883"),
        *("8712345678901234", "0e3f8a52-1111-2222-3333-444455556666", "2026-03-12", "MDO-1.234.567", "P.1"),
        *("12.34", "ward/4711.0", "mar-y"),
    ],
)
def test_an_id_that_only_looks_odd_is_taken(value: str) -> None:
    assert problem_of_id(value) is None
    assert doubt_about_id(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "1.234",
        "1,234",
        "1.203",
        "123 456 789",
        "12-mrt",
        "mrt-26",
        "3-Dec-2026",
        "2026-03-12 00:00:00",
        "1 mei",
        "NA",
        "nvt",
    ],
)
def test_an_id_that_a_spreadsheet_may_have_made_is_a_doubt(value: str) -> None:
    assert problem_of_id(value) is None
    assert doubt_about_id(value)
    assert doubt_about_id(f"users/{value}")


@pytest.mark.parametrize(
    ("column", "refused", "doubtful"),
    [
        # One of sixteen digits ends in a zero by chance; three of them do not.
        (["1234567890123450"], [], [2]),
        (["1234567890123450", "1234567890123460", "9234567890123460"], [2, 3, 4], []),
        (["123456789012345000"], [2], []),
        (["1234567890123450000"] * 3, [2], []),
        # What a number of 64 bits keeps.
        (["1234567890123456800", "1234567890123457000"], [2, 3], []),
        # Others of the column have all their digits.
        (["1234567890123450", "1234567890123461"], [], []),
        (["123456789012345000", "123456789012345001"], [], [2]),
        (["aux/conversations/123456789012345000", "users/234567890123456000"], [2, 3], []),
        (["4711000", "8712345678901234", "P123456789012345000"], [], []),
    ],
)
def test_a_column_of_long_numbers_shows_whether_it_was_rounded(
    column: list[str], refused: list[int], doubtful: list[int]
) -> None:
    numbers, problems, doubts = LongNumbers(), Problems(), Problems()
    for line, value in enumerate(column, 2):
        numbers.add(value, line)

    numbers.report("aux_id", problems, doubts)

    assert [problem.line for problem in problems.in_order()] == refused
    assert [doubt.line for doubt in doubts.in_order()] == doubtful
