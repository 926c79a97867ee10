"""One reply on its way: who waits for it, what it says, and what it ended in."""

import asyncio
import copy
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from attrs import define, evolve, field, frozen

from healthmsg.aio import in_thread
from healthmsg.api import Api
from healthmsg.bot.content import Content
from healthmsg.bulk.entries import check_message, verification_entry
from healthmsg.bulk.journal import Entry, EntryStatus, JournalMessage, State, fingerprint_of
from healthmsg.bulk.journal.base import Claim
from healthmsg.bulk.models import Outgoing, SendResult, VerificationRequest
from healthmsg.errors import CallError, DeliveryUnknownError, HealthmsgError, ReplyNotSentError
from healthmsg.files import FileSnapshots, FileToUpload, TakenFile, UploadFile
from healthmsg.ids import ChatAddress
from healthmsg.log import class_name
from healthmsg.models import Outcome, SentMessage
from healthmsg.resources.group_chat import handle
from healthmsg.routes import REQUEST_VERIFICATION, SEND_MESSAGE, UPLOAD_FILES
from healthmsg.validation import check_files

# Bytes. Larger files are read again when they are sent, and must be the same then.
_LARGEST_HELD: Final = 4 * 1024 * 1024
_NOT_SENT: Final = "This reply was not sent, and is not tried again ({})."
_UNKNOWN: Final = "it could not be found out in an earlier run whether this reply was delivered ({})"


@frozen
class Asked:
    """What a handler wants to be sent."""

    message: Outgoing = field(repr=False)
    """With its files as they were then."""
    entry: Entry = field(repr=False)


@define(eq=False)
class Reply:
    """A reply that is not done yet. It is kept until it is, even if no caller waits any more."""

    key: str = field(repr=False)
    chat: ChatAddress
    asked: Asked | None = field(default=None, repr=False)
    """`None`: an earlier run may have sent it, and no handler has asked for it again."""
    claim: Claim | None = field(default=None, repr=False)
    """What is to be sent; `None`: it is to be entered, or an earlier one of its chat goes first."""
    is_in_hand: bool = False
    """Whether a task has it."""
    waits: bool = False
    """Whether it is entered, and an earlier one goes first or another worker has it."""
    retry_refused: bool = False
    """Whether it is sent though an earlier start was refused it."""
    has_room: bool = False
    """Whether it counts among those that are open at most: what is in doubt at a start comes in addition."""
    done: "asyncio.Future[SentMessage]" = field(
        factory=lambda: asyncio.get_running_loop().create_future(), repr=False, init=False
    )

    def __attrs_post_init__(self) -> None:
        # Those who wait may all have been cancelled: asyncio is not to log the error then.
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())

    @property
    def can_be_answered(self) -> bool:
        """Whether users answer it: it has buttons, or asks for a verification."""
        if self.asked is not None:
            return self.asked.entry.question is not None
        return self.claim is not None and self.claim.question is not None

    def succeed(self, message_id: str) -> None:
        """Hand out what was sent."""
        if not self.done.done():
            self.done.set_result(SentMessage(message_id))

    def fail(self, error: Exception) -> None:
        """Raise an error in all that wait."""
        if not self.done.done():
            self.done.set_exception(error)

    async def wait(self) -> SentMessage:
        """Wait for its end. Cancelling this leaves the reply alone; each caller gets an error of its own."""
        await asyncio.wait([self.done])
        error = self.done.exception()
        if error is not None:
            raise another(error)
        return self.done.result()


def another(error: BaseException) -> BaseException:
    """Return an equal error, with a traceback of its own."""
    if not isinstance(error, HealthmsgError):
        return error
    same = copy.copy(error)
    same.__cause__ = error.__cause__
    return same


# --- what is asked


@frozen
class Checker:
    """Checks what handlers want to be sent."""

    _api: Api
    _salt: bytes = field(repr=False)

    async def reply(self, key: str, chat: ChatAddress, content: Content) -> Asked:
        """Check a reply, and take its files as they are now.

        Raises:
            InvalidInputError: it cannot be right.
        """
        given = check_files(content.files)
        files = await in_thread(_taken, given) if given else ()
        message = Outgoing(handle(self._api, chat), content.body, files, key, content.question, content.label)
        entry = await check_message(message, self._api, files, for_journal=False)
        return Asked(message, self._keyed(entry, key))

    def verification(self, key: str, chat: ChatAddress, user_id: str, provider_id: str) -> Asked:
        """Check a request for verification.

        Raises:
            InvalidInputError: it cannot be right.
        """
        message = VerificationRequest(
            handle(self._api, chat), "", key=key, user_id=user_id, provider_id=provider_id
        )
        return Asked(message, self._keyed(verification_entry(message, self._api), key))

    def is_other(self, asked: Asked, claim: Claim | None) -> bool:
        """Return whether a handler wants something else than what was entered under the key."""
        if claim is None:
            return False
        content = claim.chat, claim.body, claim.files, claim.question
        return fingerprint_of(*content, salt=self._salt) != asked.entry.fingerprint

    def _keyed(self, entry: Entry, key: str) -> Entry:
        content = entry.chat, entry.body, entry.files, entry.question
        return evolve(entry, key=key, fingerprint=fingerprint_of(*content, salt=self._salt))


def _taken(files: Sequence[FileToUpload]) -> tuple[UploadFile, ...]:
    taken = FileSnapshots(hold_up_to=_LARGEST_HELD, digest_all=True).take(files)
    return tuple(map(_hashed, taken))


def _hashed(file: UploadFile) -> UploadFile:
    """Hash bytes, by which they are known when the handler brings them again."""
    source = file.source
    if isinstance(file, TakenFile) or not isinstance(source, bytes):
        return file
    digest = sha256(source).digest()
    return TakenFile(source, file.name, file.content_type, size=file.size, content=source, digest=digest)


# --- what came of it


def error_of(result: SendResult, chat: ChatAddress) -> Exception:
    """Return the error to raise for a reply that was not delivered, or of which that is not known."""
    error = result.error
    if result.outcome is Outcome.UNKNOWN:
        return error if isinstance(error, DeliveryUnknownError) else _unknown(str(error), chat)
    if isinstance(error, CallError) and error.outcome is not Outcome.NOT_SENT:
        # It was lost again and again, and proven absent each time.
        return ReplyNotSentError(_NOT_SENT.format(class_name(error)))
    if isinstance(error, HealthmsgError):
        return error
    return ReplyNotSentError(_NOT_SENT.format(class_name(error)))


def resolve_known(reply: Reply, status: EntryStatus, row: JournalMessage | None) -> None:
    """Hand out what is known of a reply that was done before."""
    if status.state is State.DELIVERED:
        reply.succeed(status.message_id or "")
    elif status.state is State.UNKNOWN:
        reply.fail(_unknown(status.error or "", reply.chat, row))
    else:
        reply.fail(ReplyNotSentError(_NOT_SENT.format(status.error or "it was refused")))


def _unknown(reason: str, chat: ChatAddress, row: JournalMessage | None = None) -> DeliveryUnknownError:
    route = SEND_MESSAGE
    if row is not None and row.files:
        route = UPLOAD_FILES
    elif row is not None and row.body == "":
        route = REQUEST_VERIFICATION
    began = row.started_at if row is not None else None
    return DeliveryUnknownError(
        route.call(chat), _UNKNOWN.format(reason.rstrip(".")), started_at=began or datetime.now(UTC)
    )
