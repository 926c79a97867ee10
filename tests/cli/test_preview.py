"""`healthmsg send-many` with a text that was corrected after some recipients had got the old one."""

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from healthmsg.bulk.journal import Entry, State, open_journal
from healthmsg.cli.files import JournalLocation
from healthmsg.cli.problems import Problem, RefusedError
from healthmsg.cli.recipients.messages import Messages, make_messages
from healthmsg.cli.recipients.reading import read_recipients
from healthmsg.cli.recipients.template import Template
from healthmsg.cli.sending.options import Job, Options
from healthmsg.cli.sending.preview import (
    Difference,
    OtherTexts,
    find_other_texts,
    refuse_doubtful,
    show_differences,
    show_doubts,
)
from healthmsg.errors import Outcome
from healthmsg.sandbox import AnswerStatus, Sandbox
from tests.cli.command_line import Done, run

OLD, NEW = "Beste {naam}, u komt op 3 mei.", "Beste {naam}, u komt op 4 mei."


def texts(sandbox: Sandbox, chat: str) -> list[str | None]:
    return [message.body for message in sandbox.messages(chat)]


class Half:
    """Four recipients: two got the old text, and it waits for the others."""

    def __init__(self, sandbox: Sandbox, path: Path) -> None:
        self.sandbox, self.path, self.numbers = sandbox, path, iter(range(99))
        self.journal = path.with_name("lijst.journal.db")
        self.chats = [f"conversations/{sandbox.add_conversation(aux_id=f'P{n}')}" for n in range(4)]

    async def begin(self) -> "Half":
        self.write(range(2))
        assert (await self.send(OLD, "--yes")).code == 0
        async with open_journal(self.journal) as journal:
            rows = [row async for row in journal.rows()]
        assert [row.state for row in rows] == [State.DELIVERED] * 2
        self.write(range(4))
        # A token that is not good any more: what is entered is not sent.
        self.sandbox.faults.add(kind=AnswerStatus(401), method="POST", times=None)
        assert (await self.send(OLD, "--yes", "--stop-after", "0")).code == 1
        self.sandbox.faults.clear()
        return self

    def write(self, numbers: Iterator[int] | range) -> None:
        rows = "".join(f"P{n};mevrouw {n}\n" for n in numbers)
        self.path.write_text(f"aux_id;naam\n{rows}", encoding="utf-8")

    async def send(self, template: str, *options: str) -> Done:
        results = () if "--dry-run" in options else ("--results", str(self.results))
        return await run(self.sandbox, "send-many", self.path, "--template", template, *options, *results)

    async def resume(self, *options: str) -> Done:
        results = () if "--dry-run" in options else ("--results", str(self.results))
        return await run(self.sandbox, "send-many", "--resume", "--journal", self.journal, *options, *results)

    @property
    def results(self) -> Path:
        return self.path.with_name(f"results{next(self.numbers)}.csv")

    def sent(self) -> list[list[str | None]]:
        return [[(text or "")[-6:-1] for text in texts(self.sandbox, chat)] for chat in self.chats]


@pytest.fixture
async def half(sandbox: Sandbox, path: Path) -> Half:
    return await Half(sandbox, path).begin()


async def test_a_dry_run_says_who_already_got_another_text(half: Half) -> None:
    done = await half.send(NEW, "--dry-run")
    agreed = await half.send(NEW, "--dry-run", "--send-again")
    skipping = await half.send(NEW, "--dry-run", "--skip-sent")

    assert "2 of these recipients already got, or may have got, another text from this journal." in done.out
    assert "line 2: other text: " in done.out
    assert re.search(r"2 +are for recipients who already got another text", done.out)
    assert re.search(r"2 +would be sent", skipping.out)
    assert (done.code, agreed.code, skipping.code) == (1, 0, 0)
    for private in ("mevrouw", "mei", "P0"):
        assert private not in done.out + done.err


async def test_without_a_decision_nothing_is_sent(half: Half) -> None:
    done = await half.send(NEW, "--yes")

    assert done.code == 2, done
    assert "2 of these recipients already got" in done.err
    assert "--send-again" in done.err
    assert "--skip-sent" in done.err
    assert "Nothing was sent." in done.err
    assert half.sent() == [["3 mei"], ["3 mei"], [], []]


@pytest.mark.slow
async def test_they_get_the_corrected_text_too_when_that_is_wanted(half: Half) -> None:
    done = await half.send(NEW, "--yes", "--send-again")

    assert done.code == 0, done
    assert half.sent() == [["3 mei", "4 mei"], ["3 mei", "4 mei"], ["4 mei"], ["4 mei"]]


@pytest.mark.slow
async def test_they_are_left_out_when_that_is_wanted(half: Half) -> None:
    done = await half.send(NEW, "--yes", "--skip-sent")

    assert done.code == 0, done
    assert half.sent() == [["3 mei"], ["3 mei"], ["4 mei"], ["4 mei"]]
    assert "delivered 2 · not sent 0 · unknown 0 · left out 2" in done.out
    with half.path.with_name("results2.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["line"]: row for row in csv.DictReader(file, delimiter=";")}
    assert rows["2"]["outcome"] == "not sent"
    assert "OtherTextError" not in rows["2"]["error"]
    assert rows["2"]["error"]


@pytest.mark.slow
async def test_going_on_leaves_the_replaced_texts_out(half: Half) -> None:
    await half.send(NEW, "--yes", "--skip-sent")

    looked = await half.resume("--dry-run")
    done = await half.resume("--yes")

    assert looked.code == 0, looked
    assert re.search(r"0 +would be sent", looked.out)
    assert re.search(r"2 +were replaced by another text, and are left out", looked.out)
    assert done.code == 0, done
    assert "a later run replaced by others: 2, left out" in done.out
    assert half.sent() == [["3 mei"], ["3 mei"], ["4 mei"], ["4 mei"]]
    shown = await run(half.sandbox, "journal", "show", half.journal)
    assert re.search(r"2 +of them superseded by another text", shown.out)


@pytest.mark.slow
async def test_the_replaced_texts_are_sent_when_asked_for_by_name(half: Half) -> None:
    await half.send(NEW, "--yes", "--skip-sent")

    looked = await half.resume("--dry-run", "--superseded")
    done = await half.resume("--yes", "--superseded")

    assert re.search(r"2 +would be sent", looked.out), looked
    assert done.code == 0, done
    assert half.sent() == [["3 mei"], ["3 mei"], ["4 mei", "3 mei"], ["4 mei", "3 mei"]]


@pytest.mark.slow
async def test_going_on_with_what_was_simply_interrupted_sends_the_rest(half: Half) -> None:
    looked = await half.resume("--dry-run")
    done = await half.resume("--yes")

    assert re.search(r"2 +would be sent", looked.out), looked
    assert done.code == 0, done
    assert half.sent() == [["3 mei"]] * 4


def test_the_command_to_go_on_keeps_the_decision(path: Path) -> None:
    assert "--send-again" in Options(path, send_again=True).command
    assert "--skip-sent" in Options(path, skip_sent=True).command
    assert "--superseded" in Options(resume=True, journal="j.db", superseded=True).command


class Terminal(io.StringIO):
    """What is written to a terminal, or to a file that a terminal could be."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_differences_are_shown_on_a_terminal_only(is_terminal: bool) -> None:
    out = Terminal(is_terminal=is_terminal)
    found = OtherTexts(1, [Difference("line 2", "[b]3 mei", "[b]4 mei")], are_left_out=False)

    show_differences(Console(file=out, force_terminal=True), found)

    assert ("before: [b]3 mei" in out.getvalue()) is is_terminal
    assert ("now:    [b]4 mei" in out.getvalue()) is is_terminal


async def test_the_first_difference_is_cut_out_of_a_long_text(half: Half) -> None:
    template = Template.parse(f"{NEW} {'Neem uw pas mee. ' * 9}")
    messages = make_messages(read_recipients(half.path, None), template, half.path.parent)
    job = Job(Options(), messages, JournalLocation.for_recipients(half.path))

    found = await find_other_texts(job, [0, 1])

    assert found is not None
    assert found.recipients == 2
    # Of those who got the old text it is gone; that of the others shows the change.
    assert [(one.title, one.old) for one in found.differences] == [
        (f"line {n}", f"…evrouw {n - 2}, u komt op 3 mei.") for n in (4, 5)
    ]
    assert found.differences[0].new.startswith("…evrouw 2, u komt op 4 mei. Neem")
    assert found.differences[0].new.endswith("…")
    assert "mei" not in repr(found)


DOUBTS = [Problem("voornaam is a word", line, "Null") for line in range(2, 25)]


class Screen(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("file", "has_values"), [(Screen(), True), (StringIO(), False)])
def test_a_doubtful_value_itself_is_shown_on_a_terminal_alone(file: StringIO, has_values: bool) -> None:
    show_doubts(Console(file=file, force_terminal=True, color_system=None, width=200), DOUBTS)

    first, second, *_, last = file.getvalue().splitlines()
    assert first == "May be a mistake: 23"
    assert second == ("  line 2: voornaam is a word: Null" if has_values else "  line 2: voornaam is a word")
    assert last == "  … and 3 more"


def test_the_advice_stays_however_many_doubts_there_are() -> None:
    job = Job(Options(), Messages([], (), DOUBTS))

    with pytest.raises(RefusedError) as refusal:
        refuse_doubtful(job.doubts)

    first, *_, more, advice = refusal.value.text.splitlines()
    assert first == "23 problems"
    assert more == "… and 3 more"
    assert "--accept-doubtful" in advice
    assert "Null" not in refusal.value.text + repr(refusal.value) + repr(DOUBTS)


async def test_what_stays_unknown_for_ever_is_not_counted_as_to_be_sent(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "recall.db"
    chat = f"conversations/{sandbox.add_conversation(aux_id='P1')}"
    async with open_journal(path) as journal:
        await journal.enter([Entry("a", "conversations/c1", "Hallo"), Entry("b", chat, "Dag")])
        (claim,) = await journal.claim(1)
        await journal.begin(claim, datetime.now(UTC), claim.chat)
        await journal.finish(claim, Outcome.UNKNOWN, is_final=True)

    done = await run(sandbox, "send-many", "--resume", "--yes", "--journal", path)

    assert "To be sent 1" in " ".join(done.out.split()), done
    assert [message.body for message in sandbox.messages(chat)] == ["Dag"]
