"""What can go wrong with a journal."""

from healthmsg.errors.base import HealthmsgError


class JournalError(HealthmsgError):
    """The journal could not be opened, read or written.

    Once a write has failed, all that follow fail too: a run cannot go on without its journal. What was
    acknowledged before is kept; starting again with the same journal continues.
    """


class JournalNotFoundError(JournalError):
    """There is no journal in that place."""


class JournalInUseError(JournalError):
    """Another process, or another part of this one, sends with this journal."""


class JournalIncompleteError(JournalError):
    """The `-wal` file of an SQLite journal is missing, or is not its own: what was noted last may be lost.

    Nothing was sent. The message says what to do.
    """


class JournalGoneError(JournalError):
    """What a run writes to is not its journal any more: it was deleted, moved, replaced or overwritten.

    Or, with PostgreSQL, another server has taken its place, or the connection through a pooler is another one
    than it was. Nothing is sent after that. What was acknowledged before is in the file that was open,
    wherever that is now.
    """


class JournalVersionError(JournalError):
    """The journal was made by a newer version of this package, or needs to be brought up to date first."""


class JournalMismatchError(JournalError):
    """Another text or file is known under this key, or the journal is of another account or environment."""


class ClaimLostError(JournalError):
    """Another worker has taken this message over. What was to be noted about it was not noted."""
