"""What the page must know besides what is stored: whether anything has changed, and who types."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Final

from attrs import define, field

from healthmsg.sandbox.hub import Announcement
from healthmsg.sandbox.records import Person, StoredChat

_TYPES_FOR: Final = timedelta(seconds=10)
"""So long a person counts as typing who does not say so again."""


@define(eq=False)
class Watch:
    """Listens to a sandbox's hub."""

    _now: Callable[[], datetime]
    _run: str = field(factory=lambda: token_hex(4), init=False)
    _changes: int = field(default=0, init=False)
    _typing: dict[tuple[str, str], datetime] = field(factory=dict, init=False, repr=False)
    """Until when, by the ids of the chat and the person."""

    @property
    def version(self) -> str:
        """Differs after every change, and from that of every other sandbox."""
        return f"{self._run}.{self._changes}"

    def hear(self, announcement: Announcement) -> None:
        """Take note of what happened."""
        self._changes += 1
        chat = announcement.chat
        if chat is None:
            return
        if announcement.message is not None:
            self._typing.pop((chat.id, announcement.message.sender.id), None)
        elif announcement.name in {"typing", "stop_typing"}:
            user_id = str(announcement.data_for(chat.members[0])["user_id"])
            now = self._now()
            self._typing = {key: until for key, until in self._typing.items() if until > now}
            self._typing.pop((chat.id, user_id), None)
            if announcement.name == "typing":
                self._typing[chat.id, user_id] = now + _TYPES_FOR

    def typing_in(self, chat: StoredChat) -> Iterator[tuple[Person, timedelta]]:
        """Yield who types in a chat, and for how long that counts if nothing more is heard."""
        now = self._now()
        for person in chat.members:
            until = self._typing.get((chat.id, person.id), now)
            if until > now:
                yield person, until - now
