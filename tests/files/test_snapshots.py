"""What a snapshot of a file holds."""

import io
import os
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from healthmsg.files import FileSnapshots, TakenFile, UploadFile, take_now
from healthmsg.files import sources as module
from healthmsg.files.sources import FileState

LETTER = b"%PDF brief voor A"
OTHER = b"%PDF brief voor B"
LONG_AGO = 10**18
MIB = 1024 * 1024


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "brief.pdf"
    path.write_bytes(LETTER)
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be looked at an hour after they were made."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3600 * 10**9)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many bytes are hashed."""
    noted: list[int] = []

    def digest_of(file: Any) -> bytes:
        content = file.read()
        noted.append(len(content))
        return sha256(content).digest()

    monkeypatch.setattr(module, "digest_of", digest_of)
    return noted


def snapshot(file: Any, taker: FileSnapshots | None = None) -> TakenFile:
    (one,) = (taker or FileSnapshots()).take([file])
    assert isinstance(one, TakenFile)
    return one


def state_of(path: Path) -> FileState:
    with path.open("rb") as opened:
        return FileState.of(opened.fileno())


@pytest.mark.usefixtures("later")
def test_stamps_are_enough_for_a_file_that_was_not_changed_just_now(letter: Path, hashed: list[int]) -> None:
    one = snapshot(letter)

    assert (one.state, one.digest, one.content, hashed) == (state_of(letter), None, None, [])


def test_a_file_that_was_changed_just_now_is_hashed(letter: Path) -> None:
    # Another change within the same tick of the clock would leave no trace.
    assert snapshot(letter).digest == sha256(LETTER).digest()
    os.utime(letter, ns=(LONG_AGO, LONG_AGO))
    assert snapshot(letter).digest == sha256(LETTER).digest()


def test_for_a_large_file_the_next_tick_is_waited_for_instead(letter: Path, hashed: list[int]) -> None:
    os.truncate(letter, 17 * MIB)
    began = time.time_ns()

    one = snapshot(letter)

    assert time.time_ns() - began >= 10_000_000
    assert one.digest is None
    letter.write_bytes(bytes(17 * MIB))
    assert state_of(letter) != one.state
    assert hashed == []


@pytest.mark.parametrize(
    ("age", "is_settled"), [(-1, False), (0, False), (1_999_999_999, False), (2_000_000_001, True)]
)
def test_a_stamp_proves_something_when_the_coarsest_clock_has_ticked(age: int, *, is_settled: bool) -> None:
    now = 1_700_000_000_123_456_789
    times = [(now - age, LONG_AGO), (LONG_AGO, now - age)]

    assert {FileState(1, 2, 3, *pair).is_settled(now) for pair in times} == {is_settled}


def test_without_a_number_or_a_time_of_change_stamps_prove_nothing() -> None:
    now = 1_700_000_000_123_456_789

    assert not FileState(1, 0, 3, LONG_AGO, LONG_AGO).is_settled(now)
    assert not FileState(1, 2, 3, LONG_AGO, 0).is_settled(now)


def test_a_file_is_read_when_that_is_asked_for(letter: Path) -> None:
    one, larger = (
        snapshot(letter, FileSnapshots(hold_up_to=size)) for size in (len(LETTER), len(LETTER) - 1)
    )

    assert (one.content, one.digest) == (LETTER, sha256(LETTER).digest())
    assert larger.content is None


@pytest.mark.usefixtures("later")
def test_what_many_messages_have_in_common_is_hashed_once(letter: Path, hashed: list[int]) -> None:
    taker = FileSnapshots(digest_all=True)
    other = letter.with_name("other.pdf")
    other.hardlink_to(letter)

    digests = {snapshot(file, taker).digest for file in [letter, str(letter), other, *[letter] * 10]}

    assert digests == {sha256(LETTER).digest()}
    assert hashed == [len(LETTER)]


@pytest.mark.usefixtures("later")
def test_another_file_at_the_same_path_is_hashed_again(letter: Path) -> None:
    taker = FileSnapshots(digest_all=True)
    first = snapshot(letter, taker).digest
    other = letter.with_name("other")
    other.write_bytes(OTHER)
    before = letter.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(letter)

    assert snapshot(letter, taker).digest == sha256(OTHER).digest() != first


def test_a_link_stands_for_what_it_leads_to(letter: Path) -> None:
    link = letter.with_name("link")
    link.symlink_to(letter)

    assert snapshot(link).state == snapshot(letter).state


def test_an_open_file_is_taken_from_where_it_stands(letter: Path) -> None:
    with letter.open("rb") as opened:
        opened.seek(5)
        one = snapshot(opened, FileSnapshots(hold_up_to=100))

        assert (one.start, one.content, opened.tell()) == (5, LETTER[5:], 5)
        assert one.state == state_of(letter)


def test_a_buffer_has_no_state_and_is_hashed() -> None:
    buffer = io.BytesIO(bytes(20 * MIB))

    assert snapshot(buffer).digest == sha256(buffer.getvalue()).digest()
    assert snapshot(buffer).state is None


def test_in_the_event_loop_little_is_read(letter: Path, hashed: list[int]) -> None:
    take_now([letter, UploadFile(io.BytesIO(bytes(2 * MIB)), "a")])
    os.truncate(letter, 2 * MIB)
    take_now([letter])

    assert hashed == [len(LETTER)]


async def test_what_can_be_read_once_is_left_alone() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb"):  # noqa: ASYNC230, PTH123 - they are no paths
        files = [UploadFile(pieces(), "a"), UploadFile(pipe, "b"), UploadFile(b"x", "c")]

        assert take_now(files) == tuple(files)
    await files[0].source.aclose()  # type: ignore[union-attr]


def test_what_was_taken_is_not_taken_again(letter: Path) -> None:
    one = snapshot(letter)
    letter.write_bytes(OTHER)

    assert snapshot(one) is one


class Breaks(io.BytesIO):
    def read(self, _: int | None = -1, /) -> bytes:
        raise RuntimeError("canary")


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("/nowhere/a.pdf", "No such file or directory"),
        ("/", "it is a folder"),
        ("/dev/null", "it is not a regular file"),
        (io.StringIO("x"), "it yields str where bytes are needed: open it in mode 'rb'"),
        (Breaks(b"x"), "it cannot be read (RuntimeError)"),
    ],
)
def test_what_is_wrong_with_a_file_is_noted_for_its_upload(file: Any, problem: str) -> None:
    assert snapshot(file).problem == problem


def test_a_file_that_changes_while_it_is_taken_is_refused(
    letter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changes(file: Any) -> bytes:
        content: bytes = file.read()
        letter.write_bytes(OTHER + b"!")
        return content

    monkeypatch.setattr(module, "digest_of", changes)

    assert "changed while it was looked at" in str(snapshot(letter).problem)


def test_what_is_being_uploaded_is_not_touched() -> None:
    file = io.BytesIO(LETTER)
    module.in_use[id(file)] = file
    try:
        assert take_now([file]) == (UploadFile(file),)
    finally:
        del module.in_use[id(file)]


def test_the_digests_that_are_kept_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_DIGESTS", 3)
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3600 * 10**9)
    taker = FileSnapshots(digest_all=True)
    for number in range(10):
        path = tmp_path / str(number)
        path.write_bytes(b"x")
        snapshot(path, taker)

    assert len(taker._digests) == 3


def test_taking_leaves_no_file_open(letter: Path) -> None:
    opened = Path("/proc/self/fd")
    if not opened.exists():
        pytest.skip("cannot count open files here")
    before = len(list(opened.iterdir()))

    FileSnapshots(hold_up_to=5).take([letter, "/nowhere", letter.parent] * 20)

    assert len(list(opened.iterdir())) == before
