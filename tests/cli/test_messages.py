"""Rows that send the same message to the same recipient again."""

import asyncio
from pathlib import Path

import pytest

from healthmsg.cli.recipients.messages import recipient_key
from healthmsg.cli.sending.options import Options
from healthmsg.sandbox import Sandbox
from tests.cli.command_line import ACCOUNT, Done, invoke, variables_of


def send(path: Path, text: str, *options: str) -> Done:
    path.write_text(text, encoding="utf-8")
    return invoke("send-many", path, *options, env=ACCOUNT)


def assert_is_refused(done: Done, line: int, before: int) -> None:
    assert done.code == 2, done
    assert f"line {line}: the same message to the same recipient as on line {before}" in done.err
    assert "--allow-repeats" in done.err
    assert done.err.splitlines()[-1] == "Nothing was sent."
    assert done.out == ""


@pytest.mark.parametrize("options", [("--yes",), ("--dry-run",), ("--dry-run", "--no-journal"), ()])
def test_equal_rows_are_refused_with_their_lines(path: Path, options: tuple[str, ...]) -> None:
    done = send(path, "aux_id;body\nP1;Hallo\nP2;Hallo\nP1;Hallo\nP1;Hallo\n", *options)

    assert_is_refused(done, 4, 2)
    assert_is_refused(done, 5, 2)
    assert "line 3" not in done.err
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    [
        "to;user_id;aux_id;body\nusers/u1;;;Hallo\n;u1;;Hallo\n",
        "to;user_id;body\nconversations/u1;;Hallo\n;u1;Hallo\n",
        "to;aux_id;body\naux/conversations/a/b;;Hallo\n;a/b;Hallo\n",
        "to;groupchat_id;body\ngroupchats/g;;Hallo\n;g;Hallo\n",
        "to;body\nusers/ u1;Hallo\nusers/u1;Hallo\n",
        "user_id;body\n u1 ;Hallo\nu1; Hallo \n",
        'user_id;body\nu1;"Dag  Jan\n"\nu1;Dag Jan\n',
        "user_id;body;key\nu1;Hallo;a\nu1;Hallo;b\n",
        "user_id;body;key\nu1;Hallo;\nu1;Hallo;b\n",
        "user_id;body;files\nu1;Hallo;a.pdf|b.pdf\nu1;Hallo;./b.pdf|../{folder}/a.pdf\n",
        "user_id;body;files\nu1;Hallo;a.pdf\nu1;Hallo;link.pdf\n",
    ],
)
def test_the_same_written_differently_is_refused(path: Path, text: str) -> None:
    for name in ("a.pdf", "b.pdf"):
        (path.parent / name).write_bytes(b"%PDF")
    (path.parent / "link.pdf").symlink_to("a.pdf")

    done = send(path, text.format(folder=path.parent.name), "--yes")

    assert_is_refused(done, 4 if '"' in text else 3, 2)


def test_json_lines_are_looked_at_too(path: Path) -> None:
    done = send(
        path, '{"user_id": "u", "body": "x"}\n\n{"to": "users/u", "body": "x", "key": "k"}\n', "--yes"
    )

    assert_is_refused(done, 3, 1)


@pytest.mark.parametrize(
    "rows",
    [
        "P1;Hallo;\nP1;Dag;",
        "P1;Hallo;\np1;Hallo;",
        "P1;Hallo;a.pdf\nP1;Hallo;b.pdf",
        "P1;Hallo;a.pdf\nP1;Hallo;",
        "P1;Hallo;\nP2;Hallo;",
    ],
)
def test_rows_that_differ_are_sent(path: Path, rows: str) -> None:
    for name in ("a.pdf", "b.pdf"):
        (path.parent / name).write_bytes(b"%PDF")

    done = send(path, f"aux_id;body;files\n{rows}\n")

    assert "there is no terminal to ask at" in done.err


def test_the_command_to_go_on_keeps_the_flag() -> None:
    command = Options(recipients=Path("lijst.csv"), allow_repeats=True).command

    assert command == "healthmsg send-many lijst.csv --allow-repeats"


@pytest.mark.parametrize("keys", [(";", ";"), (";a", ";b")])
async def test_repeats_that_are_allowed_are_sent(sandbox: Sandbox, path: Path, keys: tuple[str, str]) -> None:
    chat = f"conversations/{sandbox.add_conversation(aux_id='P1')}"
    text = "aux_id;body;key\n" + "".join(f"P1;Hallo{key}\n" for key in keys)
    await asyncio.to_thread(path.write_text, text)
    arguments = ("send-many", path, "--yes", "--allow-repeats")

    done = await asyncio.to_thread(invoke, *arguments, env=variables_of(sandbox))

    assert done.code == 0, done
    assert "Messages that repeat another to the same recipient: 1 (line 3 that of line 2)." in done.out
    assert [message.body for message in sandbox.messages(chat)] == ["Hallo", "Hallo"]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("users/u", "conversations/u", True),
        ("users/a/b", "conversations/a/b", True),
        ("users/a/b", "users/c/b", False),
        ("users/u", "groupchats/u", False),
        ("aux/conversations/u", "conversations/u", False),
        ("aux/conversations/a/b", "aux/conversations/c/b", False),
        ("aux/conversations/u", "aux/groupchats/u", False),
        ("users/u", "users/U", False),
    ],
)
def test_addresses_of_the_same_recipient_are_equal(one: str, other: str, is_same: bool) -> None:
    assert (recipient_key(one) == recipient_key(other)) is is_same
