"""The tables of a journal: made whole, of one version, with an index for what is asked often."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect

from healthmsg.bulk.journal import open_journal
from healthmsg.database import tables
from healthmsg.errors import JournalError, JournalVersionError
from tests.bulk.journal.journals import entry, holding, keys


async def write_version(target: str, version: int) -> None:
    said = f"UPDATE healthmsg_journal SET value = '{version}' WHERE name = 'version'"  # noqa: S608 - our own
    async with open_journal(target) as journal:
        await journal.do(lambda connection: connection.exec_driver_sql(said))


@pytest.mark.parametrize(("version", "age"), [(1, "older"), (tables.VERSION + 1, "newer")])
@pytest.mark.parametrize("is_reading", [False, True])
async def test_another_version_is_refused(
    target: str, version: int, age: str, is_reading: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with holding(target, entry("a")):
        pass
    await write_version(target, version)

    with pytest.raises(
        JournalVersionError, match=f"has version {version},.* that is {age}.*Nothing was sent"
    ):
        async with open_journal(target, is_reading=is_reading):
            pass

    monkeypatch.setattr(tables, "VERSION", version)
    async with open_journal(target) as journal:
        assert keys(await journal.claim(9)) == ["a"]


async def test_a_failure_while_the_tables_are_made_leaves_none(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(tables, "write_meta", fail)
        with pytest.raises(JournalError, match="ZeroDivisionError"):
            async with open_journal(target):
                pass
    await assert_made_whole(target)


async def test_a_process_killed_while_the_tables_are_made_leaves_none(target: str) -> None:
    dying = """
import asyncio, os, signal, sys
from healthmsg.bulk.journal import open_journal
from healthmsg.database import tables
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
async def main():
    async with open_journal(sys.argv[1]):
        pass
tables.write_meta = die
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", dying, target], check=False)  # noqa: ASYNC221, S603 - our own script
    assert done.returncode == -signal.SIGKILL
    await assert_made_whole(target)


async def assert_made_whole(target: str) -> None:
    def tables_of(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names())

    async with holding(target, entry("a")) as journal:
        assert await journal.do(tables_of) == set(tables.METADATA.tables)
        assert keys(await journal.claim(9)) == ["a"]


async def test_every_query_that_is_made_often_uses_an_index(file: Path) -> None:
    async with open_journal(file):
        pass
    connection = sqlite3.connect(file)
    often = {
        "SELECT key FROM healthmsg_messages WHERE is_next AND state = 'waiting' AND campaign IS NULL"
        " AND claimed_by IS NULL ORDER BY position LIMIT 9": "healthmsg_next",
        "SELECT key FROM healthmsg_messages WHERE is_next AND state IN ('sending', 'unknown')": (
            "healthmsg_next"
        ),
        "SELECT key FROM healthmsg_messages WHERE campaign = 'x' AND state = 'parked'"
        " ORDER BY position LIMIT 9": "healthmsg_campaign",
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
