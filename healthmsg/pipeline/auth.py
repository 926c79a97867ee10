"""The auth step: puts the bearer token on, and after a 401 renews it once."""

from typing import Protocol

from healthmsg.auth.token import Token
from healthmsg.errors import UnauthorizedError
from healthmsg.pipeline.exchange import Request, Response, Send


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
        token = await self._tokens.current(self._token_call)
        request.token = token.value
        try:
            return await proceed(request)
        except UnauthorizedError as error:
            refused = error
        newer = await self._tokens.renew(token, self._token_call)
        if newer is None:
            raise refused
        request.token = newer.value
        return await proceed(request)
