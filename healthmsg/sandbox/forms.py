"""A multipart form that is sent to the API."""

from collections.abc import Sequence
from typing import Final

from aiohttp import BodyPartReader, web
from aiohttp.http import HttpProcessingError
from attrs import define, field

from healthmsg.sandbox.answers import bad_request
from healthmsg.sandbox.content import Intake
from healthmsg.sandbox.records import File
from healthmsg.sandbox.store import Store

_CHUNK: Final = 256 * 1024
_LONGEST_TEXT: Final = 64 * 1024


@define
class Form:
    """What a form held."""

    text: str = ""
    files: list[File] = field(factory=list)


async def read_form(
    request: web.BaseRequest, store: Store, *, files_part: str, text_part: str | None = None
) -> Form:
    """Read a form with any number of files, and at most a text.

    Raises:
        ApiError: it is no form, broken, or has other parts.
    """
    if request.content_type != "multipart/form-data":
        raise bad_request("The body must be multipart/form-data.")
    try:
        return await _read_parts(request, store, files_part, text_part)
    # How aiohttp's reader says that it does not understand, 3.14.0 a charset; warnings can be made errors.
    except (ValueError, LookupError, HttpProcessingError, RuntimeWarning):
        raise bad_request("The form is broken.") from None


async def _read_parts(request: web.BaseRequest, store: Store, files_part: str, text_part: str | None) -> Form:
    form = Form()
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise bad_request("A form inside the form is not understood.")
        if part.name == files_part:
            form.files.append(await _read_file(part, store))
        elif part.name is not None and part.name == text_part:
            form.text = await _read_text(part)
        else:
            raise bad_request("A part of the form has a name that is not understood.")
    if not form.files:
        raise bad_request(f"The form has no part named {files_part}.")
    return form


async def _read_file(part: BodyPartReader, store: Store) -> File:
    name = part.filename
    mime_type = part.headers.get("Content-Type", "application/octet-stream")
    if not name or not _is_utf8(name):
        raise bad_request("A file has no name, or one that is not UTF-8.")
    if not (mime_type.isascii() and mime_type.isprintable()):
        raise bad_request("A file's type is not ASCII.")
    intake = Intake()
    try:
        while chunk := await part.read_chunk(_CHUNK):
            await intake.add(chunk)
        content = await intake.all()
    except BaseException:
        intake.drop()
        raise
    if not content.size:
        raise bad_request("A file is empty.")
    return store.new_file(name, mime_type, content)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


async def _read_text(part: BodyPartReader) -> str:
    content = bytearray()
    while chunk := await part.read_chunk(_CHUNK):
        content += chunk
        if len(content) > _LONGEST_TEXT:
            raise bad_request("The message is too long.")
    return content.decode()


def the_only_file(files: Sequence[File]) -> File:
    """Give the one file there is.

    Raises:
        ApiError: there are several.
    """
    if len(files) > 1:
        raise bad_request("The form may have one file only.")
    return files[0]
