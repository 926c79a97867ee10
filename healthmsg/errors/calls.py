"""What goes wrong with one call to the service."""

from datetime import datetime
from http import HTTPStatus
from typing import ClassVar

from healthmsg.errors.base import HealthmsgError, Outcome
from healthmsg.errors.usage import ReauthorizationRequiredError
from healthmsg.quota import Quota


class CallError(HealthmsgError):
    """One call went wrong.

    `call` is the method and the route's template, such as `POST conversations/{id}/messages`; `problem` is
    what happened, `outcome` the state it left, and `attempts` how often it was tried. `transaction_id` is
    what KPN's gateway calls it in an error of its own, for KPN's support; else it is empty.
    """

    def __init__(self, call: str, problem: str, *, outcome: Outcome, advice: str = "") -> None:
        self.call = call
        self.problem = problem
        self.outcome = outcome
        self.attempts = 1
        self.transaction_id: str = ""
        super().__init__(" ".join(filter(None, (f"{call}: {problem}.", _STATES[outcome], advice))))


# From here on, tenths of a second are of no interest.
_WHOLE_SECONDS = 10
_STATES = {
    Outcome.DELIVERED: "The service accepted it.",
    Outcome.NOT_SENT: "It had no effect.",
    Outcome.UNKNOWN: "It may or may not have taken effect.",
}


class TransportError(CallError):
    """The network failed."""


class ConnectError(TransportError):
    """No connection was made, so the service never saw the call.

    The message says where to, what kept it from being made, and how often it was tried: "api.example:443
    refused the connection (tried 8 times in 22 s)". `host` and `port` are where the call was to go, also if
    it was the proxy that failed; `None` for a file on a host that an answer named. `seconds` is how long it
    was tried, the waits between the tries included.
    """

    def __init__(self, call: str, problem: str, *, host: str | None = None, port: int | None = None) -> None:
        self.host: str | None = host
        self.port: int | None = port
        self.seconds: float = 0.0
        super().__init__(call, problem, outcome=Outcome.NOT_SENT)

    def note_tries(self, attempts: int, seconds: float) -> None:
        """Note how often it was tried, and for how many seconds."""
        self.attempts: int = attempts
        self.seconds = seconds
        if attempts > 1:
            tried = f"tried {attempts} times in {seconds:.{0 if seconds >= _WHOLE_SECONDS else 1}f} s"
            Exception.__init__(self, f"{self.call}: {self.problem} ({tried}). {_STATES[self.outcome]}")


class LimitUnavailableError(ConnectError):
    """What the limit of calls is shared over cannot be reached, so the call was not made.

    Without it, this process cannot know how many calls the others make: together they could make more than
    the service allows. What was leased is used up, and there was some patience. The call is made again like
    one that could not connect. `SharedLimit(…, fallback="divide")` goes on with a part of the limit instead.
    """


class ProxyAuthenticationError(ConnectError):
    """The proxy wants another user name or password. It is not asked again: that could lock the account."""


class ConnectionLostError(TransportError):
    """The connection broke after the call had begun to leave."""

    def __init__(self, call: str, problem: str, *, outcome: Outcome = Outcome.UNKNOWN) -> None:
        super().__init__(call, problem, outcome=outcome)


class CallTimeoutError(TransportError):
    """No complete answer came in time after the call had begun to leave."""

    def __init__(self, call: str, problem: str, *, outcome: Outcome = Outcome.UNKNOWN) -> None:
        super().__init__(call, problem, outcome=outcome)


class StatusError(CallError):
    """The service answered with an error code.

    `server_message`, `server_code` and `server_info` hold the service's own words, at most 300 characters
    each; they may repeat what was sent, so they appear neither in the message nor in `repr`. Of an error of
    KPN's gateway they are its `message`, `name` and `info`, if it answers as for KPN's other products [A].
    `quota` is the user's quota as the answer's headers gave it [D], if they did. Where an earlier call's
    answer says that this one is futile, it is not made, and the message says so.
    """

    advice: ClassVar[str] = "The service's explanation is in `server_message`."
    default_outcome: ClassVar[Outcome] = Outcome.NOT_SENT

    def __init__(  # noqa: PLR0913 - what an answer says, by keyword
        self,
        call: str,
        status: int,
        *,
        server_message: str = "",
        server_code: str = "",
        server_info: str = "",
        transaction_id: str = "",
        retry_after: float | None = None,
        outcome: Outcome | None = None,
        quota: Quota | None = None,
        of_earlier_call: bool = False,
    ) -> None:
        self.status = status
        self.quota = quota
        self.server_message = server_message
        self.server_code = server_code
        self.server_info = server_info
        self.retry_after = retry_after
        earlier = "not made, since an earlier call was " if of_earlier_call else ""
        transaction = f" (transaction {transaction_id})" if transaction_id else ""
        problem = f"{earlier}answered {_named(status)}{transaction}"
        super().__init__(call, problem, outcome=outcome or self.default_outcome, advice=self.advice)
        self.transaction_id = transaction_id


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


class BadRequestError(StatusError):
    """400: the service did not understand the call."""


class UnauthorizedError(StatusError, ReauthorizationRequiredError):
    """401: the token is expired, revoked or unknown, and could not be renewed."""

    advice = "The token is not accepted and could not be renewed: the user has to authorize again."


class ForbiddenError(StatusError):
    """403: this user or application may not do that."""


class NotFoundError(StatusError):
    """404: there is no such thing, or not for this user."""


class MethodNotAllowedError(StatusError):
    """405: the service does not know this call."""


class PreconditionFailedError(StatusError):
    """412: not in the state that the thing is in, a closed chat for instance."""


class RateLimitedError(StatusError):
    """429: too many calls. `retry_after` is the wait that the service asked for, in seconds, if it did."""

    advice = "Too many calls a second: another program may share this application's limit."


class QuotaExceededError(RateLimitedError):
    """429: this user's quota is used up. Other users can go on.

    `retry_after` is the wait that the service asked for, in seconds, and else the time until `quota.reset`.
    """

    advice = "This user's quota is used up; `retry_after` says for how many seconds, if that is known."


class ServerError(StatusError):
    """5xx: the service failed, perhaps after it had carried the call out."""

    default_outcome = Outcome.UNKNOWN


class InternalServerError(ServerError):
    """500."""


class BadGatewayError(ServerError):
    """502."""


class ServiceUnavailableError(ServerError):
    """503. `retry_after` is the wait that the service asked for, in seconds, if it did."""


class InvalidResponseError(CallError):
    """The answer could not be understood: no JSON, or not the shape that was expected.

    `path` names the field where that showed, without its value.
    """

    def __init__(
        self, call: str, problem: str, *, path: str = "", outcome: Outcome = Outcome.NOT_SENT
    ) -> None:
        self.path = path
        where = f" at {path}" if path else ""
        super().__init__(call, f"the answer could not be understood: {problem}{where}", outcome=outcome)


class DownloadError(CallError):
    """A file could not be fetched. Nothing is left of it on the disk."""

    def __init__(self, call: str, problem: str) -> None:
        super().__init__(call, problem, outcome=Outcome.NOT_SENT)


class UploadFileError(CallError):
    """A file could not be read, or was not what it was when it was given. The service got no complete call.

    Give each message a file of its own, or its bytes, and leave files alone until they have been sent.
    """

    def __init__(self, call: str, problem: str) -> None:
        super().__init__(call, problem, outcome=Outcome.NOT_SENT)


class TokenRenewalError(CallError):
    """The call needed a new token, and none could be had now. The call itself did nothing; try it later.

    The network or the service failed, something on the way refused the token call, or the token store could
    not be read or locked. `__cause__` says what happened; `retry_after` is the wait that the service asked
    for, if any, in seconds.
    """

    def __init__(self, call: str, reason: str = "", *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        problem = "its token could not be renewed"
        super().__init__(call, f"{problem}: {reason}" if reason else problem, outcome=Outcome.NOT_SENT)


class DeliveryUnknownError(CallError):
    """The call may have taken effect: read the chat back from `started_at` on to find out.

    `started_at` is when the first try began that may have taken effect (aware, UTC, by this machine's clock:
    the service's may differ). `status` is the code of the last answer, if there was one: with 2xx, the call
    was accepted, and only the answer could not be understood. `__cause__` is the last try's error, if any.
    `is_idempotent`: making it again does no harm, and has been tried. Any other call was not made again.
    `attempt` is what `client.reconcile` needs to find out for you; `None` if the call was not to send a
    message. Where bulk sending has tried that in vain, `reason` says why, and `similar` has the ids of
    messages in the chat that may be it.
    """

    def __init__(
        self,
        call: str,
        problem: str,
        *,
        started_at: datetime,
        status: int | None = None,
        is_idempotent: bool = False,
    ) -> None:
        self.started_at = started_at
        self.attempt: object = None
        self.status = status
        self.is_idempotent = is_idempotent
        self.reason: str = ""
        self.similar: tuple[str, ...] = ()
        advice = "Making it again does no harm." if is_idempotent else _LOOK_FIRST
        super().__init__(call, problem, outcome=Outcome.UNKNOWN, advice=advice)

    def note_reason(self, reason: str, similar: tuple[str, ...] = ()) -> None:
        """Note why it could not be found out what became of the message."""
        if not self.reason and reason:
            Exception.__init__(self, f"{self} It could not be found out: {reason}.")
        self.reason, self.similar = reason, similar


_LOOK_FIRST = "It was not sent again. Look what became of it, in the chat for a message, before you do."
