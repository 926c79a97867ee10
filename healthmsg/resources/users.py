"""`client.users`: people."""

from healthmsg.errors import InvalidIdError
from healthmsg.models import User
from healthmsg.resources.api import Api
from healthmsg.routes import GET_USER


class Users:
    """People that the user may see."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def get(self, user: str | User) -> User:
        """Read a user by id. Contract: `GET users/{id}` [V].

        Raises:
            InvalidIdError: it is no user's id.
            NotFoundError: there is no such user, or not for this one.
        """
        return await self._api.read(User, GET_USER, user_id=user_id(user))


def user_id(user: str | User) -> str:
    """Give the id of a user, whether it came alone or in a model.

    Raises:
        InvalidIdError: it is neither text nor a user.
    """
    if isinstance(user, User):
        return user.id
    if isinstance(user, str):
        return user
    raise InvalidIdError(f"a user's id must be text or a User, not {type(user).__name__}")
