"""Lines of a file that is being put together, kept on the disk: there may be any number of them."""

import os
import tempfile
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from healthmsg.files.threads import in_thread

# Bytes.
_READ_AT_ONCE: Final = 64 * 1024


class Spool:
    """Blocks of lines, in a file without a name that goes with the stack."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._file = stack.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 - it is one
        self._starts: list[int] = []
        self.lines: int = 0

    def add(self, block: Sequence[bytes]) -> None:
        """Add a block of lines."""
        self._starts.append(self._file.tell())
        self._file.writelines(line + b"\n" for line in block)
        self.lines += len(block)

    async def forwards(self) -> AsyncGenerator[bytes, None]:
        """Give line after line. Nothing may be added meanwhile."""
        position = 0
        while lines := await in_thread(self._lines_from, position):
            for line in lines:
                yield line
            position += sum(map(len, lines))

    def blocks_backwards(self) -> Iterator[bytes]:
        """Give the last block first; the lines in a block stay in their order."""
        end = self._file.seek(0, os.SEEK_END)
        for start in reversed(self._starts):
            self._file.seek(start)
            yield self._file.read(end - start)
            end = start

    def _lines_from(self, position: int) -> list[bytes]:
        self._file.seek(position)
        return self._file.readlines(_READ_AT_ONCE)


def write_whole(path: Path, blocks: Iterable[bytes]) -> None:
    """Write a file that appears when it is complete, and that only the user can read."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.writelines(blocks)
            file.flush()
            os.fsync(file.fileno())
            file.close()
            Path(file.name).replace(path)
        except BaseException:
            file.close()
            Path(file.name).unlink(missing_ok=True)
            raise
