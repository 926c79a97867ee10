"""The rule of proof: what the messages of a chat say of one that was sent and not answered.

A message is *delivered*, *not sent* or *unknown*. This page is the whole rule; it needs neither a network nor
a clock, and `tests/delivery/test_proof.py` drives a model of a service with every habit below through it.

**Delivered** is a message in the chat

- that this user wrote, and that does not belong to another sending: its id is not known from that one's
  answer, and no equal one is on its way there. *Assumed: no other program of this user, which shares neither
  client nor journal, sends an equal text to the same chat in the same moments*;
- that says what was sent, in the very form or in one in which this service is known to keep texts and files
  (`rewriting`);
- whose stamp lies within the attempt, as known messages from before it or from the two hours after it show,
  or one and a steady `Date`: not before the call left, by more than the stamp's resolution and what is
  uncertain of the clocks (5 seconds, or as much as a known message leaves open, a minute at most), and not
  after `settle` had passed. *Assumed: the clock of the stamps was not set back around then, by just as long
  as an equal text is old.*

**Not sent** is what is absent. Absence counts only if all of this holds:

- `settle` has passed since the call ended, by a clock of ours that goes on while the machine sleeps, and
  since the service's `Date` was last seen to be set. *Assumed: a call that takes effect later than it was
  given up does so, and its message is listed, within `settle`.*
- The chat was read after that, to its end or past everything that can matter: 50 messages in succession that
  are older, newest first. A list in any other order is read to its end. It is read twice, since a message
  that vanishes meanwhile lets another slip past the border of two pages. *Assumed: fewer than
  50 old messages are pinned before the newest ones; a message has one id; nothing of this user's is deleted
  or expires within `settle`.*
- No other message of this user from around that time is there that belongs to no other sending, be it with
  another text that may be ours in another form. Around means: within the attempt, and 5 seconds on either
  side, also by a local time that is an hour more or less, unless known messages from before and after show
  that it did not change; 15 hours on either side where it is not known that the clock of the stamps was
  steady.
- The same search found a message that is known to be delivered, by this user, with a text that can be
  explained by what was sent, and was not ended before it came to that. One that is older than `settle` and
  is not found disproves the search.
- The stamps were calibrated on known messages (below): offset, zone and resolution are those of the
  stamps, and not of `Date`. *Assumed: the clocks of the service's servers differ by less than half a second
  from each other, and are not set between two known messages that agree, one from before the attempt and one
  from after `settle`; or not without their `Date` showing it.*

**Unknown** is everything else, and the reason is said.

What is found is believed where no message is known, and none will be: then the `Date` of answers stands for
the clock of the stamps, unless a stamp of the future shows that it does not. Absence is never believed then.

**Stamps.** The service stamps a message when it takes it in. All that is assumed of these stamps is that they
come from clocks that go on evenly: they may be cut to whole seconds or rounded, be of another zone, and of
another clock than the `Date` of an answer. Of a message whose delivery was answered, our own clock says
between which two moments it was taken in. So each such message shows how far the stamps are ahead of our
clock.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from attrs import define, field, frozen

from healthmsg.delivery.rewriting import File, Rewritings
from healthmsg.errors import DeliveryUnknownError
from healthmsg.ids import ChatAddress

_MICROSECOND: Final = timedelta(microseconds=1)
_MILLISECOND: Final = timedelta(milliseconds=1)
_SECOND: Final = timedelta(seconds=1)
_MINUTE: Final = timedelta(minutes=1)
_MOST_SAMPLES: Final = 64
# A sample from so soon after an attempt shows what the offset was at the attempt. Of a journal of which the
# newest part is missing, the moment of departure is known to the hour.
_SOON: Final = timedelta(hours=2)
# The servers of one service may differ by so much.
_SERVERS_DIFFER: Final = timedelta(seconds=0.5)
DRIFT: Final = 200e-6
"""How far two clocks drift apart, as a part of the time between: each is right to 100 parts in a million."""


@frozen
class Attempt:
    """A message that may have been delivered, and when its call was under way.

    Both moments are aware, and by the clock of this machine as it was when the client was made: setting the
    machine's time later does not move them. The call did not leave before `departed_at`, and was given up
    here by `ended_at`.
    """

    chat: ChatAddress
    body: str = field(repr=False)
    departed_at: datetime
    ended_at: datetime
    files: tuple[tuple[str, int | None], ...] = field(default=(), repr=False)
    """Name and, where it is known, size in bytes."""
    sender: tuple[str, int] = ("", 0)
    """Which process, and which user of it."""
    date_ahead: timedelta | None = None
    """By how much the service's `Date` was ahead of our clock when the call left; `None`: not known."""


def attempt_of(error: BaseException | None) -> Attempt | None:
    """Return what an error keeps of a message that may have been delivered, if it is about one."""
    attempt = error.attempt if isinstance(error, DeliveryUnknownError) else None
    return attempt if isinstance(attempt, Attempt) else None


@frozen
class Sample:
    """A message that was delivered: when its call left and was answered by our clock, and its stamp."""

    departed_at: datetime
    answered_at: datetime
    stamp: datetime


class Samples:
    """The last samples that were seen, by the message's id."""

    def __init__(self) -> None:
        self._by_id: dict[str, Sample] = {}

    def add(self, message_id: str, sample: Sample) -> None:
        """Keep a sample; of too many, the oldest goes."""
        self._by_id.pop(message_id, None)
        self._by_id[message_id] = sample
        if len(self._by_id) > _MOST_SAMPLES:
            del self._by_id[next(iter(self._by_id))]

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._by_id

    @property
    def all(self) -> tuple[Sample, ...]:
        """All of them."""
        return tuple(self._by_id.values())


@frozen
class Offset:
    """By how much stamps are ahead of our clock: between these two."""

    least: timedelta
    most: timedelta


def resolution_of(stamps: Iterable[datetime]) -> timedelta:
    """Return the coarsest resolution that all stamps that were seen may have: whole minutes, or finer.

    One stamp without seconds is a coincidence only once in sixty times. To hold whole minutes for seconds is
    to look for a message in the wrong minute, and to find it absent.
    """
    seen = set(stamps)
    if any(stamp.microsecond % 1000 for stamp in seen):
        return _MICROSECOND
    if any(stamp.microsecond for stamp in seen):
        return _MILLISECOND
    if seen and not any(stamp.second for stamp in seen):
        return _MINUTE
    return _SECOND


@frozen
class Stamps:
    """How to read stamps, near the time of one attempt."""

    resolution: timedelta
    offset: Offset | None
    """Learnt from stamps, or else from the `Date` of answers; `None`: nothing is known of it."""
    is_of_departure: bool
    """Whether it was that already when the attempt's call left."""
    is_steady: bool
    """Whether it is known that the clock of the stamps was not set around the attempt."""
    is_enclosed: bool = False
    """Whether known messages from before it and after it show that; `Date` shows no change of local time."""

    def width(self, stamp: datetime) -> timedelta:
        """Return how much of a moment such a stamp leaves out.

        One without a fraction may be an exact one by chance, or cut.
        """
        return self.resolution if stamp.microsecond else max(self.resolution, _SECOND)

    def moments(self, stamp: datetime) -> tuple[datetime, datetime]:
        """Return the first and the last moment by our clock at which this stamp can have been made.

        It may have been cut or rounded. Without an offset, any clock within a minute of ours is possible.
        """
        offset = self.offset or Offset(-_MINUTE, _MINUTE)
        width = self.width(stamp)
        return stamp - width / 2 - offset.most, stamp + width - offset.least


def read_stamps(  # noqa: PLR0913 - all that is known of the time
    samples: Sequence[Sample],
    seen: Iterable[datetime],
    *,
    departed_at: datetime,
    over_at: datetime,
    by_date: Offset | None,
    is_date_steady: bool,
) -> Stamps:
    """Learn how to read stamps near an attempt that can have arrived between these moments.

    The samples must agree, each widened by what clocks drift apart between it and the attempt: otherwise a
    clock was set, and anything between them is possible. The clock was steady around the attempt if samples
    from before it and from after it agree, or if the `Date` of answers shows no clock that was set.
    """
    resolution = resolution_of([*seen, *(sample.stamp for sample in samples)])
    by_date_only = Stamps(resolution, by_date, is_of_departure=by_date is not None, is_steady=False)
    offsets = [_offset_of(sample, by_date_only.width(sample.stamp), departed_at) for sample in samples]
    if not offsets:
        return by_date_only
    is_from_before = any(sample.answered_at <= departed_at for sample in samples)
    least, most = max(one.least for one in offsets), min(one.most for one in offsets)
    do_agree = least <= most
    if not do_agree:
        least, most = min(one.least for one in offsets), max(one.most for one in offsets)
    is_enclosed = is_from_before and any(sample.departed_at >= over_at for sample in samples)
    is_steady = do_agree and (is_enclosed or is_date_steady)
    return Stamps(
        resolution,
        Offset(least, most),
        is_of_departure=is_steady or any(sample.departed_at <= departed_at + _SOON for sample in samples),
        is_steady=is_steady,
        is_enclosed=do_agree and is_enclosed,
    )


def _offset_of(sample: Sample, width: timedelta, near: datetime) -> Offset:
    slack = _SERVERS_DIFFER + abs(sample.departed_at - near) * DRIFT
    return Offset(
        sample.stamp - width / 2 - sample.answered_at - slack,
        sample.stamp + width - sample.departed_at + slack,
    )


_UNCERTAIN: Final = timedelta(seconds=5)
_MOST_UNCERTAIN: Final = timedelta(minutes=1)
# Stamps may be in local time, which begins and ends to be summer time.
_LOCAL_TIME_CHANGES: Final = (timedelta(hours=1), timedelta(hours=-1))
# A clock that is set goes into another zone at most.
_UNSTEADY: Final = timedelta(hours=15)
# More than are pinned in any chat.
_ENOUGH_OLDER: Final = 50


@frozen
class Seen:
    """A message that was read in the chat."""

    id: str
    is_mine: bool | None
    """Whether this user wrote it; `None` where the service does not say."""
    stamp: datetime | None
    body: str = field(repr=False)
    files: tuple[File, ...] = field(default=(), repr=False)


@frozen
class Findings:
    """What a chat holds of an attempt, before it is known what belongs to other sendings."""

    ours: tuple[str, ...] = ()
    """Ids of the messages that are it, the oldest first, unless they are other sendings'."""
    similar: tuple[str, ...] = ()
    """Ids of those that may be it."""


@frozen
class Rule:
    """The rule for one attempt."""

    _attempt: Attempt
    _settle: timedelta
    _stamps: Stamps
    _rewritings: Rewritings

    def look_at(self, seen: Iterable[Seen]) -> Findings:
        """Sort out what is, or may be, the message that was attempted; `seen` is in the order of the list."""
        ours, similar = list[tuple[datetime, str]](), list[str]()
        for one in seen:
            if one.is_mine is False:
                continue
            if one.is_mine and one.stamp is not None and self._is_match(one, one.stamp):
                ours.append((one.stamp, one.id))
            elif self._may_match(one):
                similar.append(one.id)
        # Of equal stamps, as whole seconds have, the one that is listed later is older.
        ours.reverse()
        in_order = sorted(ours, key=lambda found: found[0])
        return Findings(tuple(message_id for _, message_id in in_order), tuple(similar))

    def is_long_before(self, stamp: datetime) -> bool:
        """Return whether a message with this stamp is older than everything that matters."""
        changed = max(self._changes)
        return self._stamps.moments(stamp)[1] + changed < self._attempt.departed_at - self._margin

    def _is_match(self, one: Seen, stamp: datetime) -> bool:
        offset = self._stamps.offset
        if offset is None or not self._stamps.is_of_departure:
            return False
        first, last = self._stamps.moments(stamp)
        uncertain = min(max(offset.most - offset.least, _UNCERTAIN), _MOST_UNCERTAIN)
        earliest = self._attempt.departed_at - self._stamps.width(stamp) * 1.5 - uncertain
        is_in_time = first >= earliest and last >= self._attempt.departed_at and first <= self._over_at
        return is_in_time and self._rewritings.is_surely(
            self._attempt.body, one.body, self._attempt.files, one.files
        )

    def _may_match(self, one: Seen) -> bool:
        if one.stamp is not None:
            first, last = self._stamps.moments(one.stamp)
            earliest, latest = self._attempt.departed_at - self._margin, self._over_at + self._margin
            if not any(last + change >= earliest and first + change <= latest for change in self._changes):
                return False
        return self._rewritings.may_be(self._attempt.body, one.body, self._attempt.files, one.files)

    @property
    def _changes(self) -> tuple[timedelta, ...]:
        """By how much local time may have changed between the samples and the attempt."""
        return (timedelta(), *(() if self._stamps.is_enclosed else _LOCAL_TIME_CHANGES))

    @property
    def _margin(self) -> timedelta:
        return _UNCERTAIN if self._stamps.is_steady else _UNSTEADY

    @property
    def _over_at(self) -> datetime:
        return self._attempt.ended_at + self._settle


@define
class Reading:
    """Decides when a list, read from its start, has come past everything that can matter."""

    _rule: Rule
    _older: list[datetime] = field(factory=list)
    """The stamps of the last messages, as far as they are older in succession."""
    _lowest: datetime | None = None
    _is_newest_first: bool = True
    _is_past_pinned: bool = False

    def is_enough(self, stamp: datetime | None) -> bool:
        """Take in the next message's stamp, and return whether all that follow are older."""
        if stamp is None:
            self._older.clear()
            return False
        if self._lowest is not None and stamp > self._lowest + _UNCERTAIN:
            # Allowed once: where old messages are pinned before the newest ones.
            self._is_newest_first = self._is_newest_first and not self._is_past_pinned
            self._is_past_pinned = True
            self._older.clear()
            self._lowest = stamp
        self._lowest = stamp if self._lowest is None else min(stamp, self._lowest)
        if not self._rule.is_long_before(stamp):
            self._is_past_pinned = True
            self._older.clear()
            return False
        self._older.append(stamp)
        is_falling = self._older[0] - stamp > _UNCERTAIN  # equal stamps show no order
        return self._is_newest_first and is_falling and len(self._older) >= _ENOUGH_OLDER
