"""`healthmsg send-many` with a real sandbox: what is sent, printed and written, and how it ends."""

import asyncio
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from healthmsg import Client
from healthmsg.sandbox import AnswerStatus, CutAfter, Sandbox
from tests.cli.command_line import (
    Done,
    begin,
    bodies,
    end,
    invoke,
    read_results,
    run,
    until_sending,
    variables_of,
)

TEMPLATE = ("--template", "Beste {voornaam}, uw arts belt u.")
# Short enough for a test.
SETTLE = ("--settle", "0.2")


def write(path: Path, sandbox: Sandbox, count: int) -> list[str]:
    """Add a chat for each recipient, write a file of them in Windows-1252, and return the chats."""
    chats = [f"conversations/{sandbox.add_conversation(aux_id=f'P{n}')}" for n in range(count)]
    rows = "".join(f"P{n};Zoë {n}\r\n" for n in range(count))
    path.write_bytes(f"Aux ID;Voornaam\r\n{rows}".encode("cp1252"))
    return chats


def leave_a_line_empty(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"P1", b"\r\nP1"))


def write_lines(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines), encoding="utf-8")


def results(path: Path) -> list[dict[str, str]]:
    """Read the newest file of results beside the recipients."""
    return read_results(max(path.parent.glob("*.results-*.csv")))


def command_to_go_on(done: Done) -> list[str]:
    found = re.search(r"Go on with: healthmsg (.*)", done.out)
    assert found, done
    return shlex.split(found[1])


# --- a run


async def test_a_message_reaches_each_recipient_once_and_each_has_a_row_of_results(
    sandbox: Sandbox, path: Path
) -> None:
    chats = write(path, sandbox, 5)

    done = await run(sandbox, "send-many", path, *TEMPLATE, "--yes")

    assert done.code == 0, done
    assert [bodies(sandbox, chat) for chat in chats] == [
        [f"Beste Zoë {n}, uw arts belt u."] for n in range(5)
    ]
    rows = sorted(results(path), key=lambda row: int(row["line"]))
    assert list(rows[0]) == ["line", "key", "to", "outcome", "message_id", "error", "attempts"]
    assert [(row["line"], row["to"], row["outcome"]) for row in rows] == [
        (str(n + 2), f"aux/conversations/P{n}", "delivered") for n in range(5)
    ]
    assert [row["message_id"] for row in rows] == [sandbox.messages(chat)[-1].id for chat in chats]
    assert "delivered 5 · not sent 0 · unknown 0" in done.out


async def test_only_the_owner_can_read_its_files_and_its_output_has_no_names(
    sandbox: Sandbox, path: Path
) -> None:
    write(path, sandbox, 2)

    done = await run(sandbox, "send-many", path, *TEMPLATE, "--yes")

    made = [file for file in path.parent.iterdir() if file != path]
    assert {file.suffix for file in made} >= {".csv", ".db"}
    assert {file.stat().st_mode & 0o777 for file in made} == {0o600}
    assert "lijst.journal.db" in "".join(done.out.split())
    for private in ("Zoë", "P0", "P1", "arts", variables_of(sandbox)["HEALTHMSG_TOKEN"]):
        assert private not in done.out + done.err


async def test_results_of_a_resumed_run_have_the_lines_and_the_delimiter_of_the_file(
    sandbox: Sandbox, path: Path
) -> None:
    chats = write(path, sandbox, 3)
    leave_a_line_empty(path)
    sandbox.faults.add(kind=AnswerStatus(400), method="POST", times=3)
    first = ("send-many", path, *TEMPLATE, "--yes", "--results", path.with_name("first.csv"))
    await asyncio.to_thread(invoke, *first, env=variables_of(sandbox))
    await asyncio.to_thread(path.unlink)
    journal = path.with_name("lijst.journal.db")

    arguments = ("send-many", "--resume", "--retry-failed", "--yes", "--journal", journal)
    done = await asyncio.to_thread(invoke, *arguments, env=variables_of(sandbox))

    assert done.code == 0, done
    assert [len(sandbox.messages(chat)) for chat in chats] == [1, 1, 1]
    found = {row["to"][-2:]: row["line"] for row in results(path)}
    assert found == {"P0": "2", "P1": "4", "P2": "5"}


async def test_the_same_command_again_sends_nothing_twice(sandbox: Sandbox, path: Path) -> None:
    chats = write(path, sandbox, 3)
    journal = ("--journal", path.parent / "recall.db")
    first = path.parent / "first.csv"
    await run(sandbox, "send-many", path, *TEMPLATE, "--yes", *journal, "--results", first)

    done = await run(sandbox, "send-many", path, *TEMPLATE, "--yes", *journal)

    assert done.code == 0, done
    assert [len(sandbox.messages(chat)) for chat in chats] == [1, 1, 1]
    assert re.search(r"In the journal +delivered 3", done.out)
    assert re.search(r"To be sent +0", done.out)


async def test_without_a_journal_none_is_made(sandbox: Sandbox, path: Path) -> None:
    (chat,) = write(path, sandbox, 1)

    done = await run(sandbox, "send-many", path, *TEMPLATE, "--yes", "--no-journal")

    assert done.code == 0, done
    assert len(sandbox.messages(chat)) == 1
    assert not list(path.parent.glob("*.db*"))


async def test_files_users_and_group_chats_are_sent_to(sandbox: Sandbox, path: Path) -> None:
    user, group = sandbox.add_user("Jan", "Smit"), sandbox.add_group_chat("Team")
    chat = sandbox.add_conversation()
    (path.parent / "brief.pdf").write_bytes(b"%PDF-1.7")
    (path.parent / "tekst.txt").write_text("Beste collega\n")
    write_lines(
        path,
        f'{{"user_id": "{user}"}}',
        f'{{"groupchat_id": "{group}"}}',
        f'{{"to": "conversations/{chat}", "files": ["brief.pdf"]}}',
    )

    done = await run(sandbox, "send-many", path, "--template-file", path.parent / "tekst.txt", "--yes")

    assert done.code == 0, done
    assert bodies(sandbox, f"groupchats/{group}") == ["Beste collega"]
    (message,) = sandbox.messages(f"conversations/{chat}")
    assert [attachment.name for attachment in message.attachments] == ["brief.pdf"]


async def test_an_auxiliary_id_with_a_diacritic_is_sent_to_when_it_is_meant(
    sandbox: Sandbox, path: Path
) -> None:
    chat = sandbox.add_conversation(aux_id="José")
    write_lines(path, "aux_id;body", "José;Hallo")
    sandbox.faults.add(kind=AnswerStatus(400), method="POST")

    failed = await run(sandbox, "send-many", path, "--yes", "--exact-aux-ids")
    journal = ("--journal", path.parent / "lijst.journal.db")
    done = await run(sandbox, "send-many", "--resume", "--retry-failed", "--yes", *journal)

    assert (failed.code, done.code) == (1, 0), done
    assert bodies(sandbox, f"conversations/{chat}") == ["Hallo"]


# --- what does not arrive


async def test_what_was_not_sent_is_1_and_says_why_in_the_results_alone(sandbox: Sandbox, path: Path) -> None:
    write(path, sandbox, 2)
    write_lines(path, "aux_id;voornaam", "P0;Jan", "P404x;Saskia", "P1;Bo")

    done = await run(sandbox, "send-many", path, *TEMPLATE, "--yes")

    assert done.code == 1, done
    assert "delivered 2 · not sent 1 · unknown 0" in done.out
    assert "1x answered 404 Not Found" in done.out
    assert "--retry-failed" in done.out
    (failed,) = [row for row in results(path) if row["outcome"] != "delivered"]
    assert (failed["line"], failed["outcome"], failed["message_id"]) == ("3", "not sent", "")
    assert failed["error"].startswith("POST aux/conversations/{aux_id}/messages: answered 404")
    assert "P404x" not in done.out + done.err + failed["error"]


async def test_what_failed_is_tried_again_when_that_is_wanted(sandbox: Sandbox, path: Path) -> None:
    (chat,) = write(path, sandbox, 1)
    sandbox.faults.add(kind=AnswerStatus(400), method="POST")
    failed = await run(sandbox, "send-many", path, *TEMPLATE, "--yes")
    again = await run(sandbox, "send-many", path, *TEMPLATE, "--yes", "--results", path.parent / "2.csv")

    journal = ("--journal", path.parent / "lijst.journal.db")
    done = await run(sandbox, "send-many", "--resume", "--retry-failed", "--yes", *journal)

    assert (failed.code, again.code, done.code) == (1, 1, 0), done
    assert len(sandbox.messages(chat)) == 1


async def test_what_may_have_arrived_is_looked_for_and_not_sent_twice(sandbox: Sandbox, path: Path) -> None:
    chats = write(path, sandbox, 3)
    sandbox.faults.add(kind=CutAfter(), method="POST")

    done = await run(sandbox, "send-many", path, *TEMPLATE, "--yes", *SETTLE)

    assert done.code == 0, done
    assert [len(sandbox.messages(chat)) for chat in chats] == [1, 1, 1]


async def test_a_token_that_is_refused_is_1_and_the_command_to_go_on_works(
    sandbox: Sandbox, path: Path
) -> None:
    chats = write(path, sandbox, 2)
    refused = {"HEALTHMSG_TOKEN": "wr0ng"}
    done = await run(sandbox, "send-many", path, *TEMPLATE, "--yes", env=refused)

    assert done.code == 1, done
    assert "The run broke off: " in done.out
    assert "delivered 0 · not sent 0 · unknown 0 · still to send 2\n" in done.out
    assert "wr0ng" not in done.out + done.err
    assert [row["outcome"] for row in results(path)] == ["open", "open"]

    # The same file of results would be named within the same second.
    more = ("--yes", "--results", path.parent / "2.csv")
    again = await run(sandbox, *command_to_go_on(done), *more)

    assert again.code == 0, again
    assert [len(sandbox.messages(chat)) for chat in chats] == [1, 1]


async def test_a_service_that_stays_away_is_given_up_after_a_while(sandbox: Sandbox, path: Path) -> None:
    write(path, sandbox, 1)
    sandbox.faults.add(kind=AnswerStatus(401), method="POST", times=None)

    done = await run(sandbox, "send-many", path, *TEMPLATE, "--yes", "--stop-after", "0.1")

    assert done.code == 1, done
    assert "The run broke off: " in done.out
    assert "Go on with: healthmsg send-many " in done.out
    assert "--stop-after 0.1" in done.out


@pytest.mark.slow
async def test_a_journal_in_use_is_1(sandbox: Sandbox, path: Path) -> None:
    write(path, sandbox, 120)
    first = await begin(sandbox, "send-many", path, *TEMPLATE, "--yes")
    await until_sending(sandbox)

    second = ("--yes", "--results", path.parent / "2.csv")
    done = await run(sandbox, "send-many", path, *TEMPLATE, *second)
    first.send_signal(signal.SIGINT)
    await end(first)

    assert done.code == 1, done
    assert "Another process sends with this journal" in done.out + done.err


# --- interrupted


@pytest.mark.slow
async def test_ctrl_c_waits_for_what_is_under_way_and_says_how_to_go_on(sandbox: Sandbox, path: Path) -> None:
    chats = write(path, sandbox, 40)
    process = await begin(sandbox, "send-many", path, *TEMPLATE, "--yes", *SETTLE)
    await until_sending(sandbox)
    process.send_signal(signal.SIGINT)
    done = await end(process)

    assert done.code == 130, done
    assert done.err == ""  # all results have been read
    assert "Stopping" in done.out
    outcomes = [row["outcome"] for row in results(path)]
    assert len(outcomes) == 40
    sent = sum(len(sandbox.messages(chat)) for chat in chats)
    assert 0 < sent < 40
    assert outcomes.count("delivered") == sent
    assert f"delivered {sent} · not sent 0 · unknown 0 · still to send {40 - sent}\n" in done.out

    more = ("--yes", "--results", path.parent / "2.csv")
    again = await run(sandbox, *command_to_go_on(done), *more)

    assert again.code == 0, again
    assert [len(sandbox.messages(chat)) for chat in chats] == [1] * 40


# --- asking


async def asked(sandbox: Sandbox, answer: bytes, *arguments: str | Path) -> Done:
    """Run it with a terminal, and answer once it asks."""
    ours, theirs = os.openpty()
    try:
        process = await begin(sandbox, *arguments, stdin=theirs)
        os.write(ours, answer)
        return await end(process)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it has no such terminals")
@pytest.mark.parametrize(
    ("answer", "code", "sent"),
    [
        (b"y\n", 0, 1),
        pytest.param(b"n\n", 1, 0, marks=pytest.mark.thorough),
        (b"\n", 1, 0),
        pytest.param(b"\x04", 1, 0, marks=pytest.mark.thorough),
    ],
)
async def test_it_shows_three_messages_and_asks_before_it_starts(
    sandbox: Sandbox, path: Path, answer: bytes, code: int, sent: int
) -> None:
    chats = write(path, sandbox, 4)
    with path.open("ab") as file:
        file.write(b"P1;Zo\xeb 1\r\n")

    done = await asked(sandbox, answer, "send-many", path, *TEMPLATE, "--allow-repeats")

    assert done.code == code, done
    assert [len(sandbox.messages(chat)) for chat in chats] == [sent, 2 * sent, sent, sent]
    assert re.search(r"Messages +5 to 4 recipients", done.out)
    assert re.search(r"Duration +less than a minute", done.out)
    assert [f"Beste Zoë {n}, uw arts belt u." in done.out for n in range(4)] == [True, True, True, False]
    assert "line 2, to aux/conversations/P0" in done.out
    assert "repeat another to the same recipient: 1 (line 6 that of line 3)." in done.out
    assert "Windows-1252" in done.out
    assert "--encoding" in done.out
    assert sent or done.out.rstrip().endswith("Nothing was sent.")


@pytest.mark.slow
async def test_what_a_journal_holds_is_shown_before_it_is_gone_on_with(sandbox: Sandbox, path: Path) -> None:
    write(path, sandbox, 60)
    process = await begin(sandbox, "send-many", path, *TEMPLATE, "--yes")
    await until_sending(sandbox)
    process.send_signal(signal.SIGINT)
    journal = command_to_go_on(await end(process))

    done = await asked(sandbox, b"n\n", *journal)

    assert done.code == 1, done
    assert re.search(r"In the journal +waiting \d+, delivered \d+", done.out)
    assert "uw arts belt u." in done.out


# --- a dry run


async def test_a_key_that_the_journal_has_with_another_text_is_refused_before_anything_is_sent(
    sandbox: Sandbox, path: Path
) -> None:
    chats = write(path, sandbox, 2)
    write_lines(path, "aux_id;body;key", "P0;Hallo;k0")
    await run(sandbox, "send-many", path, "--yes")
    write_lines(path, "aux_id;body;key", "P1;Hallo;k1", "P0;Iets anders;k0")

    done = await run(sandbox, "send-many", path, "--yes", "--results", path.parent / "2.csv")

    assert done.code == 2, done
    assert "line 3: " in done.err
    assert "Nothing was sent." in done.err
    assert [len(sandbox.messages(chat)) for chat in chats] == [1, 0]


async def test_a_dry_run_tells_what_is_wrong_and_sends_and_makes_nothing(
    sandbox: Sandbox, path: Path
) -> None:
    chats = write(path, sandbox, 2)
    write_lines(path, "aux_id;voornaam", "P0;Jan", "P0;Jan", "P404x;Saskia", "P1;Bo")

    options = ("--dry-run", "--check-chats", "--allow-repeats")
    done = await run(sandbox, "send-many", path, *TEMPLATE, *options)

    assert done.code == 1, done
    assert "line 3: duplicate: " in done.out
    assert "line 4: unknown chat: " in done.out
    assert "Nothing was sent." in done.out
    assert [len(sandbox.messages(chat)) for chat in chats] == [0, 0]
    assert list(path.parent.iterdir()) == [path]
    assert "P404x" not in done.out
    assert "Saskia" not in done.out


async def test_a_dry_run_that_finds_nothing_wrong_is_0(sandbox: Sandbox, path: Path) -> None:
    write(path, sandbox, 2)

    done = await run(sandbox, "send-many", path, *TEMPLATE, "--dry-run")

    assert done.code == 0, done


def test_ctrl_c_before_anything_was_sent_is_130(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    path.write_text("aux_id;body\nP1;x\n")
    monkeypatch.setattr(Client, "send_many", interrupted)
    monkeypatch.setattr("healthmsg.cli.recipients.input.read_recipients", interrupted)

    done = invoke(
        "send-many", path, "--yes", env={"HEALTHMSG_API_URL": "http://127.0.0.1:9", "HEALTHMSG_TOKEN": "t"}
    )

    assert done.code == 130
    assert done.err.splitlines() == ["Error: interrupted", "Nothing was sent."]
