"""Catching up: which events may be handled, and what is to be read next, over all chats of a user.

At each connect every chat is behind; each is read once at least, beginning `settle` seconds after the connect
or later. How one chat is joined is in `chat_sync.py`, how it is read in `reading.py`.

Nothing here does I/O or knows a clock: what happens is reported by calls, what is to be read is asked for
with `next_job`, and what is to be written comes back as changes, which have to be written in the order in
which they came. So a model checker can drive it (`tests/gateway/model/`).
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from math import inf
from typing import Final

from attrs import define, evolve, field

from healthmsg.events import (
    ChatEvent,
    Event,
    GroupChatRemoved,
    Incomplete,
    MessageCreated,
    in_chat,
)
from healthmsg.gateway.chat_sync import ChatSync, Held
from healthmsg.gateway.hints import HintTrust, Listed, all_short, short
from healthmsg.gateway.inbox.base import Change, ChatRecord, if_any
from healthmsg.gateway.maker import Maker
from healthmsg.gateway.questions import Questions
from healthmsg.gateway.reading import Anchor, Found, Reading
from healthmsg.gateway.roster import Roster, is_of_roster
from healthmsg.gateway.schedule import DueChats, IdentifyChat, Job, ListChats, Listing, ReadChat, ReadQuestion
from healthmsg.ids import ChatAddress
from healthmsg.models import Message

SETTLE: Final = 5.0
"""Seconds after which a list shows what was sent [A]."""
_AUDIT_EVERY: Final = 1.0
"""Seconds: one call of the limit's 30 a second."""
_RETRY_AFTER: Final = 5.0
"""Seconds until a reading that failed is tried again."""
_SWEEP_EVERY: Final = 600.0
"""Seconds."""
_MOST_ALIASES: Final = 10_000
_MOST_LEFT: Final = 10_000


@define(eq=False)
class CatchUp:
    """All chats of a user.

    `known` are the chats of which the inbox has a record, each with its hint. `started_at` is when the
    inbox was started first, by the service's clock: of chats that were there then and have no anchor yet,
    what was sent after that is handled. `is_first_start` says that the list of these chats is still to be
    read.
    """

    _known: dict[str, int | None] = field(converter=all_short)
    _questions: Questions
    is_baseline_pending: bool = field(alias="is_first_start", kw_only=True)
    """Whether the list of the chats that are there at the start is still to be read."""
    _started_at: datetime | None = field(kw_only=True)
    _moment: Callable[[], datetime] = field(kw_only=True)
    _settle: float = field(default=SETTLE, kw_only=True)
    me: str = field(default="", init=False)
    """The id of the user."""
    trust: HintTrust = field(factory=HintTrust, init=False)
    missed: int = field(default=0, init=False)
    """How many messages were read that no frame had brought."""
    late: int = field(default=0, init=False)
    """How many of them were found by the audit, in chats that the hints had let out."""
    has_news: bool = field(default=False, init=False)
    """Whether `next_job` is to be asked again."""
    _since: float | None = field(default=None, init=False)
    _held: Held = field(factory=Held, init=False)
    _active: dict[str, ChatSync] = field(factory=dict, init=False)
    _records: dict[str, ChatRecord] = field(factory=dict, init=False)
    """Those of active chats, as far as they were loaded."""
    _unread: dict[str, None] = field(factory=dict, init=False)
    """Known chats that are behind, and of which nothing is held."""
    _first: dict[str, None] = field(factory=dict, init=False)
    """Those of them which seem to have changed."""
    _changed: dict[str, Listed] = field(factory=dict, init=False)
    """What the list said of chats whose hint has changed since they were read."""
    _hints_before: dict[str, Listed | None] = field(factory=dict, init=False)
    """What `_changed` had of chats that are being read, when that began."""
    _spared: set[str] = field(factory=set, init=False)
    """Chats that were not read since the connect, since their hints had not changed."""
    _suspects: set[str] = field(factory=set, init=False)
    """Chats in which something was missed, and whose hint had not changed before `settle`."""
    _unidentified: dict[str, None] = field(factory=dict, init=False)
    """Addresses that frames named, and that no list has shown."""
    _missing: dict[str, None] = field(factory=dict, init=False)
    """Known chats that are no longer listed, or could not be found."""
    _identify_at: float = field(default=-inf, init=False)
    """From when on the service is asked again what a chat is, after it has failed to say so."""
    _relisted_at: float = field(default=-inf, init=False)
    _left_at: dict[str, Anchor] = field(factory=dict, init=False)
    """Up to where chats were read that could not be found any more: some are back after a while."""
    _aliases: dict[str, str] = field(factory=dict, init=False)
    """Other addresses of known chats."""
    _listed_now: set[str] = field(factory=set, init=False)
    """What the reading of the lists that is under way has shown."""
    _due: DueChats = field(factory=DueChats, init=False)
    _at_work: set[str] = field(factory=set, init=False)
    _to_audit: set[str] = field(factory=set, init=False)
    """Those of them that are read though they are current."""
    _listing: Listing = field(factory=Listing, init=False)
    _sweep: deque[str] = field(factory=deque, init=False)
    _swept_at: float = field(default=-inf, init=False)
    _audit_at: float = field(default=0.0, init=False)
    _audit_ring: deque[str] = field(factory=deque, init=False)

    # --- the connection

    def connected(self, now: float, me: str) -> None:
        """Note that from now on frames come."""
        self.me = me
        self._since = now
        self._spared.clear()
        self._suspects.clear()
        self._sweep.clear()
        self._first.clear()
        self._unread = {key: None for key in self._known if key not in self._active}
        for key, sync in self._active.items():
            sync.connected(now)
            self._wake(key)
        self._listing.connected(now, now + self._settle)
        self._questions.ask_all(now + self._settle)
        self._audit_at = now + self._settle

    def lost(self) -> None:
        """Note that no frames come any more."""
        self._since = None
        for sync in self._active.values():
            sync.lost()

    def gap(self, key: str, now: float) -> None:
        """Note that something may have been missed in a chat until now."""
        if self._since is not None:
            key = self._aliases.get(key, key)
            self._sync(key).gap(now)
            self._wake(key)

    def unreadable(self, now: float) -> None:
        """Note that something came that could not be read: all chats are read once more.

        That is done at most every ten minutes.
        Nothing is held for that: a service that keeps sending what is not known here would hold up
        everything.
        """
        if now >= self._swept_at + _SWEEP_EVERY:
            self._swept_at = now
            self._sweep.extend(self._known)

    @property
    def behind(self) -> int:
        """How many chats are still to be read."""
        waiting = sum(not sync.is_current for sync in self._active.values())
        return waiting + len(self._unread)

    @property
    def keys(self) -> Collection[str]:
        """The chats that are known."""
        return self._known.keys()

    @property
    def held(self) -> int:
        """How many events wait for a reading."""
        return self._held.count

    @property
    def is_settled(self) -> bool:
        """Whether all chats are current, and the lists of chats were read after `settle`."""
        return self._since is not None and self._listing.is_done and not self.behind

    # --- frames

    def incomplete(self, frame: Incomplete, now: float) -> None:
        """Take a frame that announces a message and does not have it."""
        if self._since is not None:
            key = self._aliases.get(frame.chat.text, frame.chat.text)
            if frame.message_id is None:
                self._sync(key).gap(now)
            else:
                self._sync(key).expect(frame.message_id, now)
            self._wake(key)

    def event(self, event: Event, now: float, *, has_room: bool = True) -> list[Change]:
        """Take the event of a frame, and return what may be handled now.

        Without room, a message is left to a reading of its chat.
        """
        if isinstance(event, MessageCreated) and has_room:
            # Most are messages, and most chats are current: all else need not be looked at.
            current = self._active.get(event.chat.text)
            if current is not None and current.is_current and not self._aliases:
                return self._message(current, event, now)
        if not isinstance(event, ChatEvent):
            return [Change(None, (event,))] if has_room else []
        key = self._aliases.get(event.chat.text, event.chat.text)
        if key != event.chat.text:
            event = in_chat(event, ChatAddress.of_text(key))
        if not event.durable:
            return [Change(None, (event,))] if has_room else []
        is_roster = is_of_roster(event)
        handled = self._handled(key, event, now, is_roster=is_roster, has_room=has_room)
        if not handled:
            return []
        if not is_roster:
            return [Change(None, handled)]
        changes = if_any(self._change(key, handled))
        if any(isinstance(one, GroupChatRemoved) for one in handled):
            changes += self._gone(key)
        return changes

    def _message(self, sync: ChatSync, event: MessageCreated, now: float) -> list[Change]:
        handled = sync.event(event, now)
        if sync.is_to_be_looked_at:
            self._wake(event.chat.text)
        return [Change(None, handled)] if handled else []

    def _handled(
        self, key: str, event: Event, now: float, *, is_roster: bool, has_room: bool
    ) -> tuple[Event, ...]:
        sync = self._sync(key)
        if is_roster and sync.is_current and key not in self._records:
            sync.pause()
        if not has_room:
            sync.gap(now)
        is_left = isinstance(event, MessageCreated) and not has_room
        handled = () if is_left else sync.event(event, now)
        if sync.is_to_be_looked_at:
            self._wake(key)
        return handled

    # --- what to read next

    def next_job(self, now: float) -> Job | None:
        """Return what to read next; `None`: nothing, until `due`."""
        self.has_news = False
        if self._since is None:
            return None
        at = self._listing.due()
        if at is not None and at <= now:
            self._listing.begin(now)
            self._listed_now = set()
            return ListChats()
        if (key := self._next_unidentified(now)) is not None:
            self._at_work.add(key)
            return IdentifyChat(key)
        key = self._next_active(now) or self._next_unread() or self._next_swept()
        if key is None and (question := self._questions.next(now)) is not None:
            return ReadQuestion(question.chat, question.message_id)
        if key is None and now >= self._audit_at:
            key = self._next_audit(now)
        if key is None:
            return None
        self._at_work.add(key)
        return ReadChat(key, key not in self._records)

    def due(self) -> float | None:
        """Return when `next_job` is to be asked again if nothing else happens; `None`: not before that."""
        if self._since is None:
            return None
        due = [self._due.due(), self._questions.due(), self._listing.due()]
        if not self.is_baseline_pending and self._to_identify() is not None:
            due.append(self._identify_at)
        return min([self._audit_at, *(at for at in due if at is not None)])

    def _next_unidentified(self, now: float) -> str | None:
        if self.is_baseline_pending or now < self._identify_at:
            return None
        return self._to_identify()

    def _to_identify(self) -> str | None:
        waiting = (key for source in (self._unidentified, self._missing) for key in source)
        return next((key for key in waiting if key not in self._at_work), None)

    def _next_active(self, now: float) -> str | None:
        while (key := self._due.pop(now)) is not None:
            sync = self._active.get(key)
            if sync is None or key in self._unidentified or key in self._at_work:
                continue
            due = sync.due(self._settle)
            if due is not None and due <= now:
                return key
            if due is not None:
                self._push(due, key)
        return None

    def _next_unread(self) -> str | None:
        waits = self.trust.is_given and not self._listing.is_done
        waiting = self._first or ({} if waits else self._unread)
        key = next((key for key in waiting if key not in self._at_work), None)
        if key is not None:
            self._sync(key)
        return key

    def _next_swept(self) -> str | None:
        return self._first_free(self._sweep)

    def _first_free(self, keys: deque[str]) -> str | None:
        """Take out the first of these chats that may be read though they are current."""
        while keys:
            key = keys.popleft()
            if key in self._known and key not in self._at_work and self._sync(key).is_current:
                self._to_audit.add(key)
                return key
        return None

    def _next_audit(self, now: float) -> str | None:
        self._audit_at = now + _AUDIT_EVERY
        for key, sync in self._active.items():
            if key not in self._at_work and sync.is_to_be_audited(now - self._settle):
                self._active[key] = self._active.pop(key)  # so that the others have their turn
                self._to_audit.add(key)
                return key
        if not self._audit_ring:
            self._audit_ring.extend(self._known)
        return self._first_free(self._audit_ring)

    def _is_wanted(self, key: str) -> bool:
        """Return whether a chat is still to be read: its record may have been all that was missing."""
        sync = self._active[key]
        return key in self._to_audit or not sync.is_current or sync.due(self._settle) is not None

    # --- reading a chat

    def loaded(self, key: str, record: ChatRecord | None, now: float) -> list[Change]:
        """Take the record of a chat, and return what was held only because it was not there."""
        sync = self._active.get(key)
        if sync is None:  # it was removed meanwhile
            return []
        self._records[key] = record = record or ChatRecord(key)
        if sync.anchor is None and record.anchor is not None:
            sync.anchor = Anchor(record.anchor, record.anchor_at)
        sync.started_at = self._started_at
        return if_any(self._change(key, sync.resume(now)))

    def begin(self, key: str, now: float) -> Reading | None:
        """Begin to read a chat; `None`: it was removed meanwhile."""
        sync = self._active.get(key)
        if sync is None or key not in self._records or not self._is_wanted(key):
            self._at_work.discard(key)
            self._to_audit.discard(key)
            if sync is not None:
                self._wake(key)
            return None
        # What a list says later may be newer than what this reading shows.
        self._hints_before[key] = self._changed.get(key)
        return sync.begin(now)

    def finish(self, key: str, found: Found, now: float, *, room: int) -> list[Change]:
        """End a reading, and return what was found; at most `room` messages may be handled now."""
        self._at_work.discard(key)
        self._to_audit.discard(key)
        sync = self._active.get(key)
        if sync is None or not sync.is_being_read:  # it was removed meanwhile, and may be back
            return []
        is_baseline = sync.anchor is None
        # What it holds itself takes no more room when it is handled.
        room = max(room, 0) + sync.held
        step = sync.finish(found, now, self._settle, Maker(key, self.me, self._moment), room)
        if step.missed and not is_baseline:
            self.missed += step.missed
            self._judge_hint(key, step.missed)
        before = self._records[key]
        if step.anchor is not None:
            self._records[key] = evolve(before, anchor=step.anchor.ids, anchor_at=step.anchor.at)
        events = [*step.events]
        questions = self._questions.seen(
            ChatAddress.of_text(key), found.messages, step.recent, is_baseline=is_baseline
        )
        events += questions.events
        if sync.is_current and (listed := self._hints_before.pop(key, None)) is not None:
            events += self._take_over(key, listed)
        change = self._change(key, events, before)
        self._rest(key)
        return if_any(evolve(change, questions=questions.open, closed_questions=questions.closed))

    def _take_over(self, key: str, listed: Listed) -> list[Event]:
        """Bring a chat's record to what the list said before it was read."""
        if self._changed.get(key) is listed:
            del self._changed[key]
        self._known[key] = short(listed.hint)
        record, events = Roster(self._moment).listed(self._records[key], listed, ChatAddress.of_text(key))
        self._records[key] = evolve(record, hint=listed.hint)
        return events

    def failed(self, job: Job, now: float) -> None:
        """Note that a job failed; it is tried again."""
        if isinstance(job, ListChats):
            self._listing.failed(now + _RETRY_AFTER)
        elif isinstance(job, ReadQuestion):
            self._questions.failed(job.message_id, now + _RETRY_AFTER)
        else:
            if isinstance(job, IdentifyChat):
                self._identify_at = now + _RETRY_AFTER
            self._at_work.discard(job.key)
            self._to_audit.discard(job.key)
            if (sync := self._active.get(job.key)) is not None:
                sync.fail()
                self._hints_before.pop(job.key, None)
                self._push(now + _RETRY_AFTER, job.key)

    def look_for(self, key: str) -> None:
        """Note that a chat could not be found: the service is asked for it."""
        if key in self._known:
            self._missing[key] = None

    def _judge_hint(self, key: str, count: int) -> None:
        if key in self._changed:
            self.trust.missed(had_changed=True)
        elif key in self._spared:
            self.late += count
            self._hint_lied()
        elif self._listing.is_done:
            self._hint_lied()
        else:
            self._suspects.add(key)

    def _hint_lied(self) -> None:
        if self.trust.missed(had_changed=False):
            self._unread.update(dict.fromkeys(key for key in self._spared if key not in self._active))
            self._spared.clear()

    def _rest(self, key: str) -> None:
        """Forget what is not needed of a chat in which nothing is to be done."""
        sync = self._active[key]
        self._spared.discard(key)
        if sync.is_idle and key in self._known:
            del self._active[key], self._records[key]
        else:
            self._wake(key)

    # --- the list of chats

    def listed(self, chats: Iterable[Listed]) -> list[Change]:
        """Take what the list says of some chats."""
        changes: list[Change] = []
        for chat in chats:
            self._listed_now.add(chat.key)
            if chat.key not in self._known:
                changes += self._found_chat(chat)
            elif self._known[chat.key] != short(chat.hint):
                self._changed[chat.key] = chat
                if chat.key in self._unread:
                    self._first[chat.key] = None
                if chat.key in self._suspects:
                    self._suspects.discard(chat.key)
                    self.trust.missed(had_changed=True)
        return changes

    def listing_ended(self) -> None:
        """Note that all chats were listed."""
        is_last = self._listing.is_last
        self._listing.end()
        self.is_baseline_pending = False
        if not self._listing.is_done:
            return
        if is_last:
            for _ in self._suspects:
                self._hint_lied()
            self._suspects.clear()
            self._missing.update(dict.fromkeys(self._known.keys() - self._listed_now))
        self._listed_now = set()
        if self.trust.is_given:
            spared = [key for key in self._unread if key not in self._first]
            self._spared.update(spared)
            for key in spared:
                del self._unread[key]

    def _found_chat(self, chat: Listed) -> list[Change]:
        """Take in a chat that was not known: one of the baseline, or a new one."""
        key = chat.key
        self._known[key] = short(chat.hint)
        self._unidentified.pop(key, None)
        is_new = not self.is_baseline_pending
        if is_new:
            # What has been pushed of it may be in the list already: only a reading takes that over.
            anchor = self._left_at.pop(key, Anchor())
            record = ChatRecord(key, anchor=anchor.ids, anchor_at=anchor.at)
            self._changed[key] = chat
        else:
            record = ChatRecord(key, hint=chat.hint, members=chat.members, closed=chat.closed)
        if not is_new and key not in self._active:
            self._unread[key] = None
            return [Change(record, ())]
        sync = self._active.setdefault(key, ChatSync(None, since=self._since, total=self._held))
        self._records[key] = record
        sync.started_at = self._started_at
        if is_new:
            sync.anchor = Anchor(record.anchor or (), record.anchor_at)
        self._wake(key)
        created = Maker(key, self.me, self._moment).found(chat.user_id)
        return [Change(record, (created,) if is_new else ())]

    def identified(self, key: str, chat: Listed | None, now: float) -> list[Change]:
        """Take the answer to what a chat is; `None`: there is none, or none that this user may see."""
        self._at_work.discard(key)
        self._unidentified.pop(key, None)
        self._missing.pop(key, None)
        if chat is None:
            if key in self._known:  # for a while only, if a list still shows it then
                at = max(now + self._settle, self._relisted_at + _SWEEP_EVERY)
                self._relisted_at = at if self._listing.again(at) else self._relisted_at
            return self._gone(key)
        changes = [] if chat.key in self._known else self._found_chat(chat)
        if key in self._active:
            self._wake(key)
        if chat.key != key and key not in self._known:
            if len(self._aliases) >= _MOST_ALIASES:
                self._aliases.pop(next(iter(self._aliases)))
            self._aliases[key] = chat.key
            before = self._active.pop(key, None)
            for event in before.release() if before else ():
                changes += self.event(event, now)
            self.gap(chat.key, now)
        return changes

    def _gone(self, key: str) -> list[Change]:
        """Forget a chat that this user cannot see any more."""
        sync = self._active.pop(key, None)
        if sync is not None and sync.anchor is not None:
            self._left_at[key] = sync.anchor
            if len(self._left_at) > _MOST_LEFT:
                del self._left_at[next(iter(self._left_at))]
        self._records.pop(key, None)
        self._unread.pop(key, None)
        self._first.pop(key, None)
        self._changed.pop(key, None)
        events = list(sync.release()) if sync else []
        is_known = key in self._known
        self._known.pop(key, None)
        if not is_known and not events:
            return []
        if ChatAddress.of_text(key).kind.is_group:
            events.append(Maker(key, self.me, self._moment).removed())
        return [Change(ChatRecord(key), tuple(events), removed=True)]

    # --- questions

    def question_read(
        self, job: ReadQuestion, message: Message | None, verified: Event | None = None
    ) -> list[Change]:
        """Take a question that was read again; `None`: it is not there any more.

        `verified` is the event of a request for verification that was met.
        """
        found = self._questions.read(ChatAddress.of_text(job.key), job.message_id, message, verified)
        return if_any(Change(None, found.events, questions=found.open, closed_questions=found.closed))

    # --- inside

    def _sync(self, key: str) -> ChatSync:
        """Return what is known of a chat besides its record."""
        sync = self._active.get(key)
        if sync is None:
            is_behind = key in self._unread or key not in self._known
            self._unread.pop(key, None)
            if not self._unread:
                self._unread = {}  # an old one keeps the memory of what was in it
            self._first.pop(key, None)
            sync = self._active[key] = ChatSync(
                None, since=self._since, is_current=not is_behind, total=self._held
            )
            if key not in self._known:
                self._unidentified[key] = None
            self._wake(key)
        return sync

    def _wake(self, key: str) -> None:
        due = self._active[key].due(self._settle)
        # One that is queued for an earlier moment is looked at then.
        if due is not None and not self._due.is_before(key, due):
            self._push(due, key)

    def _push(self, at: float, key: str) -> None:
        self.has_news = True
        self._due.push(key, at)

    def _change(self, key: str, events: Iterable[Event], before: ChatRecord | None = None) -> Change:
        """Return what is to be written: events, and the record of their chat if it has changed."""
        record = self._records.get(key)
        before = before or record
        handled: list[Event] = []
        for event in events:
            kept: Event | None = event
            if record is not None and is_of_roster(event) and not event.caught_up:
                record, kept = Roster(self._moment).pushed(record, event)
            if kept is not None:
                handled.append(kept)
        if record is not None:
            self._records[key] = record
        return Change(None if record == before else record, tuple(handled))
