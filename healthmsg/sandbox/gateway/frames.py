"""Frames, `{"event": NAME, "data": {…}}` as JSON text, and the errors in them."""

from collections.abc import Mapping

import orjson

from healthmsg.codec import encode
from healthmsg.json_text import NotJSONError, parse_json
from healthmsg.sandbox.call import ApiError, Body, bad_request
from healthmsg.sandbox.records import JSON


def frame(name: str, data: Mapping[str, object]) -> str:
    """Write a frame."""
    return encode({"event": name, "data": data}).decode()


def error_frame(error: ApiError, chat: Mapping[str, object] | None = None) -> str:
    """Write an `error`, with the chat that it concerns, if any: all of it is in `data` [V].

    That there is a `message` is assumed [A].
    """
    data: JSON = {"code": error.status, "error": error.error, "message": error.message}
    return frame("error", data | dict(chat or {}))


def read_frame(text: str | bytes, *, strict: bool) -> tuple[str, Body]:
    """Read a frame of a client.

    Raises:
        ApiError: it is none [A: code 400].
    """
    if isinstance(text, bytes):
        raise bad_request("A frame must be text.")
    try:
        document: object = orjson.loads(text) if strict else parse_json(text)
    except (orjson.JSONDecodeError, NotJSONError):
        raise bad_request("The frame is not JSON.") from None
    body = Body.of(document, "The frame", strict=strict)
    data = body.optional_object("data")
    if data is None:
        raise bad_request("data is missing.")
    return body.text("event"), data
