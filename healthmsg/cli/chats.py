"""`healthmsg chats`, and the chat that an address on the command line means."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Final

import typer
from rich.console import Console

from healthmsg.api import user_id
from healthmsg.cli.ending import fail, problems_told, say
from healthmsg.cli.recipients import RefusedError
from healthmsg.cli.service import Ca, NoX509Strict, Proxy, Service, named
from healthmsg.cli.terminal import has_lost_output, shown
from healthmsg.client import Client
from healthmsg.codec import encode
from healthmsg.ids import ADDRESS_STARTS, USERS, ChatAddress, ChatKind, exact_aux_id
from healthmsg.models import ConversationInfo, GroupChatInfo
from healthmsg.resources.chat import Chat
from healthmsg.resources.group_chat import GroupChat

# Room for `conversations/` and a UUID.
_WIDTH: Final = 50

JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
Limit = Annotated[int | None, typer.Option(min=1, help="So many of each kind at most.")]


def chats(
    limit: Limit = None,
    as_json: JsonLines = False,
    proxy: Proxy = None,
    ca: Ca = None,
    no_x509_strict: NoX509Strict = False,
) -> None:
    """List the chats: the address as `send` takes it, the kind, and the subject or the other side's name.

    HEALTHMSG_TOKEN is the access token, HEALTHMSG_ENVIRONMENT is kpn or alterdesk.
    """
    console = Console()

    def tell(info: ConversationInfo | GroupChatInfo) -> None:
        say(console, _as_json(info) if as_json else _as_text(info))

    with problems_told():
        service = Service(proxy, ca, no_x509_strict)
        service.check()
        say(Console(stderr=True), f"The chats are read from: {named(service.environment)}")
        count = asyncio.run(_list(service, limit, tell))
    if not count and not as_json:
        say(console, "There are no chats.")
    if has_lost_output():
        fail("the output could not be written")


async def _list(
    service: Service, limit: int | None, tell: Callable[[ConversationInfo | GroupChatInfo], None]
) -> int:
    count = 0
    async with service.client() as client:
        for chats_of_kind in (client.conversations, client.groupchats):
            async for info in chats_of_kind.list(limit=limit):
                tell(info)
                count += 1
    return count


def _address(info: ConversationInfo | GroupChatInfo) -> ChatAddress:
    is_group = isinstance(info, GroupChatInfo)
    return ChatAddress(ChatKind.GROUP_CHAT if is_group else ChatKind.CONVERSATION, info.id)


def _kind(info: ConversationInfo | GroupChatInfo) -> str:
    return "group chat" if isinstance(info, GroupChatInfo) else "conversation"


def _as_text(info: ConversationInfo | GroupChatInfo) -> str:
    closed = "  (closed)" if info.closed else ""
    return f"{shown(_address(info).text):{_WIDTH}}  {_kind(info):12}  {shown(info.title)}{closed}".rstrip()


def _as_json(info: ConversationInfo | GroupChatInfo) -> str:
    fields = {
        "address": _address(info).text,
        "id": info.id,
        "kind": _kind(info),
        "name": info.title,
        "aux_id": info.aux_id,
        "closed": info.closed,
        "unread": info.unread,
    }
    return encode(fields).decode()


def parse_address(text: str, *, is_exact: bool = False) -> ChatAddress | str:
    """Read an address as a user writes it: of a chat, or of a user, whose id is returned.

    With `is_exact`, diacritics in an auxiliary id are meant as they are.

    Raises:
        RefusedError: it is none.
        InvalidIdError: the id in it cannot be one.
    """
    if text.startswith(USERS):
        return user_id(text.removeprefix(USERS))
    if not text.startswith(tuple(start for start, _ in ADDRESS_STARTS)):
        starts = ", ".join([*(f"{start}…" for start, _ in ADDRESS_STARTS), f"{USERS}…"])
        raise RefusedError(
            f"it must be said what it is the id of: {starts}. `healthmsg chats` lists the chats"
        )
    return ChatAddress.of_text(text) if is_exact else ChatAddress.parse(text)


def chat_at(client: Client, address: ChatAddress | str) -> Chat | GroupChat:
    """Return the handle of a chat, or of the conversation with a user."""
    if isinstance(address, str):
        return client.users(address).conversation()
    if address.kind.is_auxiliary:
        aux_id = exact_aux_id(address.id)
        if address.kind.is_group:
            return client.auxiliary.groupchats(aux_id)
        return client.auxiliary.conversations(aux_id)
    return client.groupchats(address.id) if address.kind.is_group else client.conversations(address.id)
