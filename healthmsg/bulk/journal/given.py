"""What a run was given: how often the same message, and whose results are still to come."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from healthmsg.bulk.journal.keys import key_of
from healthmsg.errors import JournalError

if TYPE_CHECKING:
    import sqlite3

_TABLES: Final = """
CREATE TABLE equal (fingerprint BLOB PRIMARY KEY, others INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE given (
    key TEXT PRIMARY KEY, number INTEGER NOT NULL, is_derived INTEGER NOT NULL, is_awaited INTEGER NOT NULL
) WITHOUT ROWID;
"""
_INSERT: Final = "INSERT OR IGNORE INTO given VALUES (?, ?, ?, TRUE)"
# To be done only when none of them is there: without SQLite's journal, half of it could not be undone.
_INSERT_ALL: Final = """
INSERT INTO given
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), TRUE
FROM json_each(?)
"""
_COUNT: Final = (
    "INSERT INTO equal VALUES (?, 0) ON CONFLICT DO UPDATE SET others = others + 1 RETURNING others"
)
_NUMBERS: Final = "SELECT key, number FROM given WHERE key IN (SELECT value FROM json_each(?))"
_TOLD: Final = "UPDATE given SET is_awaited = FALSE WHERE key IN (SELECT value FROM json_each(?))"
_AWAITED: Final = "UPDATE given SET is_awaited = TRUE WHERE key = ? AND NOT is_awaited"
# What is told is noted, and numbers are looked up ahead, for so many at once.
_AT_ONCE: Final = 500

_CANNOT_BE_USED: Final = (
    "The temporary file of the run cannot be used ({}). Make room in the folder for temporary files; start"
    " again with the same journal and messages to go on: nothing is sent twice."
)

Listed = tuple[int, str | None, bytes]
"""A message's number in the input, the key it was given, if any, and its fingerprint."""


class Given:
    """Keeps the key and the number of each message in a temporary file: a million take no memory.

    A context manager. Nobody else has that file, and it goes with this, or with the process. No key may have
    a NUL in it.
    """

    def __init__(self) -> None:
        self._opened: sqlite3.Connection | None = None
        self._error: type[Exception] = Exception
        self._numbers: dict[str, int] = {}
        """Looked up ahead."""
        self._told: set[str] = set()
        """Not awaited any more, which the file does not know yet."""

    def __enter__(self) -> Self:
        import sqlite3  # noqa: PLC0415 - who has no journal does without

        # No name: SQLite keeps it in memory while it is small, and then in a file that has no name either.
        self._opened = sqlite3.connect("", isolation_level=None)
        self._error = sqlite3.Error
        # One transaction, which nobody ever commits: it need not outlive this.
        self._opened.executescript(f"PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; {_TABLES} BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            self._opened.close()

    def _ask(self, statement: str, *values: object) -> tuple[list[Any], int]:
        """Give the rows, and how many were changed.

        Raises:
            JournalError: the temporary file cannot be used: as a rule, its disk is full.
        """
        assert self._opened is not None  # noqa: S101 - for mypy: it is used within its `with`
        reason = ""
        try:
            asked = self._opened.execute(statement, values)
            return asked.fetchall(), asked.rowcount
        except self._error as error:
            reason = getattr(error, "sqlite_errorname", type(error).__name__)
        raise JournalError(_CANNOT_BE_USED.format(reason))

    def accept(self, messages: Sequence[Listed]) -> list[str | None]:
        """Note the next messages, and give their keys; `None` for one whose key was given before.

        A derived key depends on how many equal messages without a key came before: the same messages in the
        same order have the same keys.
        """
        self._note_told_now_and_then()
        keys = [key_of(fingerprint, 0) if key is None else key for _, key, fingerprint in messages]
        are_all_new = len(set(keys)) == len(keys) and not self._numbers_of(keys)
        if not are_all_new:
            return [self._accept(*message) for message in messages]
        rows = [
            (key, number, own_key is None) for key, (number, own_key, _) in zip(keys, messages, strict=True)
        ]
        self._ask(_INSERT_ALL, orjson.dumps(rows).decode())
        return [*keys]

    def count(self, fingerprint: bytes) -> int:
        """Count a message, and tell how many equal ones were counted before."""
        rows, _ = self._ask(_COUNT, fingerprint)
        return int(rows[0][0])

    def known_among(self, keys: Iterable[str]) -> set[str]:
        """Return those of these keys that the run was given."""
        return {key for key, _ in self._numbers_of(keys)}

    def knows(self, key: str) -> bool:
        """Tell whether the run was given this message."""
        return self._number_of(key) is not None

    def is_awaited(self, key: str) -> bool:
        """Tell whether the run was given this message, and has not told what became of it."""
        wanted = "SELECT 1 FROM given WHERE key = ? AND is_awaited"
        return key not in self._told and bool(self._ask(wanted, key)[0])

    def expect(self, keys: Iterable[str]) -> None:
        """Look up the numbers of messages of which the results will come soon."""
        self._note_told_now_and_then()
        if len(self._numbers) > _AT_ONCE:
            self._numbers.clear()
        self._numbers.update(self._numbers_of(keys))

    def take(self, key: str) -> int | None:
        """Give the number of a message whose result is here; `None` if the run was not given it."""
        number = self._numbers.pop(key, None)
        if number is None:
            number = self._number_of(key)
        if number is None:
            return None
        # To write it down can fail, which must not come between a delivery and its being noted.
        self._told.add(key)
        return number

    def await_again(self, key: str) -> None:
        """Note that a result which was here does not count: another worker finds out what is true."""
        self._told.discard(key)
        self._ask(_AWAITED, key)

    def awaited_after(self, key: str, most: int) -> list[tuple[int, str]]:
        """Give some of those without a result, as number and key, in the order of the keys."""
        self._note_told()
        wanted = "SELECT number, key FROM given WHERE is_awaited AND key > ? ORDER BY key LIMIT ?"
        return self._ask(wanted, key, most)[0]

    def _numbers_of(self, keys: Iterable[str]) -> list[tuple[str, int]]:
        return self._ask(_NUMBERS, _json(keys))[0]

    def _number_of(self, key: str) -> int | None:
        rows, _ = self._ask("SELECT number FROM given WHERE key = ?", key)
        return int(rows[0][0]) if rows else None

    def _note_told_now_and_then(self) -> None:
        if len(self._told) >= _AT_ONCE:
            self._note_told()

    def _note_told(self) -> None:
        self._ask(_TOLD, _json(self._told))
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
        _, changed = self._ask(_INSERT, key, number, is_derived)
        return changed > 0

    def _becomes_derived(self, key: str) -> bool:
        """Note that a key was derived that a message has as its own; False if it was derived before."""
        noted = "UPDATE given SET is_derived = TRUE WHERE key = ? AND NOT is_derived"
        _, changed = self._ask(noted, key)
        return changed > 0


def _json(keys: Iterable[str]) -> str:
    return orjson.dumps([*keys]).decode()
