"""What `killing` finds out about the senders that were killed: a judge that must be right itself."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from healthmsg import Message
from healthmsg.bulk.runner import _LEASE_LOST
from tests.bulk.killed_sender import CHATS, IN_EACH, address, text
from tests.bulk.killing import Result, Sender, unknown_at_last, untrue

Written = tuple[str, str, str | None]


def chats(*without: tuple[int, int]) -> Mapping[str, Sequence[Message]]:
    """Return what is in the chats when all has arrived, but for some messages."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return {
        address(chat): [
            Message(f"id {chat}/{number}", body=text(chat, number), created_at=now)
            for number in range(IN_EACH)
            if (chat, number) not in without
        ]
        for chat in range(CHATS)
    }


def sender(folder: Path, *written: Written, exit_code: int = 0, stderr: str = "") -> Sender:
    name = str(len([*folder.iterdir()]))
    results, stderr_file = folder / f"{name}.jsonl", folder / f"{name}.txt"
    results.write_text("".join(json.dumps(line) + "\n" for line in written))
    stderr_file.write_text(stderr)
    process: Any = SimpleNamespace(returncode=exit_code)
    return Sender(process, results, stderr_file)


DELIVERED = Result("3/4", "DELIVERED", "id 3/4")
UNKNOWN = Result("3/4", "UNKNOWN", None)
NOT_SENT = Result("3/4", "NOT_SENT", None)


def test_what_one_sender_calls_unknown_makes_no_delivery_untrue_that_others_know() -> None:
    for results in ([DELIVERED, DELIVERED, UNKNOWN], [UNKNOWN, DELIVERED, DELIVERED]):
        assert untrue(results, chats()) == []


def test_a_delivery_is_untrue_that_is_not_there_or_is_another_message() -> None:
    of_other_text = Result("3/4", "DELIVERED", "id 3/6")
    without_id = Result("3/4", "DELIVERED", None)

    assert untrue([DELIVERED], chats((3, 4))) == [DELIVERED]
    assert untrue([of_other_text], chats()) == [of_other_text]
    assert untrue([without_id], chats()) == [without_id]


def test_one_message_cannot_be_the_delivery_of_two_equal_ones() -> None:
    two, three = Result("3/2", "DELIVERED", "id 3/2"), Result("3/3", "DELIVERED", "id 3/2")

    assert untrue([two], chats()) == []
    # Whether one sender says so or two, before or after a right one.
    assert untrue([two, three], chats()) == [two, three]
    assert untrue([three, two, Result("3/3", "DELIVERED", "id 3/3")], chats()) == [three, two]


def test_what_was_not_sent_must_be_missing() -> None:
    assert untrue([NOT_SENT], chats((3, 4))) == []
    assert untrue([NOT_SENT], chats()) == [NOT_SENT]
    assert untrue([NOT_SENT, DELIVERED], chats()) == [NOT_SENT]
    assert untrue([NOT_SENT, UNKNOWN], chats()) == [NOT_SENT]


def test_of_equal_messages_it_is_enough_that_one_is_missing() -> None:
    equal = Result("3/2", "NOT_SENT", None)

    assert untrue([equal], chats((3, 3))) == []
    assert untrue([equal, Result("3/7", "NOT_SENT", None)], chats((3, 3))) == [
        equal,
        Result("3/7", "NOT_SENT", None),
    ]


def test_unknown_is_what_those_call_so_that_came_to_their_end(tmp_path: Path) -> None:
    knows = sender(tmp_path, ("3/4", "DELIVERED", "id 3/4"), ("3/5", "UNKNOWN", None))
    gave_up = sender(tmp_path, ("3/4", "UNKNOWN", None), ("3/6", "UNKNOWN", None), exit_code=1)
    killed = sender(tmp_path, ("3/5", "DELIVERED", "id 3/5"), exit_code=-9)

    assert unknown_at_last([knows, gave_up, killed]) == {"3/5", "3/6"}
    assert unknown_at_last([gave_up, killed, knows]) == {"3/5", "3/6"}


def test_only_a_lost_lease_is_one(tmp_path: Path) -> None:
    error = "healthmsg.errors.usage.JournalError: "

    assert sender(tmp_path, stderr=f"Traceback\n{error}{_LEASE_LOST}\n").has_lost_lease
    assert not sender(tmp_path, stderr=f"{_LEASE_LOST}\n{error}The journal failed: x.\n").has_lost_lease
    assert not sender(tmp_path).has_lost_lease
