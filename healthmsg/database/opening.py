"""Opening a database: which one, what it needs, and what can be wrong with it."""

from datetime import timedelta

from healthmsg.database.base import Database, describe
from healthmsg.database.target import Target
from healthmsg.errors import HealthmsgError, JournalError


async def open_database(target: Target, lease: timedelta, *, is_reading: bool) -> Database:
    """Connect, and make the tables if there are none; for one who only reads, nothing is changed.

    Raises:
        JournalInUseError: another process sends with this SQLite file.
        JournalIncompleteError: its `-wal` file is missing.
        JournalVersionError: another version of this package made it.
        JournalNotFoundError: only for one who reads: there is none.
        JournalError: it cannot be used; says why.
    """
    database = _database_of(target, lease, is_reading=is_reading)
    problem: HealthmsgError
    try:
        await database.start()
    except HealthmsgError as error:
        problem = error
    except Exception as error:  # noqa: BLE001 - drivers raise what they like; it may have private things in it
        problem = JournalError(f"The journal could not be opened: {describe(error)}.")
    except BaseException:
        await database.close()
        raise
    else:
        return database
    await database.close()
    raise type(problem)(*problem.args)


def _database_of(target: Target, lease: timedelta, *, is_reading: bool) -> Database:
    """Return what connects to it. What it needs is imported only now."""
    if target.path is not None:
        from healthmsg.database.sqlite import SqliteDatabase  # noqa: PLC0415

        return SqliteDatabase(
            target.path, accepts_missing_wal=target.accepts_missing_wal, is_reading=is_reading
        )
    from healthmsg.database.postgresql import PostgresqlDatabase  # noqa: PLC0415

    return PostgresqlDatabase(target, lease, is_reading=is_reading)
