"""Output to a terminal, a pipe or a file, which may be gone, closed, full, or lack letters.

What a command has done does not depend on that, so writing never fails: what cannot be written is lost, and
what cannot be shown is written as an escape.
"""

import asyncio
import codecs
import errno
import io
import os
import select
import shlex
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO
from unicodedata import is_normalized

_ESCAPE_ERRORS: Final = "healthmsg.escape"
_ASCII: Final = {"·": "-", "…": "...", "—": "-", "–": "-", "•": "*"}  # noqa: RUF001 - to be replaced
_STANDARD: Final = (0, 1, 2)
# Seconds that a terminal may stall a run, such as after Ctrl-S; what does not fit then is lost.
_WRITE_TIMEOUT: Final = 0.2
# A pipe or terminal that accepts anything accepts this many bytes.
_CHUNK: Final = 256
# Seconds between looks at whether a reader that is slow takes more.
_READER_INTERVAL: Final = 0.05


class _SafeWriter(io.RawIOBase):
    """Writes what can be written, and drops the rest."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.has_lost = False
        self.problem = errno.EIO
        """Why something was lost: the number of the system's error."""
        self.timeout: float | None = None
        """Seconds to wait for a reader; `None`: without limit."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        try:
            return bool(self._raw.isatty())
        except (OSError, ValueError):
            return False

    def write(self, data: Any, /) -> int:
        rest = memoryview(data)
        while rest:
            chunk = rest if self.timeout is None else rest[:_CHUNK]
            try:
                written = self._raw.write(chunk) if self._is_ready() else None
            except (OSError, ValueError) as error:
                written = None
                self.problem = getattr(error, "errno", None) or errno.EIO
            if written is None:
                self.has_lost = True
                break
            rest = rest[written:]
        return len(memoryview(data))

    def _is_ready(self) -> bool:
        """Wait until it can be written to; one that stalled before is not waited for again."""
        if sys.platform == "win32":
            return True
        timeout = self.timeout
        if timeout is not None and self.has_lost:
            timeout = 0.0
        _, ready, _ = select.select([], [self.fileno()], [], timeout)
        return bool(ready)


def guard_standard_streams() -> None:
    """Make writing to the standard streams never fail, from here on."""
    codecs.register_error(_ESCAPE_ERRORS, _escape)
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            # Otherwise the next file that is opened, such as that of results, takes its place.
            with suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = _guarded(sys.stdout)
    sys.stderr = _guarded(sys.stderr)


def _guarded(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for as long as the process
    with suppress(OSError, ValueError):
        stream.flush()
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # with PYTHONUNBUFFERED, there is nothing in between
    if raw is None or isinstance(raw, _SafeWriter):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_SafeWriter(raw)),
        encoding=stream.encoding,
        errors=_ESCAPE_ERRORS,
        line_buffering=stream.isatty() or stream is sys.stderr,
    )


def has_lost_output() -> bool:
    """Return whether some of the standard output was lost."""
    with suppress(ValueError):
        sys.stdout.flush()
    stream = _safe_writer(sys.stdout)
    return stream is not None and stream.has_lost


async def write_line(line: str) -> None:
    """Write a line to the standard output, to its end. While its reader is slow, other tasks go on.

    Raises:
        BrokenPipeError: the reader is gone, or there is no standard output.
        OSError: it cannot be written.
    """
    if getattr(sys.stdout, "name", None) == os.devnull:  # what takes its place when it is closed
        raise BrokenPipeError
    data = f"{line}\n".encode(sys.stdout.encoding, sys.stdout.errors or "strict")
    for start in range(0, len(data), _CHUNK):
        while not _takes_more():  # noqa: ASYNC110 - it is about another process
            await asyncio.sleep(_READER_INTERVAL)
        sys.stdout.buffer.write(data[start : start + _CHUNK])
        sys.stdout.buffer.flush()
        stream = _safe_writer(sys.stdout)
        if stream is not None and stream.has_lost:
            # For a reader that is gone, this makes a BrokenPipeError.
            raise OSError(stream.problem, os.strerror(stream.problem))


def _takes_more() -> bool:
    """Return whether a few bytes can be written at once."""
    if sys.platform == "win32":
        return True
    try:
        _, ready, _ = select.select([], [sys.stdout.fileno()], [], 0.0)
    except (OSError, ValueError):  # it has no descriptor, or it is closed, as writing says
        return True
    return bool(ready)


@contextmanager
def without_blocking_output() -> Iterator[None]:
    """Within, output that is not read does not stall the program: it is lost."""
    streams = [stream for stream in map(_safe_writer, (sys.stdout, sys.stderr)) if stream is not None]
    for stream in streams:
        stream.timeout = _WRITE_TIMEOUT
    try:
        yield
    finally:
        for stream in streams:
            stream.timeout = None


@contextmanager
def ignoring_hangup() -> Iterator[None]:
    """Within, keep running when the terminal is closed."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _safe_writer(stream: TextIO) -> _SafeWriter | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _SafeWriter) else None


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_ASCII.get(letter) or _escaped(letter) for letter in letters), error.end


def printable(text: str) -> str:
    """Return text on one line, with escapes for what is invisible or would move the cursor."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    # A byte of a file name that is not UTF-8.
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("ascii", "backslashreplace").decode() if letter > "\x7f" else f"\\x{ord(letter):02x}"


_PLAIN_BYTES: Final = frozenset(range(0x20, 0x7F)) - set(b"'\\!")


def shell_join(words: Iterable[str]) -> str:
    """Return a command that a POSIX shell splits into these words, whatever is in them."""
    return " ".join(map(shell_quote, words))


def shell_quote(word: str) -> str:
    r"""Return the word quoted for a POSIX shell.

    What this terminal cannot show, or a copy would change, is written as bytes: `$'caf\351.csv'`.
    """
    if word.isprintable() and is_normalized("NFC", word) and _can_be_encoded(word):
        return shlex.quote(word)
    letters = (chr(byte) if byte in _PLAIN_BYTES else f"\\{byte:03o}" for byte in os.fsencode(word))
    return f"$'{''.join(letters)}'"


def _can_be_encoded(word: str) -> bool:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        word.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
