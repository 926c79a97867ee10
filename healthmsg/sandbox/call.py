"""A call as its handler sees it, and the answers that a handler returns or raises."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Final, TypeVar

import orjson
from aiohttp import BodyPartReader, web
from aiohttp.http import HttpProcessingError
from attrs import define, field, frozen

from healthmsg.codec import encode
from healthmsg.ids import ChatKind
from healthmsg.json_text import NotJSONError, parse_json
from healthmsg.sandbox.content import Stored
from healthmsg.sandbox.records import File, Person, StoredChat, StoredMessage
from healthmsg.sandbox.state import State

T = TypeVar("T")
ItemT = TypeVar("ItemT", Person, StoredChat, StoredMessage)

DEFAULT_AMOUNT: Final = 20
"""Items on a page when `amount` is not given [V for me/contacts, A elsewhere]."""
LARGEST_AMOUNT: Final = 100
"""Items on a page at most; a larger `amount` gets this many [A]."""
_CHUNK: Final = 256 * 1024
_LONGEST_TEXT: Final = 64 * 1024


class ApiError(Exception):
    """A call that is refused. Its body's shape is assumed [A]: a code word and a sentence."""

    def __init__(
        self, status: int, error: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.error = error
        self.message = message
        self.headers: Mapping[str, str] = headers or {}
        super().__init__(error)

    def answer(self) -> web.Response:
        """Return the answer for the caller."""
        document = {"error": self.error, "message": self.message}
        return json_answer(document, status=self.status, headers=self.headers)


def bad_request(message: str) -> ApiError:
    """Refuse a call that cannot be understood: 400."""
    return ApiError(400, "bad_request", message)


def not_found(what: str) -> ApiError:
    """Refuse a call for something that does not exist, or not for this user [A: both look alike]: 404."""
    return ApiError(404, f"{what.replace(' ', '_')}_not_found", f"There is no such {what} for this user.")


def forbidden(message: str) -> ApiError:
    """Refuse what this user may not do: 403."""
    return ApiError(403, "not_allowed", message)


def precondition_failed(error: str, message: str) -> ApiError:
    """Refuse what cannot be done in the present state: 412."""
    return ApiError(412, error, message)


def too_large() -> ApiError:
    """Refuse a body that is larger than any sensible one: 413 [A]."""
    return ApiError(413, "too_large", "The body is too large.")


def too_many(error: str, message: str, wait: float | None) -> ApiError:
    """Refuse a call for now: 429 [D]; `wait` seconds go into `Retry-After`, rounded up [A: RFC 9110]."""
    headers = {} if wait is None else {"Retry-After": str(max(1, ceil(wait)))}
    return ApiError(429, error, message, headers=headers)


def json_answer(
    document: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with JSON."""
    body = encode(document)
    return web.Response(
        body=body, status=status, headers=headers, content_type="application/json", charset="utf-8"
    )


def cut(request: web.BaseRequest) -> None:
    """Close the connection: what was written still goes out, what was not read is lost."""
    if request.transport is not None:
        request.transport.close()


@frozen
class Body:
    """A JSON object. Unknown fields are ignored; a field that is `null` counts as not sent [A].

    Every method refuses with 400 what is not of its type; nothing is converted. What it refuses only if it is
    `strict` has been sent by the vendor's software [V], or can be.
    """

    _document: Mapping[str, object]
    strict: bool = True

    @classmethod
    def of(cls, document: object, name: str = "The body", *, strict: bool = True) -> "Body":
        """Take a JSON object."""
        if not isinstance(document, dict):
            raise bad_request(f"{name} must be a JSON object.")
        return cls(document, strict)

    def text(self, name: str, *, may_be_blank: bool = False) -> str:
        """Return a text that must be there. A bot that was given no text sends an empty one [V]."""
        text = self._typed(name, str, "text") if may_be_blank else self.optional_text(name)
        if text is None:
            raise bad_request(f"{name} is missing.")
        return text

    def optional_text(self, name: str) -> str | None:
        """Return a text that is not blank, or `None`."""
        text = self._typed(name, str, "text")
        if text is not None and not text.strip():
            raise bad_request(f"{name} must not be empty.")
        return text

    def person_name(self, name: str) -> str:
        """Return a person's name, which may be empty: some have one only [A]. Missing, it is empty [V]."""
        text = self._typed(name, str, "text")
        if text is None and self.strict:
            raise bad_request(f"{name} is missing.")
        return text or ""

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a boolean value."""
        flag = self._typed(name, bool, "true or false")
        return default if flag is None else flag

    def number(self, name: str, *, default: int) -> int:
        """Return a whole number of at least 0."""
        number = self._typed(name, int, "a whole number")
        if number is not None and number < 0:
            raise bad_request(f"{name} must not be below 0.")
        return default if number is None else number

    def texts(self, name: str) -> Sequence[str]:
        """Return an array of texts that is there, and not empty."""
        texts = self.optional_texts(name)
        if not texts and (self.strict or not self.has(name)):
            raise bad_request(f"{name} must be an array of text that is not empty.")
        return texts

    def optional_texts(self, name: str) -> Sequence[str]:
        """Return an array of texts, each once."""
        texts = self._typed(name, list, "an array") or []
        if not all(isinstance(text, str) for text in texts):
            raise bad_request(f"{name} must hold text only.")
        return list(dict.fromkeys(texts))

    def optional_object(self, name: str) -> "Body | None":
        """Return the object in a field, if there is one."""
        document = self._document.get(name)
        return None if document is None else Body.of(document, name, strict=self.strict)

    def objects(self, name: str) -> Sequence["Body"]:
        """Return an array of objects, which may be empty."""
        items: Sequence[object] = self._typed(name, list, "an array") or []
        return [Body.of(item, f"Each of {name}", strict=self.strict) for item in items]

    def has(self, name: str) -> bool:
        """Return whether a field was sent."""
        return self._document.get(name) is not None

    def _typed(self, name: str, expected: type[T], described: str) -> T | None:
        value = self._document.get(name)
        # Not isinstance: true is no number.
        if value is None or type(value) is expected:
            return value
        raise bad_request(f"{name} must be {described}.")


@define
class Form:
    """A multipart form."""

    text: str = ""
    files: list[File] = field(factory=list)


@frozen(eq=False)
class Call:
    """A call to anything, signed in or not."""

    request: web.BaseRequest
    state: State
    ids: Mapping[str, str]
    """The ids in the path, decoded."""

    async def json(self) -> object:
        """Read the body as JSON.

        Raises:
            ApiError: it is not JSON.
        """
        if self.request.content_type != "application/json":
            raise bad_request("The body must be application/json.")
        try:
            body = await self.request.read()
            # JavaScript writes half of a surrogate pair as it is.
            document: object = orjson.loads(body) if self.state.options.strict else parse_json(body)
        except (orjson.JSONDecodeError, NotJSONError):
            raise bad_request("The body is not JSON.") from None
        except web.HTTPRequestEntityTooLarge:
            raise too_large() from None
        return document


@frozen(eq=False)
class ApiCall(Call):
    """A call to the API, by a user who may make it."""

    user: Person
    kind: ChatKind | None
    """Which kind of chat the path names, if any."""

    async def body(self) -> Body:
        """Read the body as a JSON object.

        Raises:
            ApiError: it is none.
        """
        return Body.of(await self.json(), strict=self.state.options.strict)

    async def form(self, *, files_part: str, text_part: str | None = None) -> Form:
        """Read a multipart form with any number of files, and at most a text.

        Raises:
            ApiError: it is no form, broken, or has other parts.
        """
        if self.request.content_type != "multipart/form-data":
            raise bad_request("The body must be multipart/form-data.")
        try:
            return await self._read_parts(files_part, text_part)
        # Errors of aiohttp's reader for a broken form; LookupError is an unknown charset's, and warnings can
        # be made errors.
        except (ValueError, LookupError, HttpProcessingError, RuntimeWarning):
            raise bad_request("The form is broken.") from None

    async def _read_parts(self, files_part: str, text_part: str | None) -> Form:
        form = Form()
        async for part in await self.request.multipart():
            if not isinstance(part, BodyPartReader):
                raise bad_request("A form inside the form is not understood.")
            if part.name == files_part:
                form.files.append(await self._read_file(part))
            elif part.name is not None and part.name == text_part:
                form.text = await _read_text(part)
            else:
                raise bad_request("A part of the form has a name that is not understood.")
        if not form.files:
            raise bad_request(f"The form has no part named {files_part}.")
        return form

    async def _read_file(self, part: BodyPartReader) -> File:
        name = part.filename
        mime_type = part.headers.get("Content-Type", "application/octet-stream")
        if not name or not _is_utf8(name):
            raise bad_request("A file has no name, or one that is not UTF-8.")
        if not (mime_type.isascii() and mime_type.isprintable()):
            raise bad_request("A file's type is not ASCII.")
        content = Stored()
        try:
            while chunk := await part.read_chunk(_CHUNK):
                await content.receive(chunk)
        except BaseException:
            content.close()
            raise
        if not content.size:
            raise bad_request("A file is empty.")
        return self.state.store.new_file(name, mime_type, content)

    def page(self, items: Sequence[ItemT]) -> Sequence[ItemT]:
        """Return the page that `page` (from 0) and `amount` ask for.

        Raises:
            ApiError: one of them is no number, or out of range.
        """
        amount = min(self._number("amount", DEFAULT_AMOUNT, least=1), LARGEST_AMOUNT)
        start = self._number("page", 0, least=0) * amount
        page = items[start : start + amount]
        self.state.listed.update(page)
        return page

    def _number(self, name: str, default: int, *, least: int) -> int:
        text = self.request.query.get(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 10) or int(text) < least:  # noqa: PLR2004 - digits
            raise bad_request(f"{name} must be a number of at least {least}.")
        return int(text)

    def chat(self, *, to_change: bool = False) -> StoredChat:
        """Return the chat that the path names.

        Raises:
            ApiError: there is none that the user is in [A: 404, not 403], or it is closed and `to_change`.
        """
        assert self.kind is not None, "only for routes with {chat}"  # noqa: S101 - a mistake in our own table
        chat_id = self.ids["aux_id" if self.kind.is_auxiliary else "id"]
        chat = self.state.store.chat(self.kind, chat_id, self.user)
        if chat is None or self.user not in chat.members:
            raise not_found("chat")
        if to_change and chat.closed:
            raise precondition_failed("chat_is_closed", "This chat is closed.")
        return chat

    def chat_to_write_in(self) -> StoredChat:
        """Return the chat for a new message, which starts a conversation by the other side's user id [A].

        Raises:
            ApiError: as `chat`.
        """
        other = self._without_conversation()
        if other is not None:
            return self.state.store.start_conversation(self.user, other)
        return self.chat(to_change=True)

    def check_chat_to_write_in(self) -> None:
        """Refuse what `chat_to_write_in` would refuse; no conversation is started.

        Raises:
            ApiError: as `chat`.
        """
        if self._without_conversation() is None:
            self.chat(to_change=True)

    def _without_conversation(self) -> Person | None:
        """Return the user that the path names in place of a conversation, if there is none yet."""
        if self.kind is not ChatKind.CONVERSATION:
            return None
        store = self.state.store
        other = store.people.get(self.ids["id"])
        if other is None or other is self.user or store.conversation_between(self.user, other) is not None:
            return None
        return other

    def people(self, ids: Iterable[str], *, by_aux_id: bool = False) -> Sequence[Person]:
        """Return the people with these ids; 404 unless all of them are there."""
        known = self.state.store.people_by_aux_id if by_aux_id else self.state.store.people
        found = [known.get(person_id) for person_id in ids]
        if None in found:
            raise not_found("user")
        return [person for person in found if person is not None]

    def members(self, chat: StoredChat, ids: Iterable[str], *, by_aux_id: bool = False) -> Sequence[Person]:
        """Return the members with these ids; 404 also for people who are not in the chat."""
        people = self.people(ids, by_aux_id=by_aux_id)
        if not set(people) <= set(chat.members):
            raise not_found("user")
        return people

    def link_to(self, file: File) -> web.Response:
        """Answer with a link to a file, and the cookie that opens it [V]: 302."""
        link, cookie = self.state.offer(file)
        return json_answer({"link": link}, status=302, headers={"Location": link, "Set-Cookie": cookie})


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
