"""The API's endpoints, one file a noun.

A new endpoint is a small handler and a row in the `TABLE` of its file: method, route, handler. It also needs
a `Route` in `healthmsg.routes`, and a description in `sandbox/openapi.yaml`.
"""

from typing import Final

from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.endpoints import chats, files, group_chats, users
from healthmsg.sandbox.routing import Table

TABLE: Final[Table[ApiCall]] = (*users.TABLE, *chats.TABLE, *files.TABLE, *group_chats.TABLE)
"""All of them that are described."""
