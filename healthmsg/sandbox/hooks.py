"""Webhooks of group chats [V: from a third party's program on the vendor's SDK; not documented].

They are in neither the SDK nor the description of the API, for too little is known of them.
"""

import asyncio
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

import aiohttp
from aiohttp import web
from attrs import define, field
from yarl import URL

from healthmsg.sandbox.answers import bad_request, json_answer
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.groups import require_admin
from healthmsg.sandbox.records import StoredChat, StoredMessage
from healthmsg.sandbox.routing import Table

_EVENT: Final = "groupchat_new_message"
# Seconds that a program has for its answer, which is not looked at.
_PATIENCE: Final = 5.0


@define(eq=False)
class Hooks:
    """Tells programs on this machine of new messages in group chats. URLs elsewhere are not called."""

    _calls: set[asyncio.Task[None]] = field(factory=set, init=False)

    def tell(self, chat: StoredChat, message: StoredMessage) -> None:
        """Announce a new message to those who asked for it, without its text."""
        document = {"user_id": message.sender.id, "groupchat_id": chat.id, "message_id": message.id}
        for url in filter(_is_here, chat.hooks):
            call = asyncio.get_running_loop().create_task(_post(url, document))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def close(self) -> None:
        """End what is under way."""
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)


async def _post(url: str, document: dict[str, str]) -> None:
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    with suppress(aiohttp.ClientError, OSError):
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, json=document, allow_redirects=False),
        ):
            pass


def _is_here(url: str) -> bool:
    try:
        host = URL(url).host or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def create_hook(call: ApiCall) -> web.Response:
    """POST groupchats/{id}/hooks [V]; that admins alone may do so, and the answer, is assumed [A]."""
    body = await call.body()
    event, method, url = body.text("event_name"), body.text("method"), body.text("url")
    if event != _EVENT or method.upper() != "POST" or not url.startswith(("http://", "https://")):
        raise bad_request(f"Only {_EVENT} is announced, by POST to an http or https URL.")
    chat = call.chat(to_change=True)
    require_admin(chat, call.user)
    chat.hooks.append(url)
    return json_answer({"id": call.state.store.new_id()}, status=201)


TABLE: Final[Table[ApiCall]] = (("POST", "{group_chat}/hooks", create_hook),)
