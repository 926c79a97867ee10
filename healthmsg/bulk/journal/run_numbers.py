"""Which run is on: what one run was given belongs together, what two were given may replace each other."""

from typing import Final

from sqlalchemy import Connection

from healthmsg.bulk.journal import statements
from healthmsg.bulk.journal.migrations import read_meta, write_meta

_RUN: Final = "run"
_UNREAD: Final = "run that replaces others and has not read all"


def begin_run(connection: Connection, *, is_new: bool) -> tuple[int, bool]:
    """Return the number of the run, and whether there are messages already.

    Workers that are there at the same time share one run, so with `is_new` false it is the one that goes on.
    """
    run = int(read_meta(connection, _RUN) or 0)
    if is_new or run == 0:
        run += 1
        write_meta(connection, _RUN, str(run))
    return run, connection.execute(statements.LAST_POSITION).scalar_one() >= 0


def unread_run(connection: Connection) -> int:
    """Return the number of a run that replaced texts and did not read all it was given; 0 if there is none.

    Which of the messages of earlier runs it would have replaced too is not known.
    """
    return int(read_meta(connection, _UNREAD) or 0)


def note_unread(connection: Connection, run: int) -> None:
    """Note that a run replaces texts of earlier runs, and may have more to read."""
    if unread_run(connection) != run:
        write_meta(connection, _UNREAD, str(run))


def mark_all_read(connection: Connection, run: int) -> None:
    """Note that a run has read all that it was given."""
    if unread_run(connection) == run:
        write_meta(connection, _UNREAD, "0")
