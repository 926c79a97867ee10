"""The API's endpoints, one file a noun. A new one is a small handler and a row in its file's table."""

from typing import Final

from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.endpoints import attachments, chats, company, messages, people
from healthmsg.sandbox.routing import Table

TABLE: Final[Table[ApiCall]] = (
    *people.TABLE,
    *company.TABLE,
    *chats.TABLE,
    *messages.TABLE,
    *attachments.TABLE,
)
"""All of them."""
