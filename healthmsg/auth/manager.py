"""The one keeper of a token that many tasks use."""

import asyncio
import logging
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from healthmsg.auth.oauth import OAuthApp
from healthmsg.auth.stores import TokenStore
from healthmsg.auth.token import Token, utc_now
from healthmsg.clock import machine_seconds
from healthmsg.errors import (
    ClientClosedError,
    ConfigurationError,
    ReauthorizationRequiredError,
    TokenStoreError,
)
from healthmsg.pipeline.exchange import Send
from healthmsg.tasks import start

_LOGGER: Final = logging.getLogger("healthmsg")
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_DEFAULT_LEEWAY: Final = timedelta(seconds=30)
_CLOSING_GRACE: Final = 10.0
"""Seconds that `TokenManager.close` leaves a running renewal to end by itself."""
_STORE_PATIENCE: Final = 10.0
"""Seconds that a renewal, and all calls that wait for it, wait for the store to read or to write."""


class TokenManager:
    """Keeps one user's token fresh for any number of tasks, with one token call however many need it.

    Whether a token has expired is judged by the time of day, which goes on while the machine sleeps. A token
    that cannot be renewed counts as expired only if that is so by the machine's own clock too, which is never
    set. If either is wrong, the service's 401 says so, and the call did nothing.

    With an `app` and a refresh token it renews the token `leeway` before it expires (for a token that lives
    less than twice that long: in the second half of its life), and when the service no longer accepts it.
    With a `store`, where the token is filed under `user`, it first looks whether another process, or a new
    authorization by the user, has put a newer token there, and saves what it renewed.

    A store that fails does not fail the call that made the token be renewed. The service may have made the
    old refresh token worthless, so the new token is worth more than the news that it could not be saved: it
    stays in use, the failure is logged as an error, `is_saved` turns False, and `close` tries once more.
    `save` tries at once and raises.

    Raises:
        ConfigurationError: `token` is no `Token`, or only one of `store` and `user` is given.
    """

    def __init__(  # noqa: PLR0913 - all but the token are optional, and named in the call
        self,
        token: Token,
        *,
        app: OAuthApp | None = None,
        store: TokenStore | None = None,
        user: str | None = None,
        now: Callable[[], datetime] = utc_now,
        leeway: timedelta = _DEFAULT_LEEWAY,
    ) -> None:
        if not isinstance(token, Token):
            raise ConfigurationError("a token manager takes a Token: write Token(…) around the text")
        if (store is None) != (not user):
            raise ConfigurationError("a token manager needs both `store` and `user`, or neither")
        self._app = app
        self._store = store
        self._user = user or ""
        self._now = now
        self._leeway = leeway
        self._taken_on, self._taken_at = _NEVER, 0.0
        self._saving = asyncio.Lock()
        self._is_saved = True
        # Held here, since asyncio itself keeps only weak references to its tasks.
        self._renewal: asyncio.Task[Token | None] | None = None
        self._take(token)

    @classmethod
    async def load(
        cls,
        store: TokenStore,
        user: str,
        *,
        app: OAuthApp | None = None,
        now: Callable[[], datetime] = utc_now,
        leeway: timedelta = _DEFAULT_LEEWAY,
    ) -> Self:
        """Make a manager of the token that `store` has for `user`.

        Raises:
            ReauthorizationRequiredError: it has none.
            TokenStoreError: the store cannot be read.
        """
        token = await store.load(user)
        if token is None:
            raise ReauthorizationRequiredError(
                "The token store has no token of this user: ask for one first."
            )
        return cls(token, app=app, store=store, user=user, now=now, leeway=leeway)

    @property
    def token(self) -> Token:
        """The token as it is now, expired or not."""
        return self._token

    @property
    def is_saved(self) -> bool:
        """Whether the store took the last token that was renewed; True when there is no store."""
        return self._is_saved

    @property
    def may_be_replaced(self) -> bool:
        """Whether somebody can put another token where this one comes from, once it is not accepted."""
        return self._store is not None

    async def current(self, send: Send) -> Token:
        """Give a token that is good to be sent, renewed first if it is known to have expired.

        Raises:
            ReauthorizationRequiredError: it has expired and cannot be renewed. Nothing was sent, unless it
                was the service that refused the refresh token.
            TokenRequestError, CallError: the renewal failed; see `OAuthApp.refresh`.
        """
        token = self._token
        # The way of every call: a token without a known end must not even ask what time it is.
        if self._renew_at is None or self._now() < self._renew_at:
            return token
        renewed = await self.renew(token, send)
        if renewed is not None:
            return renewed
        if token.is_expired(self._now()) and token.is_expired(self._unset_now()):
            raise ReauthorizationRequiredError("The token has expired: the user has to authorize again.")
        return token

    async def renew(self, stale: Token, send: Send) -> Token | None:
        """Give the token that replaces `stale`, which the service did not accept.

        That is the present token if it is another one already, and else a renewed one. None means that it
        cannot be renewed: there is no refresh token or no app, and the store knows none either.

        Raises:
            ReauthorizationRequiredError, TokenRequestError, CallError: see `OAuthApp.refresh`. All who wait
                for one renewal get its error; the next call tries again.
            ClientClosedError: the manager was closed meanwhile.
        """
        if self._token != stale:
            return self._token
        if self._store is None and not self._can_refresh(stale):
            return None
        renewal = self._renewal or self._begin_renewal(stale, send)
        # Not `shield`, which reports the error of a renewal whose waiters are gone to the event loop.
        # `wait` neither cancels what it waits for nor raises what that raised.
        await asyncio.wait({renewal})
        if renewal.cancelled():
            raise ClientClosedError
        error = renewal.exception()
        if error is not None:
            raise _own_copy(error)
        return renewal.result()

    async def save(self) -> None:
        """Put the present token into the store; without a store, do nothing.

        Raises:
            TokenStoreError: the store failed. The token stays in use.
        """
        if self._store is None:
            return
        # One at a time, and each saves the token of that moment: the newest one is always the last.
        async with self._saving:
            self._is_saved = False
            try:
                await self._store.save(self._user, self._token)
            except TokenStoreError:
                raise
            except Exception as error:  # noqa: BLE001 - any store's, and its words may hold the token
                problem = type(error).__name__
            else:
                self._is_saved = True
                return
        raise TokenStoreError(f"The token could not be saved ({problem}).")

    async def close(self) -> None:
        """Let a running renewal end, and save what is not saved yet. The manager can be used again.

        A renewal gets 10 seconds, since cutting it off may lose a refresh token that the service has already
        replaced; then it is cancelled. Call this before you close what `send` sends with. Nothing is raised.
        """
        renewal = self._renewal
        if renewal is not None:
            try:
                await asyncio.wait({renewal}, timeout=_CLOSING_GRACE)
            finally:
                renewal.cancel()
            await asyncio.wait({renewal})
        if not self._is_saved:
            await self._save_or_log()

    def _unset_now(self) -> datetime:
        """Return the time of day as if it had not been set since the token was taken.

        A time of day that was set wrong must not end what the service still accepts. A clock that was passed
        in is the only one that counts.
        """
        if self._now is not utc_now:
            return self._now()
        return self._taken_on + timedelta(seconds=machine_seconds() - self._taken_at)

    def _take(self, token: Token) -> None:
        self._token = token
        self._renew_at = token.expires_at
        if token.expires_at is not None:
            self._taken_on, self._taken_at = self._now(), machine_seconds()
        if token.expires_at is not None and token.expires_at > token.created_at:
            # A token that lives no longer than the leeway would otherwise be renewed for every call.
            half_its_life = (token.expires_at - token.created_at) / 2
            self._renew_at = token.expires_at - min(self._leeway, half_its_life)

    def _can_refresh(self, token: Token) -> bool:
        return self._app is not None and token.refresh_token is not None

    def _begin_renewal(self, stale: Token, send: Send) -> asyncio.Task[Token | None]:
        # A task of its own, so that no waiter's cancellation stops what the others wait for.
        renewal = start(self._renew_once(stale, send), name="healthmsg token renewal")
        self._renewal = renewal
        renewal.add_done_callback(self._renewal_ended)
        return renewal

    def _renewal_ended(self, renewal: asyncio.Task[Token | None]) -> None:
        self._renewal = None
        if not renewal.cancelled():
            # Looked at here as well, because nobody may be waiting any more.
            renewal.exception()

    async def _renew_once(self, stale: Token, send: Send) -> Token | None:
        newest = await self._newest(stale)
        if newest is not stale and not newest.is_expired(self._now()):
            self._take(newest)
            return newest
        if self._app is None or newest.refresh_token is None:
            return None
        self._take(await self._app.refresh(newest, send))
        renewed = self._token
        await self._save_or_log()
        return renewed

    async def _newest(self, stale: Token) -> Token:
        if self._store is None:
            return stale
        try:
            async with asyncio.timeout(_STORE_PATIENCE):
                stored = await self._store.load(self._user)
        except Exception as error:  # noqa: BLE001 - any store's, and its words may hold the token
            _LOGGER.error("The token store could not be read (%s).", type(error).__name__)  # noqa: TRY400 - the traceback would repeat those words
            return stale
        if stored is None or stored.created_at <= stale.created_at:
            return stale
        return stored

    async def _save_or_log(self) -> None:
        try:
            async with asyncio.timeout(_STORE_PATIENCE):
                await self.save()
        except (TokenStoreError, TimeoutError):
            _LOGGER.error(  # noqa: TRY400 - the traceback would repeat a foreign store's words
                "A renewed token could not be saved. It stays in use, but is lost when this process ends."
            )


def _own_copy(error: BaseException) -> BaseException:
    """Copy an error for one of its waiters, since its traceback would grow with each that raises it."""
    try:
        own = copy(error)
    except Exception:  # noqa: BLE001 - a foreign exception that cannot be copied is shared
        own = error
    return own.with_traceback(error.__traceback__)
