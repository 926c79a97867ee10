"""Lines that are kept on the disk, and files that appear when they are complete."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from healthmsg.downloads.export import Spool, write_whole
from tests.downloads.archives import tree


async def test_lines_come_back_in_order_and_blocks_in_reverse(tmp_path: Path) -> None:
    blocks = [[f"{block}-{line}".encode() * 100 for line in range(150)] for block in range(3)]
    with ExitStack() as stack:
        spool = Spool(tmp_path, stack)
        for block in blocks:
            spool.add(block)
        spool.add([])

        forwards = [line async for line in spool.forwards()]
        backwards = b"".join(spool.blocks_backwards()).splitlines()

        assert spool.lines == 450
        assert forwards == [line + b"\n" for block in blocks for line in block]
        assert backwards == [line for block in reversed(blocks) for line in block]
    assert tree(tmp_path) == {}


async def test_no_lines_are_none(tmp_path: Path) -> None:
    with ExitStack() as stack:
        spool = Spool(tmp_path, stack)

        assert [line async for line in spool.forwards()] == []
        assert list(spool.blocks_backwards()) == []


def test_a_file_that_cannot_be_completed_leaves_nothing_and_what_was_there(tmp_path: Path) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"half"
        raise OSError("the disk is full")

    (tmp_path / "messages.jsonl").write_bytes(b"before")

    with pytest.raises(OSError, match="the disk is full"):
        write_whole(tmp_path / "messages.jsonl", blocks())

    assert tree(tmp_path) == {"messages.jsonl": b"before"}
