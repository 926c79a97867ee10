"""Going on with PostgreSQL when the connection was lost: a restart, an update, a broken network.

Two questions come first. Is it still the same database? One that was restored, or a replica that took its
place, may not have what was acknowledged last: going on there could send a message twice. A server knows its
system and its timeline, and a new timeline begins with most such changes, but not where a copy of all files
was put back. So the number of the last transaction is kept in the journal too. And was the last transaction
committed? When the connection breaks during a commit, that is not heard. But each transaction that changes
something has a number, asked for before the commit, and the database remembers what became of it.

What was claimed stays claimed for the length of its lease, and each change names the claim it belongs to. So
a worker that was away for too long finds out by that, as one does whose machine slept.
"""

import secrets
from collections.abc import Callable
from typing import Any, Final, TypeVar

from attrs import define, field
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from healthmsg.bulk.journal import statements
from healthmsg.errors import JournalGoneError

T = TypeVar("T")

# A log file's name begins with the timeline, in eight signs: the last checkpoint may still be of the old one.
_SERVER: Final = text(
    "SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
    " FROM pg_control_system()"
)
_NUMBER: Final = text("SELECT txid_current_if_assigned()")
_STATUS: Final = text("SELECT txid_status(:number)")
# By the number alone it is not known whose transaction it was: all that uses the server counts on from where
# a copy was made.
_MARK: Final = text(
    "INSERT INTO healthmsg_journal (name, value) VALUES (:name, :value)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_MARKED: Final = text("SELECT value FROM healthmsg_journal WHERE name = :name")
_UNMARK: Final = text("DELETE FROM healthmsg_journal WHERE name = :name")
_GONE: Final = (
    "The journal's database is not what it was: another server has taken its place, or it was restored from a"
    " copy, so what was noted last may not be in it. The run has stopped, and nothing was sent after that."
    " Compare the journal with the results before you go on with it: what it does not know of would be sent"
    " again."
)
# By the start of the SQLSTATE: the connection broke, the server ends or ended it, or this machine slept.
_LOST: Final = ("08", "57P01", "57P02", "57P05", "25P03")
# What a server answers that is not ready: it starts, has no place, or is not the primary yet.
_NOT_READY: Final = ("57P03", "53300", "55000")


class StillRunningError(Exception):
    """The connection is gone, and the server has not noticed yet: its last transaction is not over."""


@define
class Continuity:
    """Knows the server, and what became of the last transaction."""

    is_lost: bool = field(default=False, init=False)
    """Whether the connection is to be made again, which it may."""
    _name: str = field(factory=lambda: f"last of {secrets.token_hex(16)}", init=False)
    """Under which the number of the last transaction is kept in the journal itself."""
    _server: str | None = field(default=None, init=False)
    _last: int | None = field(default=None, init=False)
    """The number of the last transaction that was committed and changed something."""
    _unclear: tuple[int, Any] | None = field(default=None, init=False)
    """The number and the result of one of which is not known whether it was committed."""

    def begin(self, connection: Connection) -> None:
        """Learn which server it is. One that does not say so is not gone on with after a loss."""
        try:
            with connection.begin():
                self._server = str(connection.execute(_SERVER).scalar_one())
        except DBAPIError:
            self._server = None

    def resume(self, connection: Connection, *, is_sender: bool) -> None:
        """Go on with a new connection; `is_sender`: others are to know that this one sends.

        Raises:
            JournalGoneError: it is another server, or another state of it.
        """
        with connection.begin():
            if str(connection.execute(_SERVER).scalar_one()) != self._server:
                raise JournalGoneError(_GONE)
        if self._last is not None and not self._is_known(connection, self._last):
            raise JournalGoneError(_GONE)
        if is_sender:
            with connection.begin():
                connection.execute(statements.BE_SENDER)
        self.is_lost = False

    def run(self, work: Callable[[Connection], T], connection: Connection) -> T:
        """Do something in a transaction: all of it, or nothing.

        After a failure of which it is not known whether it was committed, the same work is to be given again:
        then that is found out first.
        """
        if self._unclear is not None:
            unclear, result = self._unclear
            was_committed = self._was_committed(connection, unclear)
            self._unclear = None
            if was_committed:
                self._last = unclear
                done: T = result
                return done
        number: int | None = None
        is_committing = False
        try:
            with connection.begin():
                done = work(connection)
                if self._server is not None:
                    number = connection.execute(_NUMBER).scalar()
                if number is not None:
                    connection.execute(_MARK, {"name": self._name, "value": str(number)})
                is_committing = True
        except Exception as error:
            self.is_lost = self._server is not None and is_of_connection(error)
            if is_committing and number is not None:
                self._unclear = number, done
            raise
        self._last = self._last if number is None else number
        return done

    def end(self, connection: Connection) -> None:
        """Leave nothing of this behind in the journal."""
        if self._last is not None and not self.is_lost:
            with connection.begin():
                connection.execute(_UNMARK, {"name": self._name})

    def _is_known(self, connection: Connection, number: int) -> bool:
        try:
            if not self._was_committed(connection, number):
                return False
            with connection.begin():
                marked = connection.execute(_MARKED, {"name": self._name}).scalar()
            unclear = None if self._unclear is None else str(self._unclear[0])
            return marked in {str(number), unclear}
        except DBAPIError as error:
            if is_of_connection(error):
                raise
            return False  # of the future, which that server has not come to

    def _was_committed(self, connection: Connection, number: int) -> bool:
        with connection.begin():
            status = connection.execute(_STATUS, {"number": number}).scalar()
        if status == "in progress":
            raise StillRunningError
        return bool(status == "committed")


def is_of_connection(error: Exception) -> bool:
    """Tell whether an error says that the connection is no more."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return state_of(error).startswith(_LOST) or isinstance(error, ConnectionError)


def may_connect_later(error: Exception) -> bool:
    """Tell whether a connection that could not be made may be made later."""
    is_of_system = isinstance(error, OSError | StillRunningError)
    return is_of_system or is_of_connection(error) or state_of(error).startswith(_NOT_READY)


def state_of(error: BaseException) -> str:
    """Return the SQLSTATE of an error, if it has one."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return getattr(original, "sqlstate", None) or ""
