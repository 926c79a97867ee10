"""`client.me`: the user whose token is used."""

from healthmsg.models import User
from healthmsg.resources.api import Api
from healthmsg.routes import GET_ME


class Me:
    """The user whose token is used."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def get(self) -> User:
        """Read who this is. Contract: `GET me` [V]."""
        return await self._api.read(User, GET_ME)
