"""Tokens in Redis or Valkey, for processes on several machines."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self, TypeVar

from healthmsg.aio import finished
from healthmsg.auth.encryption import TokenCipher, Vault, new_name_key, user_bytes
from healthmsg.auth.hold import LIFE, Hold, checked_life
from healthmsg.auth.token import Token
from healthmsg.clock import machine_seconds
from healthmsg.errors import TokenStoreError
from healthmsg.redis_client import Redis, RedisError, answer_of, connect

T = TypeVar("T")

_FIRST_WAIT: Final = 0.005
_LONGEST_WAIT: Final = 0.1
"""Seconds between two looks at a lock that others hold; doubled each time."""
_RELEASE_PATIENCE: Final = 2.0
_LONGEST_ANSWER: Final = 5.0
"""Seconds that a command may take: less than a renewal leaves a store."""

# A row is a hash: `token` is what is encrypted, `fence` says who locked or saved last. A new fence with each
# of these makes every earlier one worthless, so that what was renewed under it is not saved.
_LOCK: Final = """
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[1], 'fence', ARGV[1])
return 1
"""
# The lock may have ended while this process stood still. It is had back only if there was none in between.
_EXTEND: Final = """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
"""
_UNLOCK: Final = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
if redis.call('HEXISTS', KEYS[1], 'token') == 0 then redis.call('DEL', KEYS[1]) end
return 1
"""
_SAVE: Final = "redis.call('HSET', KEYS[1], 'token', ARGV[2], 'fence', ARGV[1]) return 1"
_SAVE_LOCKED: Final = """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'token', ARGV[2])
return 1
"""
_EXCHANGE: Final = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'token', ARGV[2])
return 1
"""
_EXCHANGE_NAMES: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end
return 1
"""


class RedisTokenStore:
    """Keeps tokens in Redis or Valkey, encrypted, for any number of processes (extra `redis`).

    `server` is a URL, `redis://`, `rediss://`, `unix://` or `valkey://`, or a `redis.asyncio.Redis` of your
    own, which stays open. `prefix` begins all its keys: stores with the same one and the same keys share
    their tokens. What the server keeps says neither whose token it is nor what the token is.

    While a user's token is renewed, a lock keeps others from renewing it. It ends `lock_life` seconds after
    the process was last heard of, which says so three times in that while; a process that stood still for
    longer sends and saves nothing more under it. Only one that stops between sending a token call and saving
    its answer can leave the others with a refresh token that is used up.

    What Redis acknowledges can be lost with its memory: switch `appendonly` on, set `maxmemory-policy` to
    `noeviction`, and mind that a replica may lag when it takes over. Where a sign-in that is lost is too
    dear, use `SQLTokenStore`. A cluster is not supported. Use a store in one event loop, and end it with
    `close` or `async with`.

    Raises:
        ConfigurationError: at once, for a URL or `lock_life` that cannot work.
        TokenStoreError: from every method, when the server cannot be reached or a token not be decrypted.
        InvalidInputError: `user` is empty, or cannot be written as UTF-8.
    """

    def __init__(
        self,
        server: str | Redis,
        cipher: TokenCipher,
        *,
        prefix: str = "healthmsg:tokens",
        lock_life: float = LIFE,
    ) -> None:
        self._cipher = cipher
        self._prefix = prefix
        self._life = checked_life(lock_life)
        self._is_own = isinstance(server, str)
        self._redis = connect(server, _LONGEST_ANSWER, repeats=1) if isinstance(server, str) else server
        self._opened: tuple[bytes, Vault] | None = None

    def __repr__(self) -> str:
        return f"<RedisTokenStore {self._prefix!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, unless they are yours."""
        if self._is_own:
            with suppress(RedisError, OSError):
                await self._redis.aclose()

    async def load(self, user: str) -> Token | None:
        """Return the user's token, or None."""
        user_bytes(user)
        return await _asked("read", lambda: self._load(user))

    async def save(self, user: str, token: Token) -> None:
        """Keep the user's token, in place of the one before. What is being renewed meanwhile is not saved."""
        user_bytes(user)

        async def save() -> None:
            vault = await self._vault()
            await self._run(_SAVE, vault.row_of(user), _new_fence(), vault.seal(user, token))

        await _asked("written", save)

    async def delete(self, user: str) -> None:
        """Forget the user's token; it is no error if there is none."""
        user_bytes(user)

        async def delete() -> None:
            if vault := await self._vault_if_any():
                await self._redis.delete(self._key(vault.row_of(user)))

        await _asked("written", delete)

    async def rotate(self) -> int:
        """Encrypt all that is kept with the cipher's first key; return how many tokens that were.

        Others may go on meanwhile. What one of them changes at that moment is encrypted by it.
        """
        return await _asked("written", self._rotate)

    @asynccontextmanager
    async def lock(self, user: str) -> "AsyncIterator[_Locked]":
        """Keep others from renewing the user's token."""
        user_bytes(user)
        fence = _new_fence()
        vault = await _asked("locked", self._vault)
        row = vault.row_of(user)
        try:
            hold = await self._take_lock(row, fence)
            async with hold.kept(lambda: self._ran(_EXTEND, row, fence, self._life_ms)):
                yield _Locked(self, user, fence, hold)
        finally:
            # Also if it is not known whether it was had. Left behind, it would end by itself.
            with suppress(TokenStoreError, TimeoutError):
                async with asyncio.timeout(_RELEASE_PATIENCE):
                    await _asked("unlocked", lambda: self._run(_UNLOCK, row, fence))

    async def save_locked(self, user: str, token: Token, fence: str) -> bool:
        """Save under a lock; return whether it was still had, or there was no other since."""
        vault = await self._vault()
        return await self._ran(_SAVE_LOCKED, vault.row_of(user), fence, vault.seal(user, token))

    @property
    def _life_ms(self) -> int:
        return int(self._life * 1000)

    async def _take_lock(self, row: str, fence: str) -> Hold:
        wait = _FIRST_WAIT
        while True:
            asked_at = machine_seconds()
            if await _asked("locked", lambda: self._ran(_LOCK, row, fence, self._life_ms)):
                return Hold(self._life, asked_at)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _load(self, user: str) -> Token | None:
        vault = await self._vault_if_any()
        if vault is None:
            return None
        sealed = await answer_of(self._redis.hget(self._key(vault.row_of(user)), "token"))
        return None if sealed is None else vault.open(user, _bytes(sealed))

    async def _rotate(self) -> int:
        names = await answer_of(self._redis.get(self._names))
        if names is not None:
            await self._exchange(_EXCHANGE_NAMES, self._names, _bytes(names))
        count = 0
        async for key in self._redis.scan_iter(match=f"{_escaped(self._prefix)}:{{*}}"):
            sealed = await answer_of(self._redis.hget(key, "token"))
            if sealed is not None:
                count += await self._exchange(_EXCHANGE, key, _bytes(sealed))
        return count

    async def _exchange(self, script: str, key: str | bytes, sealed: bytes) -> bool:
        arguments = (sealed, self._cipher.rotate(sealed))
        return bool(await self._redis.register_script(script)([key], arguments))

    async def _vault(self) -> Vault:
        vault = await self._vault_if_any()
        if vault is None:
            await self._redis.set(self._names, new_name_key(self._cipher), nx=True)
            vault = await self._vault_if_any()
        if vault is None:
            raise TokenStoreError("The token store lost what was just written to it.")
        return vault

    async def _vault_if_any(self) -> Vault | None:
        """Return what writes rows. It is read each time, since another store may have been begun since."""
        names = await answer_of(self._redis.get(self._names))
        if names is None:
            return None
        sealed = _bytes(names)
        if self._opened is None or self._opened[0] != sealed:
            self._opened = sealed, Vault(self._cipher, sealed)
        return self._opened[1]

    async def _ran(self, script: str, row: str, *arguments: str | bytes | int) -> bool:
        return bool(await self._run(script, row, *arguments))

    async def _run(self, script: str, row: str, *arguments: str | bytes | int) -> object:
        keys = [self._key(row), f"{self._key(row)}:lock"]
        answer: object = await self._redis.register_script(script)(keys, arguments)
        return answer

    @property
    def _names(self) -> str:
        return f"{self._prefix}:names"

    def _key(self, row: str) -> str:
        return f"{self._prefix}:{{{row}}}"


class _Locked:
    """The store while a user's token is locked."""

    def __init__(self, store: RedisTokenStore, user: str, fence: str, hold: Hold) -> None:
        self._store = store
        self._user = user
        self._fence = fence
        self._hold = hold

    def check_lock(self) -> None:
        """Do nothing, quickly, as long as the lock is certainly held.

        Raises:
            TokenStoreError: it may be lost.
        """
        self._hold.check()

    async def load(self, user: str) -> Token | None:
        """Return the user's token, or None."""
        return await self._store.load(user)

    async def delete(self, user: str) -> None:
        """Forget the user's token; it is no error if there is none."""
        await self._store.delete(user)

    async def save(self, user: str, token: Token) -> None:
        """Keep the user's token, unless the lock was lost."""
        if user != self._user:
            raise TokenStoreError("The lock is another user's.")
        if not await _asked("written", lambda: self._store.save_locked(user, token, self._fence)):
            self._hold.lose()
            self._hold.check()


async def _asked(what: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Ask the server for something; of its errors say the kind alone.

    It is never cut off: a lock could still be taken after it was released, and redis-py loses a cancellation
    that comes while it connects.
    """
    try:
        return await finished(work())
    except (RedisError, OSError) as error:
        problem = TokenStoreError(f"The token store could not be {what} ({type(error).__name__}).")
    except TokenStoreError as error:
        # Without its frames, which hold what was decrypted.
        problem = error.with_traceback(None)
    raise problem


def _bytes(value: Any) -> bytes:
    """Return what a client answers that may decode its answers."""
    return value.encode() if isinstance(value, str) else bytes(value)


def _new_fence() -> str:
    return secrets.token_hex(16)


def _escaped(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "*?[]\\" else sign for sign in text)
