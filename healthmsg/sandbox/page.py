"""The page on which a person plays the other side: at `/sandbox/`, in plain HTML from one file.

Its calls that change something are refused unless they come from the page itself, or with the client's
secret: else any page in a browser on this machine could make them.
"""

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from heapq import nlargest
from importlib.resources import files
from itertools import islice
from typing import Final
from urllib.parse import quote

from aiohttp import web

from healthmsg.sandbox.call import ApiError, Body, Call, bad_request, json_answer, not_found
from healthmsg.sandbox.content import PartOfFile
from healthmsg.sandbox.endpoints.users import VerificationRequest
from healthmsg.sandbox.other_side import OtherSide, SandboxFile
from healthmsg.sandbox.questions import Question
from healthmsg.sandbox.records import JSON, Habits, Payload, Person, StoredChat, StoredMessage
from healthmsg.sandbox.remote import SECRET_HEADER
from healthmsg.sandbox.routing import Handler, Table
from healthmsg.sandbox.state import State, is_same
from healthmsg.sandbox.store import known

_MOST_PEOPLE: Final = 2_000
_MOST_CHATS: Final = 200
_MOST_MESSAGES: Final = 100
_LONGEST_TEXT: Final = 20_000
_LONGEST_PREVIEW: Final = 80
_INLINE: Final = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


# --- The page itself.


async def show_page(call: Call) -> web.Response:  # noqa: ARG001 - the same for every caller
    """GET sandbox/: the page."""
    text, policy = _page()
    headers = {**_HEADERS, "Content-Security-Policy": policy}
    return web.Response(text=text, content_type="text/html", headers=headers)


async def lead_to_page(call: Call) -> web.Response:  # noqa: ARG001 - the same for every caller
    """GET / and GET sandbox: the way to the page."""
    return web.Response(status=302, headers={"Location": "/sandbox/"})


@cache
def _page() -> tuple[str, str]:
    """Read the page; its policy lets its own script run, its own style apply, and nothing else."""
    text = files("healthmsg.sandbox").joinpath("page.html").read_text(encoding="utf-8")
    inline = {kind: b64encode(hashlib.sha256(code.encode()).digest()) for kind, code in _INLINE.findall(text)}
    policy = (
        f"default-src 'none'; script-src 'sha256-{inline['script'].decode()}'; "
        f"style-src 'sha256-{inline['style'].decode()}'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    return text, policy


# --- What it shows.


async def show_people(call: Call) -> web.Response:
    """GET sandbox/people: those as which one can act, the first 2,000."""
    people = call.state.store.people
    shown = [_person(person) for person in islice(people.values(), _MOST_PEOPLE)]
    return json_answer({"people": shown, "of": len(people)}, headers=_HEADERS)


async def show_view(call: Call) -> web.Response:
    """GET sandbox/view: the chats, of one `user` or of all, and one `chat`.

    Only its version, if that is the one which the page names as `after`.
    """
    state, query = call.state, call.request.query
    store = state.store
    version = f"{state.watch.version}.{len(store.people)}"
    if query.get("after") == version:
        return json_answer({"version": version}, headers=_HEADERS)
    user = store.people.get(query.get("user", ""))
    chats = [chat for chat in store.chats.values() if user is None or user in chat.members]
    latest = nlargest(_MOST_CHATS, chats, key=_latest)
    opened = store.chats.get(query.get("chat", ""))
    document = {
        "version": version,
        "people": len(store.people),
        "chats": [_chat(chat, user) for chat in latest],
        "of": len(chats),
        "chat": None if opened is None else _opened(state, opened, user),
    }
    return json_answer(document, headers=_HEADERS)


def _latest(chat: StoredChat) -> datetime:
    return chat.messages[-1].created_at if chat.messages else chat.created_at


def _person(person: Person) -> JSON:
    return {"id": person.id, "name": _name(person), "is_patient": person.company is None}


def _name(person: Person) -> str:
    return f"{person.first_name} {person.last_name}".strip() or person.id


def _chat(chat: StoredChat, viewer: Person | None) -> JSON:
    if chat.is_group:
        title = chat.subject or ""
    elif viewer is not None:
        title = _name(chat.other_side(viewer))
    else:
        patients = [member for member in chat.members if member.company is None]
        title = " – ".join(map(_name, patients or chat.members))  # noqa: RUF001 - a dash between names
    last = chat.messages[-1] if chat.messages else None
    return {
        "id": chat.id,
        "title": title,
        "is_group": chat.is_group,
        "closed": chat.closed,
        "last": None if last is None else f"{_name(last.sender)}: {_preview(last)}",
        "at": (chat.created_at if last is None else last.created_at).isoformat(),
    }


def _preview(message: StoredMessage) -> str:
    if isinstance(message.payload, VerificationRequest):
        return "asks for verification"
    text = message.body or ", ".join(file.name for file in message.files)
    return text[:_LONGEST_PREVIEW]


def _opened(state: State, chat: StoredChat, viewer: Person | None) -> JSON:
    habits = state.store.habits
    typing = state.watch.typing_in(chat)
    return {
        **_chat(chat, viewer),
        "main_user": state.main_user.id,
        "members": [_person(member) for member in chat.members],
        "messages": [_message(chat, message, habits) for message in chat.messages[-_MOST_MESSAGES:]],
        "earlier": max(0, len(chat.messages) - _MOST_MESSAGES),
        "typing": [
            {"id": person.id, "name": _name(person), "milliseconds": left // timedelta(milliseconds=1)}
            for person, left in typing
        ],
    }


def _message(chat: StoredChat, message: StoredMessage, habits: Habits) -> JSON:
    return {
        "id": message.id,
        "user": _person(message.sender),
        "text": message.body[:_LONGEST_TEXT],
        "is_cut": len(message.body) > _LONGEST_TEXT,
        "at": message.created_at.isoformat(),
        "files": [file.to_json(habits) for file in message.files],
        "payload": None if message.payload is None else _payload(chat, message.payload),
        "liked_by": [_name(person) for person in message.liked_by],
    }


def _payload(chat: StoredChat, payload: Payload) -> JSON:
    """Describe what can be answered: by which members, and what they have answered."""
    if isinstance(payload, VerificationRequest):
        more: JSON = {
            "user": _person(payload.person),
            "provider": payload.provider.name,
            "accepted": payload.accepted,
        }
    elif isinstance(payload, Question):
        names = {member.id: _name(member) for member in chat.members}
        more = {
            "users": [user_id for user_id in names if not payload.users or user_id in payload.users],
            "names": [names.get(user_id, user_id) for user_id in payload.answers],
        }
    else:
        more = {}
    return payload.to_json() | more


async def show_file(call: Call) -> web.Response:
    """GET sandbox/files/{file_id}: an attachment, only to be saved: no browser learns its own type."""
    file = call.state.store.file(call.ids["file_id"])
    if file is None:
        raise not_found("file")
    name, content = quote(file.name.encode(errors="replace"), safe=""), file.content.bytes
    headers = {
        **_HEADERS,
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    response = web.Response(headers=headers, content_type="application/octet-stream")
    if content.size:
        response.body = PartOfFile(content, 0, content.size, "application/octet-stream")
    return response


# --- What it does, and other processes do with the secret.

Act = Callable[[Call, OtherSide, Body], object]


def say(call: Call, others: OtherSide, body: Body) -> object:
    """POST sandbox/say: `{user?, chat, text?, files?}`; see `_read_file`."""
    text = body.text("text", may_be_blank=True) if body.has("text") else ""
    sent = [_read_file(file) for file in body.objects("files")]
    message = others.say(_acting(call, body), others.chat(body.text("chat")), text, sent)
    return message.to_json(call.state.store.habits)


def _read_file(body: Body) -> SandboxFile:
    """Read `{name, mime_type?, announced_size?}`, and `content` in base64 or a `size` of made-up bytes."""
    content: bytes | int
    if body.has("content"):
        try:
            content = b64decode(body.text("content", may_be_blank=True), validate=True)
        except ValueError:
            raise bad_request("A file's content is not base64.") from None
    else:
        content = body.number("size", default=0)
    mime_type = body.optional_text("mime_type") or "application/octet-stream"
    if not (mime_type.isascii() and mime_type.isprintable()):
        raise bad_request("A file's type is not ASCII.")
    size = body.number("announced_size", default=0) if body.has("announced_size") else None
    return SandboxFile(body.text("name", may_be_blank=True), content, mime_type, size)


def answer(call: Call, others: OtherSide, body: Body) -> object:
    """POST sandbox/answer: `{user?, message, options: [name]}`."""
    others.answer(_acting(call, body), body.text("message"), body.optional_texts("options"))
    return {}


def verify(call: Call, others: OtherSide, body: Body) -> object:
    """POST sandbox/verify: `{user?, message, accepted?}`."""
    accepted = body.flag("accepted", default=True)
    others.verify(_acting(call, body), body.text("message"), accepted=accepted)
    return {}


def type_text(call: Call, others: OtherSide, body: Body) -> object:
    """POST sandbox/type: `{user?, chat, stopped?}`."""
    chat = others.chat(body.text("chat"))
    others.type(_acting(call, body), chat, stopped=body.flag("stopped"))
    return {}


def _acting(call: Call, body: Body) -> Person | None:
    user_id = body.optional_text("user")
    return None if user_id is None else known(call.state.store.people.get(user_id), "user")


def _acting_as(act: Act) -> Handler[Call]:
    async def handle(call: Call) -> web.Response:
        _check_origin(call)
        body = Body.of(await call.json())
        others = OtherSide(call.state.store, call.state.main_user)
        try:
            document = act(call, others, body)
        except KeyError as error:
            problem = ApiError(404, "not_found", f"{error.args[0]}.")
        except ValueError as error:
            problem = ApiError(409, "not_possible", f"{error}.")
        else:
            return json_answer(document, headers=_HEADERS)
        raise problem

    return handle


def _check_origin(call: Call) -> None:
    """Refuse what comes neither from this page nor with the secret. A browser names every POST's origin."""
    request = call.request
    secret = request.headers.get(SECRET_HEADER)
    if secret is not None and is_same(secret, call.state.options.client_secret):
        return
    if request.headers.get("Origin") != f"{request.scheme}://{request.host}":
        message = f"This needs the sandbox's own page, or the client's secret in the header {SECRET_HEADER}."
        raise ApiError(403, "wrong_origin", message)


_ACTS: Final[Mapping[str, Act]] = {"say": say, "answer": answer, "verify": verify, "type": type_text}

TABLE: Final[Table[Call]] = (
    ("GET", "", lead_to_page),
    ("GET", "sandbox", lead_to_page),
    ("GET", "sandbox/", show_page),
    ("GET", "sandbox/people", show_people),
    ("GET", "sandbox/view", show_view),
    ("GET", "sandbox/files/{file_id}", show_file),
    *(("POST", f"sandbox/{name}", _acting_as(act)) for name, act in _ACTS.items()),
)
