"""Questions of which it is not known whether they arrived, and the buttons that are pressed in their chats.

A button that is pressed shows that its message is there. That it is the question in doubt is proven if

- the message is this user's, in the same chat, with the same buttons in the same order;
- the search in the chat's list finds it by the rule of `delivery/proof.py`: its text, and its stamp within
  the attempt, which ended when the question was given up as unknown;
- it is no other sending's, and no other message with this text to this recipient is under way, in doubt or
  unknown; and no older one is there that could be the question as well.

All else stays unknown. A request for verification has no text to be found by, so it is never proven here.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from healthmsg.api import Api
from healthmsg.bulk.journal.base import JournalMessage
from healthmsg.bulk.reconcile import DeliveryProofs, JournalEvidence, reconciler_of
from healthmsg.database.states import State
from healthmsg.delivery.proof import Attempt
from healthmsg.errors import ForbiddenError, InvalidInputError, JournalInUseError, NotFoundError
from healthmsg.ids import ChatAddress
from healthmsg.models import Message, Outcome, QuestionPayload
from healthmsg.routes import GET_MESSAGE

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import SqlJournal

_LOOK_FOR: Final = 10.0
"""Seconds. What the search can prove, its first look proves."""
_BY: Final = "the bot: one of its buttons was pressed"
_LONG_AGO: Final = float("-inf")


@define
class _OneMessage(JournalEvidence):
    """The evidence for a question in doubt: it can be one message only."""

    _wanted: str = field(kw_only=True)
    _is_ambiguous: bool = field(default=False, init=False)

    async def claim(self, attempt: Attempt, message_id: str) -> bool:
        """See `Evidence`."""
        if message_id != self._wanted:
            self._is_ambiguous |= not await self.is_claimed(message_id)
            return False
        return not self._is_ambiguous and await super().claim(attempt, message_id)

    async def wait(self) -> bool:
        """See `Evidence`. The chat's events wait for this: no other message is waited for."""
        return False


@frozen
class UnknownQuestions:
    """The questions of an outbox that stay unknown."""

    _api: Api
    _journal: "SqlJournal"
    _proofs: DeliveryProofs
    _settle: float

    async def proven(self, message_id: str, chat: ChatAddress) -> JournalMessage | None:
        """Return the question that a message is, of which a button was pressed, and note it as delivered.

        Raises:
            CallError: the chat could not be read.
        """
        candidates = [row for row in await self._in_chat(chat) if row.body]
        if not candidates:
            return None
        try:
            message = await self._api.read(Message, GET_MESSAGE, chat, message_id=message_id)
        except (NotFoundError, ForbiddenError):
            return None
        for row in candidates:
            if _has_buttons_of(row, message) and await self._is_it(row, message_id):
                with suppress(InvalidInputError, JournalInUseError):  # it is decided already
                    at = self._journal.now()
                    await self._journal.decide(
                        row.key, Outcome.DELIVERED, by=_BY, at=at, message_id=message_id
                    )
                return row
        return None

    async def _in_chat(self, chat: ChatAddress) -> list[JournalMessage]:
        are_same = self._api.aliases.are_same
        return [
            row
            async for row in self._journal.rows(State.UNKNOWN)
            if row.is_final and row.question and are_same(row.sent_to or row.to, chat.text) is True
        ]

    async def _is_it(self, row: JournalMessage, message_id: str) -> bool:
        if row.started_at is None or await self._journal.has_equal_in_doubt(row.key):
            return False
        ahead = self._proofs.journal_ahead
        attempt = Attempt(
            ChatAddress.of_text(row.sent_to or row.to),
            row.body or "",
            row.started_at + ahead,
            max(row.updated_at + ahead, row.started_at + ahead + timedelta(seconds=1)),
            tuple((file.name, file.size) for file in row.files),
        )
        evidence = _OneMessage(self._api.deliveries, self._journal, self._proofs, row.key, wanted=message_id)
        reconciler = await reconciler_of(self._api, self._settle, evidence)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_FOR):
                return (await reconciler.find_out(attempt, _LONG_AGO)).message_id == message_id
        return False


def _has_buttons_of(row: JournalMessage, message: Message) -> bool:
    payload, asked = message.payload, (row.question or {}).get("options")
    if not isinstance(payload, QuestionPayload) or not isinstance(asked, list | tuple):
        return False
    wanted = [(one["name"], one["label"]) for one in asked]
    return wanted == [(one.name, one.label) for one in payload.options]
