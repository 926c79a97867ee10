"""How the service keeps what it is sent, and tells it again, where that is not known of the real one."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

from attrs import field, frozen

from healthmsg.sandbox.records import StoredChat, StoredMessage

_SECOND = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _as_sent(value: str) -> str:
    return value


def _of_that_size(size: int) -> int:
    return size


@frozen(kw_only=True)
class Habits:
    """What a sandbox does with stamps, texts, files and lists. All of it is assumed [A]."""

    resolution: timedelta = _SECOND
    """Of the stamps of messages and chats; every date that the vendor shows is in whole seconds [V]."""
    rounds: bool = False
    """Whether stamps are rounded, as MySQL does, and not cut."""
    ahead: timedelta = timedelta()
    """By how much the clock of the stamps is ahead of the one of `Date`."""
    zone: timedelta | None = None
    """Stamps are in local time, so far ahead of UTC, and do not say so; `None`: in UTC, which they say."""
    tells_date: bool = True
    """Whether answers have a `Date`; otherwise it is empty."""
    order: Literal["newest first", "oldest first", "none"] = "newest first"
    """Of lists of messages."""
    lag: timedelta = timedelta()
    """How long a message takes to be listed."""
    text: Callable[[str], str] = field(default=_as_sent)
    """Makes of a text what is kept of it."""
    file_name: Callable[[str], str] = field(default=_as_sent)
    """Makes of a file's name what is kept of it."""
    file_size: Callable[[int], int] = field(default=_of_that_size)
    """Makes of a file's size the one that is told."""

    def stamp(self, moment: datetime) -> str:
        """Write a moment as ISO 8601."""
        passed = moment.astimezone(UTC) + self.ahead - _EPOCH
        if self.rounds:
            passed += self.resolution / 2
        stamped = _EPOCH + passed // self.resolution * self.resolution
        timespec = "seconds" if self.resolution >= _SECOND else "auto"
        if self.zone is not None:
            return stamped.astimezone(timezone(self.zone)).replace(tzinfo=None).isoformat(timespec=timespec)
        return stamped.isoformat(timespec=timespec).replace("+00:00", "Z")

    def listed(self, chat: StoredChat, now: datetime) -> Sequence[StoredMessage]:
        """Return a chat's messages in the order of the list, those that are pinned before all others."""
        shown = [one for one in chat.messages if not self.lag or one.created_at <= now - self.lag]
        if self.order == "newest first":
            shown.reverse()
        elif self.order == "none":
            shown.sort(key=lambda message: message.id)
        pinned = [message for message in shown if message.id in chat.pinned]
        return [*pinned, *(message for message in shown if message.id not in chat.pinned)]
