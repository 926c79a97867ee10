"""`client.me`: the user whose token is used."""

from healthmsg.api import Resource
from healthmsg.models import User
from healthmsg.paging import PAGE_SIZE, Pager
from healthmsg.routes import GET_ME, LIST_CONTACTS


class Me(Resource):
    """The user whose token is used."""

    async def get(self) -> User:
        """Read who that is. Contract: `GET me` [V]."""
        return await self._api.read(User, GET_ME)

    def contacts(self, *, limit: int | None = None, page_size: int = PAGE_SIZE) -> Pager[User]:
        """Read the people this user knows; with `limit`, so many at most. Contract: `GET me/contacts` [V].

        Raises:
            InvalidInputError: `limit` or `page_size` is not a whole number of at least 1.
        """
        return self._api.pages(User, LIST_CONTACTS, page_size=page_size, limit=limit)
