"""The names of users and chats, for the lines of events: looked up once, and kept."""

import asyncio
import math
from collections.abc import Iterable
from typing import Final

from attrs import define, field, frozen

from healthmsg.client import Client
from healthmsg.errors import ForbiddenError, HealthmsgError, InvalidInputError, NotFoundError
from healthmsg.events import Event, MembersAdded, MembersRemoved, MessageCreated
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.models import User

MOST_PEOPLE: Final = 5
"""Of those who were added to a chat or removed from it, so many are named."""
# All in seconds. The longest that a line waits for names,
_LONGEST_WAIT: Final = 5.0
# and how long nothing is looked up after that, and a single name after a look-up that failed.
_PAUSE: Final = 60.0
_MOST_KEPT: Final = 10_000


@frozen
class _Name:
    text: str = field(repr=False)
    """Empty: there is none, or it could not be looked up."""
    until: float = math.inf
    """By the event loop's clock."""


@define
class Names:
    """The names that a service knows. What it does not say, or not in time, stays an id."""

    _client: Client
    _names: dict[User | ChatAddress, _Name] = field(factory=dict, init=False, repr=False)
    """By the user, known by `id` alone, or the chat; what was used last is at the end."""
    _paused_until: float = field(default=-math.inf, init=False)

    async def look_up(self, event: Event) -> None:
        """Look up the names in an event that are not known, at once, within 5 seconds at most."""
        for user in _described(event):
            self._keep(User(user.id), _Name(user.full_name))
        now = asyncio.get_running_loop().time()
        missing = [one for one in dict.fromkeys(_named_in(event)) if self._is_missing(one, now)]
        if not missing or now < self._paused_until:
            return
        try:
            async with asyncio.timeout(_LONGEST_WAIT), asyncio.TaskGroup() as group:
                for one in missing:
                    group.create_task(self._look_up_one(one))
        except TimeoutError:
            # The next lines do not wait as long again.
            self._paused_until = asyncio.get_running_loop().time() + _PAUSE

    def user(self, user_id: str) -> str:
        """Return a user's name; the id where it is not known."""
        return self._known(User(user_id)) or user_id

    def chat(self, address: ChatAddress) -> str:
        """Return a chat's subject, or the other side's name; empty where neither is known."""
        return self._known(address)

    def _known(self, key: User | ChatAddress) -> str:
        name = self._names.get(key)
        return "" if name is None else name.text

    def _is_missing(self, key: User | ChatAddress, now: float) -> bool:
        name = self._names.get(key)
        if name is None or name.until <= now:
            return True
        self._keep(key, name)
        return False

    def _keep(self, key: User | ChatAddress, name: _Name) -> None:
        self._names.pop(key, None)
        self._names[key] = name
        if len(self._names) > _MOST_KEPT:
            del self._names[next(iter(self._names))]

    async def _look_up_one(self, key: User | ChatAddress) -> None:
        try:
            name = _Name(await self._call(key))
        except (NotFoundError, ForbiddenError, InvalidInputError):
            name = _Name("")
        except HealthmsgError:
            name = _Name("", asyncio.get_running_loop().time() + _PAUSE)
        self._keep(key, name)

    async def _call(self, key: User | ChatAddress) -> str:
        if isinstance(key, User):
            return (await self._client.users.get(key.id)).full_name
        if key.kind.is_group:
            return (await self._client.groupchats.get(key.id)).title
        return (await self._client.conversations.get(key.id)).title


def _described(event: Event) -> Iterable[User]:
    """Return the users whose names are in the event itself."""
    users: tuple[User, ...] = ()
    if isinstance(event, MessageCreated) and event.message.user is not None:
        users = (event.message.user,)
    elif isinstance(event, MembersAdded | MembersRemoved):
        users = event.users[:MOST_PEOPLE]
    return (user for user in users if user.full_name)


def _named_in(event: Event) -> Iterable[User | ChatAddress]:
    """Yield the users and the chat that the event's line names."""
    user_id: str | None = getattr(event, "user_id", None)
    if user_id is not None:
        yield User(user_id)
    chat: ChatAddress | None = getattr(event, "chat", None)
    # No event has an auxiliary address so far; it would be shown as it is.
    if chat is not None and chat.kind in {ChatKind.CONVERSATION, ChatKind.GROUP_CHAT}:
        yield chat
    if isinstance(event, MembersAdded | MembersRemoved):
        yield from (User(user.id) for user in event.users[:MOST_PEOPLE])
