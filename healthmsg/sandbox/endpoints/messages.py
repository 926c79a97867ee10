"""Messages in a chat."""

from typing import Final

from aiohttp import web

from healthmsg.sandbox.answers import json_answer, not_found
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.groups import find_members
from healthmsg.sandbox.questions import read_question
from healthmsg.sandbox.routing import Table
from healthmsg.sandbox.shapes import message_json


async def list_messages(call: ApiCall) -> web.Response:
    """GET {chat}/messages [A]: newest first, unless the sandbox has other habits."""
    store = call.state.store
    listed = store.listed(call.chat())
    return json_answer([message_json(message, store.habits) for message in call.page(listed)])


async def show_message(call: ApiCall) -> web.Response:
    """GET {chat}/messages/{message_id} [V]."""
    for message in call.chat().messages:
        if message.id == call.ids["message_id"]:
            return json_answer(message_json(message, call.state.store.habits))
    raise not_found("message")


async def send_message(call: ApiCall) -> web.Response:
    """POST {chat}/messages [V]."""
    body = await call.body()
    text, question = body.words("body"), body.optional_object("question")
    payload = None if question is None else read_question(question)
    # Only now: the chat may have been closed while the body came in.
    chat = call.chat_to_write_in()
    if question is not None and body.strict:
        find_members(call.state.store, chat, question.optional_texts("users"))
    message = call.state.store.post(chat, call.user, text, payload=payload)
    return json_answer({"id": message.id}, status=201)


TABLE: Final[Table[ApiCall]] = (
    ("GET", "{chat}/messages", list_messages),
    ("GET", "{chat}/messages/{message_id}", show_message),
    ("POST", "{chat}/messages", send_message),
)
