"""A token that others renew too: the lock over its renewal, and what is not saved yet."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from attrs import define, field, frozen

from healthmsg.auth.stores import TokenStore
from healthmsg.auth.token import Token
from healthmsg.errors import TokenStoreError

T = TypeVar("T")
_LockOf = Callable[[str], AbstractAsyncContextManager[TokenStore]]

_STORE_PATIENCE: Final = 10.0
"""Seconds that a renewal, and all calls that wait for it, wait for the store to read or to write."""
_LOCK_PATIENCE: Final = 60.0
"""Seconds that a renewal waits for the renewal of another manager or process."""
_FIRST_WAIT: Final = 0.005
_LONGEST_WAIT: Final = 0.1


@define(eq=False)
class _Turn:
    """Lets one manager of this process at a time renew a user's token; not bound to an event loop."""

    store: TokenStore
    """Held, so that no other store gets its place in memory."""
    taken: threading.Lock = field(factory=threading.Lock)

    async def __aenter__(self) -> None:
        wait = _FIRST_WAIT
        while not self.taken.acquire(blocking=False):
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def __aexit__(self, *_: object) -> None:
        self.taken.release()


@frozen
class _Unsaved:
    """A token that a store did not take yet."""

    store: TokenStore
    """Held, so that no other store gets its place in memory."""
    token: Token
    replaces: Token | None
    """What the store had when it was renewed."""


_turns: WeakValueDictionary[tuple[int, str], _Turn] = WeakValueDictionary()
_unsaved: dict[tuple[int, str], _Unsaved] = {}
"""By store and user, and not by manager, since a program may make a manager per request."""


def is_same(one: Token | None, other: Token | None) -> bool:
    """Tell whether two tokens are the same for the service: a store may keep times less exactly."""
    if one is None or other is None:
        return one is other
    return (one.value, one.refresh_token) == (other.value, other.refresh_token)


class SharedToken:
    """One user's token in a store, which other managers and processes renew too.

    No foreign store's words come out of it: they may hold the token.
    """

    def __init__(self, store: TokenStore, user: str) -> None:
        self.store = store
        self._user = user
        self._key = (id(store), user)
        self._turn = _turns.setdefault(self._key, _Turn(store))
        self._stored: Token | None = None
        self._seen: Token | None = None

    @property
    def unsaved(self) -> Token | None:
        """The token that the store has still to take, whichever manager of this process renewed it."""
        found = _unsaved.get(self._key)
        return None if found is None else found.token

    def lock(self) -> "Lock":
        """Return what keeps others from renewing the token while it is entered."""
        return Lock(self._turn, self.store, self._user)

    async def newest(self, store: TokenStore | None = None) -> Token | None:
        """Return what waits to be saved, unless another token was stored since; else what is stored.

        `store` is what the lock gave.

        Raises:
            TokenStoreError: it cannot be read.
        """
        waiting = _unsaved.get(self._key)
        source = store or self.store
        try:
            self._stored = _checked(await _patiently("read", lambda: source.load(self._user)))
        except TokenStoreError:
            if waiting is None:
                raise
            return waiting.token
        if waiting is not None:
            if is_same(self._stored, waiting.replaces) or is_same(self._stored, waiting.token):
                return waiting.token
            # Such as that of a new authorization by the user.
            _unsaved.pop(self._key, None)
        return self._stored

    def newer_than(self, own: Token, found: Token | None) -> Token:
        """Return `found` if it was put into the store since this manager last looked, and else `own`.

        Not by its time: the clocks of two processes differ, and any is set back now and then. Only at the
        first look there is nothing else to go by.
        """
        if found is None or is_same(found, own) or is_same(found, self._seen):
            return own
        is_first_look, self._seen = self._seen is None, found
        return own if is_first_look and found.created_at <= own.created_at else found

    def note_seen(self, token: Token) -> None:
        """Note that this manager knows of a token in the store."""
        self._seen = token

    def note_renewed(self, token: Token) -> None:
        """Keep a renewed token in memory until the store has taken it."""
        waiting = _unsaved.get(self._key)
        replaces = self._stored if waiting is None else waiting.replaces
        _unsaved[self._key] = _Unsaved(self.store, token, replaces)
        self._seen = token

    def note_saved(self, token: Token) -> None:
        """Note that the store has a token for good."""
        self._seen = token
        if is_same(self.unsaved, token):
            _unsaved.pop(self._key, None)

    async def save(self, token: Token, store: TokenStore | None = None) -> None:
        """Put a token into the store. What the lock gave may take it for good only when the lock is left.

        Raises:
            TokenStoreError: the store failed.
        """
        target = store or self.store
        await _patiently("written", lambda: target.save(self._user, token))


class Lock:
    """The lock over a renewal: in this process, and between processes if the store has one."""

    def __init__(
        self,
        turn: _Turn,
        store: TokenStore,
        user: str,
    ) -> None:
        self._turn = turn
        self._lock: _LockOf | None = getattr(store, "lock", None)
        self._store = store
        self._user = user
        self._entered = AsyncExitStack()

    async def __aenter__(self) -> TokenStore:
        """Wait for the lock; return the store to use meanwhile.

        Raises:
            TokenStoreError: it cannot be had, or others held it for 60 seconds.
        """
        try:
            async with asyncio.timeout(_LOCK_PATIENCE):
                await self._entered.enter_async_context(self._turn)
                if self._lock is None:
                    return self._store
                return await self._entered.enter_async_context(self._lock(self._user))
        except TimeoutError:
            problem = TokenStoreError(
                "Another manager or process is renewing the token, and does not finish."
            )
        except TokenStoreError as error:
            problem = error
        except Exception as error:  # noqa: BLE001 - any store's, and its words may hold the token
            problem = TokenStoreError(f"The token store could not be locked ({type(error).__name__}).")
        except BaseException:
            await self._entered.aclose()
            raise
        await self._entered.aclose()
        raise _alone(problem)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock, and with some stores commit what was saved under it.

        Raises:
            TokenStoreError: that failed.
        """
        try:
            async with asyncio.timeout(_STORE_PATIENCE):
                await self._entered.__aexit__(kind, error, trace)
        except Exception as raised:  # noqa: BLE001 - any store's, and its words may hold the token
            if error is not None:
                return
            name = type(raised).__name__
        else:
            return
        raise TokenStoreError(f"The token store could not be unlocked ({name}).")


async def _patiently(what: str, work: Callable[[], Awaitable[T]]) -> T:
    problem: TokenStoreError
    try:
        async with asyncio.timeout(_STORE_PATIENCE):
            return await work()
    except TokenStoreError as error:
        problem = error
    except Exception as error:  # noqa: BLE001 - any store's, and its words may hold the token
        problem = TokenStoreError(f"The token store could not be {what} ({type(error).__name__}).")
    # Outside the `except`: what was caught there would otherwise travel along as the context.
    raise _alone(problem)


def _checked(found: object) -> Token | None:
    if found is None or isinstance(found, Token):
        return found
    raise TokenStoreError("The token store gave something else than a token.")


def _alone(problem: TokenStoreError) -> TokenStoreError:
    """Return a store's error without what it came from: frames and causes of a store may hold the token."""
    problem.__cause__ = problem.__context__ = None
    return problem.with_traceback(None)
