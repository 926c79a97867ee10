"""Bringing people in: one by one, or into a new group chat."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from attrs import field, frozen

from healthmsg.sandbox.answers import bad_request, forbidden, precondition_failed
from healthmsg.sandbox.body import Body
from healthmsg.sandbox.records import Company, Person
from healthmsg.sandbox.store import Store


class InviteType(Enum):
    """What the invited person will be [V]."""

    COWORKER = "coworker"
    CONTACT = "contact"
    PRIVATE_USER = "private_user"


_TYPES: Final[Mapping[str, InviteType]] = {kind.value: kind for kind in InviteType}


@frozen
class Invite:
    """Somebody to bring in [V]."""

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
        first_name=body.name("first_name"),
        last_name=body.name("last_name"),
        email=email,
        phone_number=None if email else phone_number,
        aux_id=body.optional_text("aux_id"),
        starts_conversation=starts_conversation,
        text=body.optional_text("invite_text"),
    )


def invite_all(store: Store, inviter: Person, invites: Sequence[Invite]) -> list[Person]:
    """Bring everybody in, or nobody when one of them cannot be.

    Whose address is known already is not made a second time [A].
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
        raise bad_request("A conversation needs somebody else.")
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
