"""Conversations and group chats."""

from typing import Final

from aiohttp import web

from healthmsg.ids import ChatKind
from healthmsg.sandbox.answers import bad_request, json_answer, not_found
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.routing import Handler, Table
from healthmsg.sandbox.shapes import chat_json


def _list_of(kind: ChatKind) -> Handler[ApiCall]:
    async def list_chats(call: ApiCall) -> web.Response:
        """GET one of the four kinds [A]."""
        chats = call.state.store.chats_of(call.user, kind)
        return json_answer([chat_json(chat, call.user, call.state.store.habits) for chat in call.page(chats)])

    return list_chats


async def show_chat(call: ApiCall) -> web.Response:
    """GET {chat} [V]."""
    return json_answer(chat_json(call.chat(), call.user, call.state.store.habits))


async def start_conversation(call: ApiCall) -> web.Response:
    """POST conversations [A]: 201, or 200 with the conversation that was there."""
    user_id = (await call.body()).text("user_id")
    store = call.state.store
    other = store.people.get(user_id)
    if other is None:
        raise not_found("user")
    if other is call.user:
        raise bad_request("A conversation needs somebody else.")
    existed = store.conversation_between(call.user, other) is not None
    chat = store.start_conversation(call.user, other)
    return json_answer({"id": chat.id}, status=200 if existed else 201)


TABLE: Final[Table[ApiCall]] = (
    *(("GET", kind.value, _list_of(kind)) for kind in ChatKind),
    ("GET", "{chat}", show_chat),
    ("POST", "conversations", start_conversation),
)
