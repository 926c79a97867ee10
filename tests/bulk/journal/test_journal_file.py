# ruff: noqa: ASYNC240 - the tests look at small files while nothing else runs
"""The SQLite file: who can read it, who sends with it, and what is left in it."""

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from healthmsg.bulk.journal import Entry, State, open_journal
from healthmsg.database import sqlite as sqlite_file
from healthmsg.errors import (
    ConfigurationError,
    JournalError,
    JournalInUseError,
    JournalNotFoundError,
    Outcome,
)
from tests.bulk.journal.journals import NOW, begun, delivered, entry, holding, keys, states

SECRET = "Uw uitslag is binnen"
posix = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def asking(statement: str) -> Callable[[Connection], object]:
    return lambda connection: connection.exec_driver_sql(statement).scalar()


async def opening(target: str | Path, *, is_reading: bool = False) -> None:
    async with open_journal(target, is_reading=is_reading):
        pass


@posix
async def test_no_other_user_can_read_any_of_the_files(file: Path) -> None:
    before = os.umask(0)
    try:
        async with holding(str(file), entry("a")) as journal:
            await delivered(journal, "m1")
            modes = {path.name: mode(path) for path in file.parent.iterdir()}
    finally:
        os.umask(before)

    assert modes == {f"recall.db{end}": 0o600 for end in ("", "-wal", "-shm", ".lock")}


@posix
async def test_a_file_that_others_can_read_is_refused(file: Path) -> None:
    await opening(file)
    file.chmod(0o640)

    with pytest.raises(JournalError, match="chmod 600"):
        await opening(file)


@posix
async def test_a_read_only_file_is_refused(file: Path) -> None:
    await opening(file)
    file.chmod(0o400)

    with pytest.raises(JournalError, match="read-only"):
        await opening(file)


async def test_what_is_no_journal_is_refused_and_left_alone(file: Path) -> None:
    file.write_bytes(b"to,body\nc1,Dag\n" * 100)
    file.chmod(0o600)
    with pytest.raises(JournalError, match="not a database"):
        await opening(file)
    assert file.read_bytes() == b"to,body\nc1,Dag\n" * 100

    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE patients (name)")
    connection.close()
    file.chmod(0o600)
    for is_reading in (False, True):
        with pytest.raises(JournalError, match="not a journal"):
            await opening(file, is_reading=is_reading)


async def test_a_folder_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="not a file"):
        await opening(tmp_path)
    with pytest.raises(JournalError, match="folder does not exist"):
        await opening(tmp_path / "nowhere" / "recall.db")
    assert list(tmp_path.iterdir()) == []


async def test_a_refused_journal_holds_nothing(file: Path) -> None:
    file.write_bytes(b"no database" * 100)
    file.chmod(0o600)
    for _ in range(2):
        with pytest.raises(JournalError, match="not a database"):
            await opening(file)


async def test_a_second_sender_is_refused_and_one_that_reads_is_not(file: Path) -> None:
    other_name = file.parent / "other.db"
    other_name.symlink_to(file)
    async with holding(str(file), entry("a")) as journal:
        for name in (file, other_name):
            with pytest.raises(JournalInUseError):
                await opening(name)
        async with open_journal(file, is_reading=True) as reading:
            await delivered(journal, "m1")
            assert await states(reading) == {"a": State.DELIVERED}
            for write in (
                reading.claim(1),
                reading.purge(timedelta()),
                reading.set_owner("u1", "https://api.example"),
                reading.enter([entry("b")]),
            ):
                with pytest.raises(JournalError, match="reading only"):
                    await write
            with pytest.raises(JournalError, match="read-only"):
                await reading.do(lambda c: c.exec_driver_sql("DELETE FROM healthmsg_messages"))
        assert (await journal.counts())[State.DELIVERED] == 1

    async with open_journal(file, is_reading=True) as reading:
        assert await states(reading) == {"a": State.DELIVERED}


async def test_reading_makes_no_journal(file: Path) -> None:
    with pytest.raises(JournalNotFoundError, match="no journal"):
        async with open_journal(file, is_reading=True):
            pass
    assert not file.exists()


@pytest.mark.slow
async def test_a_killed_sender_keeps_no_other_out(file: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from healthmsg.bulk.journal import open_journal\n"
        "async def main():\n"
        "    async with open_journal(sys.argv[1]):\n"
        "        print('open', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own script
        [sys.executable, "-c", script, file], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "open\n"
        with pytest.raises(JournalInUseError):
            await opening(file)
        process.kill()
    await opening(file)


async def test_what_is_acknowledged_survives_a_power_cut(file: Path, tmp_path: Path) -> None:
    async with holding(str(file), *(entry(f"k{number}") for number in range(20))) as journal:
        for number in range(10):
            await delivered(journal, f"m{number}")
        await begun(journal)
        # What a power cut leaves: the files as they are, without the index in shared memory.
        copy = tmp_path / "copy.db"
        for end in ("", "-wal"):
            shutil.copy2(f"{file}{end}", f"{copy}{end}")

    async with open_journal(copy) as journal:
        found = await states(journal)
        assert [found[f"k{number}"] for number in range(20)] == [
            *([State.DELIVERED] * 10),
            State.SENDING,
            *([State.WAITING] * 9),
        ]
        assert keys(await journal.claim_in_doubt()) == ["k10"]


async def test_sqlite_is_asked_whether_it_syncs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_journal(file) as journal:
        for pragma, value in (("synchronous", 2), ("journal_mode", "wal"), ("secure_delete", 1)):
            assert await journal.do(asking(f"PRAGMA {pragma}")) == value

    weaker = [pragma.replace("synchronous = FULL", "synchronous = NORMAL") for pragma in sqlite_file.PRAGMAS]
    monkeypatch.setattr(sqlite_file, "PRAGMAS", weaker)
    with pytest.raises(JournalError, match="power cut"):
        await opening(file)


async def test_a_full_disk_fails_all_who_wait_and_all_who_come_and_loses_nothing(file: Path) -> None:
    async with holding(str(file), *(entry(f"k{number}") for number in range(9))) as journal:
        await delivered(journal, "m1")
        claims = await journal.claim(9)
        await journal.do(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1").scalar())
        with pytest.raises(JournalError, match="disk is full"):
            await journal.enter([entry("big", body="x" * 100_000)])
        ended = await asyncio.gather(
            *(journal.begin(claim, NOW, claim.chat) for claim in claims), return_exceptions=True
        )
        assert len(ended) == 8
        assert all(isinstance(one, JournalError) and "disk is full" in str(one) for one in ended)

    async with open_journal(file) as journal:
        assert set((await states(journal)).values()) == {State.DELIVERED, State.WAITING}
        assert len(await journal.claim(9)) == 8


async def test_what_a_full_disk_left_in_the_wal_file_is_this_runs_own(file: Path) -> None:
    async with holding(str(file), entry("a")) as journal:
        base = journal._database
        # What does not fit into the memory is written before the commit.
        await base.run(lambda connection: connection.exec_driver_sql("PRAGMA cache_size = 1"))
        pages = await base.run(asking("PRAGMA page_count"))
        await base.run(asking(f"PRAGMA max_page_count = {int(str(pages)) + 20}"))
        before = file.with_name(f"{file.name}-wal").stat()
        with pytest.raises(JournalError, match="disk is full"):
            await journal.enter([entry(f"k{number}", body="x" * 3000) for number in range(100)])
        assert file.with_name(f"{file.name}-wal").stat().st_mtime_ns != before.st_mtime_ns
        # Not "written to by another program".
        assert await base.run(asking("SELECT count(*) FROM healthmsg_messages")) == 1

    async with open_journal(file) as journal:
        assert await states(journal) == {"a": State.WAITING}


async def test_a_full_disk_at_compacting_leaves_a_journal_that_can_be_used(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with holding(str(file), *(entry(f"k{n}", body="x" * 3000) for n in range(50))) as journal:
        base = journal._database

        class Full:
            """Writes a part, as on a full disk."""

            def execute(self, _: str) -> None:
                wal = file.with_name(f"{file.name}-wal")
                os.truncate(wal, wal.stat().st_size + 100)
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorname = "SQLITE_FULL"
                raise error

        with monkeypatch.context() as patched:
            patched.setattr(sqlite_file, "_raw", lambda _: Full())
            with pytest.raises(sqlite3.OperationalError):
                await base.compact()
        await delivered(journal, "m1")


async def test_a_failed_commit_fails_all_of_its_batch(file: Path) -> None:
    async with holding(str(file), *(Entry(f"k{n}", f"c{n}", "x") for n in range(50))) as journal:
        claims = await journal.claim(50)
        await journal.do(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1").scalar())
        outcomes = [journal.finish(claim, Outcome.NOT_SENT, error="e" * 3000) for claim in claims]
        ended = await asyncio.gather(*outcomes, return_exceptions=True)
        assert {type(one) for one in ended} == {JournalError}

    async with open_journal(file) as journal:
        assert set((await states(journal)).values()) == {State.WAITING}


async def test_what_was_said_is_in_none_of_the_files_after_delivery_and_a_purge(file: Path) -> None:
    entries = [Entry(f"k{n}", f"aux/conversations/Jansen {n}", f"{SECRET} {n} " * 400) for n in range(40)]
    async with holding(str(file), *entries) as journal:
        for number in range(39):
            await delivered(journal, f"m{number}")
        await journal.finish(await begun(journal), Outcome.NOT_SENT)
        before = await journal.do(asking("PRAGMA page_count"))
        assert await journal.purge(timedelta()) == 40
        after = await journal.do(asking("PRAGMA page_count"))
        assert isinstance(before, int)
        assert isinstance(after, int)
        assert after < before / 2
        for path in file.parent.iterdir():
            assert SECRET.encode() not in path.read_bytes(), path.name
            assert b"Jansen" not in path.read_bytes(), path.name


async def test_what_was_said_is_in_none_of_the_files_after_the_run(file: Path) -> None:
    entries = [Entry(f"k{n}", f"aux/conversations/Jansen {n}", f"{SECRET} {n} " * 400) for n in range(40)]
    async with holding(str(file), *entries) as journal:
        for number in range(40):
            await delivered(journal, f"m{number}")

    for path in file.parent.iterdir():
        assert SECRET.encode() not in path.read_bytes(), path.name


async def test_a_purge_beside_a_reader_says_what_it_could_not_do(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = [pragma.replace("30000", "100") for pragma in sqlite_file.PRAGMAS]
    monkeypatch.setattr(sqlite_file, "PRAGMAS", shorter)
    async with holding(str(file), entry("a")) as journal:
        await delivered(journal, "m1")
        reader = sqlite3.connect(file)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM healthmsg_messages").fetchall()
        with pytest.raises(JournalError, match="Purge again"):
            await journal.purge(timedelta())
        reader.close()
        assert await journal.purge(timedelta()) == 0
        assert await states(journal) == {}


@pytest.mark.parametrize(
    "target",
    [
        *("", ":memory:", "mysql://host/x", "recall.db?nolock=1", "recall.db?keep_bodies=yes"),
        *("sqlite+aiosqlite:///", "sqlite+aiosqlite:///x.db?mode=ro", "sqlite+pysqlite:///x.db"),
    ],
)
async def test_what_cannot_be_a_journal_is_refused_at_once(target: str) -> None:
    with pytest.raises(ConfigurationError):
        open_journal(target)


async def test_a_journal_can_be_named_in_several_ways(tmp_path: Path) -> None:
    odd = tmp_path / "what?keep_bodies=1"
    await opening(odd)
    await opening(f"sqlite+aiosqlite:///{tmp_path}/one.db?keep_bodies=1")
    await opening(f"{tmp_path}/two%20.db?keep_bodies=0")

    assert {path.name for path in tmp_path.glob("*") if path.suffix != ".lock"} == {
        *(odd.name, "one.db", "two%20.db")
    }
