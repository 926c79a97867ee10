"""`client.users`: people. `client.me`: the user whose token is used."""

from typing import Final, Literal

from healthmsg.aio import together
from healthmsg.api import Api, Created, Resource, json_body, reserved_for_user, user_id
from healthmsg.errors.base import hides_awaited_arguments
from healthmsg.ids import ChatAddress, ChatKind, check_aux_id
from healthmsg.models import IdentityProvider, User, UserVerifications, Verification
from healthmsg.paging import PAGE_SIZE, Pager
from healthmsg.resources.chat import Chat
from healthmsg.routes import (
    GET_ME,
    GET_USER,
    INVITE_CONTACT,
    INVITE_COWORKER,
    INVITE_PRIVATE_USER,
    LIST_CONTACTS,
    LIST_PROVIDERS,
    LIST_VERIFICATIONS,
)
from healthmsg.validation import check_choice, check_flag, check_name, check_reachable_by_one, check_text

_INVITATIONS: Final = {
    "coworker": INVITE_COWORKER,
    "contact": INVITE_CONTACT,
    "private": INVITE_PRIVATE_USER,
}


class UserHandle:
    """One user, known by id alone. Making it sends nothing."""

    __slots__ = ("_api", "id")

    def __init__(self, api: Api, user: str) -> None:
        self._api = api
        self.id: str = user

    def __repr__(self) -> str:
        return f"<UserHandle {self.id!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UserHandle) and (self.id, self._api.owner) == (other.id, other._api.owner)

    def __hash__(self) -> int:
        return hash(self.id)

    def conversation(self) -> Chat:
        """Return the handle of the 1-on-1 conversation with this user; nothing is sent.

        It is addressed by the user's id [V]: where there is no conversation yet, the first message starts it
        [A]. To start one without a message, there is `client.conversations.start`.
        """
        return Chat(self._api, ChatAddress(ChatKind.CONVERSATION, self.id))

    async def get(self) -> User:
        """Read what the service says of this user. Contract: `GET users/{id}` [V].

        Raises:
            NotFoundError: there is no such user, or not for the user whose token is used.
        """
        return await self._api.read(User, GET_USER, user_id=self.id)


class Users(Resource):
    """People that the user may see. Calling it with an id, or a `User`, returns the handle of one."""

    def __call__(self, user: str | User) -> UserHandle:
        """Return the handle of a user; nothing is sent. `client.users(patient).conversation()` is a chat.

        Raises:
            InvalidIdError: it is no user's id.
        """
        return UserHandle(self._api, user_id(user))

    async def get(self, user: str | User) -> User:
        """Read a user by id. Contract: `GET users/{id}` [V].

        Raises:
            InvalidIdError: it is no user's id.
            NotFoundError: there is no such user, or not for this one.
        """
        return await self(user).get()

    async def providers(self, user: str | User) -> tuple[IdentityProvider, ...]:
        """Read with which identity providers a user can still be verified.

        Contract: `GET users/{id}/providers` [V].
        """
        shape = tuple[IdentityProvider, ...]
        return await self._api.read(shape, LIST_PROVIDERS, user_id=user_id(user))

    async def verifications(self, user: str | User) -> tuple[Verification, ...]:
        """Read with which identity providers a user is verified.

        Contract: `GET users/{id}/verifications` [V].
        """
        answer = await self._api.read(UserVerifications, LIST_VERIFICATIONS, user_id=user_id(user))
        return answer.user

    async def is_verified(self, user: str | User, provider: str | IdentityProvider) -> bool:
        """Return whether a user is verified with an identity provider, given by name or as a model."""
        name = provider.name if isinstance(provider, IdentityProvider) else provider
        wanted = check_text(name, "the name of the provider")
        return any(verification.name == wanted for verification in await self.verifications(user))

    async def is_coworker(self, user: str | User) -> bool:
        """Return whether a user works for the same company as the user whose token is used.

        Users without a company have no co-workers.
        """
        wanted = user_id(user)
        me, other = await together((self._api.read(User, GET_ME), self.get(wanted)))
        return bool(me.company_id) and me.company_id == other.company_id

    @hides_awaited_arguments
    async def invite(  # noqa: PLR0913 - what an invitation says, by keyword
        self,
        kind: Literal["coworker", "contact", "private"],
        *,
        email: str | None = None,
        phone_number: str | None = None,
        first_name: str,
        last_name: str,
        invite_text: str | None = None,
        send_email: bool = True,
        aux_id: str | None = None,
        if_taken: Literal["error", "move"] = "error",
    ) -> User:
        """Invite a colleague, a contact elsewhere or a patient, and return a `User` with the id alone.

        Contract: `POST users/invite/…` [V]. Exactly one of `email` and `phone_number` (`+` and the country's
        code first) is given. With `invite_text` a conversation is started. `aux_id` is your own id for this
        person: the service moves it silently [D], so it is looked up first. (That cannot find a user hidden
        from this one, or an invitation at the same moment.) `if_taken="move"` does not look.

        Raises:
            InvalidInputError: something cannot be right. Nothing was sent.
            AuxIdTakenError: a user has this auxiliary id already. No invitation was sent.
            DeliveryUnknownError: they may have been invited, and were not invited again.
        """
        check_choice(kind, "kind", _INVITATIONS)
        check_choice(if_taken, "if_taken", ("error", "move"))
        email, phone_number = check_reachable_by_one(email, phone_number)
        checked = {
            "first_name": check_name(first_name, "first_name"),
            "last_name": check_name(last_name, "last_name"),
            "invite_text": None if invite_text is None else check_text(invite_text, "invite_text"),
            "send_email": check_flag(send_email, "send_email"),
            "aux_id": None if aux_id is None else check_aux_id(aux_id),
        }
        body = json_body({"email": email, "phone_number": phone_number, **checked})
        async with reserved_for_user(self._api, [aux_id] if aux_id and if_taken == "error" else []):
            created = await self._api.create(Created, _INVITATIONS[kind], body)
        return self._invited(created.id, aux_id)

    def _invited(self, user: str, aux_id: str | None) -> User:
        self._api.aliases.learn_user_of_aux_id(aux_id, user, is_assigned=True)
        return User(user)


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
