"""Writing a file beside its place, and what is left of it."""

import asyncio
import errno
import os
import stat
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from healthmsg.files.targets import PartialFile, Target


def found(to: Path, name: str | None = "a.pdf", *, overwrite: bool = False) -> Target:
    return Target.find(to, name, overwrite=overwrite)


def there(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def written(target: Target, *chunks: bytes) -> Path:
    async with PartialFile(target) as partial:
        for chunk in chunks:
            await partial.write(chunk)
        return await partial.complete()


# --- where


def test_a_file_goes_to_the_path_or_under_its_safe_name_into_the_folder(tmp_path: Path) -> None:
    assert found(tmp_path, "../x.pdf").path == tmp_path / "x.pdf"
    assert found(tmp_path / "own.pdf", "../x.pdf").path == tmp_path / "own.pdf"
    assert Target.find(str(tmp_path), None, overwrite=False).path == tmp_path / "attachment"


def test_what_ends_with_a_slash_is_a_folder_which_is_made(tmp_path: Path) -> None:
    for _ in range(2):
        target = Target.find(f"{tmp_path}/new/", "../x.pdf", overwrite=False)
        assert (target.path, target.is_in_folder) == (tmp_path / "new" / "x.pdf", True)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert Target.find(f"{tmp_path}/new", "x.pdf", overwrite=False).path == tmp_path / "new" / "x.pdf"
    (tmp_path / "a.pdf").write_bytes(b"mine")
    with pytest.raises(NotADirectoryError):
        Target.find(f"{tmp_path}/a.pdf/", "x.pdf", overwrite=True)
    with pytest.raises(FileNotFoundError):
        Target.find(f"{tmp_path}/none/new/", "x.pdf", overwrite=False)


def test_what_cannot_be_a_target_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"mine")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for taken in ("a.pdf", "nowhere"):
        with pytest.raises(FileExistsError, match="overwrite=True"):
            found(tmp_path / taken)
    for missing in ("no folder/a.pdf", "a.pdf/b.pdf"):
        with pytest.raises(FileNotFoundError, match="not a folder that exists"):
            found(tmp_path / missing)


# --- complete


async def test_a_complete_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = await written(found(tmp_path), b"one ", b"two")
    assert there(tmp_path) == {"a.pdf": b"one two"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_it_appears_when_it_is_complete(tmp_path: Path) -> None:
    async with PartialFile(found(tmp_path)) as partial:
        await partial.write(b"x")
        assert not (tmp_path / "a.pdf").exists()
        await partial.complete()
        assert (tmp_path / "a.pdf").exists()


async def test_in_a_folder_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    for number in range(3):
        await written(found(tmp_path, "uitslag.tar.gz"), str(number).encode())
    assert there(tmp_path) == {
        "uitslag.tar.gz": b"0",
        "uitslag.tar (1).gz": b"1",
        "uitslag.tar (2).gz": b"2",
    }


async def test_many_of_one_name_at_once_all_survive(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(20)]
    target = found(tmp_path)
    paths = await asyncio.gather(*(written(target, content) for content in contents))
    assert [path.read_bytes() for path in paths] == contents
    assert len(there(tmp_path)) == 20


async def test_a_path_that_has_come_to_exist_meanwhile_is_left_alone(tmp_path: Path) -> None:
    target = found(tmp_path / "a.pdf")
    (tmp_path / "a.pdf").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="meanwhile"):
        await written(target, b"theirs")
    assert there(tmp_path) == {"a.pdf": b"mine"}


async def test_what_is_to_be_replaced_is_and_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "a.pdf").symlink_to(tmp_path / "other")
    await written(found(tmp_path, overwrite=True), b"new")
    assert there(tmp_path) == {"a.pdf": b"new", "other": b"other"}
    assert not (tmp_path / "a.pdf").is_symlink()


async def test_a_disk_without_hard_links_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    target = found(tmp_path)
    await asyncio.gather(*(written(target, bytes([number])) for number in range(5)))
    assert sorted(there(tmp_path).values()) == [bytes([number]) for number in range(5)]


async def test_it_can_start_over(tmp_path: Path) -> None:
    async with PartialFile(found(tmp_path)) as partial:
        await partial.write(b"too long")
        await partial.empty()
        await partial.write(b"new")
        await partial.complete()
    assert there(tmp_path) == {"a.pdf": b"new"}


# --- not complete


async def test_what_is_not_put_in_place_is_removed(tmp_path: Path) -> None:
    async with PartialFile(found(tmp_path)) as partial:
        await partial.write(b"x")
        assert len(there(tmp_path)) == 1
    assert there(tmp_path) == {}


class FullDisk:
    """Takes so many writes, and no more."""

    def __init__(self, file: Any, writes: int) -> None:
        self._file = file
        self._left = count(writes, -1)

    def write(self, chunk: bytes) -> int:
        if next(self._left) <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written: int = self._file.write(chunk)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("writes", [0, 1, 2])
async def test_a_disk_that_is_full_says_so_and_has_nothing_left(tmp_path: Path, writes: int) -> None:
    async def fill() -> None:
        async with PartialFile(found(tmp_path)) as partial:
            partial._file = FullDisk(partial._file, writes)  # type: ignore[assignment]
            for _ in range(3):
                await partial.write(b"x")
            await partial.complete()

    with pytest.raises(OSError, match="No space"):
        await fill()
    assert there(tmp_path) == {}


async def test_a_folder_that_is_removed_meanwhile_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    async def lose() -> None:
        async with PartialFile(found(folder)) as partial:
            await partial.write(b"x")
            await partial.write(b"x")
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
            await partial.complete()

    with pytest.raises(FileNotFoundError):
        await lose()


async def test_an_error_of_the_callers_goes_through_and_nothing_is_left(tmp_path: Path) -> None:
    async def fail() -> None:
        async with PartialFile(found(tmp_path)) as partial:
            await partial.write(b"x")
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert there(tmp_path) == {}
