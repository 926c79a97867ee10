"""Keeping one token fresh for the many tasks that use it."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from healthmsg.aio import start
from healthmsg.auth.hold import check_of, sending_while_held
from healthmsg.auth.token import Token, is_same, utc_now
from healthmsg.clock import Stopwatch, machine_seconds
from healthmsg.errors import (
    AuthorizationError,
    CallError,
    ClaimLostError,
    ClientClosedError,
    ConfigurationError,
    ReauthorizationRequiredError,
    TokenRequestError,
    TokenStoreError,
)
from healthmsg.errors.base import without_locals
from healthmsg.pipeline.request import Send

if TYPE_CHECKING:
    from healthmsg.auth.oauth import OAuthApp
    from healthmsg.auth.stores import SharedToken, TokenStore

_LOGGER: Final = logging.getLogger("healthmsg")
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_DEFAULT_LEEWAY: Final = timedelta(seconds=30)
_CLOSING_GRACE: Final = 10.0
"""Seconds that `TokenManager.close` leaves a running renewal to end by itself."""
_PAUSE: Final = 5.0
"""Seconds after a failure in which a token that is still good is used without trying to renew it."""
_FIRST_SAVE_WAIT: Final = 1.0
_LONGEST_SAVE_WAIT: Final = 60.0
"""Seconds between two tries to save; doubled each time."""
_LOCKED_WHILE_UNSAVED: Final = 300.0
"""Seconds for which others are kept from renewing what they cannot have read."""


class TokenManager:
    """Keeps one user's token fresh for any number of tasks, with one token call however many need it.

    Whether a token has expired is judged by the time of day, which goes on while the machine sleeps. A token
    that cannot be renewed counts as expired only if that is so by the machine's own clock too, which is never
    set. If either is wrong, the service's 401 says so, and the call did nothing.

    With an `app` and a refresh token it renews the token `leeway` before it expires (for a token that lives
    less than twice that long: in the second half of its life), and when the service no longer accepts it.
    With a `store`, where the token is filed under `user`, others may renew it too: it does so under the
    store's lock, after it has checked whether another process, or a new authorization by the user, has put
    another token there, and it checks again when the service refuses the refresh token. Without `lock` (see
    `LockingTokenStore`) only the managers of one process take turns.

    A store that cannot be read or locked makes the renewal fail, as the network does, and the next call tries
    again: a refresh token that was used by another process may end the whole authorization if it is used
    once more.

    A store that cannot be written to does not fail the call that made the token be renewed. The service may
    have made the old refresh token worthless, so the new token stays in use, the failure is logged as an
    error, `is_saved` turns False, and it is saved again in the background, at the latest by `close`. `save`
    tries at once and raises.

    Raises:
        ConfigurationError: `token` is no `Token`, or only one of `store` and `user` is given.
    """

    def __init__(  # noqa: PLR0913 - all but the token are optional, and named in the call
        self,
        token: Token,
        *,
        app: "OAuthApp | None" = None,
        store: "TokenStore | None" = None,
        user: str | None = None,
        now: Callable[[], datetime] = utc_now,
        leeway: timedelta = _DEFAULT_LEEWAY,
    ) -> None:
        if not isinstance(token, Token):
            raise ConfigurationError("a token manager takes a Token: write Token(…) around the text")
        if (store is None) != (not user):
            raise ConfigurationError("a token manager needs both `store` and `user`, or neither")
        self._app = app
        self._shared = _shared(store, user) if store is not None and user else None
        self._now = now
        self._leeway = leeway
        self._taken_on, self._taken_at = _NEVER, 0.0
        self._saving = asyncio.Lock()
        # Held here, since asyncio itself keeps only weak references to its tasks.
        self._renewal: asyncio.Task[None] | None = None
        self._answer: asyncio.Future[Token | None] | None = None
        self._paused_until = 0.0
        self.when_closed: Callable[[], Awaitable[None]] | None = None
        """Closes the store, if that was opened for this manager alone."""
        self._take(token)

    def __repr__(self) -> str:
        return f"<TokenManager {self._token!r}>"

    @classmethod
    async def load(
        cls,
        store: "TokenStore",
        user: str,
        *,
        app: "OAuthApp | None" = None,
        now: Callable[[], datetime] = utc_now,
        leeway: timedelta = _DEFAULT_LEEWAY,
    ) -> Self:
        """Return a manager of the token that `store` has for `user`.

        Raises:
            ReauthorizationRequiredError: it has none.
            TokenStoreError: the store cannot be read.
        """
        token = await _shared(store, user).newest()
        if token is None:
            raise ReauthorizationRequiredError(
                "The token store has no token of this user: ask for one first."
            )
        manager = cls(token, app=app, store=store, user=user, now=now, leeway=leeway)
        if manager._shared is not None:
            manager._shared.note_seen(token)
        return manager

    @property
    def token(self) -> Token:
        """The token as it is now, expired or not."""
        return self._token

    @property
    def is_saved(self) -> bool:
        """Whether the store took the last token that was renewed; True when there is no store."""
        return self._shared is None or self._shared.unsaved is None

    @property
    def may_be_replaced(self) -> bool:
        """Whether another token can be put into the store that this one comes from."""
        return self._shared is not None

    async def current(self, send: Send) -> Token:
        """Return a token that can be sent, renewed first if it is known to have expired.

        A token that has not expired yet is returned even if its renewal failed.

        Raises:
            ReauthorizationRequiredError: it has expired and cannot be renewed. Nothing was sent, unless it
                was the service that refused the refresh token.
            TokenRequestError, TokenStoreError, CallError: the renewal failed; see `renew`.
        """
        token = self._token
        # Every call comes through here: without a known end, the clock is not even read.
        if self._renew_at is None or not self._is_due(self._renew_at):
            return token
        if machine_seconds() < self._paused_until and not self._has_expired(token):
            return token
        try:
            renewed = await self.renew(token, send)
        except (AuthorizationError, CallError) as error:
            if self._has_expired(token):
                raise
            self._paused_until = machine_seconds() + _PAUSE
            _LOGGER.warning("A token could not be renewed ahead of its end (%s).", type(error).__name__)
            return token
        if renewed is not None:
            return renewed
        if self._has_expired(token):
            raise ReauthorizationRequiredError("The token has expired: the user has to authorize again.")
        return token

    async def renew(self, stale: Token, send: Send) -> Token | None:
        """Return the token that replaces `stale`, which the service did not accept.

        That is the present token if it is another one already, and else a renewed one. `None`: it cannot be
        renewed, since there is no refresh token or no app, and the store has no other token either.

        Raises:
            ReauthorizationRequiredError: the service refused the newest refresh token that there is.
            TokenRequestError, CallError: see `OAuthApp.refresh`. All calls that wait for one renewal get its
                error; the next call tries again.
            TokenStoreError: the store could not be read or locked.
            ClientClosedError: the manager was closed meanwhile.
        """
        if self._token != stale and not self._token.is_expired(self._now()):
            return self._token
        if self._shared is None and not self._can_refresh(self._token):
            return None
        of_another_call = self._answer
        answer = of_another_call or await self._begin_renewal(send)
        # Not `shield`, which reports the error of a renewal whose waiters are gone to the event loop.
        # `wait` neither cancels what it waits for nor raises what that raised.
        await asyncio.wait({answer})
        if answer.cancelled():
            raise ClientClosedError
        error = answer.exception()
        if isinstance(error, ClientClosedError) and answer is of_another_call:
            # The client of the call that began the renewal was closed. If ours is closed, too, our own token
            # call says so.
            return await self.renew(stale, send)
        if error is not None:
            raise _own_copy(error)
        return answer.result()

    async def save(self) -> None:
        """Put the present token into the store; without a store, do nothing.

        Raises:
            TokenStoreError: the store failed. The token stays in use.
        """
        shared = self._shared
        if shared is None:
            return
        # One at a time, and each saves the token of that moment, so that the newest is saved last.
        async with self._saving:
            token = shared.unsaved or self._token
            await shared.save(token)
            shared.note_saved(token)

    async def close(self) -> None:
        """Wait for a running renewal, and save what is not saved yet. The manager can be used again.

        A renewal gets 10 seconds, since cutting it off may lose a refresh token that the service has already
        replaced; then it is cancelled. Call this before the connections that `send` uses are closed. Nothing
        is raised.
        """
        answer, renewal = self._answer, self._renewal
        if renewal is not None:
            try:
                if answer is not None:
                    await asyncio.wait({answer}, timeout=_CLOSING_GRACE)
            finally:
                renewal.cancel()
            await asyncio.wait({renewal})
        if self._shared is not None and not self.is_saved:
            await self._save_again(self._shared)
        if self.when_closed is not None:
            await self.when_closed()

    def _unset_now(self) -> datetime:
        """Return the time of day as if it had not been set since the token was taken.

        A clock that is set wrong must not end a token that the service still accepts. A clock that was passed
        in (`now`) is the only one that counts.
        """
        if self._now is not utc_now:
            return self._now()
        return self._taken_on + timedelta(seconds=machine_seconds() - self._taken_at)

    def _is_due(self, moment: datetime) -> bool:
        """Return whether a moment has come by either clock, since the time of day may have been set back."""
        return self._now() >= moment or self._unset_now() >= moment

    def _has_expired(self, token: Token) -> bool:
        """Return whether a token has expired by both clocks: the time of day may have been set forward."""
        return token.is_expired(self._now()) and token.is_expired(self._unset_now())

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

    async def _begin_renewal(self, send: Send) -> "asyncio.Future[Token | None]":
        while self._renewal is not None and self._answer is None:
            # It has its token already and only tries to save it. The next one is newer.
            self._renewal.cancel()
            await asyncio.wait({self._renewal})
        if self._answer is not None:
            return self._answer
        answer: asyncio.Future[Token | None] = asyncio.get_running_loop().create_future()
        # A task of its own: when one call that waits for it is cancelled, the others still get the token.
        self._answer = answer
        self._renewal = start(self._renew_and_save(send), name="healthmsg token renewal")
        self._renewal.add_done_callback(partial(self._renewal_ended, answer))
        return answer

    def _renewal_ended(self, answer: "asyncio.Future[Token | None]", renewal: "asyncio.Task[None]") -> None:
        if self._renewal is renewal:
            self._renewal = None
        if not answer.done():  # it was cancelled, perhaps before it began
            self._answer = None
            answer.cancel()
        if not renewal.cancelled():
            # Retrieve the exception, so that asyncio does not log it.
            renewal.exception()

    async def _renew_and_save(self, send: Send) -> None:
        """Renew, answer the calls that wait, and go on until the new token is saved."""
        try:
            if self._shared is None:
                token, problem = await self._refreshed(self._token, send)
                self._answer_with(token, problem)
            else:
                await self._renew_shared(self._shared, send)
        except Exception as error:  # noqa: BLE001 - the calls that wait raise it
            self._answer_with(None, error)

    def _answer_with(self, token: Token | None, problem: Exception | None = None) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if problem is None:
            answer.set_result(token)
        else:
            answer.set_exception(without_locals(problem))
            # Retrieve the exception: perhaps no call waits for it any more.
            answer.exception()

    async def _renew_shared(self, shared: "SharedToken", send: Send) -> None:
        """Renew under the store's lock, unless there is another good token already, and save."""
        waiting = shared.unsaved
        if waiting is not None and not (is_same(waiting, self._token) or waiting.is_expired(self._now())):
            self._take(waiting)
            self._answer_with(waiting)
            return
        renewed: tuple[Token, TokenRequestError | None] | None = None
        is_written = False
        try:
            async with shared.lock() as store:
                token, problem = await self._newest_or_refreshed(shared, store, send)
                if token is None or not is_same(token, shared.unsaved):
                    self._answer_with(token, problem)
                    return
                renewed = token, problem
                is_written = await self._is_saved_to(shared, token, store)
                if not is_written and store is shared.store:
                    self._answer_with(*renewed)
                    await self._keep_saving(shared, _LOCKED_WHILE_UNSAVED)
        except TokenStoreError:
            # If it was the unlocking that failed, the token saved under the lock may not have been committed.
            is_written = False
            if renewed is None:
                raise
        if renewed is not None:
            if is_written:
                shared.note_saved(renewed[0])
            self._answer_with(*renewed)
            await self._keep_saving(shared)

    async def _newest_or_refreshed(
        self, shared: "SharedToken", store: "TokenStore", send: Send
    ) -> tuple[Token | None, TokenRequestError | None]:
        """Return the newest token that has not expired; else a refreshed one, which is still to be saved."""
        own, check = self._token, check_of(store)
        send = sending_while_held(check, send)
        candidate: Token | None = shared.newer_than(own, await shared.newest(store))
        tried: list[Token] = []
        refused: ReauthorizationRequiredError | None = None
        while candidate is not None:
            if candidate is not own:
                self._take(candidate)
                if not candidate.is_expired(self._now()):
                    return candidate, None
            try:
                token, problem = await self._refreshed(candidate, send)
            except ReauthorizationRequiredError as error:
                refused = error
            else:
                if token is not None:
                    shared.note_renewed(token)
                return token, problem
            tried.append(candidate)
            # Another process, one without the lock for instance, may have stored another one meanwhile.
            rest = (await shared.newest(store), own)
            candidate = next(
                (one for one in rest if one and not any(is_same(one, old) for old in tried)), None
            )
        # Who has the lock by now may be about to store what it got for the same refresh token.
        check()
        assert refused is not None  # noqa: S101 - for mypy
        raise refused

    async def _refreshed(self, token: Token, send: Send) -> tuple[Token | None, TokenRequestError | None]:
        """Return the token that the service gives for a refresh token, and the problem with its answer."""
        if self._app is None or token.refresh_token is None:
            return None, None
        try:
            renewal = await self._app.renewal(token, send)
        except ClaimLostError:
            renewal = None
        if renewal is None:
            raise TokenStoreError(
                "The lock over the renewal was lost before the token call: nothing was sent."
            )
        if renewal.token is not None:
            self._take(renewal.token)
        return renewal.token, renewal.problem

    async def _is_saved_to(self, shared: "SharedToken", token: Token, store: "TokenStore") -> bool:
        try:
            await shared.save(token, store)
        except TokenStoreError as error:
            self._log_unsaved(error)
            return False
        return True

    async def _keep_saving(self, shared: "SharedToken", seconds: float = math.inf) -> None:
        """Try at growing intervals to save the token that the store does not have yet."""
        lasting, wait = Stopwatch(), _FIRST_SAVE_WAIT
        while shared.unsaved is not None and lasting.seconds() < seconds:
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_SAVE_WAIT)
            await self._save_again(shared)

    async def _save_again(self, shared: "SharedToken") -> None:
        """Save the token that the store does not have yet, unless another one was stored since."""
        unsaved = shared.unsaved
        try:
            newest = await shared.newest()
            if unsaved is None or is_same(newest, unsaved):
                await self.save()
            elif newest is not None:
                shared.note_seen(newest)
                self._take(newest)
        except TokenStoreError as error:
            self._log_unsaved(error)

    def _log_unsaved(self, error: TokenStoreError) -> None:
        _LOGGER.error(
            "A renewed token could not be saved (%s). It stays in use and will be saved again, but is lost if"
            " this process ends before that.",
            error,
        )


def _own_copy(error: BaseException) -> BaseException:
    """Copy an error for one call, since its traceback would grow with each call that raises it."""
    try:
        own = copy(error)
    except Exception:  # noqa: BLE001 - a foreign exception that cannot be copied is shared
        own = error
    return own.with_traceback(error.__traceback__)


def _shared(store: "TokenStore", user: str) -> "SharedToken":
    from healthmsg.auth.stores import SharedToken  # noqa: PLC0415 - programs without a store start faster

    return SharedToken(store, user)
