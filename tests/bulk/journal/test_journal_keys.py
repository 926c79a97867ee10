import subprocess
import sys
from collections.abc import Mapping, Sequence

from healthmsg.bulk.journal import Given, JournalFile
from healthmsg.bulk.journal.keys import digest_of, key_of

CHAT = "aux/conversations/patient 7"


def default_key(
    chat: str,
    body: str,
    files: Sequence[JournalFile] = (),
    question: Mapping[str, object] | None = None,
    *,
    nth: int = 0,
    salt: bytes = b"",
) -> str:
    return key_of(digest_of(chat, body, files, question, salt=salt), nth)


def test_the_same_message_has_the_same_key_and_each_repetition_its_own() -> None:
    with Given(b"salt") as first, Given(b"salt") as second:
        made = [
            [given.key(CHAT, "Dag"), given.key("conversations/c1", "Dag"), given.key(CHAT, "Dag")]
            for given in (first, second)
        ]
        fourth = first.key(CHAT, "Dag")

    assert made[0] == made[1]
    assert len(set(made[0])) == 3
    assert made[0] == [
        default_key(CHAT, "Dag", salt=b"salt"),
        default_key("conversations/c1", "Dag", salt=b"salt"),
        default_key(CHAT, "Dag", nth=1, salt=b"salt"),
    ]
    assert fourth == default_key(CHAT, "Dag", nth=2, salt=b"salt")


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


def test_what_was_given_is_awaited_until_it_is_told() -> None:
    with Given() as given:
        assert [given.accept(key, number) for number, key in enumerate("abcb")] == [True, True, True, False]
        assert given.awaited_after("", 2) == [(0, "a"), (1, "b")]
        assert given.awaited_after("b", 2) == [(2, "c")]
        assert given.is_awaited("b")

        assert (given.take("b"), given.take("d")) == (1, None)

        assert not given.is_awaited("b")
        assert given.awaited_after("", 9) == [(0, "a"), (2, "c")]
        assert not given.accept("b", 4)


def test_the_package_does_without_the_extra_until_a_journal_is_opened() -> None:
    script = """
import asyncio, sys
for name in ("sqlalchemy", "filelock", "asyncpg"):
    sys.modules[name] = None
import healthmsg
from healthmsg.bulk.journal import Given, Journal
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
