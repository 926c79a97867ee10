"""Who is invited into a group chat, or imported into the company."""

from typing import Final, Literal

from attrs import field, frozen

from healthmsg.codec import Model
from healthmsg.ids import check_aux_id
from healthmsg.validation import (
    check_choice,
    check_email,
    check_flag,
    check_name,
    check_reachable_by_one,
    check_text,
)

InviteType = Literal["coworker", "contact", "private_user"]
"""A colleague, a professional of another organisation, or a patient [V]."""
_INVITE_TYPES: Final = ("coworker", "contact", "private_user")


@frozen(kw_only=True)
class GroupInvite(Model):
    """A person to invite into a new group chat [V].

    Exactly one of `email` and `phone_number` is given. The phone number begins with `+` and the country's
    code, and is kept in the form of E.164. `invite_text` is used when a conversation is created too, which
    `create_conversation` asks for.

    Raises:
        InvalidInputError: something in it cannot be right.
    """

    email: str | None = field(default=None, repr=False)
    phone_number: str | None = field(default=None, repr=False)
    first_name: str = field(repr=False)
    last_name: str = field(repr=False)
    invite_type: InviteType
    invite_text: str | None = field(default=None, repr=False)
    aux_id: str | None = field(default=None, repr=False)
    """The integrator's own id for this person."""
    create_conversation: bool = False

    def __attrs_post_init__(self) -> None:
        email, phone_number = check_reachable_by_one(self.email, self.phone_number)
        # Not converters: those would make the types of the parameters vague.
        object.__setattr__(self, "email", email)
        object.__setattr__(self, "phone_number", phone_number)
        check_name(self.first_name, "first_name")
        check_name(self.last_name, "last_name")
        check_choice(self.invite_type, "invite_type", _INVITE_TYPES)
        check_flag(self.create_conversation, "create_conversation")
        if self.invite_text is not None:
            check_text(self.invite_text, "invite_text")
        if self.aux_id is not None:
            check_aux_id(self.aux_id)


@frozen(kw_only=True)
class ImportUser(Model):
    """A person to import into the company [V].

    Raises:
        InvalidInputError: something in it cannot be right.
    """

    email: str = field(repr=False)
    first_name: str = field(repr=False)
    last_name: str = field(repr=False)
    username: str | None = field(default=None, repr=False)
    saml_username: str | None = field(default=None, repr=False)
    """The name under which the company's own identity provider (SAML) knows this person."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "email", check_email(self.email))
        check_name(self.first_name, "first_name")
        check_name(self.last_name, "last_name")
        for name in ("username", "saml_username"):
            if getattr(self, name) is not None:
                check_name(check_text(getattr(self, name), name), name)
