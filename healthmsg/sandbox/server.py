"""The sandbox: the API on this machine, over a real socket."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from attrs import define, field

from healthmsg.codec import decode, encode
from healthmsg.environment import Environment
from healthmsg.ids import ChatAddress
from healthmsg.models import Message
from healthmsg.sandbox.calls import CallLog, CallRecord
from healthmsg.sandbox.content import MadeUp, digest_of
from healthmsg.sandbox.faults import Faults
from healthmsg.sandbox.habits import Habits
from healthmsg.sandbox.hooks import Hooks
from healthmsg.sandbox.limits import Policy, SlidingWindow
from healthmsg.sandbox.listening import Listening
from healthmsg.sandbox.questions import answer_question
from healthmsg.sandbox.quota import Quota
from healthmsg.sandbox.records import File, Person, StoredChat, StoredMessage, VerificationRequest
from healthmsg.sandbox.seed import add_main_user, add_sample_data
from healthmsg.sandbox.service import API_BASE, Service
from healthmsg.sandbox.settings import Settings
from healthmsg.sandbox.shapes import message_json
from healthmsg.sandbox.state import State
from healthmsg.sandbox.store import Store, known
from healthmsg.sandbox.tokens import SCOPES, Tokens


def _utc_now() -> datetime:
    return datetime.now(UTC)


@define(eq=False, kw_only=True)
class Sandbox:
    """The KPN Healthcare Messenger API on this machine, with made-up people in it. Contract: all of it.

    `async with Sandbox() as sandbox` starts and stops it; everything it knows is in memory. Where the
    contract assumes something [A], so does the sandbox, with a comment at that place.
    """

    rate_limit: Policy | None = field(factory=SlidingWindow)
    """How calls are counted [D: 30 a second; A: per application]; `None`: they are not limited."""
    habits: Habits = field(factory=Habits)
    """How stamps, texts, files and lists are kept and told [A]."""
    quota: Quota = field(factory=Quota)
    """How much each user may call."""
    auto_approve: bool = True
    """Whether the authorize URL redirects at once, instead of asking on a page."""
    refresh_tokens: bool = False
    """Whether there are refresh tokens [A]; each works once."""
    revoke_on_reuse: bool = False
    """Whether a refresh token that is used twice ends all that came of that authorization [A: RFC 9700]."""
    announce_expiry: bool = False
    """Whether the token answer has `expires_in` [A]."""
    retry_after: bool = True
    """Whether a 429 says when to come back [A]."""
    ranges: bool = True
    """Whether parts of files can be asked for [A: RFC 9110]."""
    strict: bool = False
    """Whether it refuses what looks wrong, though the vendor's software may send it [A].

    That is: names of options with other signs than letters, digits and `_`, or more than 32 of them; two
    options of one name; other styles of a question; questions and requests for verification to users outside
    the chat; invitations without names; settings and lists of members with nothing in them; texts without a
    letter; improper JSON.
    """
    allowed_hosts: Sequence[str] = ()
    """Names by which it may be called, on any port, besides loopback and the `host` that it is started with.

    Any other is refused with 421: else a page in a browser on this machine could read it, under a name of the
    page's own that leads here (DNS rebinding).
    """
    foreign_downloads: bool = False
    """Whether the files are on a port of their own, which is another origin."""
    seed: bool = True
    """Whether there is sample data besides the main user."""
    client_id: str = "healthmsg-sandbox"
    client_secret: str = field(default="healthmsg-sandbox-secret", repr=False)
    """Made up and not secret, as all in here."""
    redirect_uri: str | None = "http://localhost:8765/callback"
    """The registered callback; `None`: any on loopback."""
    now: Callable[[], datetime] = _utc_now
    """The time of day (aware), for tokens, quotas and timestamps."""
    clock: Callable[[], float] | None = None
    """The clock of the rate limit, the call log and storms, in seconds; `None`: the event loop's."""
    on_message: Callable[[str], object] | None = None
    """Is told the id of each message that has come into a chat, before its sender has the answer."""

    faults: Faults = field(factory=Faults, init=False, repr=False)
    """Faults to order."""
    store: Store = field(init=False, repr=False)
    """What the sandbox knows."""
    _state: State = field(init=False, repr=False)
    _service: Service = field(init=False, repr=False)
    _log: CallLog = field(factory=CallLog, init=False, repr=False)
    _hooks: Hooks = field(factory=Hooks, init=False, repr=False)
    _listening: Listening | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.allowed_hosts, str):
            raise ValueError("allowed_hosts must be a list of names")  # noqa: TRY004 - letters, as a list
        self.store = Store(self.now, self.habits)
        main_user = add_main_user(self.store)
        if self.seed:
            add_sample_data(self.store, main_user)
        self.store.on_message = self._tell
        settings = Settings(
            client_id=self.client_id,
            client_secret=self.client_secret,
            redirect_uri=self.redirect_uri,
            auto_approve=self.auto_approve,
            refresh_tokens=self.refresh_tokens,
            revoke_on_reuse=self.revoke_on_reuse,
            announce_expiry=self.announce_expiry,
            retry_after=self.retry_after,
            ranges=self.ranges,
            strict=self.strict,
        )
        self._state = State(settings, self.store, Tokens(self.now), main_user)
        self._service = Service(
            state=self._state,
            log=self._log,
            faults=self.faults,
            rate_limit=self.rate_limit,
            quota=self.quota,
            now=self.now,
            clock=self.clock,
            go_away=self._leave,
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one.

        Raises:
            RuntimeError: it is started already.
            OSError: it cannot listen there.
        """
        if self._listening is not None:
            raise RuntimeError("this sandbox is started already")
        ports = [port, 0] if self.foreign_downloads else [port]
        listening = Listening(self._service.answer, host, ports)
        await listening.start()
        self._listening = listening
        self._state.hosts = frozenset(name.rstrip(".").lower() for name in (host, *self.allowed_hosts))
        self._state.origin, self._state.files_origin = listening.origins[0], listening.origins[-1]

    async def stop(self) -> None:
        """Stop listening, cut every connection, and end what is still running."""
        listening, self._listening = self._listening, None
        if listening is not None:
            try:
                await listening.stop()
                await self._hooks.close()
            finally:
                self.store.close()

    async def go_away(self, seconds: float) -> None:
        """Cut every connection, refuse new ones for so many seconds of the event loop's, and come back.

        It comes back on the same port, with all that it knows; to be away is over when it is stopped.

        Raises:
            RuntimeError: it is not started.
            ValueError: less than no seconds.
            OSError: it cannot listen there again.
        """
        await asyncio.shield(self._leave(seconds))

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
        return Environment(
            name="sandbox",
            api_url=f"{self.url}/{API_BASE}",
            authorize_url=f"{self.url}/oauth/authorize",
            token_url=f"{self.url}/oauth/token",
        )

    @property
    def user_id(self) -> str:
        """The main user: the professional whom tokens are for when nobody else is named."""
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
        """Add a patient and give the id; an auxiliary id moves here from whoever had it [D]."""
        return self.store.add_person(first_name, last_name, aux_id=aux_id).id

    def add_colleague(self, first_name: str, last_name: str) -> str:
        """Add a professional to the main user's company and give the id."""
        return self.store.add_person(first_name, last_name, company=self._state.main_user.company).id

    def add_conversation(
        self, *, user: str | None = None, aux_id: str | None = None, messages: Iterable[str] = ()
    ) -> str:
        """Start a conversation of the main user and give its id; without `user`, with a new patient.

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
        """Start a group chat of the main user and give its id.

        Raises:
            KeyError: there is no such user.
        """
        people = [self._person(member) for member in members]
        chat = self.store.start_group_chat(subject, self._state.main_user, people, aux_id=aux_id)
        return self._filled(chat, messages)

    def close_chat(self, chat: ChatAddress | str) -> None:
        """Close a chat: from now on it answers 412 to whatever would change it.

        Raises:
            KeyError: there is no such chat.
        """
        self._chat(chat).closed = True

    def pin(self, message_id: str) -> None:
        """List a message before all others of its chat.

        Raises:
            KeyError: there is no such message.
        """
        chat, message = self._message(message_id)
        chat.pinned.add(message.id)

    def messages(self, chat: ChatAddress | str) -> tuple[Message, ...]:
        """Give all messages of a chat, in order of arrival; `conversations/…` or another kind's address.

        Raises:
            KeyError: there is no such chat.
        """
        document = [message_json(message, self.habits) for message in self._chat(chat).messages]
        return decode(encode(document), tuple[Message, ...], "sandbox messages")

    def answer_question(self, message_id: str, names: Iterable[str], user: str | None = None) -> None:
        """Choose these options of a question; what the same user chose before is gone [A].

        Without `user` it is the first who is asked, other than the sender.

        Raises:
            KeyError: there is no such message or user.
            ValueError: it is no question, it is not for this user, or these options cannot be chosen.
        """
        chat, message = self._message(message_id)
        answer_question(chat, message, list(names), None if user is None else self._person(user))

    def answer_verification(self, message_id: str, *, accepted: bool = True) -> None:
        """Let the user whom a request asks for it be verified, or refuse.

        Raises:
            KeyError: there is no such message.
            ValueError: it is no request for verification.
        """
        request = self._message(message_id)[1].payload
        if not isinstance(request, VerificationRequest):
            raise ValueError("this message is no request for verification")  # noqa: TRY004 - it is an id
        if accepted and request.provider in request.person.providers_left:
            request.person.verified_by.append(request.provider)

    def add_attachment(
        self,
        chat: ChatAddress | str,
        name: str,
        content: bytes | int,
        *,
        mime_type: str = "application/octet-stream",
        announced_size: int | None = None,
    ) -> str:
        """Have a file sent to the main user, by the first other member of a chat, and give its id.

        A number makes a file of so many bytes, which are made up while they are read. Any name goes, however
        hostile; `announced_size` is for a size that is not the truth.

        Raises:
            KeyError: there is no such chat.
        """
        found = self._chat(chat)
        held = MadeUp(content) if isinstance(content, int) else content
        file = self.store.new_file(name, mime_type, held, announced_size=announced_size)
        self.store.post(found, found.other_side(self._state.main_user), "", files=[file])
        return file.id

    def replace_file(self, attachment_id: str, content: bytes) -> None:
        """Put something else into an attachment, under the links that exist as well.

        Raises:
            KeyError: there is no such attachment.
        """
        self.store.replace_file(self._file(attachment_id), content)

    def file_content(self, attachment_id: str) -> bytes:
        """Give the bytes of an attachment.

        Raises:
            KeyError: there is no such attachment.
        """
        held = self._file(attachment_id).content.bytes
        return held.read(0, held.size)

    async def file_digest(self, attachment_id: str) -> str:
        """Give the SHA-256 of an attachment of any size, in hexadecimal digits.

        Raises:
            KeyError: there is no such attachment.
        """
        return await digest_of(self._file(attachment_id).content.bytes)

    @property
    def calls(self) -> list[CallRecord]:
        """Every call so far, in order of arrival, the admin surface's left out."""
        return self._log.records

    @property
    def arrivals(self) -> list[float]:
        """When the calls arrived that count for the rate limit; for `count_rejections`."""
        return self._log.arrivals

    @property
    def rejected(self) -> int:
        """How many calls the rate limit or the quota refused."""
        return self._log.rejected

    def most_calls_in_any_second(self) -> int:
        """Count the calls of the busiest second, refused ones included."""
        return self._log.most_in_any_second

    def calls_per_second(self) -> float:
        """Give the rate between the first and the last counted call."""
        return self._log.per_second

    def reset_calls(self) -> None:
        """Forget the calls so far; what they did stays."""
        self._log.clear()

    def _leave(self, seconds: float) -> asyncio.Task[None]:
        if self._listening is None:
            raise RuntimeError("this sandbox is not started")
        return self._listening.leave(seconds)

    def _tell(self, chat: StoredChat, message: StoredMessage) -> None:
        if chat.hooks and self._listening is not None:
            self._hooks.tell(chat, message)
        if self.on_message is not None:
            self.on_message(message.id)

    def _person(self, user_id: str | None) -> Person:
        return self._state.main_user if user_id is None else known(self.store.people.get(user_id), "user")

    def _chat(self, chat: ChatAddress | str) -> StoredChat:
        address = ChatAddress.parse(chat) if isinstance(chat, str) else chat
        return known(self.store.chat(address.kind, address.id, self._state.main_user), "chat")

    def _file(self, attachment_id: str) -> File:
        return known(self.store.file(attachment_id), "attachment")

    def _message(self, message_id: str) -> tuple[StoredChat, StoredMessage]:
        return known(self.store.message(message_id), "message")

    def _filled(self, chat: StoredChat, messages: Iterable[str]) -> str:
        for body in messages:
            self.store.post(chat, self._state.main_user, body)
        return chat.id
