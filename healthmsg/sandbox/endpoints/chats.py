"""Chats of all kinds, and their messages."""

from typing import Final

from aiohttp import web

from healthmsg.ids import ChatKind
from healthmsg.sandbox.call import ApiCall, bad_request, json_answer, not_found
from healthmsg.sandbox.questions import Question
from healthmsg.sandbox.routing import Handler, Table


def _list_of(kind: ChatKind) -> Handler[ApiCall]:
    async def list_chats(call: ApiCall) -> web.Response:
        """GET one of the four kinds [A]."""
        store = call.state.store
        until = call.state.options.now() - store.habits.chats_lag
        lag, chats = store.habits.chats_lag, store.chats_of(call.user, kind)
        listed = [chat for chat in chats if not lag or chat.created_at <= until]
        return json_answer([chat.to_json(call.user, store.habits, until) for chat in call.page(listed)])

    return list_chats


async def show_chat(call: ApiCall) -> web.Response:
    """GET {chat} [V]."""
    return json_answer(call.chat().to_json(call.user, call.state.store.habits))


async def start_conversation(call: ApiCall) -> web.Response:
    """POST conversations [A]: 201, or 200 with the conversation that was there."""
    user_id = (await call.body()).text("user_id")
    store = call.state.store
    other = store.people.get(user_id)
    if other is None:
        raise not_found("user")
    if other is call.user:
        raise bad_request("A conversation needs another user.")
    existed = store.conversation_between(call.user, other) is not None
    chat = store.start_conversation(call.user, other)
    return json_answer({"id": chat.id}, status=200 if existed else 201)


async def list_messages(call: ApiCall) -> web.Response:
    """GET {chat}/messages [A]: newest first, unless the sandbox has other habits."""
    store = call.state.store
    messages = call.page(store.listed(call.chat()))
    return json_answer([message.to_json(store.habits) for message in messages])


async def show_message(call: ApiCall) -> web.Response:
    """GET {chat}/messages/{message_id} [V]."""
    for message in call.chat().messages:
        if message.id == call.ids["message_id"]:
            return json_answer(message.to_json(call.state.store.habits))
    raise not_found("message")


async def send_message(call: ApiCall) -> web.Response:
    """POST {chat}/messages [V]."""
    body = await call.body()
    text = body.text("body", may_be_blank=not body.strict)
    described = body.optional_object("question")
    question = None if described is None else Question.read(described)
    # Only now: the chat may have been closed while the body came in.
    chat = call.chat_to_write_in()
    if question is not None and body.strict:
        call.members(chat, question.users)
    message = call.state.store.post(chat, call.user, text, payload=question)
    return json_answer({"id": message.id}, status=201)


TABLE: Final[Table[ApiCall]] = (
    *(("GET", kind.value, _list_of(kind)) for kind in ChatKind),
    ("GET", "{chat}", show_chat),
    ("POST", "conversations", start_conversation),
    ("GET", "{chat}/messages", list_messages),
    ("GET", "{chat}/messages/{message_id}", show_message),
    ("POST", "{chat}/messages", send_message),
)
