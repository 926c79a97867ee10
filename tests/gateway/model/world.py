"""A model of everything around the pure core: a service, its gateway, a store, a consumer, and what goes
wrong.

One schedule is a random sequence of small steps. Each request, each frame, each transaction and each kill is
a step of its own, so that anything can happen between any two of them."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from zlib import crc32

from attrs import define, field

from healthmsg.events import Event, Incomplete, MessageCreated
from healthmsg.gateway.catch_up import CatchUp
from healthmsg.gateway.hints import Listed
from healthmsg.gateway.inbox.base import Change, ChatRecord
from healthmsg.gateway.questions import Questions
from healthmsg.gateway.reading import Ask, Reading
from healthmsg.gateway.schedule import IdentifyChat, Job, ListChats, ReadChat, ReadQuestion
from healthmsg.ids import ChatAddress
from healthmsg.models import Message

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SETTLE = 5.0


@define(eq=False)
class Post:
    """A message of the service."""

    id: str
    chat: str
    at: float
    is_deleted: bool = False

    def shown(self, *, is_stamped: bool) -> Message:
        whole = EPOCH + timedelta(seconds=int(self.at))
        return Message(id=self.id, body="x", user_id="u", created_at=whole if is_stamped else None)


@define(eq=False)
class Service:
    """The service: chats with messages, lists that lag, and a gateway."""

    random: Random
    now: float = 1000.0
    cap: int = 1000
    """How many messages a page has at most."""
    lag: float = 0.0
    horizon: float = 0.0
    is_stamped: bool = True
    lies: float = 0.0
    """The share of chats whose hint never changes."""
    chats_a_page: int = 1000
    fails: float = 0.03
    """The share of requests that fail."""
    posts: dict[str, list[Post]] = field(factory=dict)
    chats_at: dict[str, float] = field(factory=dict)
    queue: list[Event | Incomplete] | None = None
    """Frames under way; `None`: no connection."""
    duplicates: float = 0.0
    reorders: float = 0.0
    bodyless: float = 0.0
    inversions: set[tuple[str, str]] = field(factory=set)
    """Pairs of messages of which the gateway has pushed the newer one first."""

    def add_chat(self) -> str:
        key = f"conversations/c{len(self.chats_at)}"
        self.chats_at[key] = self.now
        self.posts[key] = []
        return key

    def post(self, key: str) -> Post:
        made = Post(f"m{sum(map(len, self.posts.values()))}", key, self.now)
        self.posts[key].append(made)
        if self.queue is not None:
            message = made.shown(is_stamped=False)
            address = ChatAddress.of_text(key)
            frame: Event | Incomplete = (
                Incomplete(address, made.id)
                if self.random.random() < self.bodyless
                else MessageCreated(id=f"message/{made.id}", chat=address, received_at=EPOCH, message=message)
            )
            self.queue.append(frame)
            if self.random.random() < self.duplicates:
                self.queue.append(frame)
        return made

    def next_frame(self) -> Event | Incomplete:
        assert self.queue
        index = 0
        if self.random.random() < self.reorders:
            index = self.random.randrange(min(3, len(self.queue)))
        frame = self.queue.pop(index)
        for overtaken in self.queue[:index]:
            if getattr(overtaken, "chat", None) == getattr(frame, "chat", None):
                self.inversions.add((_id_of(overtaken), _id_of(frame)))
        return frame

    def page(self, key: str, ask: Ask) -> list[Message]:
        seen_until = self._seen_until()
        listed = [post for post in self.posts[key] if post.at <= seen_until and not post.is_deleted][::-1]
        start = ask.page * ask.amount
        return [
            p.shown(is_stamped=self.is_stamped) for p in listed[start : start + min(ask.amount, self.cap)]
        ]

    def _seen_until(self) -> float:
        """A list lags, but does not go back."""
        self.horizon = max(self.horizon, self.now - self.random.uniform(0, self.lag))
        return self.horizon

    def listed(self, page: int | None = None) -> list[Listed]:
        """Return a page of the list of chats, the newest first, or all of it."""
        seen_until = self._seen_until()
        chats = [key for key, at in self.chats_at.items() if at <= seen_until][::-1]
        if page is not None:
            chats = chats[page * self.chats_a_page :][: self.chats_a_page]
        return [Listed(key, self._hint(key, seen_until)) for key in chats]

    def has_failed(self) -> bool:
        return self.random.random() < self.fails

    def _hint(self, key: str, seen_until: float) -> str:
        if self.lies and crc32(key.encode()) % 100 < self.lies * 100:
            return "never changes"
        return str(sum(post.at <= seen_until for post in self.posts[key]))


def _id_of(frame: Event | Incomplete) -> str:
    return frame.message.id if isinstance(frame, MessageCreated) else getattr(frame, "message_id", "")


@define(eq=False)
class Store:
    """What outlives a kill."""

    records: dict[str, ChatRecord] = field(factory=dict)
    rows: list[Event] = field(factory=list)
    state: dict[str, str] = field(factory=dict)
    """Of each event: new, running, done."""
    twice: int = 0
    is_started: bool = False
    started_at: float = 0.0
    has_baseline: bool = False

    def apply(self, change: Change) -> None:
        for event in change.events:
            if event.id not in self.state:
                self.state[event.id] = "new"
                self.rows.append(event)
        if change.removed and change.chat is not None:
            self.records.pop(change.chat.key, None)
        elif change.chat is not None:
            self.records[change.chat.key] = change.chat

    def next(self) -> Event | None:
        for event in self.rows:
            if self.state[event.id] == "new":
                self.state[event.id] = "running"
                return event
        return None

    def restart(self) -> None:
        for event_id, state in self.state.items():
            if state == "running":
                self.state[event_id] = "new"


@define(eq=False)
class Work:
    """A job under way."""

    job: Job
    page: int = 0
    """Of the list of chats: the one to be read next."""
    reading: Reading | None = None
    ask: Ask | None = None


_BASELINE = Change(None, ())
CoreFactory = type[CatchUp]


@define(eq=False)
class Client:
    """The process: the core, its jobs, what it has not written yet, and the consumer. A kill ends it."""

    service: Service
    store: Store
    make: CoreFactory
    handled: Counter[str]
    may_be_twice: set[str]
    order: list[str]
    room: int = 10**9
    acknowledges_first: bool = False
    core: CatchUp = field(init=False)
    jobs: list[Work] = field(factory=list)
    pending: list[Change] = field(factory=list)
    running: Event | None = None
    is_connected: bool = False

    def __attrs_post_init__(self) -> None:
        store = self.store
        store.restart()
        if not store.is_started:
            store.is_started, store.started_at = True, self.service.now
        self.core = self.make(
            {key: record.hint for key, record in store.records.items()},
            Questions((), "me", lambda: EPOCH),
            is_first_start=not store.has_baseline,
            started_at=EPOCH + timedelta(seconds=int(store.started_at)) if self.service.is_stamped else None,
            moment=lambda: EPOCH,
            settle=SETTLE,
        )

    # --- steps

    def connect(self) -> None:
        self.service.queue = []
        self.core.connected(self.service.now, "me")
        self.is_connected = True

    def drop(self) -> None:
        self.service.queue = None
        self.core.lost()
        self.is_connected = False

    def frame(self) -> None:
        frame = self.service.next_frame()
        now = self.service.now
        if isinstance(frame, Incomplete):
            self.core.incomplete(frame, now)
        else:
            self.pending += self.core.event(frame, now, has_room=self._room() > 0)

    def start_job(self) -> bool:
        job = self.core.next_job(self.service.now)
        if job is None:
            return False
        self.jobs.append(Work(job))
        return True

    def work(self, work: Work) -> None:
        """Do one step of a job; each request is one."""
        job, now = work.job, self.service.now
        if not isinstance(job, ReadChat) and self.service.has_failed():
            self.jobs.remove(work)
            self.core.failed(job, now)
        elif isinstance(job, ListChats):
            self._list(work)
        elif isinstance(job, IdentifyChat):
            known = {chat.key: chat for chat in self.service.listed()}
            if job.key in known or job.key not in self.service.chats_at:
                self.pending += self.core.identified(job.key, known.get(job.key), now)
            else:
                self.pending += self.core.identified(job.key, Listed(job.key, "0"), now)
            self.jobs.remove(work)
        elif isinstance(job, ReadQuestion):
            self.jobs.remove(work)
        else:
            self._read(work, job)

    def _list(self, work: Work) -> None:
        page = self.service.listed(work.page)
        work.page += 1
        self.pending += self.core.listed(page)
        if len(page) < self.service.chats_a_page:
            self.core.listing_ended()
            self.pending.append(_BASELINE)
            self.jobs.remove(work)

    def _read(self, work: Work, job: ReadChat) -> None:
        now = self.service.now
        if work.reading is None:
            if job.needs_record:
                if self.pending:  # a record is loaded behind what is still to be written
                    return
                self.pending += self.core.loaded(job.key, self.store.records.get(job.key), now)
            work.reading = self.core.begin(job.key, now)
            if work.reading is None:
                self.jobs.remove(work)
                return
            work.ask = next(work.reading)
            return
        if self.service.has_failed():
            self.jobs.remove(work)
            self.core.failed(job, now)
            return
        assert work.ask is not None
        page = self.service.page(job.key, work.ask)
        try:
            work.ask = work.reading.send(page)
        except StopIteration as end:
            self.jobs.remove(work)
            self.pending += self.core.finish(job.key, end.value, now, room=max(0, self._room()))

    def write(self) -> None:
        change = self.pending.pop(0)
        if change is _BASELINE:
            self.store.has_baseline = True
        else:
            self.store.apply(change)

    def consume(self) -> None:
        """Handle an event: to begin and to end it are two steps."""
        if self.running is not None:
            self._end(self.running)
            self.running = None
        else:
            self.running = self.store.next()
            if self.running is not None and self.acknowledges_first:
                self.store.state[self.running.id] = "done"

    def _end(self, event: Event) -> None:
        self.handled[event.id] += 1
        if self.handled[event.id] == 1:
            self.order.append(event.id)
        self.store.state[event.id] = "done"

    def killed(self) -> None:
        self.service.queue = None
        if self.running is not None:
            # It may have been handled to its end just then.
            if self.service.random.random() < 0.5:
                self.handled[self.running.id] += 1
                if self.handled[self.running.id] == 1:
                    self.order.append(self.running.id)
            self.may_be_twice.add(self.running.id)

    def _room(self) -> int:
        waiting = sum(state == "new" for state in self.store.state.values()) if self.room < 10**9 else 0
        return self.room - waiting - sum(len(change.events) for change in self.pending)


@define
class Verdict:
    """What came of one schedule."""

    lost: list[str]
    twice: list[str]
    out_of_order: list[tuple[str, str]]
    unsettled: bool = False

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.twice or self.out_of_order or self.unsettled)


def inverted(
    order: Iterable[str], posts: Iterable[Post], excused: set[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return pairs of neighbours in the service's order that were handled the other way round."""
    place = {event_id.removeprefix("message/"): index for index, event_id in enumerate(order)}
    # Where a message stood that was deleted before it was read, nothing tells.
    handled = [post for post in posts if post.id in place and not post.is_deleted]
    return [
        (older.id, newer.id)
        for index, older in enumerate(handled)
        for newer in handled[index + 1 :]
        if place[newer.id] < place[older.id] and (older.id, newer.id) not in excused
    ]
