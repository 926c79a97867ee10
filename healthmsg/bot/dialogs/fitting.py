"""Whether an event is for a dialog, and for the step at which that waits."""

from typing import Any

import orjson

from healthmsg.bot.clock import BotClock
from healthmsg.bot.dialogs.asking import Ask
from healthmsg.bot.dialogs.document import HANDED_OVER, Document
from healthmsg.bot.dialogs.journal import SLEEP
from healthmsg.bot.dialogs.turn import AGAIN
from healthmsg.bot.store.records import DialogRecord, TimerRecord
from healthmsg.events import Event, MessageCreated, TimerDue, event_from_dict


def chat_of(event: Event) -> str | None:
    """Return the address of an event's chat, if it has one."""
    chat = getattr(event, "chat", None)
    return None if chat is None else chat.text


def place_of_event(event: Event) -> tuple[str, str] | None:
    """Return the address of an event's chat and the id of its user, if it has both."""
    chat, user = getattr(event, "chat", None), getattr(event, "user_id", None)
    return None if chat is None or user is None else (chat.text, user)


def is_for(event: TimerDue, number: int) -> bool:
    """Return whether a timer is that of a step that sleeps."""
    return bool(event.timer_kind == SLEEP and orjson.loads(event.document).get("number") == number)


def is_older(event: Event, record: DialogRecord, document: Document) -> bool:
    """Return whether a message came before what the dialog was started for.

    It was parked, and taken up again: what it says is no answer of a dialog that was not there.
    """
    if not isinstance(event, MessageCreated) or event.received_at >= record.started_at:
        return False
    return event.received_at < event_from_dict(orjson.loads(document.event)).received_at


def may_answer(step: Ask[Any], event: Event) -> bool:
    """Return whether an event is of one of those who are asked."""
    user = getattr(event, "user_id", None)
    asked = step.question.users or (step.run.record.user,)
    return user is None or user in asked


def hand_over_of(record: DialogRecord) -> str | None:
    """Return what tells the hand-over of a dialog's chat from its others; `None`: it is not handed over."""
    held = Document.of(record.document).held
    if held is None or held.why != HANDED_OVER:
        return None
    return f"{record.updated_at.isoformat()} {held.reason}"


def is_of_another_hand_over(event: TimerDue, record: DialogRecord) -> bool:
    """Return whether a chat that is to be taken back has been handed over again since that was asked for.

    One that is not handed over any more may have been taken back by this event, which comes again.
    """
    asked = orjson.loads(event.document).get("handed_over")
    return asked is not None and hand_over_of(record) not in {None, asked}


def later(event: TimerDue, record: DialogRecord, clock: BotClock) -> TimerRecord:
    """Return the timer of an event that is to be looked at again after a while."""
    due = clock.now() + AGAIN
    return TimerRecord(
        event.timer, due, record.chat, record.user, record.id, event.timer_kind, event.document
    )
