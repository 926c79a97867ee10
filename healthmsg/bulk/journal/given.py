"""What a run was given: how often the same message, and whose results are still to come."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from healthmsg.bulk.journal import keys
from healthmsg.bulk.journal.values import JournalFile

if TYPE_CHECKING:
    import sqlite3

_TABLES = """
CREATE TABLE equal (digest BLOB PRIMARY KEY, others INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE given (key TEXT PRIMARY KEY, number INTEGER NOT NULL, is_awaited INTEGER NOT NULL) WITHOUT ROWID;
"""


class Given:
    """Keeps a hash and a number of each message in a temporary file: a million take no memory.

    A context manager. Nobody else has that file, and it goes with this, or with the process. With a journal's
    own `salt`, nobody can find out from a key what was said by trying texts.
    """

    def __init__(self, salt: bytes = b"") -> None:
        self._salt = salt
        self._opened: sqlite3.Connection | None = None

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

    def key(
        self,
        chat: str,
        body: str,
        files: Sequence[JournalFile] = (),
        question: Mapping[str, object] | None = None,
    ) -> str:
        """Derive the key of the next message: the same messages in the same order have the same keys."""
        key, _ = self.key_and_number(chat, body, files, question)
        return key

    def key_and_number(
        self,
        chat: str,
        body: str,
        files: Sequence[JournalFile],
        question: Mapping[str, object] | None,
    ) -> tuple[str, int]:
        """Derive a message's key, and tell how many equal ones came before."""
        digest = keys.digest_of(chat, body, files, question, salt=self._salt)
        nth = self._count(digest)
        return keys.key_of(digest, nth), nth

    def accept(self, key: str, number: int) -> bool:
        """Note the next message, with its number in the input; False if its key was given before."""
        accepted = self._file.execute("INSERT OR IGNORE INTO given VALUES (?, ?, TRUE)", (key, number))
        return accepted.rowcount > 0

    def knows(self, key: str) -> bool:
        """Tell whether the run was given this message."""
        return self._file.execute("SELECT 1 FROM given WHERE key = ?", (key,)).fetchone() is not None

    def is_awaited(self, key: str) -> bool:
        """Tell whether the run was given this message, and has not told what became of it."""
        wanted = "SELECT 1 FROM given WHERE key = ? AND is_awaited"
        return self._file.execute(wanted, (key,)).fetchone() is not None

    def take(self, key: str) -> int | None:
        """Give the number of a message whose result is here; `None` if the run was not given it."""
        told = "UPDATE given SET is_awaited = FALSE WHERE key = ? RETURNING number"
        rows = self._file.execute(told, (key,)).fetchall()
        return int(rows[0][0]) if rows else None

    def awaited_after(self, key: str, most: int) -> list[tuple[int, str]]:
        """Give some of those without a result, as number and key, in the order of the keys."""
        wanted = "SELECT number, key FROM given WHERE is_awaited AND key > ? ORDER BY key LIMIT ?"
        return self._file.execute(wanted, (key, most)).fetchall()

    def _count(self, digest: bytes) -> int:
        counted = self._file.execute(
            "INSERT INTO equal VALUES (?, 0) ON CONFLICT DO UPDATE SET others = others + 1 RETURNING others",
            (digest,),
        )
        ((others,),) = counted.fetchall()
        return int(others)
