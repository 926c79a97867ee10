"""What travels through the pipeline: a request on the way out, a response on the way back."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, field, frozen

from healthmsg.errors import CallError, DeliveryUnknownError, InvalidResponseError, Outcome
from healthmsg.json_text import NotJSONError, parse_json
from healthmsg.ratelimit.queue import Priority
from healthmsg.ratelimit.window import Slot
from healthmsg.routes import Idempotency
from healthmsg.transfer import Transfer

if TYPE_CHECKING:
    from yarl import URL


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
        """Read it from its beginning, for one try. What it yields may be something else by mistake."""

    async def release(self) -> None:
        """Release it, however far it was read. Nothing reads it afterwards."""


@frozen
class FilePart:
    """A file in a multipart body."""

    name: str
    """The form field's name."""
    file_name: str = field(repr=False)
    content_type: str
    size: int | None
    """Bytes; `None` when that is not known before its end."""
    source: Source = field(repr=False)
    transfer: Transfer | None = field(default=None, repr=False)
    """Notes how far it is."""


@frozen
class Multipart:
    """A multipart form: text fields, then files."""

    fields: tuple[tuple[str, str], ...] = field(repr=False)
    files: tuple[FilePart, ...]

    @property
    def size(self) -> int | None:
        """The bytes of its files; `None` when that is not known."""
        sizes = [file.size for file in self.files if file.size is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None


class Try:  # no attrs class: its fields have their defaults at no cost for each call
    """What the steps note about one try of a call."""

    number: int = 1
    started_at: float = 0.0
    """When it began, in seconds since 1970."""
    departed_at: float = 0.0
    """When the limit let it leave, by the client's steady clock, in seconds."""
    answered_at: float = 0.0
    """When its answer was complete, by the same clock."""
    token: str | None = None
    slot: Slot | None = None
    """Its place within the rate limit."""
    waited: float = 0.0
    """Seconds spent waiting for the limit."""
    waited_before: float = 0.0
    """The same, in the tries before this one."""
    after_limit: "Callable[[Request], None] | None" = None
    """Raises if the call, after its wait for the limit, must not be made any more."""
    url: "URL | None" = None
    """Where it goes."""
    proxy: "URL | None" = None
    """The proxy that it goes through, once that is known."""
    has_left: bool | None = False
    """Whether it has a connection, so that the service may see it; `None` when that cannot be known."""
    heard: "Response | None" = None
    """Its answer as far as the headers, while the body is being read."""
    timeout: asyncio.Timeout | None = None
    """What ends an upload that takes too long."""
    body_sent: bool = False
    """Whether nothing but the end of a multipart body is left to be sent."""


class Request:  # no attrs class, as above: what few calls need is set afterwards
    """One call, as its caller wants it. `repr` shows nothing private."""

    call: str
    """Method and route template: all that logs and errors may show."""
    method: str
    path: str
    """Below the API's URL, encoded; or a whole URL, for the token call and for downloads."""
    body: Content | Multipart | None
    priority: Priority
    idempotency: Idempotency
    """Whether the call may be made again when it may already have run."""
    current: Try
    """The try that is under way, or the last one."""

    query: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    """Beside those that every call has."""
    cookie: str | None = None
    answers_with_link: bool = False
    """Whether a 302 is the expected answer."""
    streamed: bool = False
    """Whether the response's body is to be streamed instead of read."""
    reads_answer: bool = True
    """Whether a good answer's body is of any use."""
    before_send: Callable[[], None] | None = None
    """Raises `ClaimLostError` if the call must not be made any more.

    Called directly before each try leaves, once it has its turn and its connection, and before an upload's
    last chunk leaves. It must be quick.
    """
    on_departure: Callable[[], None] | None = None
    """Called each time when the limit lets the call leave."""
    may_repeat: Callable[[CallError, float], bool] | None = None
    """Asked before the call is made again, with the last try's error and the seconds until then."""

    def __init__(  # noqa: PLR0913 - what a call is
        self,
        call: str,
        method: str,
        path: str,
        *,
        body: Content | Multipart | None = None,
        priority: Priority = Priority.INTERACTIVE,
        idempotency: Idempotency | None = None,
    ) -> None:
        self.call = call
        self.method = method
        self.path = path
        self.body = body
        self.priority = priority
        self.idempotency = idempotency or Idempotency.of_method(method)
        self.current = Try()

    def __repr__(self) -> str:
        return f"<Request {self.call}>"

    def begin_another_try(self) -> None:
        """Note that the call is about to be made once more."""
        last = self.current
        self.current = Try()
        self.current.number = last.number + 1
        self.current.started_at = time.time()
        self.current.waited_before = last.waited_before + last.waited

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
        return Outcome.NOT_SENT if self.idempotency is Idempotency.SAFE else Outcome.UNKNOWN

    def delivery_unknown(
        self, problem: str, *, status: int | None = None, started_at: float | None = None
    ) -> DeliveryUnknownError:
        """Make the error for a call that may have taken effect, in this try or in that of `started_at`."""
        began = datetime.fromtimestamp(self.current.started_at if started_at is None else started_at, UTC)
        error = DeliveryUnknownError(
            self.call,
            problem,
            started_at=began,
            status=status,
            is_idempotent=self.idempotency is Idempotency.IDEMPOTENT,
        )
        error.attempts = self.current.number
        return error


class Stream(Protocol):
    """A body that arrives in pieces."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the pieces as they arrive."""

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
"""Carries a request out: the pipeline, or what is left of it after a step."""

Step = Callable[[Request, Send], Awaitable[Response]]
"""One step of the pipeline."""
