"""Users, their organisation, and how they prove who they are."""

from typing import Annotated, Final

from attrs import field, frozen

from healthmsg.models.base import ServiceModel, private
from healthmsg.structuring import ID_ALONE


@frozen
class User(ServiceModel):
    """A healthcare professional, co-worker or patient. Contract: "Objects" [D]; `private_user`, `email` [V].

    Every field but `id` may be missing, and is `None` then.
    """

    id: str
    """Opaque; a UUID in practice."""
    type: str | None = None
    """`user`, as far as is documented."""
    first_name: str | None = private()
    last_name: str | None = private()
    email: str | None = private()
    company_name: str | None = private()
    company_id: str | None = None
    position: str | None = private()
    avatar: str | None = private()
    """The picture's URL."""
    active: bool | None = None
    private_user: bool | None = None
    """Whether this is a patient's own account instead of a professional's."""

    @property
    def full_name(self) -> str:
        """First and last name, as far as the service says them; empty if neither. Keep it out of logs."""
        return " ".join(filter(None, (self.first_name, self.last_name)))

    @property
    def mention(self) -> str:
        """What mentions this user within a text: `[mention=<id>]` [V]; `User("@all")` is every member."""
        return f"[mention={self.id}]"


EVERYBODY: Final = User("@all")
"""Stands for all members of a group chat [V]."""


UserOrId = Annotated[User, ID_ALONE]


@frozen
class Member(User):
    """A user as a member of a group chat [V]."""

    owner: bool | None = field(default=None)
    admin: bool | None = field(default=None)


@frozen
class CompanyInfo(ServiceModel):
    """A care organisation [A]."""

    id: str
    name: str | None = private()


@frozen
class IdentityProvider(ServiceModel):
    """A service that can vouch for who a user is [V]."""

    provider_id: str
    name: str | None = None


@frozen
class Verification(ServiceModel):
    """One way in which a user has proven who he or she is [V]."""

    name: str | None = private()


@frozen
class UserVerifications(ServiceModel):
    """All verifications of a user, as the service wraps them [V]."""

    user: tuple[Verification, ...] = field(default=(), repr=False)
