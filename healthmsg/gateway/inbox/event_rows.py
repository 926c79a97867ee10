"""How an event stands in the inbox."""

from datetime import datetime
from typing import Final

import orjson
from attrs import evolve

from healthmsg.codec import encode
from healthmsg.errors import HealthmsgError, InvalidInputError, JournalError
from healthmsg.events import ChatEvent, Event, MessageCreated, TimerDue, UnknownEvent, event_from_dict

_WITH_CHAT: Final = (ChatEvent, UnknownEvent, TimerDue)
_NOT_KEPT: Final = "�"
"""In place of NUL, which PostgreSQL does not take."""


def chat_of(event: Event) -> str:
    """Return the address of an event's chat as the inbox keeps it; empty: it is of no chat.

    Events of a timer without a chat come one after the other, as if it were one.
    """
    chat = event.chat if isinstance(event, _WITH_CHAT) else None
    if chat is None:
        return f"timer/{event.timer}".replace("\0", _NOT_KEPT) if isinstance(event, TimerDue) else ""
    return chat.text.replace("\0", _NOT_KEPT)


def body_of(event: Event) -> str:
    """Write an event as text."""
    try:
        return encode(event).decode()
    except InvalidInputError:
        pass
    # JSON that is nested so deeply can be read, but not written: it goes without what is not known of it.
    if isinstance(event, MessageCreated):
        event = evolve(event, extra={}, message=evolve(event.message, extra={}, payload=None))
    return encode(evolve(event, extra={})).decode()


def event_of(body: str) -> Event:
    """Read an event. One that another version of this package wrote may be of a kind that is not known here.

    Raises:
        JournalError: it is no event at all; its text is not in the error.
    """
    try:
        document = orjson.loads(body)
        try:
            return event_from_dict(document)
        except InvalidInputError:
            return UnknownEvent(
                id=document["id"],
                received_at=datetime.fromisoformat(document["received_at"]),
                name=document["kind"],
                chat=document.get("chat"),
                frame=document,
            )
    except (HealthmsgError, ValueError, KeyError, TypeError):
        pass
    raise JournalError("An event in the store cannot be read: the store was changed by another program.")


def of_attempt(event: Event, attempt: int) -> Event:
    """Return the event as the one of that start."""
    return event if event.attempt == attempt else evolve(event, attempt=attempt)
