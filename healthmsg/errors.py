"""Every exception that healthmsg raises.

    HealthmsgError
    ├── ConfigurationError (ValueError)       a client, environment or limit that cannot work
    ├── InvalidInputError (ValueError)        refused before anything was sent
    │   ├── InvalidIdError
    │   │   └── AmbiguousAuxIdError
    │   ├── AuxIdTakenError
    │   ├── EmptyMessageError
    │   └── InvalidFileError
    ├── ClientUsageError (RuntimeError)
    │   ├── ClientClosedError
    │   └── WrongEventLoopError
    ├── SendingStoppedError                   a bulk run was ended early
    ├── AuthorizationError                    the three legs of OAuth
    │   ├── StateMismatchError
    │   │   └── MissingStateError
    │   ├── AuthorizationRefusedError
    │   ├── MissingCodeError
    │   ├── TokenRequestError
    │   ├── TokenStoreError
    │   └── ReauthorizationRequiredError
    └── CallError                             one call to the service
        ├── TransportError
        │   ├── ConnectError                  never reached the service
        │   ├── ConnectionLostError
        │   └── CallTimeoutError
        ├── StatusError                       answered with an error code
        │   ├── BadRequestError           400
        │   ├── UnauthorizedError         401  (also a ReauthorizationRequiredError)
        │   ├── ForbiddenError            403
        │   ├── NotFoundError             404
        │   ├── MethodNotAllowedError     405
        │   ├── PreconditionFailedError   412
        │   ├── RateLimitedError          429
        │   │   └── QuotaExceededError        of one user
        │   └── ServerError
        │       ├── InternalServerError   500
        │       ├── BadGatewayError       502
        │       └── ServiceUnavailableError 503
        ├── InvalidResponseError              an answer that could not be understood
        ├── DownloadError                     a file that could not be fetched
        ├── UploadFileError                   a file that failed while it was being sent
        ├── TokenRenewalError                 not made, for want of an answer to the renewal of its token
        └── DeliveryUnknownError              it may have taken effect: never sent again blindly

No message, `repr`, argument or cause of these carries a token, a message's text, a name or a filled-in
path. What the service itself said may repeat any of those: it is kept apart, in
`StatusError.server_message`.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

from healthmsg.outcome import Outcome

if TYPE_CHECKING:
    from healthmsg.models.quota import Quota


class HealthmsgError(Exception):
    """The base of all errors of this package. They survive pickle and copy."""

    def __reduce__(self) -> tuple[Callable[..., "HealthmsgError"], tuple[object, ...], dict[str, object]]:
        return _rebuild, (type(self), *self.args), self.__dict__.copy()


def _rebuild(error: type[HealthmsgError], *args: object) -> HealthmsgError:
    return error.__new__(error, *args)


class ConfigurationError(HealthmsgError, ValueError):
    """A client, environment, limit or token that cannot work. Nothing was sent."""


class InvalidInputError(HealthmsgError, ValueError):
    """An argument that cannot be right. Nothing was sent."""


class InvalidIdError(InvalidInputError):
    """An id that is empty, `.`, `..` or not text, or a model of the wrong kind."""


class AmbiguousAuxIdError(InvalidIdError):
    """An auxiliary id with a diacritic, which the vendor's client would fold into another id.

    Pass `fold_aux_id(…)` to address what the vendor's client addresses, or `exact_aux_id(…)` to send
    the id as it is.
    """


class AuxIdTakenError(InvalidInputError):
    """An auxiliary id that somebody or something else has already. Nothing was changed.

    The service would silently move a user's to the new user, or give a group chat's to both [D].
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(
            f"{holder} has this auxiliary id already, and the service would not refuse. Nothing was changed."
            " Choose another one, leave it out, or, where the method has it, say with if_taken that you know."
        )


class EmptyMessageError(InvalidInputError):
    """A message with neither text nor files."""


class InvalidFileError(InvalidInputError):
    """Files that cannot be uploaded: missing, empty, unreadable, or a folder.

    `problems` names every one of them, as (name, reason) pairs.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems: tuple[tuple[str, str], ...] = tuple(problems)
        listed = "; ".join(f"{name}: {reason}" for name, reason in self.problems)
        super().__init__(f"Nothing was sent, because of these files: {listed}")


class ClientUsageError(HealthmsgError, RuntimeError):
    """The client was used in a way that cannot work. Nothing was sent."""


class ClientClosedError(ClientUsageError):
    """The client is closed."""

    def __init__(self) -> None:
        super().__init__("This client is closed. Make a new one, or call it inside its `async with`.")


class WrongEventLoopError(ClientUsageError):
    """The client, or its limiter, belongs to another event loop."""

    def __init__(self) -> None:
        super().__init__("This client or limiter was first used in another event loop. Make one for each.")


class SendingStoppedError(HealthmsgError):
    """A bulk run was ended before this message was done: see the result's outcome for what that means."""


class AuthorizationError(HealthmsgError):
    """Signing in, or staying signed in, failed."""


class StateMismatchError(AuthorizationError):
    """The callback's `state` is not the one that was sent: the request may be forged. Start over."""


class MissingStateError(StateMismatchError):
    """The callback has no `state`: the request may be forged. Start over."""


class AuthorizationRefusedError(AuthorizationError):
    """The user or the service refused. `code` is OAuth's error code, `description` the service's words."""

    def __init__(self, code: str, description: str | None = None) -> None:
        self.code = code
        self.description = description
        super().__init__("The authorization was refused; `code` and `description` say why.")


class MissingCodeError(AuthorizationError):
    """The callback has neither a code nor an error."""


class TokenRequestError(AuthorizationError):
    """The token URL refused the request, or its answer has no usable token.

    `code` is OAuth's error code (`invalid_grant`, `invalid_client`, …) when the service named one.
    """

    def __init__(self, message: str, *, code: str | None = None) -> None:
        self.code = code
        super().__init__(message)


class TokenStoreError(AuthorizationError):
    """A token store could not be read or written."""


class ReauthorizationRequiredError(AuthorizationError):
    """The token no longer works and cannot be renewed: the user has to authorize again."""


class CallError(HealthmsgError):
    """One call went wrong.

    `call` is the method and the route's template, such as `POST conversations/{id}/messages`; `problem` is
    what happened, `outcome` the state it left, and `attempts` how often it was tried.
    """

    def __init__(self, call: str, problem: str, *, outcome: Outcome, advice: str = "") -> None:
        self.call = call
        self.problem = problem
        self.outcome = outcome
        self.attempts = 1
        super().__init__(" ".join(filter(None, (f"{call}: {problem}.", _STATES[outcome], advice))))


_STATES = {
    Outcome.DELIVERED: "The service accepted it.",
    Outcome.NOT_SENT: "It had no effect.",
    Outcome.UNKNOWN: "It may or may not have taken effect.",
}


class TransportError(CallError):
    """The network failed."""


class ConnectError(TransportError):
    """No connection was made, so the service never saw the call."""

    def __init__(self, call: str, problem: str) -> None:
        super().__init__(call, problem, outcome=Outcome.NOT_SENT)


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

    `server_message` and `server_code` hold the service's own words, at most 300 characters; they may repeat
    what was sent, so they appear neither in the message nor in `repr`. `quota` is the user's quota as the
    answer's headers gave it [D], if they did.
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
        retry_after: float | None = None,
        outcome: Outcome | None = None,
        quota: "Quota | None" = None,
    ) -> None:
        self.status = status
        self.quota = quota
        self.server_message = server_message
        self.server_code = server_code
        self.retry_after = retry_after
        super().__init__(
            call, f"answered {_named(status)}", outcome=outcome or self.default_outcome, advice=self.advice
        )


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
    """A file changed or could not be read while it was being sent. The service got no complete call."""

    def __init__(self, call: str, problem: str) -> None:
        super().__init__(call, problem, outcome=Outcome.NOT_SENT)


class TokenRenewalError(CallError):
    """The call needed a new token, and the call for that got no clear answer. The call itself did nothing.

    `__cause__` says what happened; `retry_after` is the wait that the service asked for, if any, in seconds.
    """

    def __init__(self, call: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(call, "its token could not be renewed", outcome=Outcome.NOT_SENT)


class DeliveryUnknownError(CallError):
    """The call may have taken effect: read the chat back from `started_at` on to find out.

    `started_at` is when the first try began that may have taken effect (aware, UTC, by this machine's clock:
    the service's may differ). `status` is the code of the last answer, if there was one: with 2xx, the call
    was accepted, and only the answer could not be understood. `__cause__` is the last try's error, if any.
    `is_idempotent`: making it again does no harm, and has been tried. Any other call was not made again.
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
        self.status = status
        self.is_idempotent = is_idempotent
        advice = "Making it again does no harm." if is_idempotent else _LOOK_FIRST
        super().__init__(call, problem, outcome=Outcome.UNKNOWN, advice=advice)


_LOOK_FIRST = "It was not sent again. Look what became of it, in the chat for a message, before you do."
