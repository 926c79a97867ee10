"""What was refused before anything was sent, or did not get to its end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from healthmsg.errors.base import HealthmsgError

if TYPE_CHECKING:
    from healthmsg.downloads.attachments import DownloadResult


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
    """An auxiliary id that somebody or something else has already. Nothing was changed.

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


class OtherTextError(HealthmsgError):
    """A message that a run left out: its recipient already got another one from the journal.

    Or may have got it: what is in doubt counts as well. Nothing was sent, and the message is not in the
    journal; `other_text="send"` sends such messages too.
    """


class ExportIncompleteError(HealthmsgError):
    """Some attachments of a chat could not be fetched; all else of its archive is there.

    `failures` has the result of each of them. `messages.jsonl` was not written: export into the same folder
    again to go on, which fetches only what is missing.
    """

    def __init__(self, failures: "Sequence[DownloadResult]") -> None:
        self.failures: tuple[DownloadResult, ...] = tuple(failures)
        super().__init__(
            f"Attachments that could not be fetched: {len(self.failures)}; `failures` says why."
            " messages.jsonl was not written. Export into the same folder again to go on: only what is"
            " missing is fetched."
        )
