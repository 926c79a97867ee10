"""The stores that several machines share, in each of their databases."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import create_async_engine

from healthmsg import LockingTokenStore, RedisTokenStore, SQLTokenStore, Token, TokenCipher, TokenManager
from healthmsg.auth import hold
from healthmsg.errors import (
    ConfigurationError,
    InvalidInputError,
    ReauthorizationRequiredError,
    TokenStoreError,
)
from tests.auth.token_service import (
    NOON,
    REFRESH_TOKEN,
    VALUE,
    Clock,
    TokenService,
    answer,
    app,
    assert_tells_no_secret,
    expiring,
)
from tests.journal_databases import new_database
from tests.redis_server import RedisServer
from tests.transport.test_frames import found

USER = "Jansen, J. é 🙂"
KEY = TokenCipher.new_key()
Store = RedisTokenStore | SQLTokenStore
Opening = Callable[..., Store]


@pytest.fixture(params=["redis", pytest.param("postgresql", marks=pytest.mark.slow)])
async def opening(request: pytest.FixtureRequest) -> AsyncIterator[Opening]:
    """Return what opens another store in the same place."""
    async with AsyncExitStack() as stack:
        if request.param == "redis":
            url, prefix = request.getfixturevalue("redis_url"), request.getfixturevalue("redis_prefix")

            def open_redis(keys: list[str] | str = KEY, life: float = 30.0) -> RedisTokenStore:
                store = RedisTokenStore(url, TokenCipher(keys), prefix=prefix, lock_life=life)
                stack.push_async_callback(store.close)
                return store

            yield open_redis
            return
        url = await stack.enter_async_context(new_database(request.getfixturevalue("postgresql")))
        yield lambda keys=KEY, life=30.0: SQLTokenStore(url, TokenCipher(keys), lock_life=life)


async def everything_in(store: Store) -> bytes:
    """Return all that is kept."""
    if isinstance(store, RedisTokenStore):
        keys = [key async for key in store._redis.scan_iter(f"{store._prefix}*")]
        hashes = [await store._redis.hgetall(key) for key in keys if key.endswith(b"}")]
        return repr((keys, hashes)).encode()
    async with store._engine.connect() as connection:
        rows = await connection.exec_driver_sql("SELECT * FROM healthmsg_tokens")
        return repr(rows.all()).encode()


async def test_what_was_saved_is_loaded_by_another_store(opening: Opening) -> None:
    await opening().save(USER, expiring())
    assert await opening().load(USER) == expiring()


async def test_users_are_kept_apart_and_forgotten_one_by_one(opening: Opening) -> None:
    store = opening()
    assert await store.load(USER) is None
    await store.delete(USER)
    await store.save(USER, Token("one", created_at=NOON))
    await store.save("other", Token("two"))
    await store.save(USER, Token("three", created_at=NOON))
    await store.delete("other")
    assert await store.load(USER) == Token("three", created_at=NOON)
    assert await store.load("other") is None


async def test_what_is_kept_says_neither_who_nor_what(opening: Opening) -> None:
    store = opening()
    async with store.lock(USER) as locked:
        await locked.save(USER, expiring(value=VALUE))
    kept = await everything_in(store)
    assert kept
    assert not [word for word in (VALUE, REFRESH_TOKEN, "Jansen", "refresh") if word.encode() in kept]


async def test_all_is_encrypted_again_with_a_new_key(opening: Opening) -> None:
    new = TokenCipher.new_key()
    await opening().save(USER, expiring())
    await opening([KEY, new]).save("other", expiring())
    assert await opening([new, KEY]).rotate() == 2
    assert await opening(new).load(USER) == await opening(new).load("other") == expiring()
    with pytest.raises(TokenStoreError, match="decrypted") as caught:
        await opening().load(USER)
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize("user", ["", "\ud800", None])
async def test_a_user_that_cannot_be_written_is_refused(opening: Opening, user: str) -> None:
    store = opening()
    for call in (store.load(user), store.save(user, expiring()), store.delete(user)):
        with pytest.raises(InvalidInputError):
            await call


async def enter(store: LockingTokenStore, user: str = USER) -> None:
    async with store.lock(user):
        pass


async def test_one_at_a_time_has_a_users_lock(opening: Opening) -> None:
    inside = most = 0

    async def renew(store: Store) -> None:
        nonlocal inside, most
        async with store.lock(USER) as locked:
            inside += 1
            most = max(most, inside)
            found = await locked.load(USER)
            await asyncio.sleep(0.002)
            await locked.save(USER, Token(f"t{1 if found is None else int(found.value[1:]) + 1}"))
            inside -= 1

    await asyncio.gather(*(renew(opening()) for _ in range(8)))
    kept = await opening().load(USER)
    assert kept is not None
    assert (most, kept.value) == (1, "t8")


async def test_a_waiter_that_is_cancelled_keeps_no_lock(opening: Opening) -> None:
    store = opening()
    await store.save(USER, expiring())
    for n in range(8):
        async with store.lock(USER):
            waiter = asyncio.create_task(enter(opening()))
            await asyncio.sleep(0.002 * n)
            waiter.cancel()
            await asyncio.wait([waiter])
        alone = asyncio.create_task(enter(opening()))
        await asyncio.sleep(0.001 * n)
        alone.cancel()
        await asyncio.wait([alone])
    async with asyncio.timeout(5):
        await enter(opening())


async def test_a_lock_is_kept_for_longer_than_its_life(opening: Opening) -> None:
    async with opening(life=0.4).lock(USER) as locked:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await enter(opening(life=0.4))
        await locked.save(USER, expiring())
    assert await opening().load(USER) == expiring()


@asynccontextmanager
async def standing_still(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Let this process say nothing to the store, as if it stood still; its clock goes on."""
    extend = hold.Hold._keep

    async def keep_silent(self: hold.Hold, _: object) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(hold.Hold, "_keep", keep_silent)
        yield
    assert hold.Hold._keep is extend


async def test_a_process_that_stood_still_overwrites_no_newer_token(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opening(life=0.3)
    await store.save(USER, expiring())
    newer = Token("newer", created_at=NOON)
    with pytest.raises(TokenStoreError) as caught:  # noqa: PT012 - the lock's end may raise, too
        async with standing_still(monkeypatch), store.lock(USER) as locked:
            async with opening().lock(USER) as of_other:
                await of_other.save(USER, newer)
            with pytest.raises(TokenStoreError, match="lost"):
                locked.check_lock()
            await locked.save(USER, Token("older"))
    assert_tells_no_secret(caught.value)
    assert await opening().load(USER) == newer


async def test_a_renewal_without_the_lock_sends_nothing(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opening(life=0.3)
    await store.save(USER, expiring())
    manager = await TokenManager.load(store, USER, app=app(), now=Clock())
    sent = []

    async def send(request: object) -> object:
        """Wait for the limit until another one has renewed."""
        async with opening().lock(USER) as of_other:
            await of_other.save(USER, expiring(value="theirs"))
        request.before_send()  # type: ignore[attr-defined]
        sent.append(request)
        return request

    async with standing_still(monkeypatch):
        with pytest.raises(TokenStoreError, match="nothing was sent"):
            await manager.renew(manager.token, send)  # type: ignore[arg-type]
    assert not sent
    renewed = await manager.renew(manager.token, TokenService(answer()))
    assert renewed is not None
    assert renewed.value == "theirs"


async def test_a_manager_renews_and_another_one_takes_it(opening: Opening) -> None:
    await opening().save(USER, expiring())
    first = await TokenManager.load(opening(), USER, app=app(), now=Clock())
    second = await TokenManager.load(opening(), USER, app=app(), now=Clock())
    service = TokenService(answer(refresh_token="rotated"))
    await first.renew(first.token, service)
    assert first.is_saved
    assert await second.renew(second.token, service) == first.token
    assert len(service.requests) == 1


async def test_a_token_that_was_moved_to_another_user_is_refused_and_shown_nowhere(opening: Opening) -> None:
    store = opening()
    await store.save(USER, expiring(value=VALUE))
    await store.save("other", expiring(value=VALUE))
    if isinstance(store, RedisTokenStore):
        vault = await store._vault()
        one, other = (store._key(vault.row_of(user)) for user in (USER, "other"))
        await store._redis.copy(one, other, replace=True)
    else:
        async with store._engine.begin() as connection:
            row = "(SELECT token FROM healthmsg_tokens WHERE name <> '' LIMIT 1)"
            await connection.exec_driver_sql(f"UPDATE healthmsg_tokens SET token = {row} WHERE name <> ''")  # noqa: S608 - no input
    errors = [
        error
        for error in await asyncio.gather(
            *(store.load(user) for user in (USER, "other")), return_exceptions=True
        )
        if isinstance(error, TokenStoreError)
    ]
    assert len(errors) == 1
    assert_tells_no_secret(errors[0])
    assert found(errors[0], (VALUE, REFRESH_TOKEN)) == set()


# --- Redis


async def test_a_sign_in_during_a_renewal_is_not_overwritten_by_it(redis_url: str, redis_prefix: str) -> None:
    async with RedisTokenStore(redis_url, TokenCipher(KEY), prefix=redis_prefix) as store:
        await store.save(USER, expiring())
        async with store.lock(USER) as locked:
            await store.save(USER, Token("of a new sign-in".replace(" ", "-"), created_at=NOON))
            with pytest.raises(TokenStoreError, match="lost"):
                await locked.save(USER, expiring())
        found = await store.load(USER)
        assert found is not None
        assert found.value == "of-a-new-sign-in"


async def test_a_lock_in_redis_leaves_nothing_behind(redis_url: str, redis_prefix: str) -> None:
    async with RedisTokenStore(redis_url, TokenCipher(KEY), prefix=redis_prefix) as store:
        await enter(store)
        keys = [key async for key in store._redis.scan_iter(f"{redis_prefix}*")]
        assert keys == [f"{redis_prefix}:names".encode()]


async def test_a_redis_of_ones_own_stays_open_and_may_decode(redis_url: str, redis_prefix: str) -> None:
    own = Redis.from_url(redis_url, decode_responses=True)
    async with RedisTokenStore(own, TokenCipher(KEY), prefix=redis_prefix) as store:
        await store.save(USER, expiring())
        assert await store.load(USER) == expiring()
        assert await store.rotate() == 1
    assert await own.ping()
    await own.aclose()


async def test_a_redis_that_lost_its_memory_begins_again(own_redis: RedisServer) -> None:
    async with RedisTokenStore(own_redis.url, TokenCipher(KEY)) as store:
        await store.save(USER, expiring())
        async with store.lock(USER) as locked:
            own_redis.stop()
            with pytest.raises(TokenStoreError, match="read"):
                await locked.load(USER)
            own_redis.start()
            with pytest.raises(TokenStoreError, match="lost"):
                await locked.save(USER, expiring())
        assert await store.load(USER) is None
        with pytest.raises(ReauthorizationRequiredError):
            await TokenManager.load(store, USER)
        await store.save(USER, expiring())
        assert await store.load(USER) == expiring()


@pytest.mark.parametrize("url", ["", "redis", "http://host", "redis://host:s3cr3t-value", "unix:/x"])
def test_a_url_that_is_none_of_redis_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis://") as caught:
        RedisTokenStore(url, TokenCipher(KEY))
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "x.db", "sqlite+aiosqlite:///x.db", "postgresql://h/d?x=1"],
)
def test_a_database_that_cannot_keep_tokens_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="token store"):
        SQLTokenStore(url, TokenCipher(KEY))


@pytest.mark.parametrize("life", [0, -1, float("inf"), "x"])
def test_a_life_that_cannot_be_one_is_refused(life: float) -> None:
    with pytest.raises(ConfigurationError, match="lock_life"):
        RedisTokenStore("redis://h", TokenCipher(KEY), lock_life=life)


async def test_a_server_that_is_not_there_is_an_error_without_its_password() -> None:
    stores: list[Store] = [
        RedisTokenStore("redis://u:s3cr3t-value@127.0.0.1:1", TokenCipher(KEY)),
        SQLTokenStore("postgresql://u:s3cr3t-value@127.0.0.1:1/d", TokenCipher(KEY)),
    ]
    for store in stores:
        for call in (store.load(USER), store.save(USER, expiring()), enter(store)):
            with pytest.raises(TokenStoreError) as caught:
                await call
            assert_tells_no_secret(caught.value)
        assert "s3cr3t" not in repr(store)


async def test_an_engine_of_ones_own_is_used(database: str) -> None:
    engine = create_async_engine(database)
    store = SQLTokenStore(engine, TokenCipher(KEY))
    await store.save(USER, expiring())
    await enter(store)
    assert await store.load(USER) == expiring()
    await engine.dispose()


@pytest.mark.parametrize("notices", [True, False], ids=["by the driver", "by the next question"])
async def test_a_lock_ends_with_its_connection(
    database: str, monkeypatch: pytest.MonkeyPatch, notices: bool
) -> None:
    """The database was started again: another process has the lock at once, long before its life is over."""
    store = SQLTokenStore(database, TokenCipher(KEY), lock_life=30.0 if notices else 0.9)
    await store.save(USER, expiring())
    if not notices:
        monkeypatch.setattr("healthmsg.auth.sql_store._has_ended", lambda _: False)
    with pytest.raises(TokenStoreError) as caught:  # noqa: PT012 - leaving it fails, too
        async with store.lock(USER) as locked:
            locked.check_lock()
            began = asyncio.get_running_loop().time()
            async with store._engine.begin() as connection:
                await connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )
            await enter(SQLTokenStore(database, TokenCipher(KEY)))
            with pytest.raises(TokenStoreError, match="lost"):  # noqa: PT012 - it is asked until then
                while True:
                    locked.check_lock()
                    await asyncio.sleep(0.005)
            assert asyncio.get_running_loop().time() - began < 0.8
    assert_tells_no_secret(caught.value)
