"""The index of a run's input: key, number, and whether the result is still to come."""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import attrs
import orjson

from healthmsg.bulk.journal.base import JournalFile
from healthmsg.errors import JournalError

if TYPE_CHECKING:
    import sqlite3


_TABLES: Final = """
CREATE TABLE equal (fingerprint BLOB PRIMARY KEY, others INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE input (
    key TEXT PRIMARY KEY, number INTEGER NOT NULL, is_derived INTEGER NOT NULL, is_pending INTEGER NOT NULL
) WITHOUT ROWID;
"""
_INSERT: Final = "INSERT OR IGNORE INTO input VALUES (?, ?, ?, TRUE)"
# Only when none of the keys is in the table: with journal_mode = OFF, a failed insert cannot be undone.
_INSERT_ALL: Final = """
INSERT INTO input
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), TRUE
FROM json_each(?)
"""
_COUNT: Final = (
    "INSERT INTO equal VALUES (?, 0) ON CONFLICT DO UPDATE SET others = others + 1 RETURNING others"
)
_NUMBERS: Final = "SELECT key, number FROM input WHERE key IN (SELECT value FROM json_each(?))"
_REPORTED: Final = "UPDATE input SET is_pending = FALSE WHERE key IN (SELECT value FROM json_each(?))"
_PENDING: Final = "UPDATE input SET is_pending = TRUE WHERE key = ? AND NOT is_pending"
# Batch size for noting reported results and for looking up numbers.
_AT_ONCE: Final = 500

_CANNOT_BE_USED: Final = (
    "The temporary file of the run cannot be used ({}). Make room in the folder for temporary files; start"
    " again with the same journal and messages to go on: nothing is sent twice."
)

InputMessage = tuple[int, str | None, bytes]
"""A message's number in the input, the key it was given, if any, and its fingerprint."""


class InputIndex:
    """Keeps the key and the number of each message in a temporary file: a million take no memory.

    A context manager. No other program has that file, and it goes with this, or with the process. No key may
    have a NUL in it.
    """

    def __init__(self) -> None:
        self._opened: sqlite3.Connection | None = None
        self._error: type[Exception] = Exception
        self._numbers: dict[str, int] = {}
        """Numbers that were looked up ahead."""
        self._reported: set[str] = set()
        """Keys with a result, not written to the file yet."""

    def __enter__(self) -> Self:
        import sqlite3  # noqa: PLC0415 - only runs with a journal need it

        # No name: SQLite keeps it in memory while it is small, and then in a file that has no name either.
        self._opened = sqlite3.connect("", isolation_level=None)
        self._error = sqlite3.Error
        # One transaction, which is never committed: it need not outlive this.
        self._opened.executescript(f"PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; {_TABLES} BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            self._opened.close()

    def _ask(self, statement: str, *values: object) -> tuple[list[Any], int]:
        """Return the rows, and how many were changed.

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

    def add(self, messages: Sequence[InputMessage]) -> list[str | None]:
        """Note the next messages, and return their keys; `None` for one whose key was given before.

        A derived key depends on how many equal messages without a key came before: the same messages in the
        same order have the same keys.
        """
        self._flush_when_full()
        keys = [key_of(fingerprint, 0) if key is None else key for _, key, fingerprint in messages]
        are_all_new = len(set(keys)) == len(keys) and not self._numbers_of(keys)
        if not are_all_new:
            return [self._add(*message) for message in messages]
        rows = [
            (key, number, own_key is None) for key, (number, own_key, _) in zip(keys, messages, strict=True)
        ]
        self._ask(_INSERT_ALL, orjson.dumps(rows).decode())
        return [*keys]

    def count(self, fingerprint: bytes) -> int:
        """Count a message, and return how many equal ones were counted before."""
        rows, _ = self._ask(_COUNT, fingerprint)
        return int(rows[0][0])

    def known_among(self, keys: Iterable[str]) -> set[str]:
        """Return those of these keys that the run was given."""
        return {key for key, _ in self._numbers_of(keys)}

    def knows(self, key: str) -> bool:
        """Return whether the run was given this message."""
        return self._number_of(key) is not None

    def is_pending(self, key: str) -> bool:
        """Return whether the run was given this message, and has not reported its result."""
        wanted = "SELECT 1 FROM input WHERE key = ? AND is_pending"
        return key not in self._reported and bool(self._ask(wanted, key)[0])

    def prefetch(self, keys: Iterable[str]) -> None:
        """Look up the numbers of messages of which the results will come soon."""
        self._flush_when_full()
        if len(self._numbers) > _AT_ONCE:
            self._numbers.clear()
        self._numbers.update(self._numbers_of(keys))

    def report(self, key: str) -> int | None:
        """Return the number of a message whose result is here; `None` if the run was not given it."""
        number = self._numbers.pop(key, None)
        if number is None:
            number = self._number_of(key)
        if number is None:
            return None
        # Written later: a write can fail, and must not do so between a delivery and its entry in the journal.
        self._reported.add(key)
        return number

    def mark_pending(self, key: str) -> None:
        """Note that a result does not count, since another worker will report it."""
        self._reported.discard(key)
        self._ask(_PENDING, key)

    def pending_after(self, key: str, most: int) -> list[tuple[int, str]]:
        """Return some of those without a result, as number and key, in the order of the keys."""
        self._flush()
        wanted = "SELECT number, key FROM input WHERE is_pending AND key > ? ORDER BY key LIMIT ?"
        return self._ask(wanted, key, most)[0]

    def _numbers_of(self, keys: Iterable[str]) -> list[tuple[str, int]]:
        return self._ask(_NUMBERS, _json(keys))[0]

    def _number_of(self, key: str) -> int | None:
        rows, _ = self._ask("SELECT number FROM input WHERE key = ?", key)
        return int(rows[0][0]) if rows else None

    def _flush_when_full(self) -> None:
        if len(self._reported) >= _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self._ask(_REPORTED, _json(self._reported))
        self._reported.clear()

    def _add(self, number: int, key: str | None, fingerprint: bytes) -> str | None:
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
        """Note that a key which a message was given is now derived too; False if it was derived before."""
        noted = "UPDATE input SET is_derived = TRUE WHERE key = ? AND NOT is_derived"
        _, changed = self._ask(noted, key)
        return changed > 0


def _json(keys: Iterable[str]) -> str:
    return orjson.dumps([*keys]).decode()


HASH_LENGTH: Final = 32
_KEY_LENGTH: Final = 32


def files_as_json(files: Sequence[JournalFile]) -> str | None:
    """Write down a message's files. ASCII: names that are no proper text survive, too."""
    return json.dumps([attrs.asdict(file) for file in files]) if files else None


def files_of_json(text: str | None) -> tuple[JournalFile, ...]:
    """Read what `files_as_json` wrote."""
    return tuple(JournalFile(**file) for file in json.loads(text)) if text else ()


def question_as_json(question: Mapping[str, object] | None) -> str | None:
    """Write down a message's question, always in the same way."""
    return None if question is None else json.dumps(question, sort_keys=True)


def question_of_json(text: str | None) -> dict[str, object] | None:
    """Read what `question_as_json` wrote."""
    read: dict[str, object] | None = json.loads(text) if text else None
    return read


def body_hash(salt: bytes, body: str) -> bytes:
    """Return the hash by which a text is recognised."""
    return _digest(salt, (body,))


def fingerprint_of(
    chat: str,
    body: str,
    files: Sequence[JournalFile],
    question: Mapping[str, object] | None,
    *,
    salt: bytes,
) -> bytes:
    """Return the hash of a message's content and chat.

    Of files, their content counts, not where they lie: that may be another place in the next run.
    """
    held = [[file.name, file.content_type, file.size, file.digest] for file in files]
    return _digest(salt, (chat, body, json.dumps(held) if held else "", question_as_json(question) or ""))


def likeness_of(
    chat: str,
    body: str,
    files: Sequence[JournalFile],
    question: Mapping[str, object] | None,
    *,
    salt: bytes,
) -> bytes:
    """Return the hash of what may be the same message: of files, only the names count.

    A letter that is rendered again has other bytes as soon as there is a date in it. With another key, it
    would be sent although the one before it was delivered; so it has the same key, and is refused.
    """
    names = [[file.name] for file in files]
    return _digest(salt, (chat, body, json.dumps(names) if names else "", question_as_json(question) or ""))


def key_of(likeness: bytes, nth: int) -> str:
    """Derive a key from what is sent to which chat, and how many alike came before."""
    return hashlib.sha256(likeness + nth.to_bytes(8, "big")).hexdigest()[:_KEY_LENGTH]


def salt_of(salt: bytes, campaign: str) -> bytes:
    """Return the salt of a campaign's keys: what is entered in two campaigns is two messages."""
    return _digest(salt, ("campaign", campaign))


def key_in(campaign: str, key: str) -> str:
    """Return the key in the journal of a message that was given one: keys are each campaign's own."""
    return f"{campaign}/{key}"


def _digest(salt: bytes, parts: Iterable[str]) -> bytes:
    """Hash the parts, each after its length: what moves from one part to another makes a difference."""
    coded = [part.encode("utf-8", "surrogatepass") for part in parts]
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in coded)
    return hmac.digest(salt, framed, "sha256")
