"""What the service's timestamps mean by our own clock, learnt from messages that were delivered.

The service stamps a message when it takes it in. All that is assumed of these stamps is that they come from
clocks that go on evenly: they may be cut to whole seconds or rounded, be of another zone, and of another
clock than the `Date` of an answer. Of a message whose delivery was answered, our own clock says between which
two moments it was taken in. So each such message shows how far the stamps are ahead of our clock.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from attrs import frozen

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
