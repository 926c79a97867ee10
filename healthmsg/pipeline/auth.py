"""The auth step: puts the bearer token on, and after a 401 renews it once."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from healthmsg.auth.token import Token
from healthmsg.delivery.attempt import Outcome
from healthmsg.errors import (
    CallError,
    RateLimitedError,
    ReauthorizationRequiredError,
    StatusError,
    TokenRenewalError,
    TokenRequestError,
    TokenStoreError,
    UnauthorizedError,
)
from healthmsg.network import Network
from healthmsg.pipeline import fold
from healthmsg.pipeline.check import CheckStep
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.request import Request, Response, Send
from healthmsg.pipeline.retry import Retries
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.transport.http import Wire
from healthmsg.transport.timeouts import Timeout

T = TypeVar("T")


class TokenSource(Protocol):
    """Where the token comes from; `send` carries out a token call."""

    async def current(self, send: Send) -> Token:
        """Give a token that is not known to be expired."""

    async def renew(self, stale: Token, send: Send) -> Token | None:
        """Give a newer token than `stale`, or `None` if there can be none."""


class AuthStep:
    """Authorizes calls as one user. Waiting for a token holds no place in the limit."""

    def __init__(self, tokens: TokenSource, token_call: Send) -> None:
        self._tokens = tokens
        self._token_call = token_call

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Authorize one try, and one more after a renewal."""
        token = await _given(self._tokens.current(self._token_call), request)
        request.token = token.value
        try:
            return await proceed(request)
        except UnauthorizedError as error:
            refused = error
        newer = await _given(self._tokens.renew(token, self._token_call), request)
        if newer is None or request.is_spent:
            raise refused
        request.token = newer.value
        request.begin_another_try()
        return await proceed(request)


async def _given(token: Awaitable[T], request: Request) -> T:
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
    """Tell whether an error is one of the renewal that `request` must not be taken to have failed with."""
    if isinstance(error, TokenRequestError):
        return not error.is_final
    if isinstance(error, StatusError):
        # Such as a firewall's 403, which would be taken for a chat that this user may not write to.
        return not isinstance(error, RateLimitedError | ReauthorizationRequiredError)
    return isinstance(error, TokenStoreError) or error.outcome is Outcome.UNKNOWN


@asynccontextmanager
async def token_calls(network: Network) -> AsyncIterator[Send]:
    """Open a connection for token calls, limit → check → wire, and close it afterwards."""
    wire = Wire("", timeout=Timeout(), network=network)
    try:
        yield fold([LimitStep(Limiter(RateLimit()), longest_pause=Retries().max_wait), CheckStep()], wire)
    finally:
        await wire.close()
