"""The user, other users, the company; people are invited, and verified with an identity provider."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from aiohttp import web
from attrs import define, field, frozen

from healthmsg.sandbox.call import (
    ApiCall,
    Body,
    bad_request,
    forbidden,
    json_answer,
    not_found,
    precondition_failed,
)
from healthmsg.sandbox.records import JSON, Company, Person, Provider
from healthmsg.sandbox.routing import Handler, Table
from healthmsg.sandbox.store import Store


async def show_me(call: ApiCall) -> web.Response:
    """GET me [V]."""
    return json_answer(call.user.to_json())


async def list_contacts(call: ApiCall) -> web.Response:
    """GET me/contacts [V]."""
    contacts = call.state.store.contacts_of(call.user)
    return json_answer([person.to_json() for person in call.page(contacts)])


async def show_user(call: ApiCall) -> web.Response:
    """GET users/{user_id} [V]."""
    return json_answer(_visible_user(call).to_json())


async def show_aux_user(call: ApiCall) -> web.Response:
    """GET aux/users/{aux_id} [V]."""
    person = call.state.store.people_by_aux_id.get(call.ids["aux_id"])
    return json_answer(_visible(call, person).to_json())


def _visible_user(call: ApiCall) -> Person:
    return _visible(call, call.state.store.people.get(call.ids["user_id"]))


def _visible(call: ApiCall, person: Person | None) -> Person:
    """Return a user, or 404: a professional sees all, a patient only contacts [A]."""
    may_see = person is call.user or call.user.company or person in call.state.store.contacts_of(call.user)
    if person is None or not may_see:
        raise not_found("user")
    return person


async def show_company(call: ApiCall) -> web.Response:
    """GET company [A]."""
    if call.user.company is None:
        raise not_found("company")
    return json_answer(call.user.company.to_json())


async def list_company_users(call: ApiCall) -> web.Response:
    """GET company/users [A]."""
    colleagues = call.state.store.colleagues_of(call.user)
    return json_answer([person.to_json() for person in call.page(colleagues)])


# --- Invitations.


class InviteType(Enum):
    """What the invited person will be [V]."""

    COWORKER = "coworker"
    CONTACT = "contact"
    PRIVATE_USER = "private_user"


_TYPES: Final[Mapping[str, InviteType]] = {kind.value: kind for kind in InviteType}


@frozen
class Invite:
    """A person to invite [V]."""

    kind: InviteType
    first_name: str = field(repr=False)
    last_name: str = field(repr=False)
    email: str | None = field(default=None, repr=False)
    """Wins over the phone number, as in the vendor's client [V]."""
    phone_number: str | None = field(default=None, repr=False)
    aux_id: str | None = field(default=None, repr=False)
    starts_conversation: bool = False
    text: str | None = field(default=None, repr=False)
    """The first message of that conversation."""


def read_invite(body: Body, kind: InviteType) -> Invite:
    """Read the body of `users/invite/…`; a text starts a conversation [V]."""
    body.flag("send_email")
    return _read(body, kind, starts_conversation=body.has("invite_text"))


def read_group_invite(body: Body) -> Invite:
    """Read one of a new group chat's `invite_users`, which names its type [V]."""
    kind = _TYPES.get(body.text("invite_type"))
    if kind is None:
        raise bad_request(f"invite_type must be one of {', '.join(_TYPES)}.")
    return _read(body, kind, starts_conversation=body.flag("create_conversation"))


def _read(body: Body, kind: InviteType, *, starts_conversation: bool) -> Invite:
    email, phone_number = body.optional_text("email"), body.optional_text("phone_number")
    if email is None and phone_number is None:
        raise bad_request("email or phone_number is missing.")
    return Invite(
        kind=kind,
        first_name=body.person_name("first_name"),
        last_name=body.person_name("last_name"),
        email=email,
        phone_number=None if email else phone_number,
        aux_id=body.optional_text("aux_id"),
        starts_conversation=starts_conversation,
        text=body.optional_text("invite_text"),
    )


def invite_all(store: Store, inviter: Person, invites: Sequence[Invite]) -> list[Person]:
    """Add all of these people, or none when one of them cannot be added.

    A person whose address is known already is not added a second time [A].
    """
    for invite in invites:
        _check(store, inviter, invite)
    return [_invite(store, inviter, invite) for invite in invites]


def _check(store: Store, inviter: Person, invite: Invite) -> None:
    if invite.kind is InviteType.COWORKER and inviter.company is None:
        raise forbidden("Only a professional may invite coworkers.")
    person = store.person_at(email=invite.email, phone_number=invite.phone_number)
    if person is None or not invite.starts_conversation:
        return
    if person is inviter:
        raise bad_request("A conversation needs another user.")
    chat = store.conversation_between(inviter, person)
    if chat is not None and chat.closed:
        raise precondition_failed("chat_is_closed", "The conversation with this user is closed.")


def _invite(store: Store, inviter: Person, invite: Invite) -> Person:
    person = store.person_at(email=invite.email, phone_number=invite.phone_number)
    if person is None:
        person = store.add_person(
            invite.first_name,
            invite.last_name,
            company=_company_for(store, inviter, invite.kind),
            email=invite.email,
            phone_number=invite.phone_number,
        )
    if invite.aux_id is not None:
        store.assign_aux_id(person, invite.aux_id)
    if invite.starts_conversation:
        chat = store.start_conversation(inviter, person)
        if invite.text is not None:
            store.post(chat, inviter, invite.text)
    return person


def _company_for(store: Store, inviter: Person, kind: InviteType) -> Company | None:
    match kind:
        case InviteType.COWORKER:
            return inviter.company
        case InviteType.CONTACT:
            return store.other_company
        case InviteType.PRIVATE_USER:
            return None


def _inviting(kind: InviteType) -> Handler[ApiCall]:
    async def invite(call: ApiCall) -> web.Response:
        """POST users/invite/… [V]; 201 also for a person who was there already [A]."""
        invited = read_invite(await call.body(), kind)
        (person,) = invite_all(call.state.store, call.user, [invited])
        return json_answer({"id": person.id}, status=201)

    return invite


async def import_users(call: ApiCall) -> web.Response:
    """POST company/import [V]; the answer, and that every professional may do this, is assumed [A]."""
    body = await call.body()
    body.flag("send_email")
    imported = [_read_imported(row) for row in body.objects("users")]
    if not imported:
        raise bad_request("users must be an array that is not empty.")
    people = invite_all(call.state.store, call.user, imported)
    return json_answer([person.to_json() for person in people], status=201)


def _read_imported(row: Body) -> Invite:
    for name in ("username", "saml_username"):
        row.optional_text(name)
    return Invite(
        kind=InviteType.COWORKER,
        first_name=row.person_name("first_name"),
        last_name=row.person_name("last_name"),
        email=row.text("email"),
    )


# --- Verification with an identity provider.


@define(eq=False)
class VerificationRequest:
    """What a message carries that asks a person to be verified with an identity provider."""

    person: Person = field(repr=False)
    provider: Provider
    accepted: bool | None = None
    """How it ended; `None`: it was not answered yet. The API does not show it."""

    def to_json(self) -> JSON:
        """Describe the request [V]; what its `attributes` hold is assumed [A]."""
        user, provider = self.person, self.provider
        attributes = {"user_id": user.id, "provider_id": provider.id, "provider_name": provider.name}
        return {"type": "verification_request", "attributes": attributes}


async def list_providers(call: ApiCall) -> web.Response:
    """GET users/{user_id}/providers [V]: those with which the user is not verified yet."""
    return json_answer([provider.to_json() for provider in _visible_user(call).providers_left])


async def list_verifications(call: ApiCall) -> web.Response:
    """GET users/{user_id}/verifications [V]; that there is a `provider_id` is assumed [A]."""
    return json_answer({"user": [provider.to_json() for provider in _visible_user(call).verified_by]})


async def request_verification(call: ApiCall) -> web.Response:
    """POST {chat}/verification [V]; that the message has no text is assumed [A]."""
    body = await call.body()
    user_id, provider_id = body.text("user_id"), body.text("provider_id")
    call.check_chat_to_write_in()
    (person,) = call.people([user_id])
    provider = next((left for left in person.providers_left if left.id == provider_id), None)
    if provider is None:
        raise precondition_failed("provider_not_available", "This user cannot be verified with it any more.")
    chat = call.chat_to_write_in()
    if body.strict:
        call.members(chat, [user_id])
    message = call.state.store.post(chat, call.user, "", payload=VerificationRequest(person, provider))
    return json_answer({"id": message.id}, status=201)


TABLE: Final[Table[ApiCall]] = (
    ("GET", "me", show_me),
    ("GET", "me/contacts", list_contacts),
    ("GET", "users/{user_id}", show_user),
    ("GET", "aux/users/{aux_id}", show_aux_user),
    ("GET", "company", show_company),
    ("GET", "company/users", list_company_users),
    ("POST", "company/import", import_users),
    ("POST", "users/invite/coworker", _inviting(InviteType.COWORKER)),
    ("POST", "users/invite/contact", _inviting(InviteType.CONTACT)),
    ("POST", "users/invite/private", _inviting(InviteType.PRIVATE_USER)),
    ("GET", "users/{user_id}/providers", list_providers),
    ("GET", "users/{user_id}/verifications", list_verifications),
    ("POST", "{chat}/verification", request_verification),
)
