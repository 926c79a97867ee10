import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest

from healthmsg.bulk.journal import JournalFile
from healthmsg.bulk.journal.input_index import fingerprint_of, key_of, likeness_of

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
    return key_of(likeness_of(chat, body, files, question, salt=salt), nth)


def test_every_part_makes_a_difference_and_so_does_where_one_ends() -> None:
    file = JournalFile("/a", "a", 1, "text/plain")
    messages = [
        *((CHAT, "Dag"), (CHAT + "D", "ag"), (CHAT, "Dag "), (CHAT, "Dag", (file,))),
        *((CHAT, "Dag", (file, file)), (CHAT, "Dag", (), {"a": 1}), (CHAT, "Dag", (), {"a": 2})),
        (CHAT, "Dag", (JournalFile("/a", "b", 1, "text/plain"),)),
    ]
    made = [default_key(*message) for message in messages]  # type: ignore[arg-type]

    assert len(set(made)) == len(messages)
    assert default_key(CHAT, "Dag", salt=b"1") != default_key(CHAT, "Dag", salt=b"2")


def test_a_letter_that_is_rendered_again_keeps_its_key_and_not_its_fingerprint() -> None:
    files = [
        JournalFile("/a/brief.pdf", "brief.pdf", 9, "application/pdf", "00"),
        JournalFile("/b/brief.pdf", "brief.pdf", 9, "application/pdf", "00"),
        JournalFile("/a/brief.pdf", "brief.pdf", 9, "application/pdf", "01"),
        JournalFile("/a/brief.pdf", "brief.pdf", 10, "application/pdf", "00"),
    ]

    assert len({default_key(CHAT, "Dag", [file]) for file in files}) == 1
    said = [fingerprint_of(CHAT, "Dag", [file], None, salt=b"") for file in files]
    assert said[0] == said[1]
    assert len(set(said)) == 3


def test_the_order_of_a_questions_fields_makes_none() -> None:
    assert default_key(CHAT, "Dag", (), {"a": 1, "b": 2}) == default_key(CHAT, "Dag", (), {"b": 2, "a": 1})


@pytest.mark.slow
def test_the_package_does_without_the_extra_until_a_journal_is_opened() -> None:
    script = """
import asyncio, sys
for name in ("sqlalchemy", "filelock", "asyncpg"):
    sys.modules[name] = None
import healthmsg
from healthmsg.bulk.journal import InputIndex, open_journal
journal = open_journal("recall.db")
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
