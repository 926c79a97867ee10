"""What a person sees of a message that is unknown: what the journal knows, and what the chat has."""

from contextlib import AsyncExitStack, aclosing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen
from rich.console import Console

from healthmsg.bulk import JournalReview, UnknownMessage
from healthmsg.bulk.journal import open_journal
from healthmsg.cli.chats import chat_at
from healthmsg.cli.sending.journal_place import JournalPlace
from healthmsg.cli.wording import without_name, written
from healthmsg.client import Client
from healthmsg.errors import HealthmsgError
from healthmsg.ids import ChatAddress
from healthmsg.models import Message
from healthmsg.resources.chat import Chat
from healthmsg.resources.group_chat import GroupChat

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import SqlJournal

AROUND: Final = timedelta(minutes=10)
# One that has this many later messages is not looked for further.
_MOST_MESSAGES: Final = 5_000
_NEAREST: Final = 3


@define
class _Mine:
    """Messages of mine in one chat: those around a moment, and the nearest others."""

    around: list[Message] = field(factory=list)
    others: list[Message] = field(factory=list)
    is_whole: bool = True
    """Whether all was read that can be of that time."""


@frozen
class Telling:
    """Tells of one message after another. Texts only if they are wanted."""

    console: Console
    place: JournalPlace
    with_texts: bool

    async def tell_all(self, client: Client | None) -> int:
        """Tell of all, and count them. Without a client, only what the journal knows.

        Raises:
            JournalError: the journal cannot be read, or is another account's.
        """
        count = 0
        async with AsyncExitStack() as stack:
            journal = await stack.enter_async_context(open_journal(self.place.target, is_reading=True))
            me = ""
            if client is not None:
                # Another one cannot see what this journal's account has sent.
                await journal.check_owner(client.environment.api_url)
                me = (await client.me.get()).id
                await journal.check_owner(client.environment.api_url, me)
            messages = await stack.enter_async_context(aclosing(JournalReview(self.place.target).unknown()))
            async for message in messages:
                count += 1
                self._tell(message)
                if client is not None:
                    await self._tell_of_chat(client, me, message, journal)
        return count

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _tell(self, message: UnknownMessage) -> None:
        self._say(f"{message.key}")
        self._say(f"  to {message.to}")
        when = "it is not known when" if message.started_at is None else _shown(message.started_at)
        self._say(f"  sent {when}, call {message.attempts}")
        self._say(
            f"  why: {without_name(message.error or 'the run that sent it did not live to see the answer')}"
        )
        if not message.is_final:
            self._say("  the next run with this journal tries to find out by itself")
        if self.with_texts:
            self._say(f"  text: {message.body}")

    async def _tell_of_chat(
        self, client: Client, me: str, message: UnknownMessage, journal: "SqlJournal"
    ) -> None:
        chat = _chat(client, message.sent_to or message.to)
        if chat is None or message.started_at is None:
            self._say("  the chat is not known, so it cannot be read")
            return
        try:
            mine = await _read(chat, me, message.started_at)
        except HealthmsgError as error:
            self._say(f"  the chat could not be read: {written(error)}")
            return
        minutes = int(AROUND.total_seconds() // 60)
        if mine.around:
            self._say(f"  yours in the chat within {minutes} minutes of that:")
        else:
            self._say(f"  nothing of yours in the chat within {minutes} minutes of that")
        for one in mine.around:
            await self._tell_of_one(one, message, journal)
        if not mine.around and mine.others:
            self._say("  the nearest of yours (the service may stamp by another clock or time zone):")
            for one in mine.others[:_NEAREST]:
                await self._tell_of_one(one, message, journal)
        if not mine.is_whole:
            self._say(f"  only its newest {_MOST_MESSAGES:,} messages were read: look in the chat itself")

    async def _tell_of_one(self, one: Message, message: UnknownMessage, journal: "SqlJournal") -> None:
        is_known = await journal.is_claimed_id(one.id, message.key)
        said = [
            "at a time the service does not say" if one.created_at is None else _shown(one.created_at),
            f"message {one.id}",
            "another of this journal's" if is_known else "not one that the journal knows",
            "the same text" if one.body == message.body else "another text, or in another form",
        ]
        if one.attachments:
            said.append(f"files: {len(one.attachments)}")
        self._say(f"    {', '.join(said)}")
        if self.with_texts:
            self._say(f"      {one.body or ''}")


def _chat(client: Client, address: str) -> Chat | GroupChat | None:
    """Return the handle of a chat; `None` for a user of whom it is not known which chat it is."""
    if address.startswith("users/"):
        return None
    return chat_at(client, ChatAddress.of_text(address))


async def _read(chat: Chat | GroupChat, me: str, moment: datetime) -> _Mine:
    """Read what I wrote around a moment, back to a page that is all older."""
    mine, read = _Mine(), 0
    async with chat.messages() as pager, aclosing(pager.pages()) as pages:
        async for page in pages:
            for message in page:
                if _is_by(message, me):
                    is_near = message.created_at is None or abs(message.created_at - moment) <= AROUND
                    (mine.around if is_near else mine.others).append(message)
            read += len(page)
            if all(one.created_at is not None and one.created_at < moment - AROUND for one in page):
                break
            if read >= _MOST_MESSAGES:
                mine.is_whole = False
                break
    mine.others.sort(key=lambda one: abs((one.created_at or moment) - moment))
    return mine


def _is_by(message: Message, me: str) -> bool:
    """Return whether I wrote it, or may have: a service need not say who did."""
    return message.sender_id is None or message.sender_id == me


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %z}"
