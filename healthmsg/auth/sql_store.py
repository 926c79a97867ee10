"""Tokens in PostgreSQL, for processes on several machines."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

from healthmsg.auth.encryption import TokenCipher, Vault, new_name_key, user_bytes
from healthmsg.auth.hold import LIFE, Hold, checked_life
from healthmsg.auth.token import Token
from healthmsg.clock import machine_seconds
from healthmsg.errors import ConfigurationError, JournalError, TokenStoreError

try:
    from sqlalchemy import Column, LargeBinary, MetaData, Table, Text, delete, make_url, select, text, update
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
    from sqlalchemy.schema import CreateTable

    from healthmsg.database.base import ENGINE_OPTIONS, describe
    from healthmsg.database.target import Target, place_of
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "tokens in a database need more packages: pip install 'healthmsg[postgresql,encryption]'",
        name=_error.name,
    ) from None

T = TypeVar("T")

_TABLE: Final = Table(
    "healthmsg_tokens",
    MetaData(),
    # A keyed hash of the user's name; empty: the row with the key of these hashes.
    Column("name", Text, primary_key=True),
    # NULL: a row that was made to be locked.
    Column("token", LargeBinary),
)
_NAMES: Final = ""
# Two processes that make the table at once would fail with each other's.
_MAKE_ALONE: Final = text("SELECT pg_advisory_xact_lock(hashtext('healthmsg_tokens'))")
_MAKE_ROW: Final = text(
    "INSERT INTO healthmsg_tokens (name, token) VALUES (:name, :token) ON CONFLICT (name) DO NOTHING"
)
_STAY: Final = text("SELECT 1")
_END_STANDSTILL: Final = "SET LOCAL idle_in_transaction_session_timeout = {}"
# Seconds. Longer than anyone waits for a renewal.
_LONGEST_STATEMENT: Final = 120.0
# The drivers of SQLite work in threads: a renewal that is cut off there could keep the lock for ever.
_NO_OTHER: Final = (
    "a token store's database must be PostgreSQL, postgresql+asyncpg://…; for processes of one machine there"
    " is FileTokenStore, with a cipher"
)


class SQLTokenStore:
    """Keeps tokens in a table of a PostgreSQL database, encrypted, for any number of processes.

    `database` is a URL, `postgresql+asyncpg://…` with the options of libpq such as `sslmode`, or an
    `AsyncEngine` of your own (extras `postgresql` and `encryption`). The table `healthmsg_tokens` is made
    when it is not there. What is in it says neither whose token it is nor what the token is.

    While a user's token is renewed, the user's row is locked, and a row is made first where there is none.
    The lock ends with the connection. PostgreSQL ends that `lock_life` seconds after the process was last
    heard of, which says so three times in that while. A process that stood still for longer, or whose
    connection has ended, sends and saves nothing more under it. Only one that stops between sending a token
    call and saving its answer can leave the others with a refresh token that is used up.

    Raises:
        ConfigurationError: at once, for a database or a `lock_life` that cannot work.
        TokenStoreError: from every method, when the database cannot be reached or a token not be decrypted.
        InvalidInputError: `user` is empty, or cannot be written as UTF-8.
    """

    def __init__(self, database: str | AsyncEngine, cipher: TokenCipher, *, lock_life: float = LIFE) -> None:
        self._cipher = cipher
        self._life = checked_life(lock_life)
        self._engine = _engine(database) if isinstance(database, str) else database
        if self._engine.dialect.name != "postgresql":
            raise ConfigurationError(_NO_OTHER)
        self._is_made = False
        self._opened: tuple[bytes, Vault] | None = None

    def __repr__(self) -> str:
        return f"<SQLTokenStore in {self._engine.dialect.name}>"

    async def load(self, user: str) -> Token | None:
        """Return the user's token, or None."""
        user_bytes(user)

        async def load() -> Token | None:
            async with self._transaction() as connection:
                return await _Rows(self, connection).load(user)

        return await _asked("read", load)

    async def save(self, user: str, token: Token) -> None:
        """Keep the user's token, in place of the one before. It waits for a renewal that is under way."""
        user_bytes(user)

        async def save() -> None:
            async with self._locked_row(user) as rows:
                await rows.save(user, token)

        await _asked("written", save)

    async def delete(self, user: str) -> None:
        """Forget the user's token, if there is one. It waits for a renewal, as `save` does."""
        user_bytes(user)

        async def delete() -> None:
            async with self._transaction() as connection:
                await _Rows(self, connection).delete(user)

        await _asked("written", delete)

    async def rotate(self) -> int:
        """Encrypt all that is kept with the cipher's first key; return how many tokens that were.

        Others may go on meanwhile. It waits for each renewal that is under way.
        """
        return await _asked("written", self._rotate)

    @asynccontextmanager
    async def lock(self, user: str) -> "AsyncIterator[_Rows]":
        """Keep others from renewing the user's token."""
        user_bytes(user)
        try:
            async with self._locked_row(user) as rows, rows.hold.kept(rows.stays):
                yield rows
        except (SQLAlchemyError, OSError) as error:
            problem = TokenStoreError(f"The token store could not be locked: {describe(error)}.")
        else:
            return
        raise problem

    def vault_of(self, name_key: bytes) -> Vault:
        """Return what writes rows, under names that are hashed with that key."""
        if self._opened is None or self._opened[0] != name_key:
            self._opened = name_key, Vault(self._cipher, name_key)
        return self._opened[1]

    @asynccontextmanager
    async def _locked_row(self, user: str) -> "AsyncIterator[_Rows]":
        while True:
            async with self._transaction() as connection:
                await connection.execute(text(_END_STANDSTILL.format(int(self._life * 1000))))
                rows = _Rows(self, connection)
                # What is not there is made in a transaction of its own, so that others see it.
                vault = await rows.vault()
                if vault is None:
                    await rows.make(_NAMES, new_name_key(self._cipher))
                elif await rows.is_locked(vault.row_of(user)):
                    # The wait for the lock may have taken long: its life is counted from now.
                    rows.hold = Hold(self._life, machine_seconds())
                    rows.driver = (await connection.get_raw_connection()).driver_connection
                    await rows.stay()
                    yield rows
                    return
                else:
                    await rows.make(vault.row_of(user), None)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        if not self._is_made:
            await self._make_table()
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="READ COMMITTED")
            await connection.begin()
            try:
                yield connection
            except BaseException:
                # Of a connection that is lost, it is the first error that tells.
                with suppress(SQLAlchemyError, OSError):
                    await connection.rollback()
                raise
            await connection.commit()

    async def _make_table(self) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(_MAKE_ALONE)
            await connection.execute(CreateTable(_TABLE, if_not_exists=True))
        self._is_made = True

    async def _rotate(self) -> int:
        async with self._transaction() as connection:
            names = (await connection.execute(select(_TABLE.c.name))).scalars().all()
        count = 0
        for name in names:
            async with self._transaction() as connection:
                rows = _Rows(self, connection)
                sealed = await rows.locked(name)
                if sealed is not None:
                    await rows.put(name, self._cipher.rotate(sealed))
                    count += name != _NAMES
        return count


class _Rows:
    """The rows within one transaction, which may hold the lock of one."""

    def __init__(self, store: SQLTokenStore, connection: AsyncConnection) -> None:
        self._store = store
        self._connection = connection
        # A connection does one thing at a time.
        self._busy = asyncio.Lock()
        self.hold = Hold(0.0, 0.0)
        self.driver: object = None
        """The driver's own connection, which notices its end by itself."""

    def check_lock(self) -> None:
        """Do nothing, quickly, as long as the lock is certainly held.

        Raises:
            TokenStoreError: it may be lost.
        """
        if _has_ended(self.driver):
            self.hold.lose()
        self.hold.check()

    async def load(self, user: str) -> Token | None:
        """Return the user's token, or None."""

        async def load() -> Token | None:
            vault = await self.vault()
            sealed = None if vault is None else await self._sealed(vault.row_of(user))
            return None if vault is None or sealed is None else vault.open(user, sealed)

        return await self._alone("read", load)

    async def save(self, user: str, token: Token) -> None:
        """Keep the user's token; what has the lock over its row commits it."""
        self.check_lock()

        async def save() -> None:
            if vault := await self.vault():
                await self.put(vault.row_of(user), vault.seal(user, token))

        await self._alone("written", save)

    async def delete(self, user: str) -> None:
        """Forget the user's token."""

        async def delete_row() -> None:
            if vault := await self.vault():
                await self._connection.execute(delete(_TABLE).where(_TABLE.c.name == vault.row_of(user)))

        await self._alone("written", delete_row)

    async def stay(self) -> bool:
        """Let the database know that this process goes on."""
        async with self._busy:
            await self._connection.execute(_STAY)
        return True

    async def stays(self) -> bool:
        """Do the same; return whether the lock is still held, which ends with the connection."""
        try:
            await self.stay()
        except (SQLAlchemyError, OSError):
            return False
        return True

    async def vault(self) -> Vault | None:
        """Return what writes rows. It is read each time, since the table may have been emptied since."""
        name_key = await self._sealed(_NAMES)
        return None if name_key is None else self._store.vault_of(name_key)

    async def is_locked(self, name: str) -> bool:
        """Wait for the lock of a row; return whether there is such a row."""
        row = select(_TABLE.c.name).where(_TABLE.c.name == name).with_for_update()
        return (await self._connection.execute(row)).first() is not None

    async def locked(self, name: str) -> bytes | None:
        """Return what is in a row, and lock it."""
        return await self._sealed(name) if await self.is_locked(name) else None

    async def make(self, name: str, sealed: bytes | None) -> None:
        """Make a row, unless it is there."""
        await self._connection.execute(_MAKE_ROW, {"name": name, "token": sealed})

    async def put(self, name: str, sealed: bytes) -> None:
        """Write into a row."""
        await self._connection.execute(update(_TABLE).where(_TABLE.c.name == name).values(token=sealed))

    async def _sealed(self, name: str) -> bytes | None:
        found = await self._connection.execute(select(_TABLE.c.token).where(_TABLE.c.name == name))
        return found.scalar()

    async def _alone(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        async with self._busy:
            return await _asked(what, work)


def _has_ended(driver: object) -> bool:
    """Return whether a driver knows that its connection has ended: asyncpg is asked, psycopg says so."""
    is_closed = getattr(driver, "is_closed", None)
    return bool(is_closed() if is_closed is not None else getattr(driver, "closed", False))


def _engine(url: str) -> AsyncEngine:
    """Return what connects, with a connection for each transaction.

    Raises:
        ConfigurationError: the URL cannot be understood, or its driver is not installed.
    """
    try:
        if url.startswith("postgres"):
            return _postgresql(Target.parse(url))
    except ModuleNotFoundError as error:
        problem = f'a token store in PostgreSQL needs {error.name}: pip install "healthmsg[postgresql]"'
    except (ConfigurationError, JournalError) as error:
        problem = str(error).replace("journal", "token store")
    except (ArgumentError, ValueError):  # with its own text, a password would be in it
        problem = "the URL of the token store's database cannot be understood"
    else:
        problem = _NO_OTHER
    raise ConfigurationError(problem)


def _postgresql(target: Target) -> AsyncEngine:
    from healthmsg.database.postgresql import arguments_of  # noqa: PLC0415 - SQLite does without asyncpg

    return create_async_engine(
        make_url(target.url or "").update_query_dict(place_of(target.options)),
        **ENGINE_OPTIONS,
        connect_args={"command_timeout": _LONGEST_STATEMENT, **arguments_of(target.options)},
    )


async def _asked(what: str, work: Callable[[], Awaitable[T]]) -> T:
    """Ask the database for something; of its errors say what they mean, without their own words."""
    try:
        return await work()
    except (SQLAlchemyError, OSError) as error:
        problem = TokenStoreError(f"The token store could not be {what}: {describe(error)}.")
    except TokenStoreError as error:
        # Without its frames, which hold what was decrypted.
        problem = error.with_traceback(None)
    raise problem
