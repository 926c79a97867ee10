"""How the service stores what it is sent and shows it later, where that is not known of the real one."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal, Protocol, TypeVar

from attrs import field, frozen

_SECOND = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Listable(Protocol):
    id: str
    created_at: datetime


MessageT = TypeVar("MessageT", bound=_Listable)


def _unchanged_text(value: str) -> str:
    return value


def _unchanged_size(size: int) -> int:
    return size


@frozen(kw_only=True)
class Habits:
    """What a sandbox does with stamps, texts, files and lists. All of it is assumed [A]."""

    resolution: timedelta = _SECOND
    """Of the stamps of messages and chats; every date that the vendor shows is in whole seconds [V]."""
    rounds: bool = False
    """Whether stamps are rounded, as MySQL does, instead of truncated."""
    clock_ahead: timedelta = timedelta()
    """By how much the clock of the stamps is ahead of the one of `Date`."""
    utc_offset: timedelta | None = None
    """Stamps are in local time, so far ahead of UTC, without an offset; `None`: in UTC, marked as such."""
    sends_date: bool = True
    """Whether answers have a `Date`; otherwise it is empty."""
    order: Literal["newest first", "oldest first", "none"] = "newest first"
    """Of lists of messages."""
    listing_lag: timedelta = timedelta()
    """How long it takes until a new message is listed."""
    rewrite_text: Callable[[str], str] = field(default=_unchanged_text)
    """Return the text that is stored instead of the one that was sent."""
    rewrite_file_name: Callable[[str], str] = field(default=_unchanged_text)
    """Return the file name that is stored instead of the one that was sent."""
    rewrite_file_size: Callable[[int], int] = field(default=_unchanged_size)
    """Return the file size that is shown instead of the real one."""

    def stamp(self, moment: datetime) -> str:
        """Write a moment as ISO 8601."""
        passed = moment.astimezone(UTC) + self.clock_ahead - _EPOCH
        if self.rounds:
            passed += self.resolution / 2
        stamped = _EPOCH + passed // self.resolution * self.resolution
        timespec = "seconds" if self.resolution >= _SECOND else "auto"
        if self.utc_offset is not None:
            local = stamped.astimezone(timezone(self.utc_offset))
            return local.replace(tzinfo=None).isoformat(timespec=timespec)
        return stamped.isoformat(timespec=timespec).replace("+00:00", "Z")

    def listed(
        self, messages: Sequence[MessageT], now: datetime, pinned: AbstractSet[str] = frozenset()
    ) -> Sequence[MessageT]:
        """Return messages, which are in order of arrival, as they are listed: pinned ones come first."""
        lag = self.listing_lag
        shown = [message for message in messages if not lag or message.created_at <= now - lag]
        if self.order == "newest first":
            shown.reverse()
        elif self.order == "none":
            shown.sort(key=lambda message: message.id)
        return sorted(shown, key=lambda message: message.id not in pinned)
