"""Messages in a chat."""

from typing import Final

from aiohttp import web

from healthmsg.sandbox.answers import bad_request, json_answer, not_found
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.routing import Table
from healthmsg.sandbox.shapes import message_json

_LONGEST_OPTION_NAME: Final = 32


async def list_messages(call: ApiCall) -> web.Response:
    """GET {chat}/messages [A]: newest first."""
    newest_first = call.chat().messages[::-1]
    return json_answer([message_json(message) for message in call.page(newest_first)])


async def show_message(call: ApiCall) -> web.Response:
    """GET {chat}/messages/{message_id} [V]."""
    for message in call.chat().messages:
        if message.id == call.ids["message_id"]:
            return json_answer(message_json(message))
    raise not_found("message")


async def send_message(call: ApiCall) -> web.Response:
    """POST {chat}/messages [V]."""
    document = await call.json_object()
    body = document.get("body")
    if not isinstance(body, str) or not body.strip():
        raise bad_request("body must be text that is not empty.")
    question = document.get("question")
    payload = None if question is None else _question(question)
    # Only now: the chat may have been closed while the body came in.
    chat = call.chat(to_change=True)
    message = call.state.store.post(chat, call.user, body, payload=payload)
    return json_answer({"id": message.id}, status=201)


def _question(question: object) -> dict[str, object]:
    """Make the payload of a question [V]; what is refused is assumed [A]."""
    options = question.get("options") if isinstance(question, dict) else None
    if not isinstance(question, dict) or not isinstance(options, list) or not options:
        raise bad_request("question must be an object with options.")
    for option in options:
        name = option.get("name") if isinstance(option, dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_OPTION_NAME:
            raise bad_request(f"an option's name must be text of at most {_LONGEST_OPTION_NAME} characters.")
    return {"type": "question", **question}


TABLE: Final[Table[ApiCall]] = (
    ("GET", "{chat}/messages", list_messages),
    ("GET", "{chat}/messages/{message_id}", show_message),
    ("POST", "{chat}/messages", send_message),
)
