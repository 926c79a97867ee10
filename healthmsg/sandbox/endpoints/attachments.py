"""Files in a chat: sent as a multipart form, fetched over a link that needs a cookie."""

from collections.abc import Sequence
from typing import Final

from aiohttp import BodyPartReader, MultipartReader, web

from healthmsg.sandbox.answers import bad_request, json_answer, not_found
from healthmsg.sandbox.call import ApiCall
from healthmsg.sandbox.routing import Table
from healthmsg.sandbox.store import File, Store

_CHUNK: Final = 256 * 1024
_LONGEST_TEXT: Final = 64 * 1024


async def upload_files(call: ApiCall) -> web.Response:
    """POST {chat}/attachments [V]: nothing is kept unless the whole form arrived."""
    call.chat(to_change=True)
    if call.request.content_type != "multipart/form-data":
        raise bad_request("The body must be multipart/form-data.")
    try:
        text, files = await _read_form(await call.request.multipart(), call.state.store)
    except ValueError:  # how aiohttp's reader says so
        raise bad_request("The form is broken.") from None
    if not files:
        raise bad_request("The form has no part named files.")
    # Again: the chat may have been closed while the files came in.
    chat = call.chat(to_change=True)
    message = call.state.store.post(chat, call.user, text, files=files)
    call.state.uploads += len(files)
    return json_answer({"id": message.id}, status=201)


async def _read_form(form: MultipartReader, store: Store) -> tuple[str, Sequence[File]]:
    text, files = "", []
    async for part in form:
        if not isinstance(part, BodyPartReader):
            raise bad_request("A form inside the form is not understood.")
        if part.name == "message":
            text = (await _read_part(part, most=_LONGEST_TEXT)).decode()
        elif part.name == "files":
            files.append(await _read_file(part, store))
        else:
            raise bad_request("Only the parts message and files are understood.")
    return text, files


async def _read_file(part: BodyPartReader, store: Store) -> File:
    if not part.filename:
        raise bad_request("A file has no name.")
    mime_type = part.headers.get("Content-Type", "application/octet-stream")
    content = await _read_part(part)
    if not content:
        raise bad_request("A file is empty.")
    return File(store.new_id(), part.filename, mime_type, content)


async def _read_part(part: BodyPartReader, *, most: int | None = None) -> bytearray:
    content = bytearray()
    while chunk := await part.read_chunk(_CHUNK):
        content += chunk
        if most is not None and len(content) > most:
            raise bad_request("The message is too long.")
    return content


async def link_to_attachment(call: ApiCall) -> web.Response:
    """GET {chat}/attachments/{attachment_id} [V]; that `headers=false` changes nothing is assumed [A]."""
    for message in call.chat().messages:
        for file in message.files:
            if file.id == call.ids["attachment_id"]:
                link, cookie = call.state.offer(file)
                return json_answer(
                    {"link": link}, status=302, headers={"Location": link, "Set-Cookie": cookie}
                )
    raise not_found("attachment")


TABLE: Final[Table[ApiCall]] = (
    ("POST", "{chat}/attachments", upload_files),
    ("GET", "{chat}/attachments/{attachment_id}", link_to_attachment),
)
