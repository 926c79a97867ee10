import itertools
import subprocess
import sys

import pytest

from healthmsg.bulk.journal import JournalFile, KeyMaker, default_key

CHAT = "aux/conversations/patient 7"


def test_the_same_message_has_the_same_key_and_each_repetition_its_own() -> None:
    first, second = KeyMaker(b"salt"), KeyMaker(b"salt")
    one = [first.key(CHAT, "Dag"), first.key("conversations/c1", "Dag"), first.key(CHAT, "Dag")]
    other = [second.key(CHAT, "Dag"), second.key("conversations/c1", "Dag"), second.key(CHAT, "Dag")]

    assert one == other
    assert len(set(one)) == 3
    assert one == [
        default_key(CHAT, "Dag", salt=b"salt"),
        default_key("conversations/c1", "Dag", salt=b"salt"),
        default_key(CHAT, "Dag", nth=1, salt=b"salt"),
    ]
    assert first.key(CHAT, "Dag") == default_key(CHAT, "Dag", nth=2, salt=b"salt")


def test_every_part_makes_a_difference_and_so_does_where_one_ends() -> None:
    file = JournalFile("/a", "a", 1, "text/plain")
    messages = [
        *((CHAT, "Dag"), (CHAT + "D", "ag"), (CHAT, "Dag "), (CHAT, "Dag", (file,))),
        *((CHAT, "Dag", (file, file)), (CHAT, "Dag", (), {"a": 1}), (CHAT, "Dag", (), {"a": 2})),
        (CHAT, "Dag", (JournalFile("/a", "a", 2, "text/plain"),)),
    ]
    made = [default_key(*message) for message in messages]  # type: ignore[arg-type]

    assert len(set(made)) == len(messages)
    assert default_key(CHAT, "Dag", salt=b"1") != default_key(CHAT, "Dag", salt=b"2")


def test_the_order_of_a_questions_fields_makes_none() -> None:
    assert default_key(CHAT, "Dag", (), {"a": 1, "b": 2}) == default_key(CHAT, "Dag", (), {"b": 2, "a": 1})


def test_messages_that_share_the_counted_part_of_the_hash_have_their_own_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker = KeyMaker()
    monkeypatch.setattr(maker, "_count", lambda _, numbers=itertools.count(): next(numbers))  # noqa: B008 - one

    assert maker.key(CHAT, "a") != maker.key(CHAT, "b")


def test_the_package_does_without_the_extra_until_a_journal_is_opened() -> None:
    script = """
import asyncio, sys
for name in ("sqlalchemy", "aiosqlite", "filelock", "asyncpg"):
    sys.modules[name] = None
import healthmsg
from healthmsg.bulk.journal import Journal, KeyMaker
journal = Journal.open("recall.db")
async def main():
    async with journal:
        pass
try:
    asyncio.run(main())
except healthmsg.HealthmsgError as error:
    print(error)
    assert error.__context__ is None
"""
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )

    assert done.stdout == 'a journal needs sqlalchemy: pip install "healthmsg[bulk]"\n', done.stderr
