"""`healthmsg send-many`: what is refused before anything is sent, all of it at once, with its lines."""

from pathlib import Path

import pytest

from healthmsg.cli.problems import RefusedError
from healthmsg.cli.recipients.messages import make_messages
from healthmsg.cli.recipients.reading import read_recipients
from healthmsg.cli.recipients.template import Template
from tests.cli.command_line import ACCOUNT, Done, invoke

TEMPLATE = "Beste {voornaam}, uw arts belt u."


def send(path: Path, text: str, *options: str | Path, template: str | None = TEMPLATE) -> Done:
    path.write_bytes(text.encode())
    texts = () if template is None else ("--template", template)
    return invoke("send-many", path, *texts, *options, env=ACCOUNT)


def problems(done: Done) -> list[str]:
    """Return what was refused, and assert that nothing else has happened."""
    assert done.code == 2
    assert done.out == ""
    first, *others, last = done.err.splitlines()
    assert last == "Nothing was sent."
    first = first.removeprefix("Error: ")
    return others if first.endswith(" problems") else [first, *others]


def assert_is_ready(done: Done) -> None:
    """Everything was right: only a terminal to ask at was missing."""
    assert problems(done) == ["there is no terminal to ask at: give --yes to begin without asking"]


# --- columns and templates


def test_a_typo_in_a_template_is_reported_once_with_what_was_meant(path: Path) -> None:
    done = send(path, "aux_id;voornaam\nP1;Jan\nP2;Piet\n", template="Beste {vornaam}, {dag}")

    assert problems(done) == [
        "the template's {vornaam} is no column of the recipients; did you mean {voornaam}?",
        "the template's {dag} is no column of the recipients",
    ]


def test_each_empty_field_is_reported_with_its_line(path: Path) -> None:
    done = send(path, 'aux_id;voornaam;dag\nP1;"J\nan";ma\nP2;;\nP3;  ;di\n', template="{voornaam} {dag}")

    assert problems(done) == [
        "line 4: voornaam is empty",
        "line 4: dag is empty",
        "line 5: voornaam is empty",
    ]


def test_a_missing_field_is_refused_even_with_allow_empty(path: Path) -> None:
    text = '{"aux_id": "P1", "voornaam": "Jan"}\n{"aux_id": "P2"}\n{"aux_id": "P3", "voornaam": null}\n'

    assert problems(send(path, text)) == ["line 2: voornaam is missing", "line 3: voornaam is empty"]
    assert problems(send(path, text, "--allow-empty")) == ["line 2: voornaam is missing"]


def test_empty_fields_are_sent_when_that_is_wanted(path: Path) -> None:
    assert_is_ready(send(path, "aux_id;voornaam\nP1;Jan\nP2;\n", "--allow-empty"))


def test_a_template_finds_its_columns_however_both_are_written(path: Path) -> None:
    assert_is_ready(send(path, "Aux_ID ;Eerste Naam\nP1;Jan\n", template="Beste {eerste_naam}"))


def test_a_column_can_be_the_text(path: Path) -> None:
    assert_is_ready(send(path, "aux_id;Message\nP1;Hallo {dit} blijft\n", template=None))


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("aux_id;voornaam", "line 1: there is no text: give --template or --template-file, or a column body"),
        ("body;aux_id;message", "line 1: there are both a column body and a column message"),
    ],
)
def test_without_a_template_one_column_must_be_the_text(path: Path, header: str, problem: str) -> None:
    (found,) = problems(
        send(path, f"{header}\n{';'.join(f'P{n}' for n in header.split(';'))}\n", template=None)
    )

    assert found.startswith(problem)


def test_an_empty_text_is_refused_unless_there_are_files(path: Path) -> None:
    (path.parent / "brief.pdf").write_bytes(b"%PDF")

    done = send(path, "aux_id;body;files\nP1;;\nP2;;brief.pdf\n", template=None)

    assert problems(done) == ["line 2: body is empty"]


def test_a_column_twice_is_refused(path: Path) -> None:
    done = send(path, "aux_id;voornaam;Voornaam \nP1;Jan;Piet\n")

    assert problems(done) == ["line 1: the column voornaam is there 2 times"]


def test_results_can_be_recipients_again(path: Path) -> None:
    path.write_text("line;key;to;outcome;message_id;error;attempts\n2;k1;users/1;not sent;;Gone;1\n")

    (message,) = make_messages(read_recipients(path), Template.parse("Tot morgen!"), path.parent).all

    assert (message.to, message.key) == ("users/1", "k1")


@pytest.mark.parametrize(
    ("column", "meant"),
    [("auxid", "aux_id"), ("file", "files"), ("keys", "key"), ("group_chat_id", "groupchat_id")],
)
def test_a_column_that_is_nearly_called_as_a_known_one_is_refused(
    path: Path, column: str, meant: str
) -> None:
    done = send(path, f"to;voornaam;{column}\nusers/1;Jan;x\n")

    assert problems(done) == [
        f"line 1: the column {column} is nearly called {meant}: give it that name, or another"
    ]
    assert_is_ready(send(path, f"to;voornaam;{column}\nusers/1;Jan;x\n", template=f"{{{column}}}"))


def test_a_file_without_a_header_is_refused_and_nothing_of_the_patient_repeated(path: Path) -> None:
    done = send(path, "P77;Saskia\nP78;Anton\n")

    assert problems(done) == [
        "the template's {voornaam} is no column of the recipients",
        "line 1: no column says who it is for: one of to, aux_id, user_id, groupchat_id is needed",
    ]
    for private in ("P77", "P78", "Saskia", "Anton", "saskia"):
        assert private not in done.err


# --- who it is for


@pytest.mark.parametrize(
    ("header", "fields", "problem"),
    [
        ("to;aux_id", "users/1;P1", "more than one address: to and aux_id"),
        ("to;aux_id", " ;", "no recipient: "),
        ("to;x", "conversation/c1;x", "to is no address"),
        ("to;x", "users/;x", "to is no address"),
        ("to;x", "aux/conversations/..;x", "to is no address"),
        ("aux_id;x", ".;x", "aux_id is no address"),
        ("aux_id;x", "José;x", "aux_id has a diacritic"),
        ("to;x", "aux/groupchats/José;x", "to has a diacritic"),
        ("aux_id;x", "1.23E+15;x", "aux_id was rounded"),
        ("user_id;x", "1,23E+15;x", "user_id was rounded"),
        ("to;x", "groupchats/1E+15;x", "to was rounded"),
        ("groupchat_id;x", "#N/B;x", "groupchat_id has what a spreadsheet shows when a formula failed"),
        ("aux_id;x", '"P\n1";x', "aux_id has a character that cannot be seen"),
        ("aux_id;x", "P\u200b1;x", "aux_id has a character that cannot be seen"),
        ("aux_id;x", "P\u00a01;x", "aux_id has a character that cannot be seen"),
    ],
)
def test_an_address_that_cannot_be_right_is_refused_with_its_line(
    path: Path, header: str, fields: str, problem: str
) -> None:
    done = send(path, f"{header};voornaam\n{fields};Jan\n")

    (found,) = problems(done)
    assert found.startswith(f"line 2: {problem}")
    for private in ("José", "1.23", "1,23", "c1", "Jan"):
        assert private not in found.replace("1.23E+15 by", "").replace("(José is Jose there)", "")


def test_ids_that_only_look_odd_are_taken(path: Path) -> None:
    assert_is_ready(send(path, "aux_id;voornaam\n007;Jan\n12E5;Jan\n1.5;Jan\nA/B c;Jan\n#7;Jan\n"))


def test_diacritics_in_auxiliary_ids_are_taken_when_they_are_meant(path: Path) -> None:
    assert_is_ready(send(path, "aux_id;voornaam\nJosé;Jan\n", "--exact-aux-ids"))


def test_each_kind_of_address_is_taken(path: Path) -> None:
    rows = ["conversations/c1;;;;a", "users/u2;;;;a", ";P1;;;a", ";;u1;;a", ";;;g1;a"]

    assert_is_ready(send(path, "\n".join(["to;aux_id;user_id;groupchat_id;voornaam", *rows])))


def test_an_object_without_a_recipient_is_refused_with_its_line(path: Path) -> None:
    text = '{"aux_id": "P1", "voornaam": "Jan"}\n{"voornaam": "Bo"}\n'

    assert problems(send(path, text)) == [
        "line 2: no recipient: fill in one of to, aux_id, user_id, groupchat_id"
    ]


# --- values, keys and files


@pytest.mark.parametrize("value", ["#N/A", "#NAAM?", "#VERW!", "####", "Jan\x07", "\x1b[31mJan"])
def test_a_value_that_is_no_text_to_send_is_refused(path: Path, value: str) -> None:
    (found,) = problems(send(path, f"aux_id;voornaam;x\nP1;{value};#N/A\n"))

    assert found.startswith("line 2: voornaam has ")
    assert "Jan" not in found


@pytest.mark.parametrize(
    "fields", ["to;groupchats/1.23e+18", "user_id;4711.0", "groupchat_id;1.234.567", "aux_id;1,23E15"]
)
def test_an_id_that_was_rounded_is_refused_in_every_column_with_its_line_and_remedy(
    path: Path, fields: str
) -> None:
    column, value = fields.split(";")

    (found,) = problems(send(path, f"{column};voornaam\n{value};Jan\n"))

    assert found.startswith(f"line 2: {column} was ")
    assert "make that column text" in found
    assert value.rpartition("/")[2] not in found.replace("4711.0 or 1.234.567", "")


def test_ids_that_end_in_zeros_are_refused_together(path: Path) -> None:
    rows = "".join(f"{n}23456789012345000;P{n};Jan\n" for n in range(1, 4))

    found = problems(send(path, f"key;aux_id;voornaam\n{rows}"))

    assert [line[:28] for line in found] == [f"line {n}: key ends in zeros aft"[:28] for n in (2, 3, 4)]


def test_placeholders_of_other_programs_are_refused(path: Path) -> None:
    (found,) = problems(send(path, "aux_id;voornaam\nP1;Jan\n", template="Beste {{voornaam}}"))
    assert found == (
        "the template's {{voornaam}} would be sent as {voornaam}: the field is written {voornaam}"
    )
    (found,) = problems(send(path, "aux_id;voornaam;body\nP1;Jan;Beste {voornaam}\n", template=None))
    assert found == "line 2: body has what looks like the field {voornaam}: only a template is filled in"


# --- what may be meant


DOUBTFUL = "aux_id;voornaam\nP1;Jan\nP2;Null\nP3;Zo\u00c3\u00ab\n"


def test_what_may_be_meant_is_refused_where_there_is_no_one_to_ask(path: Path) -> None:
    first, second, advice = problems(send(path, DOUBTFUL, "--yes"))

    assert first == "line 3: voornaam is a word that programs write where there is no value"
    assert second.startswith("line 4: voornaam looks as if it was read in a wrong encoding")
    assert "--accept-doubtful" in advice
    assert list(path.parent.iterdir()) == [path]


def test_what_is_meant_is_sent(path: Path) -> None:
    path.with_name("there.csv").touch()

    found = problems(
        send(path, DOUBTFUL, "--yes", "--accept-doubtful", "--results", path.with_name("there.csv"))
    )

    assert len(found) == 1
    assert "exists already" in found[0]


@pytest.mark.parametrize(
    ("rows", "doubts"),
    [
        ("P1;;Jan;1-2-1950;ma\nP2;;Jan;1-2-1950;ma\nP1;;jan ;1-2-1950;di", []),
        (
            "P1;;Jan;1-2-1950;ma\nP1;;Piet;1-2-1950;di",
            ["3: the same recipient as on line 2, but another voornaam"],
        ),
        (
            "P1;;Jan;1-2-1950;ma\nP1;;Piet;3-4-1960;di",
            [
                "3: the same recipient as on line 2, but another voornaam",
                "3: the same recipient as on line 2, but another geboortedatum",
            ],
        ),
        ("P1;;;;ma\nP1;;Jan;;di", []),
        # Several people are spoken of in one group chat.
        (";g1;Jan;;ma\n;g1;Piet;;di", []),
    ],
)
def test_one_id_with_two_names_is_a_doubt(path: Path, rows: str, doubts: list[str]) -> None:
    header = "aux_id;groupchat_id;voornaam;geboortedatum;dag"
    done = send(path, f"{header}\n{rows}\n", "--dry-run", "--no-journal", template="{dag}")

    assert done.code == (1 if doubts else 0), done
    assert [line[7:] for line in done.out.splitlines() if line.startswith("  line ")] == doubts
    assert "Jan" not in done.out
    assert "Piet" not in done.out


def test_names_of_others_than_the_recipient_may_differ(path: Path) -> None:
    text = "aux_id;naam_arts;afdelingsnaam\nP1;A;x\nP1;B;y\n"

    assert_is_ready(send(path, text, template="{naam_arts} {afdelingsnaam}"))


def test_recipients_of_several_messages_are_counted(path: Path) -> None:
    done = send(path, "aux_id;dag\nP1;ma\nP2;ma\nP1;di\n", "--dry-run", "--no-journal", template="{dag}")

    assert done.code == 0, done
    assert "Recipients of more than one message: 1 (line 4 as line 2)." in done.out


# --- a dry run


def test_a_dry_run_shows_texts_service_and_encoding(path: Path) -> None:
    path.write_text("aux_id;voornaam\n" + "".join(f"P{n};Zo\u00eb {n}\n" for n in range(5)), "cp1252")
    arguments = ("send-many", path, "--template", TEMPLATE, "--dry-run")

    kept = invoke(*arguments, env=ACCOUNT)
    shown = invoke(*arguments, "--texts", env=ACCOUNT)

    assert (kept.code, shown.code) == (0, 0)
    for done in (kept, shown):
        assert "lijst.csv (Windows-1252, separated by semicolons)" in done.out
        assert "http://127.0.0.1:9/v1" in done.out
    assert [f"Beste Zo\u00eb {n}, uw arts belt u." in shown.out for n in range(4)] == [
        True,
        True,
        True,
        False,
    ]
    assert "line 2, to aux/conversations/P0" in shown.out
    # What is kept in a log has nothing of a patient.
    assert "Zo\u00eb" not in kept.out
    assert "P0" not in kept.out
    assert "--texts" in kept.out


def test_the_encoding_of_the_template_is_shown_too(path: Path) -> None:
    text = path.with_name("tekst.txt")
    text.write_bytes("Eén keer, {voornaam}: vóór maandag\r\n".encode("cp1252"))

    arguments = ("--template-file", text, "--dry-run", "--texts")
    done = send(path, "aux_id;voornaam\nP1;Jan\n", *arguments, template=None)

    assert done.code == 0, done
    assert "Template    Windows-1252" in done.out
    assert "in which encoding it is" in done.out
    assert "Eén keer, Jan: vóór maandag" in done.out


def test_a_key_twice_or_rounded_is_refused(path: Path) -> None:
    done = send(path, "aux_id;voornaam;key\nP1;Jan;k1\nP2;Piet;\nP3;Kees;k1\nP4;Bo;1.2E+12\n")

    assert problems(done)[0] == "line 4: its key is also that of line 2"
    assert problems(done)[1].startswith("line 5: key was rounded")


def test_files_are_looked_for_beside_the_recipients_and_their_names_not_repeated(path: Path) -> None:
    (path.parent / "brief.pdf").write_bytes(b"%PDF")
    (path.parent / "leeg.pdf").touch()
    (path.parent / "map").mkdir()

    rows = ["P1,Jan,brief.pdf;jansen.pdf", "P2,Bo,brief.pdf | leeg.pdf|map", "P3,Jo,brief.pdf"]
    done = send(path, "\n".join(["aux_id,voornaam,files", *rows]))

    assert problems(done) == [
        "line 2: file 2 of 2: No such file or directory",
        "line 3: file 2 of 3: it is empty",
        "line 3: file 3 of 3: it is a folder",
    ]


def test_all_problems_come_at_once_in_the_order_of_the_lines(path: Path) -> None:
    rows = "".join(f"P{n};{'' if n % 2 else 'Jan'};x\n" for n in range(50))

    found = problems(send(path, f"aux_id;voornaam\n{rows}".replace(";x", "", 40)))

    assert len(found) == 21
    assert found[0] == "line 3: voornaam is empty"
    assert found[1] == "line 5: voornaam is empty"
    assert found[-1] == "… and 10 more"


# --- what is given on the command line


@pytest.mark.parametrize(
    "template",
    ["", "  ", "{", "}", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a:{b}}", "{{a}", "{a}}", "{ }"],
)
def test_a_template_is_text_with_plain_fields_and_nothing_else(template: str) -> None:
    with pytest.raises(RefusedError, match="template"):
        Template.parse(template)


def test_a_template_is_filled_in_as_it_stands() -> None:
    template = Template.parse("{{ Beste {First Name}, {x}{x} }}\n")

    assert template.fields == ("first_name", "x")
    assert template.fill_in({"first_name": "{x}", "x": "é"}) == "{ Beste {x}, éé }\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "give a file of recipients, or --resume"),
        (("--resume",), "--resume needs --journal"),
        (("x.csv", "--resume", "--journal", "j.db"), "--resume takes its messages from the journal"),
        (
            ("--resume", "--journal", "j.db", "--template", "x"),
            "--resume sends the texts that are in the journal",
        ),
        (("--resume", "--journal", "j.db", "--dry-run"), "there is no such journal"),
        (
            ("--resume", "--journal", "j.db", "--dry-run", "--check-chats"),
            "--check-chats is for a file of recipients",
        ),
        (
            ("--resume", "--journal", "j.db", "--skip-sent"),
            "--send-again and --skip-sent are for a file of recipients",
        ),
        (("x.csv", "--superseded"), "--superseded goes with --resume"),
        (("x.csv", "--send-again", "--skip-sent"), "--send-again and --skip-sent: one of them"),
        (
            ("x.csv", "--skip-sent", "--no-journal"),
            "--send-again and --skip-sent need a journal, which knows who got what",
        ),
        (("x.csv", "--template", "x", "--template-file", "y"), "--template and --template-file: one of them"),
        (("x.csv", "--journal", "j.db", "--no-journal"), "--journal and --no-journal: one of them"),
        (("x.csv", "--check-chats"), "--check-chats goes with --dry-run"),
        (("x.csv", "--texts"), "--texts goes with --dry-run"),
        (
            ("--resume", "--journal", "j.db", "--accept-doubtful"),
            "--accept-doubtful is for a file of recipients",
        ),
        (("x.csv", "--retry-failed", "--no-journal"), "--retry-failed needs a journal"),
        (("x.csv", "--settle", "inf"), "--settle and --stop-after must be numbers of seconds"),
        (("x.csv",), "x.csv cannot be read: No such file or directory"),
        (("x.csv", "--template-file", "y.txt"), "y.txt cannot be read: No such file or directory"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: tuple[str, ...], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert problems(invoke("send-many", *arguments, env=ACCOUNT)) == [problem]


@pytest.mark.parametrize("missing", ["HEALTHMSG_TOKEN", "HEALTHMSG_API_URL"])
def test_without_credentials_it_says_what_to_set(path: Path, missing: str) -> None:
    path.write_text("aux_id;body\nP1;x\n")

    (problem,) = problems(invoke("send-many", path, env={**ACCOUNT, missing: None}))

    assert "HEALTHMSG_TOKEN" in problem
    assert "HEALTHMSG_ENVIRONMENT" in problem


def test_results_are_never_overwritten(path: Path) -> None:
    there = path.parent / "results.csv"
    there.write_text("mine")

    (problem,) = problems(send(path, "aux_id;voornaam\nP1;Jan\n", "--yes", "--results", there))

    assert problem.endswith("results.csv exists already, and is not overwritten")
    assert there.read_text() == "mine"


def test_a_journal_that_can_be_none_is_refused(path: Path) -> None:
    (problem,) = problems(send(path, "aux_id;voornaam\nP1;Jan\n", "--journal", "mysql://me:s3cret@host/db"))

    assert "postgresql" in problem
    assert "s3cret" not in problem


def test_without_its_packages_a_journal_is_refused_with_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healthmsg.cli.files.find_spec", lambda _: None)

    (problem,) = problems(send(path, "aux_id;voornaam\nP1;Jan\n"))

    assert "pip install 'healthmsg[bulk]'" in problem
    assert "--no-journal" in problem
    assert_is_ready(send(path, "aux_id;voornaam\nP1;Jan\n", "--no-journal"))


def test_what_is_refused_leaves_no_file(path: Path) -> None:
    send(path, "aux_id;voornaam\nP1;\n", "--yes")

    assert list(path.parent.iterdir()) == [path]
