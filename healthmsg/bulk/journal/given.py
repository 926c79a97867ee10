"""What a run was given: how often the same message, and whose results are still to come."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import orjson

from healthmsg.bulk.journal.keys import key_of

if TYPE_CHECKING:
    import sqlite3

_TABLES: Final = """
CREATE TABLE equal (fingerprint BLOB PRIMARY KEY, others INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE given (
    key TEXT PRIMARY KEY, number INTEGER NOT NULL, is_derived INTEGER NOT NULL, is_awaited INTEGER NOT NULL
) WITHOUT ROWID;
"""
_INSERT: Final = "INSERT OR IGNORE INTO given VALUES (?, ?, ?, TRUE)"
_INSERT_ALL: Final = """
INSERT INTO given
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), TRUE
FROM json_each(?)
"""
_NUMBERS: Final = "SELECT key, number FROM given WHERE key IN (SELECT value FROM json_each(?))"
_TOLD: Final = "UPDATE given SET is_awaited = FALSE WHERE key IN (SELECT value FROM json_each(?))"
# What is told is noted, and numbers are looked up ahead, for so many at once.
_AT_ONCE: Final = 500

Listed = tuple[int, str | None, bytes]
"""A message's number in the input, the key it was given, if any, and its fingerprint."""


class Given:
    """Keeps a hash and a number of each message in a temporary file: a million take no memory.

    A context manager. Nobody else has that file, and it goes with this, or with the process. No key may have
    a NUL in it.
    """

    def __init__(self) -> None:
        self._opened: sqlite3.Connection | None = None
        self._numbers: dict[str, int] = {}
        """Looked up ahead."""
        self._told: set[str] = set()
        """Not awaited any more, which the file does not know yet."""

    def __enter__(self) -> Self:
        import sqlite3  # noqa: PLC0415 - who has no journal does without

        # No name: SQLite keeps it in memory while it is small, and then in a file that has no name either.
        self._opened = sqlite3.connect("", isolation_level=None)
        # One transaction, which nobody ever commits: it need not outlive this.
        self._opened.executescript(f"PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; {_TABLES} BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def _file(self) -> "sqlite3.Connection":
        assert self._opened is not None  # noqa: S101 - for mypy: it is used within its `with`
        return self._opened

    def accept(self, messages: Sequence[Listed]) -> list[str | None]:
        """Note the next messages, and give their keys; `None` for one whose key was given before.

        A derived key depends on how many equal messages without a key came before: the same messages in the
        same order have the same keys.
        """
        keys = [key_of(fingerprint, 0) if key is None else key for _, key, fingerprint in messages]
        are_all_new = len(set(keys)) == len(keys) and not self._numbers_of(keys)
        if not are_all_new:
            return [self._accept(*message) for message in messages]
        rows = [
            (key, number, own_key is None) for key, (number, own_key, _) in zip(keys, messages, strict=True)
        ]
        self._file.execute(_INSERT_ALL, (orjson.dumps(rows).decode(),))
        return [*keys]

    def count(self, fingerprint: bytes) -> int:
        """Count a message, and tell how many equal ones were counted before."""
        counted = self._file.execute(
            "INSERT INTO equal VALUES (?, 0) ON CONFLICT DO UPDATE SET others = others + 1 RETURNING others",
            (fingerprint,),
        )
        ((others,),) = counted.fetchall()
        return int(others)

    def knows(self, key: str) -> bool:
        """Tell whether the run was given this message."""
        return self._file.execute("SELECT 1 FROM given WHERE key = ?", (key,)).fetchone() is not None

    def is_awaited(self, key: str) -> bool:
        """Tell whether the run was given this message, and has not told what became of it."""
        wanted = "SELECT 1 FROM given WHERE key = ? AND is_awaited"
        return key not in self._told and self._file.execute(wanted, (key,)).fetchone() is not None

    def expect(self, keys: Iterable[str]) -> None:
        """Look up the numbers of messages of which the results will come soon."""
        if len(self._numbers) > _AT_ONCE:
            self._numbers.clear()
        self._numbers.update(self._numbers_of(keys))

    def take(self, key: str) -> int | None:
        """Give the number of a message whose result is here; `None` if the run was not given it."""
        number = self._numbers.pop(key, None)
        if number is None:
            row = self._file.execute("SELECT number FROM given WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            number = int(row[0])
        self._told.add(key)
        if len(self._told) >= _AT_ONCE:
            self._note_told()
        return number

    def awaited_after(self, key: str, most: int) -> list[tuple[int, str]]:
        """Give some of those without a result, as number and key, in the order of the keys."""
        self._note_told()
        wanted = "SELECT number, key FROM given WHERE is_awaited AND key > ? ORDER BY key LIMIT ?"
        return self._file.execute(wanted, (key, most)).fetchall()

    def _numbers_of(self, keys: Iterable[str]) -> list[tuple[str, int]]:
        return self._file.execute(_NUMBERS, (_json(keys),)).fetchall()

    def _note_told(self) -> None:
        self._file.execute(_TOLD, (_json(self._told),))
        self._told.clear()

    def _accept(self, number: int, key: str | None, fingerprint: bytes) -> str | None:
        if key is not None:
            return key if self._insert(key, number, is_derived=False) else None
        first = key_of(fingerprint, 0)
        if self._insert(first, number, is_derived=True):
            return first
        if self._becomes_derived(first):
            return None
        key = key_of(fingerprint, 1 + self.count(fingerprint))
        return key if self._insert(key, number, is_derived=True) else None

    def _insert(self, key: str, number: int, *, is_derived: bool) -> bool:
        return self._file.execute(_INSERT, (key, number, is_derived)).rowcount > 0

    def _becomes_derived(self, key: str) -> bool:
        """Note that a key was derived that a message has as its own; False if it was derived before."""
        noted = "UPDATE given SET is_derived = TRUE WHERE key = ? AND NOT is_derived"
        return self._file.execute(noted, (key,)).rowcount > 0


def _json(keys: Iterable[str]) -> str:
    return orjson.dumps([*keys]).decode()
