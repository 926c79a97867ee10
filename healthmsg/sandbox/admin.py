"""The sandbox's own surface, for a sandbox in another process. It needs the client's secret in a header."""

from collections import Counter
from typing import Final

from aiohttp import web

from healthmsg.sandbox.answers import ApiError, bad_request, json_answer, not_found
from healthmsg.sandbox.body import Body
from healthmsg.sandbox.call import Call
from healthmsg.sandbox.calls import CallLog
from healthmsg.sandbox.content import MadeUp
from healthmsg.sandbox.credentials import is_same
from healthmsg.sandbox.records import StoredChat, StoredMessage
from healthmsg.sandbox.routing import Router
from healthmsg.sandbox.state import State

SECRET_HEADER: Final = "x-sandbox-secret"  # noqa: S105 - a header's name


class Admin:
    """Reads the call log and adds chats, over HTTP."""

    def __init__(self, log: CallLog) -> None:
        self._log = log
        self.router: Router[Call] = Router(
            (
                ("GET", "sandbox/log", self._show_log),
                ("GET", "sandbox/report", self._report),
                ("POST", "sandbox/conversations", self._add_conversations),
                ("POST", "sandbox/attachments", self._add_attachment),
                ("POST", "sandbox/reset-log", self._reset_log),
            )
        )

    async def _show_log(self, call: Call) -> web.Response:
        _require_secret(call)
        return json_answer(self._log.as_json())

    async def _report(self, call: Call) -> web.Response:
        _require_secret(call)
        return json_answer(report(self._log, call.state))

    async def _add_conversations(self, call: Call) -> web.Response:
        _require_secret(call)
        document = await call.json()
        if not isinstance(document, list):
            raise bad_request("The body must be an array of {first_name, last_name, aux_id?}.")
        rows = [_names_and_aux_id(row) for row in document]
        store = call.state.store
        chats = []
        for first_name, last_name, aux_id in rows:
            patient = store.add_person(first_name, last_name, aux_id=aux_id)
            chats.append(store.start_conversation(call.state.main_user, patient).id)
        return json_answer(chats, status=201)

    async def _add_attachment(self, call: Call) -> web.Response:
        _require_secret(call)
        body = Body.of(await call.json())
        store, size = call.state.store, body.number("size", default=0)
        chat = store.chats.get(body.text("chat"))
        if chat is None:
            raise not_found("chat")
        file = store.new_file(body.text("name"), "application/octet-stream", MadeUp(size))
        store.post(chat, chat.other_side(call.state.main_user), "", files=[file])
        return json_answer({"id": file.id}, status=201)

    async def _reset_log(self, call: Call) -> web.Response:
        _require_secret(call)
        self._log.clear()
        call.state.listed.clear()
        call.state.uploads = 0
        return json_answer({})


def report(log: CallLog, state: State) -> dict[str, object]:
    """Sum up what arrived, and what lists gave away.

    `copies` says for every chat's address how often it holds each text; `uploads` counts the files that were
    uploaded since the log was cleared.
    """
    chats = state.store.chats.values()
    return {
        "calls": len(log.arrivals),
        "rejected": log.rejected,
        "calls_per_second": log.per_second,
        "max_calls_in_any_second": log.most_in_any_second,
        "uploads": state.uploads,
        "conversations_read": sum(isinstance(item, StoredChat) for item in state.listed),
        "messages_read": sum(isinstance(item, StoredMessage) for item in state.listed),
        "copies": {
            chat.address: dict(Counter(message.body for message in chat.messages))
            for chat in chats
            if chat.messages
        },
    }


def _names_and_aux_id(row: object) -> tuple[str, str, str | None]:
    if isinstance(row, dict):
        match row.get("first_name"), row.get("last_name"), row.get("aux_id"):
            case str(first_name), str(last_name), str() | None as aux_id:
                return first_name, last_name, aux_id
            case _:
                pass
    raise bad_request("Each row needs a first_name and a last_name, and may have an aux_id.")


def _require_secret(call: Call) -> None:
    sent = call.request.headers.get(SECRET_HEADER, "")
    if not is_same(sent, call.state.settings.client_secret):
        raise ApiError(403, "secret_required", f"The header {SECRET_HEADER} must be the client's secret.")
