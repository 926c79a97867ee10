"""Reporting how far transfers are."""

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Final

from healthmsg.log import call_back
from healthmsg.validation import check_progress

Progress = Callable[[int, int | None], object]
"""Takes the bytes that are done and the bytes in all; `None` when that is not known.

It is called in the event loop, at most ten times a second, and once when everything is done. A further
try takes back what the one before had done.
"""

# Seconds.
_BETWEEN_CALLS: Final = 0.1


class Meter:
    """Adds up transfers for one `Progress`; without one it does nothing."""

    def __init__(self, progress: Progress | None) -> None:
        check_progress(progress)
        self._progress = progress
        self._done = 0
        self._total = 0
        self._sizes_unknown = 0
        self._unfinished = 0
        self._reported_at = -math.inf
        self._reported: tuple[int, int | None] | None = None

    def begin(self, size: int | None) -> "Transfer":
        """Add a transfer of that many bytes, if that is known."""
        (transfer,) = self.begin_all([size])
        return transfer

    def begin_all(self, sizes: Iterable[int | None]) -> "list[Transfer]":
        """Add transfers that belong together, so that the first report counts all of them."""
        transfers = [Transfer(self, size) for size in sizes]
        self._unfinished += len(transfers)
        for transfer in transfers:
            self._expect(transfer.size)
        self._report()
        return transfers

    def finish(self) -> None:
        """Report where things stand, however little time has passed."""
        self._report(at_once=True)

    def _expect(self, size: int | None) -> None:
        if size is None:
            self._sizes_unknown += 1
        else:
            self._total += size

    def _know(self, size: int) -> None:
        self._sizes_unknown -= 1
        self._total += size

    def _advance(self, count: int) -> None:
        self._done += count
        self._report()

    def _finish(self) -> None:
        self._unfinished -= 1
        if self._unfinished <= 0:
            self.finish()

    def _report(self, *, at_once: bool = False) -> None:
        if self._progress is None:
            return
        now = asyncio.get_running_loop().time()
        progress = (self._done, None if self._sizes_unknown else self._total)
        if progress == self._reported or (now - self._reported_at < _BETWEEN_CALLS and not at_once):
            return
        self._reported_at, self._reported = now, progress
        call_back("progress", self._progress, *progress)


class Transfer:
    """One transfer of those that a meter adds up."""

    def __init__(self, meter: Meter, size: int | None) -> None:
        self._meter = meter
        self.size = size
        self._done = 0

    def advance(self, count: int) -> None:
        """Add so many bytes to what is done."""
        self._done += count
        self._meter._advance(count)  # noqa: SLF001 - one of us

    def restart(self, at: int = 0) -> None:
        """Go on from that byte."""
        self.advance(at - self._done)

    def know_size(self, size: int) -> None:
        """Set how many bytes there are, if that was not known."""
        if self.size is None:
            self.size = size
            self._meter._know(size)  # noqa: SLF001 - one of us

    def finish(self) -> None:
        """End it: it is complete."""
        self.know_size(self._done)
        self._meter._finish()  # noqa: SLF001 - one of us
