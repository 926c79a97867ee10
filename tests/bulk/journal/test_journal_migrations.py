import os
import re
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, inspect

from healthmsg.bulk.journal import Entry, Journal, State, migrations
from healthmsg.bulk.journal.schema import METADATA
from healthmsg.errors import JournalError, JournalVersionError, Outcome
from tests.bulk.journal import version1
from tests.bulk.journal.journals import begun, entry, keys, states


def script(start: str, end: str) -> list[str]:
    """Give version 1's statements with the bytes as a database writes them."""
    return [
        re.sub(r"\{bytes:(\w+)\}", lambda found: f"{start}{version1.FINGERPRINTS[found[1]]}{end}", statement)
        for statement in version1.SCRIPT
    ]


@pytest.fixture
async def old(target: str) -> str:
    """Make a journal of version 1."""
    if "://" in target:
        connection = await asyncpg.connect(target.replace("+asyncpg", ""))
        for statement in script(r"'\x", "'::bytea"):
            await connection.execute(statement)
        await connection.close()
    else:
        file = sqlite3.connect(target)
        for statement in script("X'", "'"):
            file.execute(statement)
        file.commit()
        file.close()
        os.chmod(target, 0o600)  # noqa: PTH101 - pathlib's is refused here
    return target


def columns_of(connection: Connection) -> dict[str, Any]:
    found = inspect(connection)
    return {
        table: (
            {
                column["name"]: (str(column["type"]), column["nullable"])
                for column in found.get_columns(table)
            },
            sorted(
                (index["name"] or "", tuple(index["column_names"]), bool(index["unique"]))
                for index in found.get_indexes(table)
            ),
        )
        for table in sorted(found.get_table_names())
    }


async def test_a_journal_of_version_1_goes_on_where_it_was(old: str) -> None:
    async with Journal.open(old) as journal:
        await journal.belong_to("u1", "https://api.example/v1")
        assert await states(journal) == {
            "a": State.DELIVERED,
            "b": State.WAITING,
            "c": State.SENDING,
            "d": State.NOT_SENT,
        }
        assert all(one.problem is None for one in await journal.enter([entry(key) for key in "abcd"]))
        (doubtful,) = await journal.in_doubt()
        assert doubtful.key == "c"
        assert doubtful.started_at == datetime(2026, 11, 23, 10, tzinfo=UTC)
        assert doubtful.sent_to == doubtful.chat
        # Of what was delivered before, the text is not known any more.
        assert await journal.delivered_sample() is None
        await journal.finish(await begun(journal), Outcome.DELIVERED, message_id="m2")
        sample = await journal.delivered_sample()
        assert sample is not None
        assert sample.key == "b"
        assert journal.is_body(sample, "Beste mevrouw Jansen")

    async with Journal.open(old) as journal:
        assert keys(await journal.in_doubt()) == ["c"]


async def test_a_migrated_journal_is_like_a_new_one(old: str) -> None:
    async with Journal.open(old) as journal:
        migrated = await journal._store._do(columns_of)
    if old.startswith("postgresql"):
        connection = await asyncpg.connect(old.replace("+asyncpg", ""))
        await connection.execute(f"DROP TABLE {', '.join(METADATA.tables)}")
        await connection.close()
    else:
        Path(old).unlink()  # noqa: ASYNC240 - nothing else runs
    async with Journal.open(old) as journal:
        assert await journal._store._do(columns_of) == migrated

    assert {table: set(columns) for table, (columns, _) in migrated.items()} == {
        table.name: set(table.columns.keys()) for table in METADATA.tables.values()
    }


async def test_an_old_journal_knows_the_conversations_of_its_users(old: str) -> None:
    async with Journal.open(old):
        pass
    steps = (
        "UPDATE healthmsg_messages SET chat = 'users/u', sent_to = 'conversations/c' WHERE key = 'a'",
        "UPDATE healthmsg_messages SET chat = 'conversations/c' WHERE key IN ('b', 'c')",
        "DROP INDEX healthmsg_runs",
        *(
            f"ALTER TABLE healthmsg_messages DROP COLUMN {column}"
            for column in (
                *("run", "is_superseded", "decided", "decided_by", "decided_at", "date_ahead", "label"),
            )
        ),
        "DROP TABLE healthmsg_recipients",
        "DROP INDEX healthmsg_recipient",
        "DROP INDEX healthmsg_one_next",
        "ALTER TABLE healthmsg_messages DROP COLUMN recipient",
        "UPDATE healthmsg_messages SET is_next = FALSE WHERE key = 'b'",
        "CREATE UNIQUE INDEX healthmsg_one_next ON healthmsg_messages (chat) WHERE is_next",
        "UPDATE healthmsg_journal SET value = '2' WHERE name = 'version'",
    )
    async with Journal.open(old) as journal:
        for step in steps:
            await journal._store._do(partial(Connection.exec_driver_sql, statement=step))

    async with Journal.open(old) as journal:
        (same,) = await journal.same_chats(["users/u"])
        assert set(same) == {"conversations/u", "conversations/c"}
        await journal.enter([Entry("e", "users/u", "x")])
        assert keys(await journal.claim(9)) == []
        assert keys(await journal.in_doubt()) == ["c"]


async def test_a_reader_does_not_migrate(old: str) -> None:
    with pytest.raises(JournalVersionError, match="older"):
        async with Journal.open(old, is_reading=True):
            pass


async def test_a_failure_in_the_middle_leaves_the_old_one(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE half_done (x TEXT)")
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(migrations.bring_up_to_date, "__defaults__", ((*migrations.STEPS, fail),))
        with pytest.raises(JournalError):
            async with Journal.open(old):
                pass
    if "://" not in old:
        file = sqlite3.connect(old)
        assert "sent_to" not in str(file.execute("SELECT sql FROM sqlite_master").fetchall())
        assert file.execute("SELECT value FROM healthmsg_journal WHERE name = 'version'").fetchone() == ("1",)
        file.close()

    async with Journal.open(old) as journal:
        assert "half_done" not in await journal._store._do(columns_of)
        assert keys(await journal.in_doubt()) == ["c"]


async def test_a_process_killed_in_the_middle_leaves_the_old_one(old: str) -> None:
    dying = """
import asyncio, os, signal, sys
from healthmsg.bulk.journal import Journal, migrations
def die(connection):
    os.kill(os.getpid(), signal.SIGKILL)
async def main():
    async with Journal.open(sys.argv[1]):
        pass
migrations.bring_up_to_date.__defaults__ = ((*migrations.STEPS, die),)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", dying, old], check=False)  # noqa: ASYNC221, S603 - our own script
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(JournalVersionError, match="older"):
        async with Journal.open(old, is_reading=True):
            pass

    async with Journal.open(old) as journal:
        assert keys(await journal.in_doubt()) == ["c"]


async def test_every_query_that_is_made_often_uses_an_index(file: Path) -> None:
    async with Journal.open(file):
        pass
    connection = sqlite3.connect(file)
    often = {
        "SELECT key FROM healthmsg_messages WHERE is_next AND state = 'waiting' AND claimed_by IS NULL"
        " ORDER BY position LIMIT 9": "healthmsg_next",
        "SELECT key FROM healthmsg_messages WHERE chat = 'x' AND is_final = 0"
        " ORDER BY position LIMIT 1": "healthmsg_chat",
        "SELECT key FROM healthmsg_messages WHERE recipient = 'x' AND is_final = 0"
        " ORDER BY position LIMIT 1": "healthmsg_recipient",
        "SELECT recipient FROM healthmsg_messages WHERE is_next AND recipient IN ('x', 'y')": (
            "healthmsg_one_next"
        ),
        "SELECT address FROM healthmsg_recipients WHERE recipient = 'x'": "healthmsg_addresses",
        "SELECT key FROM healthmsg_messages WHERE recipient IN ('x', 'y') AND run > 1"
        " AND run < 9": "healthmsg_runs",
    }
    for query, index in often.items():
        plan = str(connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())
        assert index in plan
        assert "TEMP B-TREE" not in plan
    connection.close()
