"""The options of a run."""

import os
from typing import Final, Literal

from attrs import frozen

from healthmsg.bulk.models import Messages
from healthmsg.errors import InvalidInputError
from healthmsg.validation import check_choice, check_flag, check_seconds

OnUnknown = Literal["reconcile", "report"]
"""What to do with a message that may have been delivered: look for it in its chat, or report it."""
OtherText = Literal["send", "skip"]
"""What to do with a message whose recipient already got, or may have got, another one from the journal."""
OTHER_TEXTS: Final[tuple[OtherText, ...]] = ("send", "skip")
JournalTarget = str | os.PathLike[str]
"""A file, or the URL of a PostgreSQL database."""


@frozen
class SendOptions:
    """The options of `send_many`; see there.

    Raises:
        InvalidInputError: an option cannot be right.
    """

    on_unknown: OnUnknown
    settle: float
    retry_failed: bool
    stop_after: float
    other_text: OtherText = "send"
    superseded: bool = False

    def __attrs_post_init__(self) -> None:
        check_choice(self.on_unknown, "on_unknown", ("reconcile", "report"))
        check_seconds(self.settle, "settle")
        check_flag(self.retry_failed, "retry_failed")
        check_seconds(self.stop_after, "stop_after")
        check_choice(self.other_text, "other_text", OTHER_TEXTS)
        check_flag(self.superseded, "superseded")

    def check_fit(self, messages: Messages | None, journal: JournalTarget | None) -> None:
        """Refuse options that do not fit the input.

        Raises:
            InvalidInputError: there are neither messages nor a journal, or an option needs one of them.
        """
        if messages is None and journal is None:
            raise InvalidInputError("send_many needs messages, or a journal that holds some")
        if self.superseded and messages is not None:
            raise InvalidInputError("superseded is for a run without messages: what is given is sent anyway")
        if self.other_text != "send" and (journal is None or messages is None):
            raise InvalidInputError("other_text needs messages, and a journal, which knows who got what")
