"""`client.me`: the user whose token is used."""

from healthmsg.models import User
from healthmsg.paging import PAGE_SIZE, Pager
from healthmsg.resources.api import Api
from healthmsg.routes import GET_ME, LIST_CONTACTS


class Me:
    """The user whose token is used."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def get(self) -> User:
        """Read who this is. Contract: `GET me` [V]."""
        return await self._api.read(User, GET_ME)

    def contacts(self, *, page_size: int = PAGE_SIZE) -> Pager[User]:
        """Read the people whom this user knows. Contract: `GET me/contacts` [V]."""
        return self._api.pages(User, LIST_CONTACTS, page_size=page_size)
