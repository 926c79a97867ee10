"""What was refused before anything was sent, or did not get to its end, and what goes wrong in signing in."""

from collections.abc import Sequence
from typing import Protocol

from healthmsg.errors.base import HealthmsgError


class ConfigurationError(HealthmsgError, ValueError):
    """A client, environment, limit or token that cannot work. Nothing was sent."""


class InvalidInputError(HealthmsgError, ValueError):
    """An argument that cannot be right. Nothing was sent."""


class InvalidIdError(InvalidInputError):
    """An id that is empty, `.`, `..` or not text, or a model of the wrong kind."""


class AmbiguousAuxIdError(InvalidIdError):
    """An auxiliary id with a diacritic, which the vendor's client would fold into another id.

    Pass `fold_aux_id(…)` to address what the vendor's client addresses, or `exact_aux_id(…)` to send
    the id as it is.
    """


class AuxIdTakenError(InvalidInputError):
    """An auxiliary id that another user or chat has already. Nothing was changed.

    The service would silently move a user's to the new user, or give a group chat's to both [D].
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(
            f"{holder} has this auxiliary id already, and the service would not refuse. Nothing was changed."
            " Choose another one, leave it out, or, where the method has it, say with if_taken that you know."
        )


class EmptyMessageError(InvalidInputError):
    """A message with neither text nor files."""


class InvalidFileError(InvalidInputError):
    """Files that cannot be uploaded: missing, empty, unreadable, a folder, or changed since they were given.

    `problems` names every one of them, as (name, reason) pairs.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems: tuple[tuple[str, str], ...] = tuple(problems)
        listed = "; ".join(f"{name}: {reason}" for name, reason in self.problems)
        super().__init__(f"Nothing was sent, because of these files: {listed}")


class ClientUsageError(HealthmsgError, RuntimeError):
    """The client was used in a way that cannot work. Nothing was sent."""


class ClientClosedError(ClientUsageError):
    """The client is closed."""

    def __init__(self) -> None:
        super().__init__("This client is closed. Make a new one, or call it inside its `async with`.")


class WrongEventLoopError(ClientUsageError):
    """The client, or its limiter, belongs to another event loop."""

    def __init__(self) -> None:
        super().__init__("This client or limiter was first used in another event loop. Make one for each.")


class SendingStoppedError(HealthmsgError):
    """A bulk run was ended before this item was done: see the result's outcome for what that means."""


class SendingGivenUpError(SendingStoppedError):
    """A bulk run was stopped by what concerns every message: a revoked token, a host that cannot be reached.

    `__cause__` is that error. No message was lost: each has a result that says so, or waits in the journal.
    """


class EarlierRunError(HealthmsgError):
    """What an earlier run with the same journal noted about a message that was not delivered."""


class ReplyNotSentError(HealthmsgError):
    """A bot's reply that certainly was not sent, and will not be: it was refused, now or in an earlier run.

    The message says why. A handler that runs again gets this for the same reply each time.
    """


class OtherTextError(HealthmsgError):
    """A message that a run left out: its recipient already got another one from the journal.

    Or may have got it: what is in doubt counts as well. Nothing was sent, and the message is not in the
    journal; `other_text="send"` sends such messages too.
    """


class NamedFile(Protocol):
    """An `Attachment`."""

    @property
    def id(self) -> str:
        """The attachment's id."""

    @property
    def name(self) -> str | None:
        """The file's name, if it has one."""


class FailedDownload(Protocol):
    """A `DownloadResult` of a file that could not be fetched."""

    @property
    def attachment(self) -> NamedFile:
        """Which file it is."""

    @property
    def error(self) -> Exception | None:
        """Why it could not be fetched."""


class ExportIncompleteError(HealthmsgError):
    """Some attachments of a chat could not be fetched; all else of its archive is there.

    `failures` has the `DownloadResult` of each of them. `messages.jsonl` was not written: export into the
    same folder again to go on, which fetches only what is missing.
    """

    def __init__(self, failures: Sequence[FailedDownload]) -> None:
        self.failures: tuple[FailedDownload, ...] = tuple(failures)
        super().__init__(
            f"Attachments that could not be fetched: {len(self.failures)}; `failures` says why."
            " messages.jsonl was not written. Export into the same folder again to go on: only what is"
            " missing is fetched."
        )


class AuthorizationError(HealthmsgError):
    """Signing in, or staying signed in, failed."""


class StateMismatchError(AuthorizationError):
    """The callback's `state` is not the one that was sent: the request may be forged. Start over."""


class MissingStateError(StateMismatchError):
    """The callback has no `state`: the request may be forged. Start over."""


class AuthorizationRefusedError(AuthorizationError):
    """The user or the service refused. `code` is OAuth's error code, `description` the service's words."""

    def __init__(self, code: str, description: str | None = None) -> None:
        self.code = code
        self.description = description
        super().__init__("The authorization was refused; `code` and `description` say why.")


class MissingCodeError(AuthorizationError):
    """The callback has neither a code nor an error."""


class TokenRequestError(AuthorizationError):
    """The token URL refused the request, or its answer has no usable token.

    `code` is OAuth's error code (`invalid_grant`, `invalid_client`, `temporarily_unavailable`, …) when the
    service named one, `status` the answer's, and `retry_after` the wait that it asked for, in seconds, if it
    did. `is_final` says whether trying again later is futile: the service does not know the application.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.code = code
        self.status = status
        self.retry_after = retry_after
        super().__init__(message)

    @property
    def is_final(self) -> bool:
        """Whether trying again later is futile."""
        return self.code == "invalid_client"


class TokenStoreError(AuthorizationError):
    """A token store could not be read, written or locked."""


class ReauthorizationRequiredError(AuthorizationError):
    """The token no longer works and cannot be renewed: the user has to authorize again."""


class JournalError(HealthmsgError):
    """The journal could not be opened, read or written.

    Once a write has failed, all that follow fail too: a run cannot go on without its journal. What was
    acknowledged before is kept; starting again with the same journal continues.
    """


class JournalNotFoundError(JournalError):
    """There is no journal in that place."""


class JournalInUseError(JournalError):
    """Another process, or another part of this one, sends with this journal."""


class InboxLostError(JournalError):
    """Another process has taken a stream's store over, since this one stood still for too long."""


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


class CampaignError(HealthmsgError):
    """What was asked of a campaign cannot be done: there is none of that name, or it is cancelled.

    Nothing was changed by it.
    """


class ClaimLostError(JournalError):
    """Another worker has taken this message over. What was to be noted about it was not noted."""
