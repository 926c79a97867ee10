"""What travels through the pipeline: a request on the way out, a response on the way back."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

from attrs import Factory, define, field, frozen

from healthmsg.delivery.attempt import Outcome
from healthmsg.errors import CallError, DeliveryUnknownError, InvalidResponseError
from healthmsg.json_text import NotJSONError, parse_json
from healthmsg.routes import Repeat

if TYPE_CHECKING:
    from yarl import URL

    from healthmsg.transfer import Transfer


class Lane(IntEnum):
    """Who goes first when calls wait for the limit."""

    INTERACTIVE = 0
    FINISHING = 1
    """The last chunk of an upload in the background, which holds a connection and should not stand still."""
    BACKGROUND = 2
    """Bulk sending: it gets what the others leave."""


class Slot(Protocol):
    """A call's place within the rate limit, told by the wire what becomes of the call."""

    def sent(self) -> None:
        """Note that the first bytes are leaving."""

    def answered(self) -> None:
        """Note that the answer's first bytes are here."""

    async def before_last_chunk(self) -> None:
        """Wait until the last chunk of a long upload may leave."""


# Here and below, what is made for every call is not frozen: that would double what making it costs.
@define
class Content:
    """A body that is ready to be sent, and sent again."""

    content_type: str
    data: bytes = field(repr=False)


@define
class Hidden:
    """A text that no traceback shows: error reporters send out the repr of local variables."""

    text: str = field(repr=False)


class Source(Protocol):
    """Where a file's bytes come from."""

    @property
    def is_spent(self) -> bool:
        """Whether it has been read from, and cannot be read again."""

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Read it from its beginning, for one try. What it gives may be something else by mistake."""

    async def release(self) -> None:
        """Let go of it, however far it was read. Nothing reads it afterwards."""


@frozen
class FilePart:
    """A file in a multipart body."""

    name: str
    """The form field's name."""
    file_name: str = field(repr=False)
    content_type: str
    size: int | None
    """Bytes; `None` when nobody knows before its end."""
    source: Source = field(repr=False)
    transfer: "Transfer | None" = field(default=None, repr=False)
    """Told how far it is."""


@frozen
class Multipart:
    """A multipart form: text fields, then files."""

    fields: tuple[tuple[str, str], ...] = field(repr=False)
    files: tuple[FilePart, ...]

    @property
    def size(self) -> int | None:
        """The bytes of its files; `None` when nobody knows how many there are."""
        sizes = [file.size for file in self.files if file.size is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None


@define(eq=False)
class Request:
    """One call. It is filled in step by step; `repr` shows nothing private."""

    call: str
    """Method and route template: all that logs and errors may tell."""
    method: str
    path: str = field(repr=False)
    """Below the API's URL, encoded; or a whole URL, for the token call and for downloads."""
    query: Mapping[str, str] | None = field(default=None, repr=False)
    body: Content | Multipart | None = field(default=None, repr=False)
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    """Beside those that every call has."""
    cookie: str | None = field(default=None, repr=False)
    lane: Lane = Lane.INTERACTIVE
    answers_with_link: bool = False
    """Whether a 302 is the expected answer."""
    streamed: bool = False
    """Whether the response's body is to be streamed instead of read."""
    reads_answer: bool = True
    """Whether a good answer's body is of any use."""
    repeat: Repeat = Factory(lambda self: Repeat.of_method(self.method), takes_self=True)
    """Whether the call may be made again when it may already have run."""

    attempt: int = 1
    started_at: float = 0.0
    """When the present try began, in seconds since 1970."""
    departed_at: float = 0.0
    """When the limit let the present try go, by the client's steady clock, in seconds."""
    answered_at: float = 0.0
    """When its answer was complete, by the same clock."""
    token: str | None = field(default=None, repr=False)
    slot: Slot | None = field(default=None, repr=False)
    waited: float = 0.0
    """Seconds spent waiting for the limit, in this try."""
    waited_before: float = 0.0
    """The same, in the tries before this one."""
    before_leaving: "Callable[[Request], None] | None" = field(default=None, repr=False)
    """Raises if the call, after its wait for the limit, must not be made any more."""
    may_leave: Callable[[], None] | None = field(default=None, repr=False)
    """Raises `ClaimLostError` if the call must not be made any more.

    Asked directly before each try leaves, once it has its turn and its connection, and before an upload's
    last chunk leaves. It must be quick.
    """
    on_departure: Callable[[], None] | None = field(default=None, repr=False)
    """Told each time when the limit lets the call go."""
    url: "URL | None" = field(default=None, repr=False)
    """Where the present try goes."""
    proxy: "URL | None" = field(default=None, repr=False)
    """The proxy that it goes through, once that is known."""
    may_repeat: Callable[[CallError, float], bool] | None = field(default=None, repr=False)
    """Asked before the call is made again, with the last try's error and the seconds until then."""
    has_left: bool | None = None
    """Whether the present try has a connection, so that the service may see it; `None` when nobody tells."""
    heard: "Response | None" = field(default=None, repr=False)
    """The present try's answer as far as its headers, while its body is being read."""
    clock: "asyncio.Timeout | None" = field(default=None, repr=False)
    """What ends the present try of an upload in the end."""
    body_sent: bool = False
    """Whether of the present try nothing but the end of a multipart body is left to be sent."""

    def begin_another_try(self) -> None:
        """Note that the call is about to be made once more."""
        self.attempt += 1
        self.body_sent = False
        self.started_at = time.time()
        self.waited_before += self.waited
        self.waited = 0.0

    @property
    def is_spent(self) -> bool:
        """Whether something in the body has been read that cannot be read again."""
        return isinstance(self.body, Multipart) and any(file.source.is_spent for file in self.body.files)

    @property
    def is_absolute(self) -> bool:
        """Whether `path` is a whole URL."""
        return self.path.startswith(("https://", "http://"))

    @property
    def outcome_unheard(self) -> Outcome:
        """What is known of the call when it left and no clear answer came."""
        return Outcome.NOT_SENT if self.repeat is Repeat.SAFE else Outcome.UNKNOWN

    def delivery_unknown(
        self, problem: str, *, status: int | None = None, started_at: float | None = None
    ) -> DeliveryUnknownError:
        """Make the error for a call that may have taken effect, in this try or in that of `started_at`."""
        began = datetime.fromtimestamp(self.started_at if started_at is None else started_at, UTC)
        error = DeliveryUnknownError(
            self.call,
            problem,
            started_at=began,
            status=status,
            is_idempotent=self.repeat is Repeat.IDEMPOTENT,
        )
        error.attempts = self.attempt
        return error


class Stream(Protocol):
    """A body that arrives in pieces."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Give the pieces as they arrive."""

    def close(self) -> None:
        """Stop here; the connection is given back if all was read, else closed."""


@define
class Response:
    """The service's answer."""

    call: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Names are case-insensitive."""
    body: bytes = field(default=b"", repr=False)
    cookies: tuple[str, ...] = field(default=(), repr=False)
    """The values of the `Set-Cookie` headers."""
    stream: Stream | None = field(default=None, repr=False)

    def json(self) -> Any:
        """Read the body as JSON, improper JSON included: half of an emoji becomes U+FFFD, NaN `None`.

        Raises:
            InvalidResponseError: it is none.
        """
        try:
            return parse_json(self.body)
        except NotJSONError:
            pass
        raise InvalidResponseError(self.call, "it is not JSON")


Send = Callable[[Request], Awaitable[Response]]
"""Whatever carries a request out: the pipeline, or what is left of it after a step."""

Step = Callable[[Request, Send], Awaitable[Response]]
"""One step of the pipeline."""
