"""The auth step: puts the bearer token on, and after a 401 renews it once."""

from typing import Final, Generic, Protocol, TypeVar

from healthmsg.errors import (
    CallError,
    Outcome,
    RateLimitedError,
    ReauthorizationRequiredError,
    StatusError,
    TokenRenewalError,
    TokenRequestError,
    TokenStoreError,
    UnauthorizedError,
)
from healthmsg.pipeline.request import Request, Response, Send

_RENEWAL_FAILURES: Final = (CallError, TokenRequestError, TokenStoreError)


class BearerToken(Protocol):
    """A token: `healthmsg.auth.Token`."""

    @property
    def value(self) -> str:
        """What goes into the header."""


TokenT = TypeVar("TokenT", bound=BearerToken)


class TokenSource(Protocol[TokenT]):
    """Where the token comes from; `send` carries out a token call.

    What becomes of that call says nothing of the one that needs the token, which did nothing.
    """

    async def current(self, send: Send) -> TokenT:
        """Return a token that is not known to be expired."""

    async def renew(self, stale: TokenT, send: Send) -> TokenT | None:
        """Return a newer token than `stale`, or `None` if there can be none."""


class AuthStep(Generic[TokenT]):
    """Authorizes calls as one user. Waiting for a token holds no place in the limit."""

    def __init__(self, tokens: TokenSource[TokenT], token_call: Send) -> None:
        self._tokens = tokens
        self._token_call = token_call

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Authorize one try, and one more after a renewal."""
        try:
            token = await self._tokens.current(self._token_call)
        except _RENEWAL_FAILURES as error:
            if _may_succeed_later(error):
                raise _not_renewed(request, error) from error
            raise
        request.current.token = token.value
        try:
            return await proceed(request)
        except UnauthorizedError as error:
            refused = error
        try:
            newer = await self._tokens.renew(token, self._token_call)
        except _RENEWAL_FAILURES as error:
            if _may_succeed_later(error):
                raise _not_renewed(request, error) from error
            raise
        if newer is None or request.is_spent:
            raise refused
        request.begin_another_try()
        request.current.token = newer.value
        return await proceed(request)


def _not_renewed(
    request: Request, cause: CallError | TokenRequestError | TokenStoreError
) -> TokenRenewalError:
    reason = f"{cause.call}: {cause.problem}" if isinstance(cause, CallError) else str(cause).rstrip(".")
    return TokenRenewalError(request.call, reason, retry_after=getattr(cause, "retry_after", None))


def _may_succeed_later(error: CallError | TokenRequestError | TokenStoreError) -> bool:
    """Return whether an error of the renewal must not be taken for one of the call itself."""
    if isinstance(error, TokenRequestError):
        return not error.is_final
    if isinstance(error, StatusError):
        # Such as a firewall's 403, which would be taken for a chat that this user may not write to.
        return not isinstance(error, RateLimitedError | ReauthorizationRequiredError)
    return isinstance(error, TokenStoreError) or error.outcome is Outcome.UNKNOWN
