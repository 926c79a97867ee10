"""A service in memory, in fake time: with habits of its own, and clocks that can be set."""

import asyncio
import html
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

from attrs import define, evolve, field

from healthmsg.bulk.reconcile import Evidence, Reconciled, Reconciler
from healthmsg.clock import ServerClock
from healthmsg.codec import decode, encode
from healthmsg.delivery.ledger import Deliveries
from healthmsg.delivery.proof import Attempt
from healthmsg.ids import ChatAddress
from healthmsg.models import Message
from healthmsg.paging import Pager
from healthmsg.pipeline.request import Request
from healthmsg.sandbox import Habits
from healthmsg.sandbox.records import Person, StoredChat, StoredMessage

ME, YOU = Person("me", "Ik", "Zelf"), Person("you", "U", "Zelf")
CHAT: Final = ChatAddress.parse("conversations/c1")
OTHERS: Final = tuple(ChatAddress.parse(f"conversations/other{number}") for number in range(4))
FORMS: Final[dict[str, Callable[[str], str]]] = {
    "as it is": str,
    "entities": html.escape,
    "no emoji": lambda text: "".join(letter for letter in text if ord(letter) <= 0xFFFF),
    "NFKC": lambda text: unicodedata.normalize("NFKC", text),
    "cut": lambda text: text[:30],
    "garbled": lambda text: text[::-1],
}


@define(eq=False)
class ModelledService:
    """Takes messages in, lists them, and answers with `Date`, as its habits are."""

    habits: Habits
    latency: float = 0.1
    ahead: timedelta = timedelta()
    """Of our clock; changed in the middle where the clock is set."""
    page_size: int = 100
    deliveries: Deliveries = field(factory=lambda: Deliveries(ServerClock()))
    chats: dict[str, StoredChat] = field(factory=dict)
    arrived: dict[str, float] = field(factory=dict)
    made: int = 0
    pages_read: int = 0

    @property
    def now(self) -> datetime:
        return self.deliveries.clock.moment() + self.ahead

    def chat(self, address: ChatAddress) -> StoredChat:
        return self.chats.setdefault(address.text, StoredChat(address.id, [ME, YOU], self.now))

    def take_in(
        self, chat: ChatAddress, body: str, *, sender: Person = ME, ago: float = 0.0
    ) -> StoredMessage:
        self.made += 1
        at = self.now - timedelta(seconds=ago)
        message = StoredMessage(f"m{self.made}", sender, self.habits.rewrite_text(body), at)
        self.arrived[message.id] = self.deliveries.clock.now() - ago
        self.chat(chat).messages.append(message)
        self.chat(chat).messages.sort(key=lambda one: one.created_at)
        return message

    async def call(self) -> tuple[float, float]:
        """Let a call go there and back; return when it left and was answered."""
        clock = self.deliveries.clock
        departed_at = clock.now()
        await asyncio.sleep(self.latency / 2)
        date = format_datetime(self.now.astimezone(UTC).replace(microsecond=0), usegmt=True)
        await asyncio.sleep(self.latency / 2)
        clock.seen(date if self.habits.sends_date else None, departed_at, clock.now())
        return departed_at, clock.now()

    async def deliver(self, chat: ChatAddress, body: str) -> StoredMessage:
        """Deliver a message, with its answer."""
        call = Request("POST {chat}/messages", "POST", "")
        call.current.departed_at = self.deliveries.clock.now()
        await asyncio.sleep(self.latency / 2)
        message = self.take_in(chat, body)
        await asyncio.sleep(self.latency / 2)
        await self.call()
        call.current.answered_at = self.deliveries.clock.now()
        self.deliveries.delivered(chat, message.id, body, (), call)
        return message

    async def lose_answer(self, body: str, *, arrives_after: float | None, waits: float = 1.0) -> Attempt:
        """Send a message without an answer; it arrives after so many seconds, or never."""
        clock = self.deliveries.clock
        departed_at = clock.moment()
        if arrives_after is not None:
            asyncio.get_running_loop().call_later(arrives_after, self.take_in, CHAT, body)
        await asyncio.sleep(waits)
        _, number = self.deliveries._sender
        return Attempt(CHAT, body, departed_at, clock.moment(), (), (self.deliveries._sender[0], number))

    def pages(self, *_: Any, **__: Any) -> Pager[Message]:
        chat = self.chat(_[2])

        async def fetch(page: int, _: int) -> tuple[Message, ...]:
            self.pages_read += 1
            start = page * self.page_size
            # Its clock may be set, but what lags does so by true time.
            late = self.deliveries.clock.now() - self.habits.listing_lag.total_seconds()
            habits = evolve(self.habits, listing_lag=timedelta())
            shown = habits.listed(chat.messages, self.now, chat.pinned)
            listed = [one for one in shown if self.arrived[one.id] <= late][start : start + self.page_size]
            await self.call()
            document = [
                {
                    "id": one.id,
                    "body": one.body,
                    "user_id": one.sender.id,
                    "created_at": self.habits.stamp(one.created_at),
                }
                for one in listed
            ]
            return decode(encode(document), tuple[Message, ...], "messages")

        return Pager(fetch, asyncio.create_task)

    async def find_out(self, attempt: Attempt, settle: float = 90.0) -> Reconciled:
        api: Any = self
        evidence = Evidence(self.deliveries)
        return await Reconciler(api, "me", timedelta(seconds=settle), evidence).find_out(attempt)
