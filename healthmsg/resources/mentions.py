"""Who was mentioned in a message."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from healthmsg.checks import check_all
from healthmsg.errors import NotFoundError
from healthmsg.models import Message, User
from healthmsg.resources.api import Api
from healthmsg.resources.together import together
from healthmsg.resources.user_ids import user_id, user_ids
from healthmsg.routes import GET_USER

_EVERYBODY: Final = "@all"
Mentions = Message | Iterable[User]
"""A message, or its mentions."""


async def complete_mentions(
    api: Api,
    mentions: Mentions,
    exclude: Iterable[str | User],
    everybody: Callable[[], Awaitable[Iterable[User]]],
) -> tuple[User, ...]:
    """Give all who were mentioned, each once and whole; `everybody` reads whom `@all` stands for."""
    left_out = set(user_ids(exclude, "exclude"))
    mentioned = check_all(mentions.mentions if isinstance(mentions, Message) else mentions, User, "mentions")
    named = [user for user in mentioned if not _is_everybody(user)]
    if len(named) < len(mentioned):
        named += await everybody()
    found: dict[str, User] = {}
    for user in named:
        if user.id not in left_out and not _is_whole(found.get(user.id)):
            found[user.id] = user
    return tuple(await together(_whole(api, user) for user in found.values()))


def _is_everybody(user: User) -> bool:
    return user_id(user).lower() == _EVERYBODY


def _is_whole(user: User | None) -> bool:
    return bool(user and user.first_name and user.last_name)


async def _whole(api: Api, user: User) -> User:
    if _is_whole(user):
        return user
    try:
        return await api.read(User, GET_USER, user_id=user.id)
    except NotFoundError:
        return user
