"""Who was mentioned in a message."""

from collections.abc import Awaitable, Callable, Iterable

from healthmsg.checks import check_all
from healthmsg.errors import BadRequestError, ForbiddenError, NotFoundError
from healthmsg.models import Message, User
from healthmsg.models.users import EVERYBODY
from healthmsg.resources.api import Api
from healthmsg.resources.together import together
from healthmsg.resources.user_ids import user_id, user_ids
from healthmsg.routes import GET_USER

Mentions = Message | Iterable[User]
"""A message, or its mentions."""


async def complete_mentions(
    api: Api,
    mentions: Mentions,
    exclude: Iterable[str | User],
    everybody: Callable[[], Awaitable[Iterable[User]]],
) -> tuple[User, ...]:
    """Return all who were mentioned, each once and whole; `everybody` reads those that `@all` stands for."""
    left_out = set(user_ids(exclude, "exclude"))
    if isinstance(mentions, Message):
        mentioned, listed = mentions.mentioned, {user.id for user in mentions.mentions}
    else:
        mentioned = check_all(mentions, User, "mentions")
        listed = {user.id for user in mentioned}
    named = [user for user in mentioned if not _is_everybody(user)]
    if len(named) < len(mentioned):
        members = tuple(await everybody())
        listed.update(member.id for member in members)
        named += members
    found: dict[str, User] = {}
    for user in named:
        if user.id not in left_out and not _is_whole(found.get(user.id)):
            found[user.id] = user
    users = await together(_whole(api, user, is_listed=user.id in listed) for user in found.values())
    return tuple(user for user in users if user is not None)


def _is_everybody(user: User) -> bool:
    return user_id(user).lower() == EVERYBODY.id


def _is_whole(user: User | None) -> bool:
    return bool(user and user.first_name and user.last_name)


async def _whole(api: Api, user: User, *, is_listed: bool) -> User | None:
    if _is_whole(user):
        return user
    try:
        return await api.read(User, GET_USER, user_id=user.id)
    except NotFoundError:
        return user if is_listed else None
    except (BadRequestError, ForbiddenError):
        if is_listed:
            raise
        return None  # anybody can write into a text what looks like a mention
