"""Files in a chat: sent as a multipart form, fetched over a link that needs a cookie."""

from typing import Final

from aiohttp import web

from healthmsg.sandbox.answers import json_answer, not_found
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.forms import read_form
from healthmsg.sandbox.routing import Table


async def upload_files(call: ApiCall) -> web.Response:
    """POST {chat}/attachments [V]: nothing is kept unless the whole form arrived."""
    call.check_chat_to_write_in()
    form = await read_form(call.request, call.state.store, files_part="files", text_part="message")
    # Again: the chat may have been closed while the files came in.
    chat = call.chat_to_write_in()
    message = call.state.store.post(chat, call.user, form.text, files=form.files)
    call.state.uploads += len(form.files)
    return json_answer({"id": message.id}, status=201)


async def link_to_attachment(call: ApiCall) -> web.Response:
    """GET {chat}/attachments/{attachment_id} [V]; that `headers=false` changes nothing is assumed [A]."""
    for message in call.chat().messages:
        for file in message.files:
            if file.id == call.ids["attachment_id"]:
                return call.link_to(file)
    raise not_found("attachment")


TABLE: Final[Table[ApiCall]] = (
    ("POST", "{chat}/attachments", upload_files),
    ("GET", "{chat}/attachments/{attachment_id}", link_to_attachment),
)
