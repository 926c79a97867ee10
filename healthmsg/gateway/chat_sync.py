"""One chat: which of its events may be handled now, which are held, and when it must be read.

The gateway is a hint. A frame is handled as it comes while the chat is *current*: since it was read, nothing
can have been missed. Whatever is odd (the connection was lost, a frame had no text or could not be read, a
queue was full) is a *gap*. From then on events of the chat are held until a reading of its list joins what
was known with what is held. A list may lag behind the gateway, by `settle` seconds at most [A]: a reading
that began earlier than that after the gap shows some of what was missed, which is handled at once, but only a
later one ends the gap.

Nothing here does I/O or knows a clock; `now` is in seconds of any clock that goes on during suspend.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import partial
from itertools import dropwhile
from math import inf
from typing import Final, Protocol

from attrs import define, field, frozen

from healthmsg.events import Event, MessageCreated, MessageDeleted
from healthmsg.gateway.reading import (
    ANCHOR_LENGTH,
    LONG_BEFORE,
    Anchor,
    Found,
    Reached,
    Reading,
    is_long_before,
    lowest_known,
    read_baseline,
    read_to_anchor,
)
from healthmsg.models import Message

MOST_HELD: Final = 200
"""Events of one chat that are held. More are a further gap: the list has the messages."""
_PAUSE: Final = 1.0
"""Seconds between two readings of a chat."""
_MOST_TRIES: Final = 3
"""Readings that do not show an announced message, until it counts as deleted."""
MOST_UNCONFIRMED: Final = 20
"""Messages that came as frames since the list was read. With more it is read again, so that the anchor
follows."""


class MakeEvent(Protocol):
    """Makes events of what a list shows, for one chat."""

    def created(self, message: Message, *, is_pushed: bool) -> MessageCreated:
        """Return the event of a message; `is_pushed`: a frame has brought it, too."""

    def deleted(self, message_id: str) -> MessageDeleted:
        """Return the event of a message that is not listed any more."""


@frozen
class Step:
    """What a reading led to."""

    events: tuple[Event, ...]
    """To be handled, in this order."""
    anchor: Anchor | None
    """The new anchor; `None`: there is none yet."""
    recent: frozenset[str] = frozenset()
    """The ids of messages that were found and handled since the anchor, these included."""
    missed: int = 0
    """How many of the events are messages that no frame has brought."""


@define(eq=False)
class Held:
    """How many events all chats together hold."""

    count: int = 0


@define(eq=False)
class ChatSync:
    """One chat."""

    anchor: Anchor | None
    """What lists have shown and is settled; `None`: the chat was never read, and nothing older is new."""
    started_at: datetime | None = None
    """When the inbox was started first, by the service's clock; `None`: that is not known.

    Before the chat was read for the first time, what was sent since then is new.
    """
    since: float | None = None
    """From when on no event can have been missed; `None`: events are being missed, without a connection."""
    is_current: bool = False
    _total: Held = field(factory=Held)
    _seen: dict[str, float] = field(factory=dict)
    """Messages above the anchor that were handed on, in order, and when they were seen first."""
    _held: list[Event] = field(factory=list)
    _began: float | None = None
    """When the reading that is under way began."""
    _was_read_since_gap: bool = False
    _last_began: float = -inf
    is_paused: bool = False
    """Whether it is only held up until its record is loaded."""
    _expected: dict[str, int] = field(factory=dict)
    """Messages that were announced without their text, and how often a reading did not show them."""

    # --- what happens

    def event(self, event: Event, now: float) -> tuple[Event, ...]:
        """Take an event of a frame; return what may be handled now."""
        if isinstance(event, MessageCreated) and event.message.id in self._seen:
            return ()
        if not self.is_current:
            self._hold(event, now)
            return ()
        self._note(event, now)
        return (event,)

    def pause(self) -> None:
        """Hold events until `resume`."""
        self.is_current, self.is_paused = False, True

    def resume(self, now: float) -> tuple[Event, ...]:
        """Return what was held, if nothing was missed meanwhile."""
        if not self.is_paused:
            return ()
        self.is_current, self.is_paused = True, False
        held = self.release()
        for event in held:
            self._note(event, now)
        return held

    def release(self) -> tuple[Event, ...]:
        """Return what is held: the chat cannot be read."""
        held = tuple(self._held)
        self._hold_only([])
        return held

    def expect(self, message_id: str, now: float) -> None:
        """Note that a message was announced without its text."""
        if message_id not in self._seen:
            self._expected.setdefault(message_id, 0)
            self.gap(now)

    def gap(self, now: float) -> None:
        """Note that something was missed, or may have been, until now."""
        self.is_current = self.is_paused = False
        self._was_read_since_gap = False
        if self.since is not None:
            self.since = now

    def connected(self, now: float) -> None:
        """Note that from now on frames come."""
        self.since = now
        self.gap(now)

    def lost(self) -> None:
        """Note that no frames come any more."""
        self.since = None
        self.is_current = self.is_paused = False

    # --- reading

    @property
    def is_being_read(self) -> bool:
        """Whether a reading is under way."""
        return self._began is not None

    @property
    def held(self) -> int:
        """How many events are held."""
        return len(self._held)

    @property
    def is_idle(self) -> bool:
        """Whether nothing needs to be remembered of it but its anchor."""
        return self.is_current and not self._seen and not self.is_being_read

    @property
    def is_to_be_looked_at(self) -> bool:
        """Whether the last event may be why `due` says that it is to be read."""
        return not self.is_current or len(self._seen) == MOST_UNCONFIRMED + 1

    def due(self, settle: float) -> float | None:
        """Return from when on it is to be read; `None`: not now."""
        if self.since is None or self.is_being_read:
            return None
        if self.is_paused:
            return self.since
        if self.is_current:
            return self._last_seen_at() + settle if len(self._seen) > MOST_UNCONFIRMED else None
        wanted = self.since + settle if self._was_read_since_gap else self.since
        return max(wanted, self._last_began + _PAUSE)

    def is_to_be_audited(self, settled_until: float) -> bool:
        """Return whether a reading would move its anchor."""
        can_be_read = self.is_current and bool(self._seen) and not self.is_being_read
        return can_be_read and self._last_seen_at() <= settled_until

    def _last_seen_at(self) -> float:
        return next(reversed(self._seen.values()))

    def begin(self, now: float) -> Reading:
        """Begin to read."""
        self._began = self._last_began = now
        return read_baseline(self.started_at) if self.anchor is None else read_to_anchor(self.anchor)

    def fail(self) -> None:
        """End a reading that failed."""
        self._began = None

    def finish(self, found: Found, now: float, settle: float, make: "MakeEvent", room: int) -> Step:
        """End a reading; `make` makes events of messages, and at most `room` of them may be handled now."""
        began, self._began = self._began, None
        assert began is not None  # noqa: S101 - it has begun
        is_last = (
            found.reached is not Reached.NOTHING and self.since is not None and began >= self.since + settle
        )
        self._was_read_since_gap = True
        gone = self._deleted(found, began - settle)
        for message_id in gone:
            self._seen.pop(message_id, None)
        lacks = self._lacks_announced(found)
        joins = self.is_current or (is_last and not lacks)
        merged = self._merged(found, make)
        handled, held = (merged, []) if joins else _split(merged, found)
        handled, left = handled[:room], handled[room:]
        if left or (is_last and not joins):
            self.gap(now)
        elif joins:
            self.is_current = True
        # The list has the messages that are left, if the anchor says which of them are new.
        kept = [event for event in left if self.anchor is None or not isinstance(event, MessageCreated)]
        self._hold_only([*kept, *held][:MOST_HELD])
        for event in handled:
            self._note(event, now)
        recent = frozenset(message.id for message in found.messages if message.id in self._seen)
        self._move_anchor(found, now - settle, {message_id_of(event) for event in left})
        missed = sum(isinstance(event, MessageCreated) and event.caught_up for event in handled)
        return Step((*map(make.deleted, gone), *handled), self.anchor, recent, missed)

    # --- inside

    def _hold(self, event: Event, now: float) -> None:
        if isinstance(event, MessageCreated):
            held = (one.message.id for one in self._held if isinstance(one, MessageCreated))
            if event.message.id in held:
                return
        if len(self._held) >= MOST_HELD:
            self.gap(now)
            return
        self._held.append(event)
        self._total.count += 1

    def _hold_only(self, events: list[Event]) -> None:
        self._total.count += len(events) - len(self._held)
        self._held = events

    def _note(self, event: Event, now: float) -> None:
        if isinstance(event, MessageCreated):
            self._seen.setdefault(event.message.id, now)
        elif isinstance(event, MessageDeleted):
            self._seen.pop(event.message_id, None)

    def _is_known(self, message_id: str) -> bool:
        return message_id in self._seen or (self.anchor is not None and message_id in self.anchor.ids)

    def _new_in(self, found: Found) -> list[Message]:
        """Return what a reading shows that is to be handled, oldest first."""
        messages: Sequence[Message] = found.messages
        if self.anchor is None:
            held = {event.message.id for event in self._held if isinstance(event, MessageCreated)}
            new = [
                message
                for message in messages
                if message.id not in self._seen
                and (message.id in held or _is_since(message, self.started_at))
            ]
            return new[::-1]
        lowest, at = lowest_known(self.anchor, messages), self.anchor.at
        if lowest is not None and (found.reached is Reached.ANCHOR or at is None):
            messages = messages[:lowest]
        elif at is not None:
            since = at if self.started_at is None else max(at, self.started_at)
            messages = [one for one in messages if one.created_at is None or one.created_at >= since]
        elif self.started_at is not None:
            # A chat that is new to the user may be an old one: nothing from long before the inbox is new.
            since = self.started_at - LONG_BEFORE
            messages = [one for one in messages if one.created_at is None or one.created_at >= since]
        return [
            message
            for message in reversed(messages)
            if not self._is_known(message.id) and not is_long_before(message, self.anchor)
        ]

    def _merged(self, found: Found, make: MakeEvent) -> list[Event]:
        """Put what was read and what is held into one order.

        It is that of the list. What is held and not listed is newer than all that the list shows, or was
        deleted meanwhile: it stands after all that was held before it, and before what was held next.
        """
        new = self._new_in(found)
        places = {message.id: place for place, message in enumerate(new)}
        pushed: set[str] = set()
        before: dict[int, list[Event]] = {}
        waiting: list[Event] = []
        last = -1
        for event in self._held:
            message_id = message_id_of(event)
            place = places.get(message_id)
            if place is None:
                if message_id not in self._seen:
                    waiting.append(event)
                continue
            pushed.add(message_id)
            if place > last:  # else its frame was overtaken
                last = place
                before[place], waiting = waiting, []
        merged: list[Event] = []
        for place, message in enumerate(new):
            merged += before.get(place, ())
            merged.append(make.created(message, is_pushed=message.id in pushed))
        return merged + waiting

    def _deleted(self, found: Found, settled_until: float) -> list[str]:
        """Return the messages that were known and are no longer listed, though newer and older ones are."""
        if self.anchor is None:
            return []
        settled = (message_id for message_id, at in self._seen.items() if at <= settled_until)
        known = [*reversed(self.anchor.ids), *settled]
        listed = {message.id for message in found.messages}
        present = [index for index, message_id in enumerate(known) if message_id in listed]
        if len(present) < 2:  # noqa: PLR2004 - one on either side
            return []
        between = known[present[0] : present[-1]]
        return [message_id for message_id in between if message_id not in listed]

    def _lacks_announced(self, found: Found) -> bool:
        """Return whether a message that was announced is not listed yet, and may still be."""
        listed = {message.id for message in found.messages}
        self._expected = {
            message_id: tries + 1
            for message_id, tries in self._expected.items()
            if tries < _MOST_TRIES and message_id not in listed and message_id not in self._seen
        }
        return bool(self._expected)

    def _move_anchor(self, found: Found, settled_until: float, left: AbstractSet[str]) -> None:
        """Let the anchor be the newest messages of the list that are settled, below all that is left."""
        if self.anchor is None:
            if not left:
                older = [message for message in found.messages if message.id not in self._seen]
                self.anchor = anchor_of(older, self.started_at)
        elif found.reached is not Reached.NOTHING:
            below = max((i for i, one in enumerate(found.messages) if one.id in left), default=-1) + 1
            settled = list(dropwhile(partial(self._is_fresh, settled_until), found.messages[below:]))
            if settled:
                self.anchor = anchor_of(settled, self.anchor.at, self.anchor.ids)
                for message in settled:
                    self._seen.pop(message.id, None)

    def _is_fresh(self, settled_until: float, message: Message) -> bool:
        """Return whether a message came so late that older ones may still be missing in the list."""
        assert self.anchor is not None  # noqa: S101 - of one that was read
        seen_at = self._seen.get(message.id)
        return message.id not in self.anchor.ids and (seen_at is None or seen_at > settled_until)


def _split(merged: Sequence[Event], found: Found) -> tuple[list[Event], list[Event]]:
    """Return what the list shows, and what it does not show yet."""
    listed = {message.id for message in found.messages}
    shown = [event for event in merged if message_id_of(event) in listed]
    return shown, [event for event in merged if message_id_of(event) not in listed]


def _is_since(message: Message, since: datetime | None) -> bool:
    return since is not None and message.created_at is not None and message.created_at >= since


def message_id_of(event: Event) -> str:
    """Return the id of the message that an event brings, or nothing."""
    return event.message.id if isinstance(event, MessageCreated) else ""


def anchor_of(
    messages: Sequence[Message], at: datetime | None = None, before: tuple[str, ...] = ()
) -> Anchor:
    """Return the anchor at the newest of these messages; `at` and `before`: its stamp and ids up to now.

    Where the page ended within the old one, that goes on below: of a short one, all may soon be deleted.
    """
    newest = messages[:ANCHOR_LENGTH]
    stamps = [message.created_at for message in newest if message.created_at is not None]
    ids = tuple(message.id for message in newest)
    if len(ids) == len(messages) and ids and ids[-1] in before:
        ids += before[before.index(ids[-1]) + 1 :]
    return Anchor(ids[:ANCHOR_LENGTH], max(stamps, default=at))
