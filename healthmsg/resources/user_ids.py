"""Users as callers name them: by id, or by a model that has one."""

from collections.abc import Callable, Iterable

from healthmsg.errors import InvalidIdError, InvalidInputError
from healthmsg.identifiers import encode_segment
from healthmsg.models import User


def user_id(user: str | User) -> str:
    """Return the id of a user, whether it came alone or in a model.

    Raises:
        InvalidIdError: it is neither text nor a user, or cannot be an id.
    """
    found = user.id if isinstance(user, User) else user
    if not isinstance(found, str):
        raise InvalidIdError(f"a user's id must be text or a User, not {type(found).__name__}")
    encode_segment(found, "a user's id")
    return found


def user_ids(
    users: Iterable[str | User], name: str, id_of: Callable[[str | User], str] = user_id
) -> list[str]:
    """Return the ids of users, each once; `id_of` says what an id is.

    Raises:
        InvalidInputError: it is a single user, or no collection.
        InvalidIdError: one of them cannot be a user's id.
    """
    if isinstance(users, str | bytes | User) or not isinstance(users, Iterable):
        raise InvalidInputError(f"{name} must be a collection of users' ids")
    return list(dict.fromkeys(map(id_of, users)))
