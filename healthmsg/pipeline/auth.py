"""The auth step: puts the bearer token on, and after a 401 renews it once."""

from collections.abc import Awaitable
from typing import Protocol, TypeVar

from healthmsg.auth.token import Token
from healthmsg.errors import CallError, StatusError, TokenRenewalError, UnauthorizedError
from healthmsg.outcome import Outcome
from healthmsg.pipeline.exchange import Request, Response, Send

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
    except CallError as error:
        if error.outcome is not Outcome.UNKNOWN:
            raise
        cause = error
    retry_after = cause.retry_after if isinstance(cause, StatusError) else None
    raise TokenRenewalError(request.call, retry_after=retry_after) from cause
