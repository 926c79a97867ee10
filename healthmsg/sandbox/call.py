"""A call as its handler sees it."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import orjson
from aiohttp import web
from attrs import frozen

from healthmsg.ids import ChatKind
from healthmsg.json_text import NotJSONError, parse_json
from healthmsg.sandbox.answers import bad_request, json_answer, not_found, precondition_failed, too_large
from healthmsg.sandbox.body import Body
from healthmsg.sandbox.records import File, Person, StoredChat, StoredMessage
from healthmsg.sandbox.state import State

T = TypeVar("T", Person, StoredChat, StoredMessage)

DEFAULT_AMOUNT: Final = 20
"""Items on a page when `amount` is not given [V for me/contacts, A elsewhere]."""
LARGEST_AMOUNT: Final = 100
"""Items on a page at most; who asks for more gets this many [A]."""


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
            ApiError: it is none.
        """
        if self.request.content_type != "application/json":
            raise bad_request("The body must be application/json.")
        try:
            body = await self.request.read()
            # JavaScript writes half of a surrogate pair as it is.
            document: object = orjson.loads(body) if self.state.settings.strict else parse_json(body)
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
        return Body.of(await self.json(), strict=self.state.settings.strict)

    def page(self, items: Sequence[T]) -> Sequence[T]:
        """Cut out the page that `page` (from 0) and `amount` ask for.

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

    def link_to(self, file: File) -> web.Response:
        """Answer with a link to a file, and the cookie that opens it [V]: 302."""
        link, cookie = self.state.offer(file)
        return json_answer({"link": link}, status=302, headers={"Location": link, "Set-Cookie": cookie})
