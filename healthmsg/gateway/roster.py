"""Who is in a group chat, and whether it is closed: what an event or a list changes in a chat's record."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from attrs import evolve, frozen

from healthmsg.events import (
    Event,
    GroupChatClosed,
    GroupChatRemoved,
    MembersAdded,
    MembersRemoved,
    numbered,
)
from healthmsg.gateway.hints import Listed
from healthmsg.gateway.inbox.base import ChatRecord
from healthmsg.ids import ChatAddress
from healthmsg.models import User

_OF_ROSTER: Final = (MembersAdded, MembersRemoved, GroupChatClosed, GroupChatRemoved)


def is_of_roster(event: Event) -> bool:
    """Return whether an event changes the record of its chat."""
    return isinstance(event, _OF_ROSTER)


@frozen
class Roster:
    """Brings events and records together."""

    moment: Callable[[], datetime]

    def pushed(self, record: ChatRecord, event: Event) -> tuple[ChatRecord, Event | None]:
        """Return the record after an event, and the event to be handled; `None`: it changes nothing."""
        if isinstance(event, MembersAdded):
            return self._added(record, event)
        if isinstance(event, MembersRemoved):
            return self._left(record, event)
        if isinstance(event, GroupChatClosed):
            return evolve(record, closed=True), (None if record.closed else event)
        return record, event

    def listed(self, record: ChatRecord, found: Listed, chat: ChatAddress) -> tuple[ChatRecord, list[Event]]:
        """Return the record as a list has it, and the events that were missed."""
        events: list[Event] = []
        if found.members is not None and record.members is None:
            record = evolve(record, members=found.members)
        elif found.members is not None:
            before, now = set(record.members or ()), set(found.members)
            if added := sorted(now - before):
                record, event = self._added(record, self._made(MembersAdded, chat, added))
                events += [event] if event else []
            if gone := sorted(before - now):
                record, event = self._left(record, self._made(MembersRemoved, chat, gone))
                events += [event] if event else []
        if found.closed and not record.closed:
            events.append(
                GroupChatClosed(id=f"closed/{chat.id}", chat=chat, received_at=self.moment(), caught_up=True)
            )
        return evolve(record, closed=found.closed), events

    def _made(
        self, kind: type[MembersAdded] | type[MembersRemoved], chat: ChatAddress, ids: list[str]
    ) -> MembersAdded | MembersRemoved:
        users = tuple(map(User, ids))
        return kind(id="", chat=chat, received_at=self.moment(), caught_up=True, user_id=None, users=users)

    @staticmethod
    def _added(record: ChatRecord, event: MembersAdded | MembersRemoved) -> tuple[ChatRecord, Event | None]:
        known = record.members
        added = {user.id for user in event.users} - set(known or ())
        if known is not None and not added:
            return record, None
        members = None if known is None else tuple(sorted({*known, *added}))
        record = evolve(record, members=members, counter=record.counter + 1)
        return record, numbered(event, record.counter)

    @staticmethod
    def _left(record: ChatRecord, event: MembersAdded | MembersRemoved) -> tuple[ChatRecord, Event | None]:
        known = record.members
        gone = {user.id for user in event.users} & set(known or ())
        if known is not None and not gone:
            return record, None
        members = None if known is None else tuple(one for one in known if one not in gone)
        record = evolve(record, members=members, counter=record.counter + 1)
        return record, numbered(event, record.counter)
