"""What is written to: a terminal, a pipe or a file. It may be gone, closed, full, or know few letters.

What a command has done does not depend on that, so writing here never fails: what cannot be written is lost,
and what cannot be shown is written as an escape.
"""

import codecs
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

_SHOWN: Final = "healthmsg.shown"
_ASCII: Final = {"·": "-", "…": "...", "—": "-", "–": "-", "•": "*"}  # noqa: RUF001 - that is what they are for
_STANDARD: Final = (0, 1, 2)
# Seconds that a terminal may hold a run up, such as after Ctrl-S; what does not fit then is lost.
_PATIENCE: Final = 0.2
# A pipe or terminal that has room at all takes this much.
_CHUNK: Final = 256


class _Unfailing(io.RawIOBase):
    """Writes if that is possible."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.has_lost = False
        self.patience: float | None = None
        """Seconds to wait for one that does not read; `None`: for ever."""

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
            chunk = rest if self.patience is None else rest[:_CHUNK]
            try:
                written = self._raw.write(chunk) if self._is_ready() else None
            except (OSError, ValueError):
                written = None
            if written is None:
                self.has_lost = True
                break
            rest = rest[written:]
        return len(memoryview(data))

    def _is_ready(self) -> bool:
        """Wait until it can be written to; one that was stuck before is not waited for again."""
        if sys.platform == "win32":
            return True
        patience = self.patience
        if patience is not None and self.has_lost:
            patience = 0.0
        _, ready, _ = select.select([], [self.fileno()], [], patience)
        return bool(ready)


def guard_standard_streams() -> None:
    """Let writing to the standard streams never fail, from here on."""
    codecs.register_error(_SHOWN, _escape)
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            # Otherwise the next file that is opened, such as that of results, is taken for it.
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
    if raw is None or isinstance(raw, _Unfailing):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Unfailing(raw)),
        encoding=stream.encoding,
        errors=_SHOWN,
        line_buffering=stream.isatty() or stream is sys.stderr,
    )


def has_lost_output() -> bool:
    """Tell whether something that was written to the standard output did not get there."""
    with suppress(ValueError):
        sys.stdout.flush()
    stream = _unfailing(sys.stdout)
    return stream is not None and stream.has_lost


@contextmanager
def not_waiting_for_readers() -> Iterator[None]:
    """Within, what is written to a pipe or terminal that is not read holds nothing up: it is lost."""
    streams = [stream for stream in map(_unfailing, (sys.stdout, sys.stderr)) if stream is not None]
    for stream in streams:
        stream.patience = _PATIENCE
    try:
        yield
    finally:
        for stream in streams:
            stream.patience = None


@contextmanager
def outliving_terminal() -> Iterator[None]:
    """Within, go on when the terminal is closed."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _unfailing(stream: TextIO) -> _Unfailing | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Unfailing) else None


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_ASCII.get(letter) or _escaped(letter) for letter in letters), error.end


def shown(text: str) -> str:
    """Return text on one line, with an escape for what cannot be seen, or would move the cursor."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    # A byte of a file's name that is no UTF-8.
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("ascii", "backslashreplace").decode() if letter > "\x7f" else f"\\x{ord(letter):02x}"


_COPIED_AS_IS: Final = frozenset(range(0x20, 0x7F)) - set(b"'\\!")


def joined(words: Iterable[str]) -> str:
    """Return the command that a POSIX shell reads as these words, whatever is in them."""
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    r"""Return the word as a shell takes it.

    What this terminal cannot show, or a copy would change, is written as bytes: `$'caf\351.csv'`.
    """
    if word.isprintable() and is_normalized("NFC", word) and _can_be_shown(word):
        return shlex.quote(word)
    letters = (chr(byte) if byte in _COPIED_AS_IS else f"\\{byte:03o}" for byte in os.fsencode(word))
    return f"$'{''.join(letters)}'"


def _can_be_shown(word: str) -> bool:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        word.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
