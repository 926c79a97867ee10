"""The auth step: puts the bearer token on, and after a 401 renews it once."""

from collections.abc import Awaitable
from typing import Generic, Protocol, TypeVar

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

T = TypeVar("T")


class BearerToken(Protocol):
    """A token: `healthmsg.auth.Token`."""

    @property
    def value(self) -> str:
        """What goes into the header."""


TokenT = TypeVar("TokenT", bound=BearerToken)


class TokenSource(Protocol[TokenT]):
    """Where the token comes from; `send` carries out a token call."""

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
        token = await _token_for(self._tokens.current(self._token_call), request)
        request.current.token = token.value
        try:
            return await proceed(request)
        except UnauthorizedError as error:
            refused = error
        newer = await _token_for(self._tokens.renew(token, self._token_call), request)
        if newer is None or request.is_spent:
            raise refused
        request.begin_another_try()
        request.current.token = newer.value
        return await proceed(request)


async def _token_for(token: Awaitable[T], request: Request) -> T:
    """Wait for a token. What became of the call for it says nothing of `request`, which did nothing."""
    try:
        return await token
    except (CallError, TokenRequestError, TokenStoreError) as error:
        if not _may_succeed_later(error):
            raise
        cause = error
    reason = f"{cause.call}: {cause.problem}" if isinstance(cause, CallError) else str(cause).rstrip(".")
    retry_after = getattr(cause, "retry_after", None)
    raise TokenRenewalError(request.call, reason, retry_after=retry_after) from cause


def _may_succeed_later(error: CallError | TokenRequestError | TokenStoreError) -> bool:
    """Return whether an error of the renewal must not be taken for one of the call itself."""
    if isinstance(error, TokenRequestError):
        return not error.is_final
    if isinstance(error, StatusError):
        # Such as a firewall's 403, which would be taken for a chat that this user may not write to.
        return not isinstance(error, RateLimitedError | ReauthorizationRequiredError)
    return isinstance(error, TokenStoreError) or error.outcome is Outcome.UNKNOWN
