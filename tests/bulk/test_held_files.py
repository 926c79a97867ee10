import asyncio
from pathlib import Path

import pytest

from healthmsg import UploadFile
from healthmsg.bulk import upload as module
from healthmsg.bulk.upload import HeldFiles
from healthmsg.files import TakenFile


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST_HELD", 60)
    monkeypatch.setattr(module, "_MOST_HELD", 100)


def a_file(folder: Path, name: str, size: int) -> Path:
    path = folder / name
    path.write_bytes(name.encode().ljust(size, b"."))
    return path


def content(file: object) -> bytes | None:
    assert isinstance(file, TakenFile)
    return file.content


async def test_small_files_are_read_and_larger_ones_are_not(tmp_path: Path) -> None:
    small, large = await HeldFiles().take([a_file(tmp_path, "a", 60), a_file(tmp_path, "b", 61)])

    assert content(small) == b"a".ljust(60, b".")
    assert content(large) is None


async def test_taking_waits_while_too_much_is_held(tmp_path: Path) -> None:
    files = HeldFiles()
    first = await files.take([a_file(tmp_path, "a", 50)])
    second = await files.take([a_file(tmp_path, "b", 50)])

    third = asyncio.create_task(files.take([a_file(tmp_path, "c", 1)]))
    done, _ = await asyncio.wait([third], timeout=0.1)
    assert not done
    files.release(first)
    await third

    files.release(second)
    files.release(third.result())
    assert (files._bytes, files._held) == (0, {})


async def test_what_is_larger_than_all_that_may_be_held_waits_for_the_others_only(tmp_path: Path) -> None:
    many = [a_file(tmp_path, str(number), 60) for number in range(3)]

    assert len(await HeldFiles().take(many)) == 3


async def test_what_messages_have_in_common_is_held_once(tmp_path: Path) -> None:
    files, brochure = HeldFiles(), a_file(tmp_path, "a", 60)
    taken = [await files.take([brochure]) for _ in range(10)]

    assert files._bytes == 60
    assert len({id(content(one)) for (one,) in taken}) == 1
    for one in taken:
        files.release(one)
    assert files._bytes == 0


async def test_without_files_nothing_is_done() -> None:
    files = HeldFiles()

    assert await files.take([]) == ()
    (bytes_alone,) = await files.take([UploadFile(b"x", "a")])
    files.release([bytes_alone])
    assert files._bytes == 0
