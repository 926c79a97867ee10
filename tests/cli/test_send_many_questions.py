"""`healthmsg send-many --option`: what is asked, and by which names answers are known."""

from pathlib import Path

import pytest

from healthmsg.bulk.journal import open_journal
from healthmsg.bulk.labels import LineLabel, name_in
from healthmsg.cli.files import JournalLocation
from healthmsg.cli.sending.options import Options
from healthmsg.models import QuestionPayload
from healthmsg.sandbox import Sandbox
from tests.cli.command_line import begin, end, invoke, variables_of

ASKING = ("--option", "Ja", "--option", "Nee", "--label", "visit")


def write(path: Path, sandbox: Sandbox) -> str:
    chat = sandbox.add_conversation(aux_id="P1")
    path.write_text("aux_id,body\nP1,Komt u morgen?\n", encoding="utf-8")
    return f"conversations/{chat}"


@pytest.mark.slow
async def test_each_message_asks_and_the_journal_knows_the_question(tmp_path: Path, sandbox: Sandbox) -> None:
    path = tmp_path / "recall.csv"
    chat = write(path, sandbox)

    done = await end(await begin(sandbox, "send-many", path, *ASKING, "--yes"))

    assert done.code == 0, done
    assert "Ja (ja), Nee (nee)" in done.out
    (message,) = sandbox.messages(chat)
    assert isinstance(message.payload, QuestionPayload)
    assert [(one.label, one.name) for one in message.payload.options] == [("Ja", "ja"), ("Nee", "nee")]
    async with open_journal(JournalLocation.for_recipients(path).target, is_reading=True) as opened:
        (row,) = [row async for row in opened.rows()]
    assert (row.message_id, name_in(row.label)) == (message.id, "visit")


def test_the_name_of_a_button_can_be_given(tmp_path: Path) -> None:
    asked = Options(tmp_path / "a.csv", option=["yes=Ja, graag", "Liever niet"]).asked

    assert asked is not None
    options = [(one.label, one.name) for one in asked.question.options]
    assert options == [("Ja, graag", "yes"), ("Liever niet", "liever_niet")]


def test_the_command_to_go_on_asks_the_same() -> None:
    command = Options(Path("a.csv"), option=["Ja", "no=Nee, dank u"], label="visit").command

    assert command == "healthmsg send-many a.csv --option Ja --option 'no=Nee, dank u' --label visit"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--label", "visit"), "--label goes with --option"),
        (("--option", "Ja", "--option", "ja"), "two have one name"),
        (("--option", " "), "an option's label must be text"),
        (("--option", "Ja\nNee"), "must be one line"),
        (("--option", "Ja", "--label", " "), "--label must be text"),
        (("--option", "Ja", "--label", "x" * 201), "--label must be text"),
        (tuple(word for n in range(21) for word in ("--option", f"{n} uur")), "at most 20"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    tmp_path: Path, sandbox: Sandbox, arguments: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "recall.csv"
    write(path, sandbox)

    done = invoke("send-many", path, *arguments, "--yes", env=variables_of(sandbox))

    assert done.code == 2, done
    assert said in " ".join(done.err.split())


def test_a_journal_has_its_questions_already(tmp_path: Path, sandbox: Sandbox) -> None:
    done = invoke("send-many", "--resume", "--journal", tmp_path / "j.db", *ASKING, env=variables_of(sandbox))

    assert done.code == 2
    assert "--resume asks the questions that are in the journal" in " ".join(done.err.split())


@pytest.mark.slow
async def test_a_question_with_files_is_refused_before_anything_is_sent(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    path = tmp_path / "recall.csv"
    chat = write(path, sandbox)
    (tmp_path / "a.txt").write_text("a")
    path.write_text("aux_id,body,files\nP1,Komt u morgen?,a.txt\n", encoding="utf-8")

    done = await end(await begin(sandbox, "send-many", path, *ASKING, "--yes"))

    assert done.code == 2, done
    assert "line 2: a question cannot have files" in " ".join(done.err.split())
    assert not sandbox.messages(chat)


@pytest.mark.parametrize(
    "label", [LineLabel(12, ";", "visit"), LineLabel(1, "\t"), LineLabel(7, ",", "a, b")]
)
def test_a_label_is_read_as_it_was_written(label: LineLabel) -> None:
    assert LineLabel.parse(str(label)) == label
    assert name_in(str(label)) == label.name


@pytest.mark.parametrize("label", ["visit", "12,", "line", "line 12", "", "line x,"])
def test_other_labels_are_names_as_they_are(label: str) -> None:
    assert LineLabel.parse(label) is None
    assert name_in(label) == label
    assert name_in(None) is None
