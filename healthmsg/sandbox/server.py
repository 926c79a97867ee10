"""The sandbox: the API on this machine, over a real socket."""

import asyncio
import builtins
from collections.abc import Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

from attrs import define, field

from healthmsg.codec import decode, encode
from healthmsg.environment import Environment
from healthmsg.ids import ChatAddress
from healthmsg.models import Message, SentMessage, User
from healthmsg.sandbox import hub
from healthmsg.sandbox.call_log import CallRecord
from healthmsg.sandbox.content import digest_of
from healthmsg.sandbox.endpoints.group_chats import Hooks
from healthmsg.sandbox.faults import Faults
from healthmsg.sandbox.gateway.faults import Gateway
from healthmsg.sandbox.gateway.service import GatewayService
from healthmsg.sandbox.listener import Listener
from healthmsg.sandbox.other_side import OtherSide, SandboxFile
from healthmsg.sandbox.records import File, Person, StoredChat, StoredMessage
from healthmsg.sandbox.seed import add_main_user, add_sample_data
from healthmsg.sandbox.service import Service
from healthmsg.sandbox.state import SCOPES, Options, State, Tokens, environment_at
from healthmsg.sandbox.store import Store, known


@define(eq=False, kw_only=True)
class Sandbox(Options):
    """The KPN Healthcare Messenger API on this machine, with made-up people in it. Contract: all of it.

    `async with Sandbox() as sandbox` starts and stops it; everything it knows is in memory. Where the
    contract assumes something [A], so does the sandbox, with a comment at that place.

    Args:
        rate_limit: How calls are counted [D: 30 a second; A: per application]; `None`: they are not limited.
        habits: How stamps, texts, files and lists are stored and shown, and what the gateway leaves out [A].
        quota: How many calls each user may make.
        auto_approve: Whether the authorize URL redirects at once, instead of showing a page.
        refresh_tokens: Whether there are refresh tokens [A]; each works once.
        revoke_on_reuse: Whether a refresh token that is used twice ends all that came of that authorization
            [A: RFC 9700].
        announce_expiry: Whether the token answer has `expires_in` [A].
        retry_after: Whether a 429 has `Retry-After` [A].
        ranges: Whether parts of files can be requested [A: RFC 9110].
        strict: Whether it refuses what looks wrong, though the vendor's software may send it [A]: names of
            options with other signs than letters, digits and `_`, or more than 32 of them; two options of one
            name; other styles of a question; questions and requests for verification to users outside the
            chat; invitations without names; settings and lists of members with nothing in them; texts without
            a letter; improper JSON.
        allowed_hosts: Names by which it may be called, on any port, besides loopback and the `host` of
            `start`. Any other is refused with 421. Otherwise a page in a browser on this machine could read
            the sandbox, under a name of the page's own that leads here (DNS rebinding).
        foreign_downloads: Whether the files are on a port of their own, which is another origin.
        sample_data: Whether there are people, chats and messages besides the main user.
        client_id: The application's.
        client_secret: The application's; made up and not secret, as all in here.
        redirect_uri: The registered callback; `None`: any on loopback.
        now: The time of day (aware), for tokens, quotas and stamps.
        clock: The clock of the limits of calls and of events, of the call log and of the faults, in seconds;
            `None`: the event loop's.
        on_message: Called with the id of each new message, before its sender has the answer.
    """

    faults: Faults = field(factory=Faults, init=False, repr=False)
    """The rules that inject faults into calls; see `Faults.add`."""
    gateway: Gateway = field(factory=Gateway, init=False, repr=False)
    """The gateway's faults, and how many clients are connected to it."""
    store: Store = field(init=False, repr=False)
    """What the sandbox knows."""
    _state: State = field(init=False, repr=False)
    _service: Service = field(init=False, repr=False)
    _others: OtherSide = field(init=False, repr=False)
    _hooks: Hooks = field(factory=Hooks, init=False, repr=False)
    _listener: Listener | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.store = Store(self.now, self.habits)
        main_user = add_main_user(self.store)
        if self.sample_data:
            add_sample_data(self.store, main_user)
        self._state = State(self, self.store, Tokens(self.now), main_user)
        self._others = OtherSide(self.store, main_user)
        live = GatewayService(self._state, self.gateway)
        self._service = Service(self._state, self.faults, self._go_offline, live)
        self.store.hub.listen(self._announce)

    def __repr__(self) -> str:
        return f"<Sandbox at {self.url}>" if self._listener else "<Sandbox, not started>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: builtins.type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one.

        Raises:
            RuntimeError: it is started already.
            OSError: it cannot listen there.
        """
        if self._listener is not None:
            raise RuntimeError("this sandbox is started already")
        ports = [port, 0] if self.foreign_downloads else [port]
        listener = Listener(self._service.answer, host, ports)
        await listener.start()
        self._listener = listener
        self._state.hosts = frozenset(name.rstrip(".").lower() for name in (host, *self.allowed_hosts))
        self._state.origin, self._state.files_origin = listener.origins[0], listener.origins[-1]

    async def stop(self) -> None:
        """Stop listening, cut every connection, and end what is still running."""
        listener, self._listener = self._listener, None
        if listener is not None:
            try:
                await listener.stop()
                await self._hooks.close()
            finally:
                self.store.close()

    async def go_offline(self, seconds: float) -> None:
        """Cut every connection, refuse new ones for so many seconds of the event loop's, and come back.

        It comes back on the same port, with all that it knows. Stopping it ends the outage.

        Raises:
            RuntimeError: it is not started.
            ValueError: less than no seconds.
            OSError: it cannot listen there again.
        """
        await asyncio.shield(self._go_offline(seconds))

    @property
    def url(self) -> str:
        """Scheme, host and port.

        Raises:
            RuntimeError: it is not started.
        """
        if not self._state.origin:
            raise RuntimeError("this sandbox is not started")
        return self._state.origin

    @property
    def environment(self) -> Environment:
        """The sandbox's URLs, for a `Client`."""
        return environment_at(self.url)

    @property
    def user_id(self) -> str:
        """The id of the main user: a professional, whose a token is unless another user is named."""
        return self._state.main_user.id

    def issue_token(
        self,
        user_id: str | None = None,
        *,
        scopes: Sequence[str] = SCOPES,
        refresh: bool = False,
        lifetime: timedelta | None = None,
    ) -> str:
        """Make an access token without the three legs, or with `refresh` a refresh token.

        An access token lasts three days [D], a refresh token until it is used; `lifetime` shortens either.

        Raises:
            KeyError: there is no such user.
            ValueError: a refresh token is asked for, but refresh tokens are not switched on.
        """
        user = self._person(user_id)
        if not refresh:
            return self._state.tokens.issue_access(user.id, scopes, lifetime)
        if not self.refresh_tokens:
            raise ValueError("make the sandbox with refresh_tokens=True first")
        return self._state.tokens.issue_refresh(user.id, scopes, lifetime)

    def revoke_token(self, value: str) -> None:
        """End an access token or a refresh token.

        Raises:
            KeyError: this sandbox did not issue it.
        """
        self._state.tokens.revoke(value)

    def add_user(self, first_name: str, last_name: str, *, aux_id: str | None = None) -> str:
        """Add a patient and return the id; an auxiliary id moves here from the user who had it [D]."""
        return self.store.add_person(first_name, last_name, aux_id=aux_id).id

    def add_colleague(self, first_name: str, last_name: str) -> str:
        """Add a professional to the main user's company and return the id."""
        return self.store.add_person(first_name, last_name, company=self._state.main_user.company).id

    def add_conversation(
        self, *, user: str | None = None, aux_id: str | None = None, messages: Iterable[str] = ()
    ) -> str:
        """Start a conversation of the main user and return its id; without `user`, with a new patient.

        `aux_id` becomes the other side's, and so the conversation's [A].

        Raises:
            KeyError: there is no such user.
        """
        number = len(self.store.people)
        other = self._person(user) if user else self.store.add_person("Patiënt", f"Nummer {number}")
        if aux_id is not None:
            self.store.assign_aux_id(other, aux_id)
        chat = self.store.start_conversation(self._state.main_user, other)
        return self._filled(chat, messages)

    def add_group_chat(
        self,
        subject: str,
        *,
        members: Iterable[str] = (),
        aux_id: str | None = None,
        messages: Iterable[str] = (),
    ) -> str:
        """Start a group chat of the main user and return its id.

        Raises:
            KeyError: there is no such user.
        """
        people = [self._person(member) for member in members]
        chat = self.store.start_group_chat(subject, self._state.main_user, people, aux_id=aux_id)
        return self._filled(chat, messages)

    def close_chat(self, chat: ChatAddress | str) -> None:
        """Close a chat: from now on every call that would change it is answered with 412.

        Raises:
            KeyError: there is no such chat.
        """
        self.store.close_chat(self._chat(chat))

    def pin(self, message_id: str) -> None:
        """List a message before all others of its chat.

        Raises:
            KeyError: there is no such message.
        """
        chat, message = self._message(message_id)
        chat.pinned.add(message.id)

    def messages(self, chat: ChatAddress | str) -> tuple[Message, ...]:
        """Return all messages of a chat, in order of arrival; `conversations/…` or another kind's address.

        Raises:
            KeyError: there is no such chat.
        """
        return self._shown(self._chat(chat).messages)

    def say(
        self,
        user: User | str | None,
        chat: ChatAddress | str,
        text: str = "",
        *,
        files: Iterable[SandboxFile] = (),
    ) -> Message:
        """Send a message, as any member of a chat, and return it.

        Without `user` the first other member sends it than the main user. A chat is named by its address or
        its id.

        Raises:
            KeyError: there is no such user or chat.
            ValueError: there is neither text nor a file, this user is not in the chat, or it is closed.
        """
        sent = self._others.say(self._actor(user), self._chat(chat), text, files)
        (message,) = self._shown([sent])
        return message

    def answer(
        self, user: User | str | None, message: Message | SentMessage | str, option: str | Iterable[str]
    ) -> None:
        """Press a button of a question: its name, or several names of a question that takes several.

        They replace what the same user chose before [A]. Without `user` the first member answers who is asked
        and is not the sender.

        Raises:
            KeyError: there is no such message or user.
            ValueError: it is no question, it is not for this user, these options cannot be chosen, or the
                chat is closed.
        """
        names = [option] if isinstance(option, str) else list(option)
        self._others.answer(self._actor(user), _id_of(message), names)

    def verify(
        self,
        user: User | str | None,
        message: Message | SentMessage | str,
        *,
        accepted: bool = True,
    ) -> None:
        """Answer a request for verification: be verified, or refuse.

        Without `user` the one answers who is asked to.

        Raises:
            KeyError: there is no such message or user.
            ValueError: it is no request for verification, it is not for this user, or the chat is closed.
        """
        self._others.verify(self._actor(user), _id_of(message), accepted=accepted)

    def type(self, user: User | str | None, chat: ChatAddress | str, *, stopped: bool = False) -> None:
        """Begin to type in a chat, or stop; nothing stops by itself.

        Without `user` the first other member types than the main user.

        Raises:
            KeyError: there is no such user or chat.
            ValueError: this user is not in the chat, or it is closed.
        """
        self._others.type(self._actor(user), self._chat(chat), stopped=stopped)

    def like(self, message_id: str, user: str | None = None) -> None:
        """Like a message, as the main user or another one.

        Raises:
            KeyError: there is no such message or user.
        """
        chat, message = self._message(message_id)
        self.store.like(chat, message, self._person(user))

    def delete_message(self, message_id: str) -> None:
        """Delete a message as its sender does; lists leave it out from now on [A].

        Raises:
            KeyError: there is no such message.
        """
        chat, message = self._message(message_id)
        self.store.delete_message(chat, message, message.sender)

    def replace_file(self, attachment_id: str, content: bytes) -> None:
        """Replace the bytes of an attachment, also under the links that exist.

        Raises:
            KeyError: there is no such attachment.
        """
        self.store.replace_file(self._file(attachment_id), content)

    def file_content(self, attachment_id: str) -> bytes:
        """Return the bytes of an attachment.

        Raises:
            KeyError: there is no such attachment.
        """
        held = self._file(attachment_id).content.bytes
        return held.read(0, held.size)

    async def file_digest(self, attachment_id: str) -> str:
        """Return the SHA-256 of an attachment of any size, in hexadecimal digits.

        Raises:
            KeyError: there is no such attachment.
        """
        return await digest_of(self._file(attachment_id).content.bytes)

    @property
    def calls(self) -> list[CallRecord]:
        """Every call so far, in order of arrival, except those under `/sandbox` and those of the gateway."""
        return self._state.log.records

    @property
    def arrivals(self) -> list[float]:
        """When the calls arrived that count for the rate limit; for `count_rejections`."""
        return self._state.log.arrivals

    @property
    def rejected(self) -> int:
        """How many calls the rate limit or the quota refused."""
        return self._state.log.rejected

    def most_calls_in_any_second(self) -> int:
        """Return how many calls arrived in the busiest second, refused ones included."""
        return self._state.log.most_in_any_second

    def calls_per_second(self) -> float:
        """Return the rate between the first and the last counted call."""
        return self._state.log.per_second

    def reset_calls(self) -> None:
        """Forget the calls so far; what they did stays."""
        self._state.log.clear()

    def _go_offline(self, seconds: float) -> asyncio.Task[None]:
        if self._listener is None:
            raise RuntimeError("this sandbox is not started")
        return self._listener.go_offline(seconds)

    def _announce(self, announcement: hub.Announcement) -> None:
        chat, message = announcement.chat, announcement.message
        if chat is None or message is None:
            return
        if chat.hooks and self._listener is not None:
            self._hooks.announce(chat, message)
        if self.on_message is not None:
            self.on_message(message.id)

    def _person(self, user_id: str | None) -> Person:
        return self._state.main_user if user_id is None else known(self.store.people.get(user_id), "user")

    def _chat(self, chat: ChatAddress | str) -> StoredChat:
        return self._others.chat(chat)

    def _actor(self, user: User | str | None) -> Person | None:
        return None if user is None else self._person(_id_of(user))

    def _shown(self, messages: Sequence[StoredMessage]) -> tuple[Message, ...]:
        document = [message.to_json(self.habits) for message in messages]
        return decode(encode(document), tuple[Message, ...], "sandbox messages")

    def _file(self, attachment_id: str) -> File:
        return known(self.store.file(attachment_id), "attachment")

    def _message(self, message_id: str) -> tuple[StoredChat, StoredMessage]:
        return known(self.store.message(message_id), "message")

    def _filled(self, chat: StoredChat, messages: Iterable[str]) -> str:
        for body in messages:
            self.store.post(chat, self._state.main_user, body)
        return chat.id


def _id_of(item: User | Message | SentMessage | str) -> str:
    return item if isinstance(item, str) else item.id
