"""`client.company`: the user's company."""

from collections.abc import Iterable

from healthmsg.api import Resource, json_body
from healthmsg.errors import InvalidInputError
from healthmsg.models import CompanyInfo, ImportUser, User
from healthmsg.paging import PAGE_SIZE, Pager
from healthmsg.routes import GET_COMPANY, IMPORT_COMPANY_USERS, LIST_COMPANY_USERS
from healthmsg.validation import check_all, check_flag


class Company(Resource):
    """The user's company, and the people in it."""

    async def get(self) -> CompanyInfo:
        """Read which company this is. Contract: `GET company` [A]."""
        return await self._api.read(CompanyInfo, GET_COMPANY)

    def users(self, *, limit: int | None = None, page_size: int = PAGE_SIZE) -> Pager[User]:
        """Read the company's people; with `limit`, so many at most. Contract: `GET company/users` [A].

        Raises:
            InvalidInputError: `limit` or `page_size` is not a whole number of at least 1.
        """
        return self._api.pages(User, LIST_COMPANY_USERS, page_size=page_size, limit=limit)

    async def import_users(self, users: Iterable[ImportUser], *, send_email: bool) -> tuple[User, ...]:
        """Import people into the company, in one call. Contract: `POST company/import` [V], its answer [A].

        `send_email` says whether each of them gets an e-mail. The result is empty if the service accepts the
        call without saying which users it imported.

        Raises:
            InvalidInputError: `users` is empty, or has something else than `ImportUser` in it.
            DeliveryUnknownError: they may have been imported, and the call was not made again.
        """
        people = check_all(users, ImportUser, "users")
        if not people:
            raise InvalidInputError("users is empty: there is no person to import")
        body = json_body({"send_email": check_flag(send_email, "send_email"), "users": people})
        return await self._api.create(tuple[User, ...], IMPORT_COMPANY_USERS, body, if_empty=())
