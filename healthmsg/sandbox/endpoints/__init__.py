"""The API's endpoints, one file a noun. A new one is a small handler and a row in its file's table."""

from typing import Final

from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.endpoints import (
    attachments,
    chats,
    company,
    exports,
    groupchats,
    invitations,
    members,
    messages,
    people,
    verification,
)
from healthmsg.sandbox.routing import Table

TABLE: Final[Table[ApiCall]] = (
    *people.TABLE,
    *company.TABLE,
    *chats.TABLE,
    *messages.TABLE,
    *attachments.TABLE,
    *exports.TABLE,
    *verification.TABLE,
    *invitations.TABLE,
    *groupchats.TABLE,
    *members.TABLE,
)
"""All of them."""
