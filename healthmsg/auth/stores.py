"""Where tokens are kept between runs, and what keeps two processes from renewing the same one."""

import asyncio
import hashlib
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar
from weakref import WeakValueDictionary

import orjson
from attrs import define, field, frozen

from healthmsg.auth.entries import Document, entry_of, token_of
from healthmsg.auth.token import Token, is_same
from healthmsg.errors import ConfigurationError, HealthmsgError, InvalidInputError, TokenStoreError
from healthmsg.file_lock import locked, locked_for_long
from healthmsg.json_text import NotJSONError, parse_json

if TYPE_CHECKING:
    from healthmsg.auth.encryption import TokenCipher, Vault

_GROUP_AND_OTHERS: Final = 0o077
_PATIENCE: Final = 8.0
"""Seconds that a change waits for other processes: less than a renewal leaves a store."""
_IS_POSIX: Final = os.name == "posix"
_DAMAGED: Final = "The token file is damaged: it is not what this package writes."

_NAMES: Final = ""
"""Under which an encrypted file has the key of the names in it: no user is called so."""
T = TypeVar("T")


class TokenStore(Protocol):
    """Where tokens are kept, by user; `user` is your own name for the person who authorized, and not empty.

    A store in your database needs these three methods. If several processes share it, it also needs the
    fourth one, of `LockingTokenStore`. They should raise a `TokenStoreError` that says nothing private; of
    anything else only the type's name is reported. A renewal waits 10 seconds for each, then cancels it.
    """

    async def load(self, user: str) -> Token | None:
        """Return the user's token, or None."""

    async def save(self, user: str, token: Token) -> None:
        """Keep the user's token, in place of the one before."""

    async def delete(self, user: str) -> None:
        """Forget the user's token; it is no error if there is none."""


class LockingTokenStore(TokenStore, Protocol):
    """A token store that lets one process at a time renew a user's token.

    A refresh token often works once, and a service may take a second use for theft and end the whole
    authorization. `lock` is what keeps two processes from using the same one. In PostgreSQL, with asyncpg::

        @asynccontextmanager
        async def lock(self, user):
            async with self.pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", user)
                yield TokensOver(connection)  # load and save within this transaction

    `SELECT … FOR UPDATE` of the user's row does as well, where there is a row. The lock must end with the
    process that holds it, as these do: a flag in a column would stay for ever.
    """

    def lock(self, user: str) -> AbstractAsyncContextManager[TokenStore]:
        """Return what keeps others from renewing the user's token while it is entered.

        It waits for its turn without blocking the event loop, and can be cancelled; a renewal waits for at
        most 60 seconds. Entered, it gives the store to load from and save to meanwhile: itself, or one that
        works in the transaction which holds the lock. Leaving it commits.

        Where a lock ends by time, that store needs `check_lock()` too, which raises a `TokenStoreError` when
        it may be lost, and `save` must refuse to overwrite what others saved since. It is called directly
        before the token call leaves, so it must be quick.
        """


class MemoryTokenStore:
    """Keeps tokens until the process ends."""

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}

    def __repr__(self) -> str:
        return f"<MemoryTokenStore of {len(self._tokens)} users>"

    async def load(self, user: str) -> Token | None:
        """Return the user's token, or None."""
        return self._tokens.get(user)

    async def save(self, user: str, token: Token) -> None:
        """Keep the user's token, in place of the one before."""
        self._tokens[user] = token

    async def delete(self, user: str) -> None:
        """Forget the user's token; it is no error if there is none."""
        self._tokens.pop(user, None)


class FileTokenStore:
    """Keeps tokens in one JSON file that its owner alone can read.

    With a `cipher` they are encrypted, and so are their users' names (extra `encryption`). A token that the
    file has from before is read as it is, and encrypted when it is next saved or by `rotate`.

    The file is replaced as a whole and at once, so a crash leaves the old or the new one. The folder must
    exist. Several stores, threads and processes may use one file: an empty file with `.lock` after the name
    stays beside it, and another one is there while a token is renewed. On Windows, who can read the file is
    up to the folder.

    Raises:
        TokenStoreError: from every method, when the file cannot be read or written, is damaged, or can be
            read by others (then `chmod 600` it, and think of the tokens in it as known), or when what is in
            it cannot be decrypted.
        InvalidInputError: from `save`, when `user` is empty or cannot be written as JSON.
    """

    def __init__(self, path: str | os.PathLike[str], *, cipher: "TokenCipher | None" = None) -> None:
        self._path = Path(path)
        self._cipher = cipher
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"FileTokenStore({str(self._path)!r})"

    async def load(self, user: str) -> Token | None:
        """Return the user's token, or None."""
        return await _in_thread("read", lambda: self._load(user))

    async def save(self, user: str, token: Token) -> None:
        """Keep the user's token, in place of the one before. It is on the disk when this returns."""
        if not user:
            raise InvalidInputError("user must not be empty")
        await _in_thread("written", lambda: self._save(user, token))

    async def delete(self, user: str) -> None:
        """Forget the user's token; it is no error if there is none."""
        await _in_thread("written", lambda: self._delete(user))

    @asynccontextmanager
    async def lock(self, user: str) -> AsyncIterator[Self]:
        """Keep others, in whatever process, from renewing the user's token. It ends with the process."""
        # Hashed: the user's name must be readable in the token file alone.
        name = hashlib.sha256(user.encode(errors="surrogatepass")).hexdigest()[:16]
        async with AsyncExitStack() as stack:
            try:
                target = await asyncio.to_thread(self._target)
                lock = locked_for_long(target.with_name(f"{target.name}.{name}.lock"))
                await stack.enter_async_context(lock)
            except OSError as error:
                reason = _reason(error)
            else:
                yield self
                return
        raise TokenStoreError(f"The token file could not be locked: {reason}.")

    async def rotate(self) -> int:
        """Encrypt all that is kept with the cipher's first key; return how many tokens that were.

        Raises:
            ConfigurationError: the store has no cipher.
        """
        if self._cipher is None:
            raise ConfigurationError("rotate needs a store with a cipher: FileTokenStore(…, cipher=…)")
        count = 0

        def rotate(document: Document) -> None:
            nonlocal count
            count = len(document.keys() - {_NAMES})
            self._encrypt_all(document)

        await _in_thread("written", lambda: self._change(rotate))
        return count

    def _load(self, user: str) -> Token | None:
        document = _read(self._target())
        vault = self._vault(document)
        if vault is not None and user:
            sealed = document.get(vault.row_of(user))
            if sealed is not None:
                return vault.open(user, _sealed(sealed))
        return _plain(document[user]) if user and user in document else None

    def _save(self, user: str, token: Token) -> None:
        def save(document: Document) -> None:
            vault = self._vault(document, is_new=True)
            if vault is None:
                document[user] = entry_of(token)
            else:
                document.pop(user, None)
                document[vault.row_of(user)] = vault.seal(user, token).decode()

        self._change(save)

    def _delete(self, user: str) -> None:
        def delete(document: Document) -> None:
            vault = self._vault(document)
            if user:
                document.pop(user, None)
                if vault is not None:
                    document.pop(vault.row_of(user), None)

        self._change(delete)

    def _vault(self, document: Document, *, is_new: bool = False) -> "Vault | None":
        """Return what writes rows, if the file is encrypted."""
        if self._cipher is None:
            if _NAMES in document:
                raise TokenStoreError("The token file is encrypted: its store needs the `cipher`.")
            return None
        from healthmsg.auth.encryption import Vault, new_name_key  # noqa: PLC0415 - needs the extra

        if _NAMES not in document:
            if not is_new:
                return None
            document[_NAMES] = new_name_key(self._cipher).decode()
        return Vault(self._cipher, _sealed(document[_NAMES]))

    def _encrypt_all(self, document: Document) -> None:
        vault = self._vault(document, is_new=True)
        if vault is None or self._cipher is None:
            return
        for name, entry in document.copy().items():
            if isinstance(entry, str):
                document[name] = self._cipher.rotate(_sealed(entry)).decode()
            else:
                del document[name]
                document[vault.row_of(name)] = vault.seal(name, _plain(entry)).decode()

    def _target(self) -> Path:
        # Symbolic links are followed, so that the file is replaced and not a link to it.
        return Path(os.path.realpath(self._path))

    def _change(self, change: Callable[[Document], object]) -> None:
        """Read, change, and write, with all others locked out."""
        target = self._target()
        with self._lock, locked(target.with_name(f"{target.name}.lock"), _PATIENCE):
            document = _read(target)
            before = document.copy()
            change(document)
            if document != before:
                _replace(target, _to_json(document))


async def _in_thread(what: str, work: Callable[[], T]) -> T:
    """Work on the file without holding up the event loop."""
    problem: HealthmsgError
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        problem = TokenStoreError(f"The token file could not be {what}: {_reason(error)}.")
    except HealthmsgError as error:
        # Without its frames, which hold what is in the file.
        problem = error.with_traceback(None)
    # Outside the `except`: the system's error, which names the file, would otherwise be the context.
    raise problem


def _reason(error: OSError) -> str:
    if type(error) is TimeoutError:
        return "others did not let go of it"
    return error.strerror or type(error).__name__


def _read(path: Path) -> Document:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return {}
    with file:
        # Of the opened file, which cannot be replaced between this check and the reading.
        if _IS_POSIX and os.fstat(file.fileno()).st_mode & _GROUP_AND_OTHERS:
            raise TokenStoreError("The token file can be read by others: chmod 600 it.")
        content = file.read()
    document = None
    with suppress(NotJSONError):
        document = parse_json(content)
    if not isinstance(document, dict):
        raise TokenStoreError(_DAMAGED)
    return document


def _replace(path: Path, content: bytes) -> None:
    # mkstemp makes the file with mode 0600, whatever the umask; in the same folder, as a rename needs.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if _IS_POSIX:
        # The new name is on the disk only when the folder is.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _to_json(document: Document) -> bytes:
    with suppress(TypeError):
        return orjson.dumps(document, option=orjson.OPT_INDENT_2)
    raise InvalidInputError("user must be text that can be written as UTF-8")


def _plain(entry: Any) -> Token:
    token = token_of(entry)
    if token is None:
        raise TokenStoreError(_DAMAGED)
    return token


def _sealed(entry: Any) -> bytes:
    if not isinstance(entry, str):
        raise TokenStoreError(_DAMAGED)
    return entry.encode(errors="surrogatepass")


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
    """Held, so that no other store gets the same `id`."""
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
    """A token that its store does not have yet."""

    store: TokenStore
    """Held, so that no other store gets the same `id`."""
    token: Token
    replaces: Token | None
    """What the store had when it was renewed."""


_turns: WeakValueDictionary[tuple[int, str], _Turn] = WeakValueDictionary()
_unsaved: dict[tuple[int, str], _Unsaved] = {}
"""By store and user, and not by manager, since a program may make a manager per request."""


class SharedToken:
    """One user's token in a store, which other managers and processes renew too.

    Messages of foreign stores' errors are dropped, since they may hold the token.
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
        """The token that the store does not have yet, whichever manager of this process renewed it."""
        found = _unsaved.get(self._key)
        return None if found is None else found.token

    def lock(self) -> "Lock":
        """Return what keeps others from renewing the token while it is entered."""
        return Lock(self._turn, self.store, self._user)

    async def newest(self, store: TokenStore | None = None) -> Token | None:
        """Return the token that waits to be saved, unless another one was stored since; else the stored one.

        `store` is the one that the lock returned.

        Raises:
            TokenStoreError: it cannot be read.
        """
        waiting = _unsaved.get(self._key)
        source = store or self.store
        try:
            self._stored = _checked(await _within_time_limit("read", lambda: source.load(self._user)))
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

        The tokens' times decide only at the first look: the clocks of two processes differ, and are set now
        and then.
        """
        if found is None or is_same(found, own) or is_same(found, self._seen):
            return own
        is_first_look, self._seen = self._seen is None, found
        return own if is_first_look and found.created_at <= own.created_at else found

    def note_seen(self, token: Token) -> None:
        """Note that this manager knows of a token in the store."""
        self._seen = token

    def note_renewed(self, token: Token) -> None:
        """Keep a renewed token in memory until the store has it."""
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
        """Put a token into the store. Saved under the lock, it may be committed only when that is released.

        Raises:
            TokenStoreError: the store failed.
        """
        target = store or self.store
        await _within_time_limit("written", lambda: target.save(self._user, token))


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


async def _within_time_limit(what: str, work: Callable[[], Awaitable[T]]) -> T:
    problem: TokenStoreError
    try:
        async with asyncio.timeout(_STORE_PATIENCE):
            return await work()
    except TokenStoreError as error:
        problem = error
    except Exception as error:  # noqa: BLE001 - any store's, and its words may hold the token
        problem = TokenStoreError(f"The token store could not be {what} ({type(error).__name__}).")
    # Outside the `except`, since the caught error would otherwise be the context.
    raise _alone(problem)


def _checked(found: object) -> Token | None:
    if found is None or isinstance(found, Token):
        return found
    raise TokenStoreError("The token store gave something else than a token.")


def _alone(problem: TokenStoreError) -> TokenStoreError:
    """Return a store's error without frames and causes, which may hold the token."""
    problem.__cause__ = problem.__context__ = None
    return problem.with_traceback(None)
