# ruff: noqa: ASYNC240 - the tests look at small files while nothing else runs
"""A journal that is deleted, moved, replaced or overwritten while it is open."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from healthmsg.bulk.journal import State, open_journal
from healthmsg.database.sqlite import FileWatch
from healthmsg.errors import JournalGoneError, JournalIncompleteError, Outcome
from tests.bulk.journal.journals import NOW, begun, delivered, entry, holding, keys, only, states

pytestmark = pytest.mark.skipif(os.name != "posix", reason="elsewhere, open files stay where they are")


def beside(file: Path, end: str) -> Path:
    return file.with_name(file.name + end)


def replace_by_its_copy(path: Path) -> None:
    """As a program that synchronizes folders does: the same bytes in another file."""
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


def rewrite(path: Path) -> None:
    """As `cp` and `rsync --inplace` do: the file stays, with the bytes of a copy."""
    path.write_bytes(path.read_bytes())


def rename_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("archive"))


def delete(end: str) -> Callable[[Path], None]:
    return lambda path: beside(path, end).unlink()


def replace(end: str) -> Callable[[Path], None]:
    return lambda path: replace_by_its_copy(beside(path, end))


DISTURBANCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "deleted": (lambda path: path.unlink(), r"file was deleted or moved"),
    "renamed": (lambda path: path.rename(path.with_name("old.db")), r"file was deleted or moved"),
    "folder renamed": (rename_folder, r"file was deleted or moved"),
    "replaced": (replace_by_its_copy, r"file was replaced"),
    "rewritten": (rewrite, r"file was written to"),
    "wal deleted": (delete("-wal"), r"`-wal` file was deleted"),
    "wal replaced": (replace("-wal"), r"`-wal` file was replaced"),
    "wal rewritten": (lambda path: rewrite(beside(path, "-wal")), r"`-wal` file was written to"),
    "shm deleted": (delete("-shm"), r"`-shm` file was deleted"),
    "shm replaced": (replace("-shm"), r"`-shm` file was replaced"),
    "lock deleted": (delete(".lock"), r"`.lock` file was deleted"),
    "lock replaced": (replace(".lock"), r"`.lock` file was replaced"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "journals"
    folder.mkdir()
    return folder / "recall.db"


@pytest.mark.parametrize("name", DISTURBANCES)
async def test_nothing_begins_once_a_file_is_not_what_it_was(file: Path, name: str) -> None:
    disturb, reason = DISTURBANCES[name]
    async with holding(str(file), *(entry(f"k{number}") for number in range(9))) as journal:
        first, *others = await journal.claim(9)
        await journal.begin(first, NOW, first.chat)
        disturb(file)
        ended = await asyncio.gather(
            journal.finish(first, Outcome.DELIVERED, message_id="m1"),
            *(journal.begin(claim, NOW, claim.chat) for claim in others),
            journal.counts(),
            return_exceptions=True,
        )
        assert [type(one) for one in ended] == [JournalGoneError] * 10
        for one in ended:
            with pytest.raises(JournalGoneError, match=reason) as caught:
                raise one  # type: ignore[misc]
            assert "nothing was sent after that" in str(caught.value)
            assert file.name not in str(caught.value)
        with pytest.raises(JournalGoneError):
            await journal.claim(1)


async def test_what_happens_within_a_transaction_keeps_its_call_from_leaving(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with holding(str(file), entry("a")) as journal:
        claim = only(await journal.claim(1))
        look = FileWatch.check_after

        def look_late(watch: FileWatch) -> None:
            replace_by_its_copy(file)
            look(watch)

        monkeypatch.setattr(FileWatch, "check_after", look_late)
        with pytest.raises(JournalGoneError, match="replaced"):
            await journal.begin(claim, NOW, claim.chat)
        monkeypatch.undo()


@pytest.mark.parametrize("is_moved", [False, True])
async def test_a_link_that_points_elsewhere_ends_the_run(file: Path, *, is_moved: bool) -> None:
    link = file.with_name("link.db")
    other = file.with_name("other.db")
    async with open_journal(other):
        pass
    async with open_journal(file):
        pass
    link.symlink_to(file)
    async with holding(str(link), entry("a")) as journal:
        link.unlink()
        if is_moved:  # the same file under another name, which has no `-wal` file beside it
            file.rename(other)
        link.symlink_to(other)
        with pytest.raises(JournalGoneError):
            await journal.claim(1)


async def test_a_relative_name_may_be_given_and_the_folder_changed(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(file.parent)
    async with holding(file.name, entry("a")) as journal:
        monkeypatch.chdir(tmp_path)
        await delivered(journal, "m1")
        assert await states(journal) == {"a": State.DELIVERED}


async def test_a_journal_that_was_renamed_is_whole_and_goes_on_under_its_name(file: Path) -> None:
    moved = file.with_name("moved.db")
    async with holding(str(file), entry("a"), entry("b")) as journal:
        await delivered(journal, "m1")
        await begun(journal)
        file.rename(moved)
        with pytest.raises(JournalGoneError):
            await journal.claim(1)

    moved.rename(file)
    async with open_journal(file) as journal:
        assert await states(journal) == {"a": State.DELIVERED, "b": State.SENDING}


async def test_a_copy_that_took_the_journals_place_is_refused_by_the_next_run(file: Path) -> None:
    async with holding(str(file), entry("a"), entry("b")) as journal:
        await delivered(journal, "m1")
        replace_by_its_copy(file)
        with pytest.raises(JournalGoneError):
            await begun(journal)

    with pytest.raises(JournalIncompleteError, match="-wal"):
        async with open_journal(file):
            pass


@pytest.mark.slow
async def test_files_that_were_deleted_beside_it_lose_nothing(file: Path) -> None:
    for end in ("-wal", "-shm"):
        async with open_journal(file) as journal:
            await journal.enter([entry(end)])
            await delivered(journal, f"m{end}")
            beside(file, end).unlink()
            with pytest.raises(JournalGoneError):
                await journal.claim(1)

    async with open_journal(file) as journal:
        assert await states(journal) == {"-wal": State.DELIVERED, "-shm": State.DELIVERED}


@pytest.mark.parametrize("is_second_there", [True, False])
async def test_a_journal_whose_lock_was_deleted_is_whole_for_the_next_run(
    file: Path, *, is_second_there: bool
) -> None:
    async with AsyncExitStack() as second, holding(str(file), entry("a"), entry("b")) as journal:
        await delivered(journal, "m1")
        beside(file, ".lock").unlink()
        if is_second_there:
            await second.enter_async_context(open_journal(file))
        with pytest.raises(JournalGoneError):
            await journal.claim(1)

    async with open_journal(file) as journal:
        assert await states(journal) == {"a": State.DELIVERED, "b": State.WAITING}


@pytest.mark.slow
async def test_reading_and_copying_it_meanwhile_disturbs_nothing(file: Path, tmp_path: Path) -> None:
    async with holding(str(file), *(entry(f"k{number}") for number in range(300))) as journal:
        for number in range(100):
            await delivered(journal, f"m{number}")
            if number % 20 == 0:
                async with open_journal(file, is_reading=True) as reading:
                    assert (await reading.counts())[State.DELIVERED] == number + 1
                shutil.copy2(file, tmp_path / "copy")
                with sqlite3.connect(file) as other, sqlite3.connect(tmp_path / "backup") as backup:
                    other.backup(backup)
                other.close()
                backup.close()
        assert len(keys(await journal.claim(999))) == 200
