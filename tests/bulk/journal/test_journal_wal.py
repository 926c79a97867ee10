# ruff: noqa: ASYNC240 - the tests look at small files while nothing else runs
"""The `-wal` file that belongs to a journal: where it is missing, what it has is not forgotten in silence."""

import asyncio
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from healthmsg.bulk.journal import Entry, State, open_journal
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.database import wal_mark
from healthmsg.database.sqlite import SqliteDatabase
from healthmsg.errors import JournalError, JournalIncompleteError, JournalVersionError, Outcome
from tests.bulk.journal.journals import NOW, begun, delivered, entry, holding, keys, states

pytestmark = pytest.mark.slow

ENTRIES = [entry(f"k{number}") for number in range(200)]
ALL = ("", "-wal", "-shm")
ACCEPTING = "?accept_missing_wal=1"


def copy_of(file: Path, ends: Iterable[str] = ("",), name: str = "copy.db") -> Path:
    """Copy some of a journal's files, as they are now."""
    copy = file.with_name(name)
    for end in ends:
        shutil.copy2(f"{file}{end}", f"{copy}{end}")
    return copy


async def opening(target: str | Path, *, is_reading: bool = False) -> dict[str, State]:
    async with open_journal(target, is_reading=is_reading) as journal:
        return await states(journal)


async def refused(target: str | Path, reason: str = "is missing") -> None:
    """See that it is refused, without and with a look at it before, and is left as it is."""
    before = Path(target).read_bytes()
    for is_reading in (False, True) if "missing" in reason else (False,):
        with pytest.raises(JournalIncompleteError, match=reason) as caught:
            await opening(target, is_reading=is_reading)
        assert "nothing was sent" in str(caught.value)
        assert Path(target).name not in str(caught.value)
        assert Path(target).read_bytes() == before
        for end in ("-wal", "-shm"):
            if "missing" in reason and is_reading is False:
                assert not Path(f"{target}{end}").exists()


@asynccontextmanager
async def half_sent(file: Path) -> AsyncIterator[SqlJournal]:
    """Open a journal with 100 delivered messages, and the next begun."""
    async with holding(str(file), *ENTRIES) as journal:
        for number in range(100):
            await delivered(journal, f"m{number}")
        await begun(journal)
        yield journal


def checkpointing(journal: SqlJournal) -> Callable[[], Awaitable[bool]]:
    """Bring everything into the file, in the journal's own connection."""

    def checkpoint(connection: Connection) -> bool:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        return wal_mark.checkpoint(raw, "FULL")

    database = journal._database
    assert isinstance(database, SqliteDatabase)
    return lambda: database.run_sync(checkpoint)


def counted(found: dict[str, State]) -> tuple[int, int]:
    of = list(found.values())
    return of.count(State.DELIVERED), of.count(State.SENDING)


# --- after a clean end


async def test_after_a_clean_end_the_file_is_all_there_is(file: Path) -> None:
    async with half_sent(file):
        pass
    assert {path.name for path in file.parent.iterdir()} == {"recall.db", "recall.db.lock"}

    copy = copy_of(file)

    assert counted(await opening(copy, is_reading=True)) == (100, 1)
    assert counted(await opening(copy)) == (100, 1)


async def test_a_clean_end_beside_a_reader_is_one_as_soon_as_the_reader_ends(file: Path) -> None:
    async with half_sent(file) as journal:
        reading = open_journal(file, is_reading=True)
        reader = await reading.__aenter__()
        assert (await reader.counts())[State.DELIVERED] == 100
        assert len(await journal.claim(1)) == 1
    # SQLite keeps the file for the reader, but has nothing in it.
    assert Path(f"{file}-wal").stat().st_size == 0
    await reading.__aexit__(None, None, None)

    assert counted(await opening(copy_of(file))) == (100, 1)
    assert counted(await opening(file)) == (100, 1)


async def test_an_end_beside_one_who_reads_an_older_state_needs_the_wal_file(file: Path) -> None:
    reader = None
    async with half_sent(file) as journal:
        reader = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM healthmsg_messages").fetchone()
        await journal.enter([entry("late")])
    reader.close()

    await refused(copy_of(file))
    assert len(await opening(copy_of(file, ALL, "both.db"))) == 201
    assert len(await opening(file)) == 201
    assert len(await opening(copy_of(file, name="last.db"))) == 201


async def test_after_a_purge_the_wal_file_still_counts(file: Path) -> None:
    async with half_sent(file) as journal:
        assert await journal.purge(timedelta()) == 100
        alone, all_of_it = copy_of(file), copy_of(file, ALL, "all.db")

    await refused(alone)
    assert counted(await opening(all_of_it)) == (0, 1)
    assert counted(await opening(copy_of(file, name="last.db"))) == (0, 1)


# --- after a kill


async def test_after_a_kill_both_files_are_needed_and_enough(file: Path) -> None:
    async with half_sent(file):
        alone, both, without_index = (
            copy_of(file, ends, name)
            for ends, name in ((("",), "alone.db"), (ALL, "all.db"), (("", "-wal"), "both.db"))
        )

    await refused(alone)
    for copy in (both, without_index):
        assert counted(await opening(copy, is_reading=True)) == (100, 1)
        # Looking does not merge the two: only a run does, and notes it.
        assert Path(f"{copy}-wal").stat().st_size > 0
        assert counted(await opening(copy)) == (100, 1)
        assert counted(await opening(copy_of(copy, name="moved.db"))) == (100, 1)
        Path(f"{file.with_name('moved.db')}").unlink()


async def test_a_wal_file_that_was_left_behind_can_be_brought_later(file: Path) -> None:
    async with half_sent(file):
        alone = copy_of(file)
        wal = Path(shutil.copy2(f"{file}-wal", file.with_name("left")))
    await refused(alone)
    shutil.copy2(wal, f"{alone}-wal")

    assert counted(await opening(alone)) == (100, 1)


async def test_no_new_journal_takes_the_place_of_one_that_left_its_wal_file(file: Path) -> None:
    async with half_sent(file):
        all_of_it = copy_of(file, ALL)
    moved = all_of_it.rename(file.with_name("moved.db"))
    for _ in range(2):
        with pytest.raises(JournalIncompleteError, match="the journal itself back"):
            await opening(all_of_it)
    moved.rename(all_of_it)

    assert counted(await opening(all_of_it)) == (100, 1)


async def test_an_empty_wal_file_is_as_good_as_none(file: Path) -> None:
    async with half_sent(file):
        alone = copy_of(file)
    Path(f"{alone}-wal").touch(0o600)

    with pytest.raises(JournalIncompleteError, match="is missing"):
        await opening(alone)


async def test_a_refusal_for_another_reason_merges_nothing_unnoted(file: Path) -> None:
    async with half_sent(file) as journal:
        await journal.do(
            lambda c: c.exec_driver_sql("UPDATE healthmsg_journal SET value = '99' WHERE name = 'version'")
        )
        copy = copy_of(file, ALL)
    for _ in range(2):
        with pytest.raises(JournalVersionError):
            await opening(copy)


async def test_another_wal_file_is_refused(file: Path) -> None:
    other = file.with_name("other.db")
    async with half_sent(other):
        foreign = Path(shutil.copy2(f"{other}-wal", file.with_name("foreign")))
    async with half_sent(file) as journal:
        copy = copy_of(file)
        own = Path(shutil.copy2(f"{file}-wal", file.with_name("own")))
        await journal.enter([entry("late")])

    shutil.copy2(foreign, f"{copy}-wal")
    await refused(copy, "does not belong")
    # The two of one moment are whole, and nothing in them says that there was a later one.
    shutil.copy2(own, f"{copy}-wal")
    assert counted(await opening(copy)) == (100, 1)


async def test_files_of_two_moments_are_refused(file: Path) -> None:
    async with holding(str(file), *ENTRIES) as journal:
        early_file = copy_of(file, name="early.db")
        early_wal = Path(shutil.copy2(f"{file}-wal", file.with_name("early")))
        # Until the `-wal` file has begun from the start more than once.
        for start in range(0, 3000, 50):
            numbers = range(start, start + 50)
            await journal.enter([Entry(f"n{n}", f"aux/conversations/n{n}", "Dag " * 700) for n in numbers])
        late_file = copy_of(file, name="late.db")
        late_wal = Path(shutil.copy2(f"{file}-wal", file.with_name("late")))

    for path, wal in ((early_file, late_wal), (late_file, early_wal)):
        shutil.copy2(wal, f"{path}-wal")
        await refused(path, "does not belong")
    shutil.copy2(late_wal, f"{late_file}-wal")
    assert len(await opening(late_file)) == 3200


async def test_an_old_wal_file_beside_a_file_that_was_ended_is_refused(file: Path) -> None:
    async with half_sent(file):
        old = Path(shutil.copy2(f"{file}-wal", file.with_name("old")))
    async with open_journal(file) as journal:
        await delivered(journal, "late")
    shutil.copy2(old, f"{file}-wal")

    await refused(file, "does not belong")


async def test_copies_made_while_a_run_is_on_are_refused(file: Path) -> None:
    async with half_sent(file):
        copy = copy_of(file)
        backup = file.with_name("backup.db")
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
            source.execute("VACUUM INTO ?", (str(file.with_name("vacuumed.db")),))
    for path in (copy, backup, file.with_name("vacuumed.db")):
        path.chmod(0o600)
        await refused(path)


@pytest.mark.parametrize("place", ["begin", "checkpoint", "end"])
@pytest.mark.parametrize("is_new", [True, False])
async def test_a_kill_while_the_mark_is_written_wedges_nothing(
    file: Path, place: str, *, is_new: bool
) -> None:
    if not is_new:
        async with half_sent(file):
            pass
    script = (
        "import asyncio, os, signal, sys\n"
        "from healthmsg.bulk.journal import Entry, open_journal\n"
        "from healthmsg.database import wal_mark\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "async def main():\n"
        "    async with open_journal(sys.argv[1]) as journal:\n"
        "        await journal.enter([Entry('late', 'aux/conversations/late', 'Dag')])\n"
        "        if sys.argv[2] == 'end': wal_mark.checkpoint = lambda c, kind: kind == 'FULL' or die()\n"
        "if sys.argv[2] == 'checkpoint': wal_mark.checkpoint = die\n"
        "if sys.argv[2] == 'begin': wal_mark.begin = die\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.create_subprocess_exec(sys.executable, "-c", script, file, place)
    assert await done.wait() == -9
    copies = [copy_of(file, ALL, f"{place}.db"), file] if Path(f"{file}-wal").exists() else [file]

    for path in copies:
        found = await opening(path)
        assert counted(found) == ((0, 0) if is_new else (100, 1))
        assert ("late" in found) == (place == "end")


async def test_a_journal_of_before_there_were_marks_goes_on_after_a_kill(file: Path) -> None:
    async with half_sent(file) as journal:
        await journal.do(lambda c: c.exec_driver_sql("DELETE FROM healthmsg_journal WHERE name = 'wal'"))
        with closing(sqlite3.connect(file)) as merging:
            merging.execute("PRAGMA wal_checkpoint(FULL)")
        copy = copy_of(file, ALL)

    assert counted(await opening(copy)) == (100, 1)


@pytest.mark.parametrize("is_older", [False, True])
async def test_a_kill_while_the_wal_file_is_begun_from_the_start_wedges_nothing(
    file: Path, *, is_older: bool
) -> None:
    async with half_sent(file) as journal:
        older = copy_of(file, name="older.db")
        await journal.enter([entry("late")])
        assert await journal._writer.do(checkpointing(journal))
        copy = older if is_older else copy_of(file)
        # What SQLite does first: a header with other salts. What follows it does not count any more.
        wal = bytearray(Path(f"{file}-wal").read_bytes())
        wal[16:24] = b"\xff" * 8
        Path(f"{copy}-wal").write_bytes(wal)

    if is_older:
        with pytest.raises(JournalIncompleteError, match="is missing"):
            await opening(copy)
    else:
        assert len(await opening(copy)) == 201


# --- going on without


async def test_what_may_have_been_sent_is_in_doubt_when_its_loss_is_accepted(file: Path) -> None:
    async with open_journal(file) as journal:
        await journal.enter([entry("a1", "a"), entry("a2", "a"), entry("b"), entry("c"), entry("d")])
        await journal.enter([Entry("u", "users/u1", "Dag"), entry("aside", "e")])
        await delivered(journal, "m1")
        claims = {claim.key: claim for claim in await journal.claim(9)}
        await journal.begin(claims["b"], NOW, claims["b"].chat)
        await journal.finish(claims["b"], Outcome.NOT_SENT)
        await journal.park(claims["aside"])
    async with open_journal(file) as journal:
        await delivered(journal, "lost")
        copy = copy_of(file)

    with pytest.raises(JournalIncompleteError, match="accept_missing_wal=1"):
        await opening(copy)
    assert (await opening(f"{copy}{ACCEPTING}", is_reading=True))["a2"] is State.WAITING
    async with open_journal(f"{copy}{ACCEPTING}") as journal:
        assert journal.is_partly_lost
        assert await states(journal) == {
            "a1": State.DELIVERED,
            "b": State.UNKNOWN,
            "u": State.UNKNOWN,
            **dict.fromkeys(("a2", "c", "d", "aside"), State.SENDING),
        }
        assert await journal.claim(9) == []
        doubtful = await journal.claim_in_doubt()
        assert sorted(keys(doubtful)) == ["a2", "aside", "c", "d"]
        assert all(claim.sent_to == claim.chat for claim in doubtful)

    # Only once: then the file is whole again.
    async with open_journal(copy) as journal:
        assert not journal.is_partly_lost
        assert len(await journal.claim_in_doubt()) == 4


async def accept_and_die(copy: Path, place: str) -> None:
    """Accept a loss in a process that is killed at some place."""
    script = (
        "import asyncio, os, signal, sys\n"
        "from healthmsg.bulk.journal import open_journal\n"
        "from healthmsg.database import recovery, wal_mark\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "async def main():\n"
        "    async with open_journal(sys.argv[1]): pass\n"
        "module = recovery if sys.argv[2] == 'mark_all_in_doubt' else wal_mark\n"
        "setattr(module, sys.argv[2], die)\n"
        "asyncio.run(main())\n"
    )
    command = (sys.executable, "-c", script, f"{copy}{ACCEPTING}", place)
    assert await (await asyncio.create_subprocess_exec(*command)).wait() == -9


@pytest.mark.parametrize("place", ["mark_all_in_doubt", "accept", "begin"])
async def test_a_kill_while_a_loss_is_accepted_forgets_no_doubt(file: Path, place: str) -> None:
    async with half_sent(file):
        copy = copy_of(file)
    await accept_and_die(copy, place)

    if place != "begin":
        with pytest.raises(JournalIncompleteError):
            await opening(copy)
    async with open_journal(copy if place == "begin" else f"{copy}{ACCEPTING}") as journal:
        assert State.WAITING not in (await states(journal)).values()


async def test_doubts_that_were_not_committed_are_noted_again(file: Path) -> None:
    async with half_sent(file):
        copy = copy_of(file)
    await accept_and_die(copy, "begin")
    # As if the kill had come within the commit: no frame is the last of a transaction.
    wal = bytearray(Path(f"{copy}-wal").read_bytes())
    length = 24 + int.from_bytes(wal[8:12], "big")
    for start in range(32, len(wal), length):
        wal[start + 4 : start + 8] = bytes(4)
    Path(f"{copy}-wal").write_bytes(wal)

    with pytest.raises(JournalIncompleteError, match="is missing"):
        await opening(copy)
    async with open_journal(f"{copy}{ACCEPTING}") as journal:
        assert State.WAITING not in (await states(journal)).values()


async def test_accepting_a_loss_changes_nothing_where_there_is_none(file: Path) -> None:
    async with half_sent(file):
        copy = copy_of(file, ALL)

    for path in (file, copy):
        async with open_journal(f"{path}{ACCEPTING}") as journal:
            assert not journal.is_partly_lost
            assert counted(await states(journal)) == (100, 1)
            assert len(await journal.claim(999)) == 99


async def test_a_loss_that_left_a_damaged_file_cannot_be_accepted(file: Path) -> None:
    async with half_sent(file):
        copy = copy_of(file)
    size = copy.stat().st_size
    with copy.open("r+b") as damaged:
        damaged.seek(size - 4096)
        damaged.write(b"\xff" * 4096)

    with pytest.raises(JournalError, match="damaged"):
        await opening(f"{copy}{ACCEPTING}")
    with pytest.raises(JournalIncompleteError):
        await opening(copy)


async def test_what_was_entered_is_in_the_file_itself_before_it_can_be_sent(file: Path) -> None:
    async with holding(str(file), *ENTRIES):
        copy = copy_of(file)
    async with open_journal(f"{copy}{ACCEPTING}") as journal:
        assert {one.key for one in await journal.statuses([one.key for one in ENTRIES])} == {
            one.key for one in ENTRIES
        }
