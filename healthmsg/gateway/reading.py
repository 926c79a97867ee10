"""Reading the newest messages of a chat down to what is known.

A list is newest first [A], and it changes while it is read: a message that is deleted moves all older ones
up, so that one of them slips from a page that is still to be read to one that was read already. Therefore one
page that reaches down to the anchor is best: it shows the list as it was at one moment. Only when the service
does not give so many messages at once, further pages are read, and then all of them again until two passes
agree.

Nothing here does I/O or knows a clock: `read_to_anchor` is a generator that yields what to ask for and is
sent the answers.
"""

from collections.abc import Callable, Generator, Sequence
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from itertools import count, takewhile
from typing import Final

from attrs import field, frozen

from healthmsg.models import Message

FIRST_AMOUNT: Final = 20
"""Messages that are asked for first: as many as in the vendor's example [V]."""
_MOST_AT_ONCE: Final = 1280
ANCHOR_LENGTH: Final = 20
"""How many ids an anchor has at most."""
# A service may stamp messages by several clocks, and late.
LONG_BEFORE: Final = timedelta(days=1)
"""What is stamped so much earlier than the anchor is not new, wherever it stands in the list."""
_MOST_PASSES: Final = 20


@frozen
class Ask:
    """A page to ask for."""

    page: int
    amount: int


@frozen
class Anchor:
    """The newest messages that a list has shown one after another."""

    ids: tuple[str, ...] = ()
    """Newest first. None: the chat had no message."""
    at: datetime | None = None
    """The newest stamp among them [A]."""


class Reached(Enum):
    """What a reading went down to."""

    ANCHOR = "anchor"
    OLD = "what is a day older than the anchor"
    END = "the end of the list"
    NOTHING = "nothing that is known"
    """The list changed with each pass: there may be more."""


@frozen
class Found:
    """What a reading has found."""

    messages: tuple[Message, ...] = field(repr=False)
    """Newest first, each once; also some that are older than the anchor."""
    reached: Reached


Reading = Generator[Ask, Sequence[Message], Found]
Enough = Callable[[Sequence[Message]], Reached | None]


def read_baseline(since: datetime | None) -> Reading:
    """Read the newest messages of a chat that was never read: those since a moment, and one page at least.

    Where messages have no stamps, or the moment is not known, one page is all.
    """

    def enough(page: Sequence[Message]) -> Reached | None:
        oldest = page[-1].created_at if page else None
        return Reached.OLD if since is None or oldest is None or oldest < since else None

    return _read(enough)


def read_to_anchor(anchor: Anchor) -> Reading:
    """Read from the newest message down to the anchor; without one, to the end of the list."""
    return _read(partial(_reached, anchor))


def _read(enough: Enough) -> Reading:
    amount = FIRST_AMOUNT
    while True:
        page = yield Ask(0, amount)
        if reached := enough(page):
            return Found(tuple(page), reached)
        if len(page) < amount or amount >= _MOST_AT_ONCE:
            break
        amount *= 2
    if not page:
        return Found((), Reached.END)
    if len(page) < amount and (found := (yield from _whole(page, amount))) is not None:
        return found
    # As many as it gave are honoured for certain, so that no message is between two pages.
    return (yield from _in_passes(enough, len(page)))


def _whole(page: Sequence[Message], amount: int) -> Generator[Ask, Sequence[Message], Found | None]:
    """Return what a page shows if that is proven to be the whole list; `None`: it is not.

    At the moment of the second answer the list had no more messages than the page. All of the page are there
    a moment later, so they were there then, and nothing else was.
    """
    beyond = yield Ask(1, len(page))
    if beyond:
        return None
    again = yield Ask(0, amount)
    ids = [message.id for message in page]
    return Found(tuple(again), Reached.END) if [one.id for one in again[-len(ids) :]] == ids else None


def _in_passes(enough: Enough, amount: int) -> Reading:
    before: Found | None = None
    for number in range(_MOST_PASSES):
        # Every other pass has other borders between its pages: what slips over one is overlooked only there.
        now = yield from _one_pass(enough, max(1, amount - number % 2))
        if before is not None and _agree(before, now, max(1, amount - 1)):
            return now
        before = now
    return Found(() if before is None else before.messages, Reached.NOTHING)


def _one_pass(enough: Enough, amount: int) -> Reading:
    messages: dict[str, Message] = {}
    for number in count():
        page = yield Ask(number, amount)
        before = len(messages)
        for message in page:
            messages.setdefault(message.id, message)
        if len(messages) == before:
            return Found(tuple(messages.values()), Reached.END)
        if reached := enough(page):
            return Found(tuple(messages.values()), reached)
    raise AssertionError("there is always a next page")


def _agree(before: Found, now: Found, page_size: int) -> bool:
    """Return whether a second pass shows what the first did, but for what has been added since.

    What was added must fit in its first page: among more, one may have been overlooked. Both have gone
    down to what is known; how far the last page of each went below that does not count.
    """
    known = {message.id for message in before.messages}
    added = len(list(takewhile(lambda message: message.id not in known, now.messages)))
    first = [message.id for message in before.messages]
    second = [message.id for message in now.messages[added:]]
    if Reached.END not in {before.reached, now.reached}:
        shorter = min(len(first), len(second))
        first, second = first[:shorter], second[:shorter]
    return added < page_size and first == second


def _reached(anchor: Anchor, page: Sequence[Message]) -> Reached | None:
    """Return what a page goes down to, if that is enough."""
    lowest = lowest_known(anchor, page)
    if lowest is not None and _is_in_its_place(anchor, page, lowest):
        return Reached.ANCHOR
    if page and is_long_before(page[-1], anchor):
        return Reached.OLD
    return None


def lowest_known(anchor: Anchor, messages: Sequence[Message]) -> int | None:
    """Return the place of the oldest message that is in the anchor."""
    return max((place for place, one in enumerate(messages) if one.id in anchor.ids), default=None)


def _is_in_its_place(anchor: Anchor, page: Sequence[Message], lowest: int) -> bool:
    """Return whether a message of the anchor stands where it was sent, and was not pinned before newer ones.

    What is below it must be old then. Without stamps, only one at the very top may be a pinned one.
    """
    below = page[lowest + 1 :]
    if anchor.at is None or any(message.created_at is None for message in below):
        return lowest > 0 or not below or len(anchor.ids) == 1
    return all(message.created_at is not None and message.created_at <= anchor.at for message in below)


def is_long_before(message: Message, anchor: Anchor) -> bool:
    """Return whether a message is so much older than the anchor that it cannot be new."""
    at = message.created_at
    return at is not None and anchor.at is not None and at < anchor.at - LONG_BEFORE
