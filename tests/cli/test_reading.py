"""Reading files of recipients as programs write them."""

import codecs
import csv
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from healthmsg.cli.problems import RefusedError
from healthmsg.cli.recipients.messages import make_messages
from healthmsg.cli.recipients.reading import Recipients, read_recipients
from healthmsg.cli.recipients.template import Template

NAMES = ["Zoë", "José", "François", "Maïté", "Renée"]
TABLE = "aux_id;voornaam\r\n" + "".join(f"P{n};{name}\r\n" for n, name in enumerate(NAMES))


def read(path: Path, text: str, encoding: str = "utf-8") -> Recipients:
    path.write_bytes(text.encode(encoding))
    return read_recipients(path)


def values(recipients: Recipients, column: str) -> list[str]:
    return [row.fields[column] for row in recipients.rows]


def lines(recipients: Recipients) -> list[int]:
    return [row.line for row in recipients.rows]


def refused(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(RefusedError) as refusal:
        read_recipients(path)
    return refusal.value.text


def problems(recipients: Recipients) -> list[str]:
    return [str(problem) for problem in recipients.problems]


# --- encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_certain_with_or_without_a_mark(path: Path, encoding: str) -> None:
    recipients = read(path, TABLE, encoding)

    assert values(recipients, "voornaam") == NAMES
    assert recipients.columns == ("aux_id", "voornaam")
    assert not recipients.is_guess


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE])
def test_utf_16_is_read_in_the_order_of_bytes_that_its_mark_says(path: Path, mark: bytes) -> None:
    order = "utf-16-be" if mark == codecs.BOM_UTF16_BE else "utf-16-le"
    path.write_bytes(mark + TABLE.encode(order))

    assert values(read_recipients(path), "voornaam") == NAMES


@pytest.mark.parametrize("encoding", ["cp1252", "mac_roman", "cp850"])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_what_a_spreadsheet_of_old_saves_is_read_rightly_even_if_it_is_short(
    path: Path, encoding: str, rows: int
) -> None:
    recipients = read(path, "".join(TABLE.splitlines(keepends=True)[: rows + 1]), encoding)

    assert values(recipients, "voornaam") == NAMES[:rows]
    assert recipients.is_guess


@pytest.mark.parametrize(
    "text",
    [
        "\u201cbeste\u201d \u2013 \u2018ja\u2019",
        "€ 5,\u2013",
        "foto\u2019s…",
        "Straße",
        "12\u00a0mei",
        "½ uur",
        "Søren Ærø",
        "ÉÉN",
    ],
)
def test_windows_1252_stays_what_it_is_whatever_signs_are_in_it(path: Path, text: str) -> None:
    assert values(read(path, f"to;t\r\nusers/1;{text}\r\n", "cp1252"), "t") == [text]


CENTRAL = ["Paweł", "Łukasz", "Kędzior", "Żbik", "Kamiński", "Jiří", "Dvořák", "Věra", "Božena", "Miloš"]
CENTRAL += ["Gergő", "Szűcs", "Živa", "Kovačič", "Marić", "Đurić", "Mălina"]
BALTIC = ["Smiltė", "Kęstutis", "Jānis", "Vītols", "Pēteris", "Ārija"]


@pytest.mark.parametrize(
    ("encodings", "names"),
    [
        (["cp1250", "iso8859_2", "cp852", "mac_latin2"], CENTRAL),
        (["cp1257", "iso8859_13", "cp775"], BALTIC),
        (["cp1254", "iso8859_9", "cp857", "mac_turkish"], ["Ağaoğlu", "Gökçe", "Şükrü"]),
        (["cp1251", "koi8_r", "cp866"], ["Наталья", "Ян", "Тит"]),
        (["cp1253"], ["Νίκος"]),
        (["cp1257"], ["Miķelis"]),
        (["cp1255"], ["גל"]),
        (["shift_jis", "euc_jp"], ["さくら", "山崎"]),
        (["cp1252", "mac_roman", "cp850"], ["Nicolò", "Donà"]),
        (["mac_roman"], ["García", "Köster", "Muñoz"]),
    ],
)
def test_rather_than_garbling_names_it_asks_for_the_encoding(
    path: Path, encodings: list[str], names: list[str]
) -> None:
    asked = 0
    for encoding in encodings:
        for name in names:
            data = f"to;t\nusers/1;{name}\n".encode(encoding, "replace")
            if b"?" in data:
                continue  # it has no such letter
            try:
                path.write_bytes(data)
                found = values(read_recipients(path), "t")
            except RefusedError as error:
                assert "--encoding" in error.text  # noqa: PT017 - the other half is that it may be right
                assert "(first in line 2)" in error.text or encoding not in {"cp1250", "cp1257"}  # noqa: PT017 - the same
                asked += 1
                found = values(read_recipients(path, encoding), "t")
            assert found == [name], encoding
    assert asked


@pytest.mark.parametrize(
    "names",
    [
        ["Hélène", "Michèle", "Geneviève", "Agnès", "Anaïs", "Loïc", "Saïd", "Ruïz", "Désirée", "Héloïse"],
        ["Müller", "Weiß", "Käthe", "Jörg", "Özdemir", "Çelik", "Gürbüz", "Sögüt"],
        ["Muñoz", "García", "Díaz", "Ibáñez", "Álvarez", "Gonçalves", "João", "Conceição", "Simões"],
        ["Søren", "Jørgensen", "Bjørn", "Øystein", "Åke", "Håkan", "Kjær"],
        [
            "één",
            "vóór",
            "geïnd",
            "coördinator",
            "reünie",
            "crèche",
            "enquête",
            "à 5 euro",
            "naïef",
            "wèl",
            "bèta",
            "hè",
            "dèze",
            "foto\u2019s",
            "D\u2019Ark",
        ],
    ],
)
def test_western_names_in_windows_1252_are_read_one_by_one(path: Path, names: list[str]) -> None:
    for name in names:
        assert values(read(path, f"to;t\r\nusers/1;{name}\r\n", "cp1252"), "t") == [name]


def test_hebrew_and_arabic_are_read_beside_latin_letters(path: Path) -> None:
    for text in ("\u05d4PCR \u05e9\u05dc\u05da \u05de\u05d5\u05db\u05df", "\u0645\u062d\u0645\u062f"):
        assert values(read(path, f"to;t\nusers/1;{text}\n"), "t") == [text]


@pytest.mark.parametrize("encoding", ["no-such", "ascii", "utf-8"])
def test_an_encoding_that_cannot_be_right_is_refused(path: Path, encoding: str) -> None:
    path.write_bytes(TABLE.encode("cp1252"))

    with pytest.raises(RefusedError, match="--encoding"):
        read_recipients(path, encoding)


def test_a_mark_is_no_part_of_the_first_column_when_the_encoding_is_named(path: Path) -> None:
    path.write_bytes(TABLE.encode("utf-8-sig"))

    assert read_recipients(path, "utf-8").columns[0] == "aux_id"


# --- tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_out_by_the_header(path: Path, delimiter: str) -> None:
    text = f'aux_id{delimiter}tekst\nP1{delimiter}"a, b; c | d\te, f, g"\nP2{delimiter}"hij zei ""ja"""\n'

    recipients = read(path, text)

    assert values(recipients, "tekst") == ["a, b; c | d\te, f, g", 'hij zei "ja"']
    assert recipients.delimiter == delimiter
    assert problems(recipients) == []


def test_a_single_column_needs_no_delimiter(path: Path) -> None:
    assert values(read(path, "to\nconversations/c1\nconversations/c2\n"), "to") == [
        "conversations/c1",
        "conversations/c2",
    ]


def test_the_delimiter_that_a_spreadsheet_names_is_believed(path: Path) -> None:
    recipients = read(path, "sep=;\r\naux_id;a,b,c\r\nP1;x\r\n")

    assert recipients.columns == ("aux_id", "a,b,c")
    assert lines(recipients) == [3]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_line_is_that_where_the_row_begins(path: Path, end: str) -> None:
    text = f'aux_id;t{end}P1;"een{end}twee{end}drie"{end}{end}P2;vier{end}'

    assert lines(read(path, text)) == [2, 6]


@pytest.mark.parametrize("name", ["Aux_ID ", "aux id", "AUX-ID", '" Aux Id"', "aux_id\u00a0"])
def test_the_name_of_a_column_is_known_however_it_is_written(path: Path, name: str) -> None:
    assert read(path, f"{name};x\nP1;y\n").columns == ("aux_id", "x")


def test_rows_and_columns_without_anything_in_them_are_passed_over(path: Path) -> None:
    recipients = read(path, "\r\naux_id;t;;\r\nP1;x;;\r\n ; ;;\r\n;;;\r\n")

    assert lines(recipients) == [3]
    assert recipients.empty_rows == 2
    assert problems(recipients) == []


def test_something_in_a_column_without_a_name_is_a_problem(path: Path) -> None:
    assert problems(read(path, "aux_id;;\nP1;x;\nP2;;y\nP3;;\n")) == [
        "line 2: there is something in a column without a name",
        "line 3: there is something in a column without a name",
    ]


def test_rows_of_another_width_are_problems(path: Path) -> None:
    assert problems(read(path, 'aux_id;t\nP1;"x\ny"\nP2\nP3;x;y\n')) == [
        "line 4: 1 fields where the header has 2",
        "line 5: 3 fields where the header has 2",
    ]


@pytest.mark.parametrize("broken", ['P2;"never closed\nP3;x\n', 'P2;"closed" too early\nP3;x\n'])
def test_a_quotation_mark_that_is_wrong_is_a_problem_of_the_line_where_it_is(path: Path, broken: str) -> None:
    recipients = read(path, f'aux_id;t\nP1;"x\ny"\n{broken}')

    assert lines(recipients) == [2]
    (problem,) = problems(recipients)
    assert problem.startswith("line 4: a quotation mark")


@pytest.mark.parametrize(
    "rows",
    [
        'P1;"Jan;x\nP2;Piet";y\nP3;Kees;z\n',
        'P1;"Jan;x\nP2;Piet;y\nP3;Kees";z\n',
        'P3;Kees;z\nP1;"Jan";"x\nP2;Piet;y"\n',
        'P1;"Jan;x\r\nP2;Piet";y\r\n',
    ],
)
def test_a_row_that_a_quotation_mark_took_in_is_a_problem(path: Path, rows: str) -> None:
    found = problems(read(path, f"aux_id;voornaam;dag\n{rows}"))

    assert found
    assert "which looks like a row of its own" in found[0]


def test_a_row_that_was_taken_in_is_found_wherever_the_ids_are(path: Path) -> None:
    assert problems(read(path, 'voornaam,aux_id\n"Jan,17\nPiet",18\nKees,19\n'))
    uuid = "0e3f8a52-1111-2222-3333-44445555666"
    assert problems(read(path, f'to,n\nusers/{uuid}1,"Jan\nusers/{uuid}a,Piet"\n'))


@pytest.mark.parametrize(
    "ids",
    [
        ("8", "9", "10"),
        ("998", "999", "1000"),
        ("5f3ac9b2e4b0a1c2d3e4f5a6", "6a1bc9b2e4b0a1c2d3e4f5a7", "7ff0c9b2e4b0aac2d3e4f5a8"),
        ("01HV3K9Q8Z", "01HV3K9QAB", "01HV3KTR99"),
        ("V1StGXR8_Z5jdHi6B-myT", "x9-9aQ_LmT4t0Zp81kYy2", "3b_7Rr-0sKq5uW8e1NnVd"),
        ("Patient98", "Patient99", "Patient100"),
        ("jansen", "smit", "bakker"),
    ],
)
def test_a_row_that_was_taken_in_is_found_though_no_two_ids_look_the_same(
    path: Path, ids: Sequence[str]
) -> None:
    first, second, third = ids

    found = problems(read(path, f'aux_id,naam,plaats\n{first},Bo,X\n{second},"Jan,Y\n{third},Piet",Z\n'))

    assert len(found) == 1
    assert found[0].startswith("line 3: a quotation mark that is opened here takes in line 4")


@pytest.mark.parametrize("id_", ["jansen", "12"])
@pytest.mark.parametrize("text", ["Kom morgen.\nGroet, Piet", "Neem mee:\n10, 20 of 30 euro"])
def test_a_sentence_is_no_row_though_it_begins_as_an_id_does(path: Path, id_: str, text: str) -> None:
    recipients = read(path, f'aux_id,t\n{id_},"{text}"\n')

    assert problems(recipients) == []
    assert values(recipients, "t") == [text]


@pytest.mark.parametrize(
    "text",
    [
        "Beste Jan,\nuw afspraak; neem mee; uw pas",
        "Ma; 9 uur\ndi; 10 uur",
        "P2 is uw nummer\nTot ziens; P2",
        "1; eerst dit\n2; dan dat",
        "regel\n;\n;;\n",
    ],
)
def test_a_text_of_several_lines_is_read(path: Path, text: str) -> None:
    recipients = read(path, f'aux_id;t\nP1;"{text}"\nP2;x\n')

    assert problems(recipients) == []
    assert values(recipients, "t") == [text.strip(), "x"]


def test_a_blank_before_a_quotation_mark_is_no_part_of_the_text(path: Path) -> None:
    recipients = read(path, 'aux_id, voornaam, "dag"\nP1, "Jan, de", ma\n "P2", "Bo",di\n')

    assert problems(recipients) == []
    assert values(recipients, "voornaam") == ["Jan, de", "Bo"]
    assert values(recipients, "dag") == ["ma", "di"]


@pytest.mark.parametrize(
    "again",
    ["aux_id;voornaam;dag", "Aux ID;Voornaam;Dag", "\ufeffaux_id;voornaam;dag", "dag;aux_id;voornaam"],
)
def test_a_header_within_the_file_is_a_problem(path: Path, again: str) -> None:
    assert problems(read(path, f"aux_id;voornaam;dag\nP1;Jan;ma\n{again}\nP2;Bo;di\n")) == [
        "line 3: the header is there again: were two files joined?"
    ]


def test_people_who_are_called_like_a_column_are_no_header(path: Path) -> None:
    recipients = read(path, "aux_id;voornaam;dag\nP1;Dag;ma\nP2;Voornaam;dag\n")

    assert problems(recipients) == []


def test_a_long_field_is_read_and_is_no_wrong_quotation_mark(path: Path) -> None:
    limit = csv.field_size_limit()

    recipients = read(path, f"aux_id;t\nP1;{'x' * 140_000}\nP2;{'y' * 70_000}\n")

    assert list(map(len, values(recipients, "t"))) == [140_000, 70_000]
    assert csv.field_size_limit() == limit
    with pytest.raises(RefusedError, match="more than 100,000 characters"):
        make_messages(recipients, Template.parse("{t}"), path.parent)


def test_a_mark_is_taken_away_also_if_there_are_two_or_one_within(path: Path) -> None:
    assert read(path, "\ufeff\ufeffaux_id;t\nP1;x\n").columns == ("aux_id", "t")
    recipients = read(path, '{"aux_id": "P1"}\n\ufeff{"aux_id": "P2"}\n')
    assert values(recipients, "aux_id") == ["P1", "P2"]


# --- JSON Lines


def test_json_lines_are_read_with_files_and_whole_numbers(path: Path) -> None:
    text = '{"Aux ID": 17, "naam": "Zoë\\u2028", "files": ["a;b", "c"]}\n\n{"aux_id": "P2", "naam": null}\n'

    recipients = read(path, text)

    assert values(recipients, "aux_id") == ["17", "P2"]
    assert values(recipients, "naam") == ["Zoë", ""]
    assert [row.files for row in recipients.rows] == [("a;b", "c"), ()]
    assert lines(recipients) == [1, 3]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"to": "x"', "this is not JSON"),
        ('{"to": NaN}', "this is not JSON"),
        ("[1]", "this is not an object"),
        ("17", "this is not an object"),
        ('{"to": 1.5}', "the field to is a number with a fraction or an exponent"),
        ('{"to": 1.23e+18}', "the field to is a number with a fraction or an exponent"),
        ('{"to": 9007199254740992}', "the field to is a number beyond 9,007,199,254,740,991"),
        ('{"to": -123456789012345680000}', "the field to is a number beyond"),
        (f'{{"to": {"9" * 5000}}}', "the field to is a number beyond"),
        ('{"to": true}', "the field to must be text"),
        ('{"to": ["x"]}', "the field to must be text"),
        ('{"to": "x", "To ": "y"}', "the field to is there twice"),
        ('{"to": "\\ud800"}', "half of a surrogate pair"),
        ('{"files": [1]}', "the field files must be a list of texts"),
        ("[" * 100_000, "this is nested too deeply"),
    ],
)
def test_a_line_of_json_that_cannot_be_read_is_a_problem(path: Path, line: str, problem: str) -> None:
    recipients = read(path, f'{{"to": "users/1"}}\n{line}\n{{"to": "users/2"}}\n')

    assert lines(recipients) == [1, 3]
    (found,) = problems(recipients)
    assert found.startswith("line 2: ")
    assert problem in found


def test_a_list_of_json_objects_is_refused(path: Path) -> None:
    assert "not a list" in refused(path, '[{"to": "users/1"}]')


# --- files that are none


@pytest.mark.parametrize("empty", ["", "\ufeff", "\r\n\r\n", "  \n"])
def test_an_empty_file_is_refused(path: Path, empty: str) -> None:
    assert refused(path, empty) == "the file is empty"


@pytest.mark.parametrize("rows", ["", "\r\n", ";\r\n;\r\n"])
def test_a_header_alone_is_refused(path: Path, rows: str) -> None:
    assert refused(path, f"aux_id;t\r\n{rows}") == "there is a header in the file, but no recipient"


def test_nul_bytes_are_refused_with_their_lines(path: Path) -> None:
    assert refused(path, "aux_id;t\nP1;x\nP2;\0\0\nP3;\0\n").splitlines()[1:] == [
        "line 3: there is a NUL byte: the file is damaged, or no text",
        "line 4: there is a NUL byte: the file is damaged, or no text",
    ]


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1"])
def test_a_spreadsheet_itself_is_refused(path: Path, start: bytes) -> None:
    assert "save it as CSV" in refused(path, start + b"\0" * 100)


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(RefusedError, match="cannot be read"):
            read_recipients(path)


def test_only_the_first_problems_are_shown_and_the_number_of_the_others(path: Path) -> None:
    shown = refused(path, "aux_id\n" + "\0\n" * 1030).splitlines()

    assert shown[0] == "1,030 problems"
    assert len(shown) == 22
    assert shown[-1] == "… and 1,010 more"


# --- as a whole


@pytest.mark.slow
@pytest.mark.parametrize(
    "encoding",
    [
        "utf-8-sig",
        pytest.param("cp1252", marks=pytest.mark.thorough),
        pytest.param("utf-16", marks=pytest.mark.thorough),
    ],
)
def test_ten_times_the_rows_are_checked_in_about_ten_times_the_time(path: Path, encoding: str) -> None:
    # Processor time, and a quadratic step would take a hundred times as much.
    assert _seconds_for(20_000, path, encoding) < 40 * _seconds_for(2_000, path, encoding)


def _seconds_for(count: int, path: Path, encoding: str) -> float:
    rows = (f'P{n};Zoë;"regel 1\r\nregel 2, {n}";k{n}\r\n' for n in range(count))
    path.write_text("aux_id;voornaam;tekst;key\r\n" + "".join(rows), encoding=encoding, newline="")

    started = time.process_time()
    recipients = read_recipients(path)
    messages = make_messages(recipients, Template.parse("Beste {voornaam}, {tekst}"), path.parent)
    took = time.process_time() - started

    assert len(messages.all) == count
    assert messages.all[-1].line == 2 * count
    return took


def test_nothing_of_a_patient_is_in_the_repr_of_a_row(path: Path) -> None:
    recipients = read(path, "aux_id;t\nP77;geheim\n")
    (message,) = make_messages(recipients, Template.parse("{t}"), path.parent).all

    assert "geheim" not in repr(recipients.rows) + repr(message)
    assert "P77" not in repr(recipients.rows) + repr(message)
