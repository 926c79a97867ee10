"""What an inbox keeps, and what a stream of events needs of it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from attrs import define, field, frozen

from healthmsg.events import Event


@frozen
class ChatRecord:
    """What is known of a chat."""

    key: str = field(repr=False)
    """Its address as text: `conversations/…` or `groupchats/…`."""
    anchor: tuple[str, ...] | None = None
    """The ids of its newest settled messages, newest first; `None`: it was never read."""
    anchor_at: datetime | None = None
    """The newest of their stamps, by the service's clock."""
    hint: str | None = None
    """What the list of chats said of it before it was read last; see `hints.py`."""
    members: tuple[str, ...] | None = field(default=None, repr=False)
    """Of a group chat: the ids of its members, sorted; `None`: not known."""
    closed: bool = False
    counter: int = 0
    """How often its members have changed."""


@frozen
class OpenQuestion:
    """A question, or a request for verification, that can still be answered."""

    message_id: str
    chat: str = field(repr=False)
    """The chat's key."""
    answered: tuple[str, ...] = field(default=(), repr=False)
    """The ids of the events of answers that were given before the inbox was started."""


@define
class Change:
    """What is written at once about one chat. It is never changed; a frozen one takes three times as long."""

    chat: ChatRecord | None
    """Its new record; `None`: that stays as it is."""
    events: tuple[Event, ...]
    """To be handed out in this order, but for those whose id is known."""
    questions: tuple[OpenQuestion, ...] = ()
    """To be remembered."""
    closed_questions: tuple[str, ...] = ()
    """Ids of messages, to be forgotten."""
    removed: bool = False
    """Whether `chat` is to be forgotten."""


def if_any(change: Change) -> list[Change]:
    """Leave out a change that changes nothing."""
    is_any = change.chat is not None or change.events or change.questions or change.closed_questions
    return [change] if is_any else []


@frozen
class Start:
    """What an inbox knows when it is started."""

    started_at: datetime | None
    """When it was started for the first time, by the service's clock; `None`: that is not known."""
    has_baseline: bool
    """Whether the list of the chats that were there then has been read."""


class Inbox(Protocol):
    """Where events wait until they are handled: `MemoryInbox`, or `SqlInbox`, which outlives the process."""

    is_durable: bool
    on_taken_back: Callable[[], object]
    """Is called when events wait again that a cancelled `next` had taken."""

    async def hold(self) -> None:
        """Wait until this process alone has the inbox."""

    async def start(self, account: str, api_url: str, now: datetime | None) -> Start:
        """Begin: what was handed out and is not done is to be handed out again.

        Raises:
            JournalMismatchError: it belongs to another account.
        """

    async def set_baseline(self) -> None:
        """Note that the list of the chats that were there at the first start has been read."""

    async def keys(self) -> list[tuple[str, str | None]]:
        """Return the key and the hint of every chat."""

    async def load(self, keys: Sequence[str]) -> dict[str, ChatRecord]:
        """Return the records of chats, of those that it knows."""

    async def apply(self, changes: Sequence[Change]) -> int:
        """Write all of it, or nothing; return how many events are new."""

    async def next(self, most: int, done: Sequence[str] = ()) -> list[Event]:
        """Note that events are done, and return the next ones, which have begun by then.

        A done event's text is erased. Of what is returned, `attempt` says how often it was handed out.
        """

    async def release(self, ids: Sequence[str]) -> None:
        """Have events handed out again that were not handled to their end."""

    async def open_questions(self) -> list[OpenQuestion]:
        """Return the questions that are remembered."""

    def room(self) -> int:
        """Return how many more events it takes."""
