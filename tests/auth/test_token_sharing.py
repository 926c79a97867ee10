"""Several managers and processes that keep one user's token fresh in one store."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from healthmsg import (
    Client,
    FileTokenStore,
    LockingTokenStore,
    MemoryTokenStore,
    OAuthApp,
    Token,
    TokenManager,
    TokenStore,
)
from healthmsg.auth import token as token_module
from healthmsg.errors import (
    BadRequestError,
    ConnectError,
    ReauthorizationRequiredError,
    TokenRequestError,
    TokenStoreError,
    UnauthorizedError,
)
from healthmsg.pipeline.request import Request, Response
from healthmsg.sandbox import Sandbox
from tests.auth.token_service import NOON, REFRESH_TOKEN, VALUE, Clock, TokenService, answer, app, expiring
from tests.machine import Machine

USER = "Jansen, J."
CALL = "POST oauth token"
REFUSED = BadRequestError(CALL, 400, server_code="invalid_grant")
LATER = NOON + timedelta(seconds=1)


@pytest.fixture(autouse=True)
async def nothing_reaches_the_event_loop() -> AsyncIterator[None]:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    yield
    gc.collect()
    assert not said
    assert not [task for task in asyncio.all_tasks() if "renewal" in task.get_name()]


def manager_of(token: Token | None = None, clock: Clock | None = None, **options: Any) -> TokenManager:
    clock = clock or Clock()
    return TokenManager(token or expiring(), app=app(clock=clock), user=USER, now=clock, **options)


class RowStore:
    """Keeps tokens as a program's own table does that its author gave no lock."""

    def __init__(self) -> None:
        self.rows: dict[str, Token] = {}
        self.fails_to = ""

    async def load(self, user: str) -> Token | None:
        await asyncio.sleep(0.001)
        if self.fails_to == "load":
            raise RuntimeError(f"{VALUE} {user}")
        return self.rows.get(user)

    async def save(self, user: str, token: Token) -> None:
        await asyncio.sleep(0.001)
        if self.fails_to == "save":
            raise RuntimeError(f"{VALUE} {user}")
        # Some databases keep whole seconds.
        self.rows[user] = evolve(token, created_at=token.created_at.replace(microsecond=0))

    async def delete(self, user: str) -> None:
        self.rows.pop(user, None)


class Transaction(RowStore):
    """What a `TransactionStore` gives under its lock: nothing is there for others before it is committed."""

    async def load(self, user: str) -> Token | None:
        return self.rows.get(user)


class TransactionStore(RowStore):
    """Locks within a transaction, as a database does."""

    def __init__(self) -> None:
        super().__init__()
        self.mutex = asyncio.Lock()
        self.locks = 0

    @asynccontextmanager
    async def lock(self, user: str) -> AsyncIterator[Transaction]:
        async with self.mutex:
            self.locks += 1
            transaction = Transaction()
            transaction.rows = dict(self.rows)
            yield transaction
            if self.fails_to == "commit":
                raise RuntimeError(f"{VALUE} {user}")
            self.rows = transaction.rows


# --- the service that takes a second use for theft


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(
        refresh_tokens=True, revoke_on_reuse=True, announce_expiry=True, sample_data=False
    ) as sandbox:
        yield sandbox


def app_of(sandbox: Sandbox) -> OAuthApp:
    return OAuthApp(sandbox.client_id, sandbox.client_secret, str(sandbox.redirect_uri), sandbox.environment)


def expired(refresh_token: str) -> Token:
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    return Token(
        "expired",
        created_at=hour_ago,
        expires_at=hour_ago + timedelta(minutes=5),
        refresh_token=refresh_token,
    )


@pytest.mark.parametrize("kind", ["memory", "file", "rows", "transactions"])
async def test_a_manager_per_request_renews_once_for_all(kind: str, sandbox: Sandbox, tmp_path: Path) -> None:
    stores: dict[str, TokenStore] = {
        "memory": MemoryTokenStore(),
        "rows": RowStore(),
        "transactions": TransactionStore(),
    }
    store = stores.get(kind) or FileTokenStore(tmp_path / "tokens.json")
    await store.save(USER, expired(sandbox.issue_token(refresh=True)))

    async def request(client: Client) -> None:
        await client.with_token(await TokenManager.load(store, USER, app=app_of(sandbox))).me.get()

    async with Client("none", environment=sandbox.environment) as client:
        await asyncio.gather(*(request(client) for _ in range(10)))
    assert [call.path for call in sandbox.calls].count("/oauth/token") == 1


async def test_managers_with_file_stores_of_their_own_renew_once_for_all(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "tokens.json"
    await FileTokenStore(path).save(USER, expired(sandbox.issue_token(refresh=True)))
    async with Client("none", environment=sandbox.environment) as client:
        managers = [
            await TokenManager.load(FileTokenStore(path), USER, app=app_of(sandbox)) for _ in range(5)
        ]
        await asyncio.gather(*(client.with_token(manager).me.get() for manager in managers))
        # Those that found the new token answer before they have left the lock.
        await asyncio.gather(*(manager._renewal for manager in managers if manager._renewal is not None))
    assert [call.path for call in sandbox.calls].count("/oauth/token") == 1
    assert {file.name for file in tmp_path.iterdir()} == {"tokens.json", "tokens.json.lock"}  # noqa: ASYNC240 - a small folder


PROCESS = """
import asyncio, sys
from healthmsg import Client, Environment, FileTokenStore, OAuthApp, TokenManager

async def main(path, url, secret, callback):
    environment = Environment("sandbox", f"{url}/v1", f"{url}/oauth/authorize", f"{url}/oauth/token")
    app = OAuthApp("healthmsg-sandbox", secret, callback, environment)
    manager = await TokenManager.load(FileTokenStore(path), "dr", app=app)
    async with Client(manager, environment=environment) as client:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for _ in range(3):
            await client.me.get()
            await manager.renew(manager.token, client._parts.token_call)
        await client.me.get()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_with_one_file_all_stay_signed_in(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    await FileTokenStore(path).save("dr", expired(sandbox.issue_token(refresh=True)))
    url = sandbox.environment.api_url.removesuffix("/v1")
    processes = [
        await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-c",
                PROCESS,
                str(path),
                url,
                sandbox.client_secret,
                str(sandbox.redirect_uri),
            ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [stderr.decode()[-300:] for _, stderr in outputs] == ["", "", ""]
    assert [process.returncode for process in processes] == [0, 0, 0]
    refusals = [call for call in sandbox.calls if call.path == "/oauth/token" and call.status != 200]
    assert not refusals


# --- the lock


HOLDER = """
import asyncio, sys
from healthmsg import FileTokenStore

async def main():
    async with FileTokenStore(sys.argv[1]).lock(sys.argv[2]):
        print("locked", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
async def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, str(path), USER), stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"locked\n"
    store = FileTokenStore(path)
    waiter = asyncio.create_task(enter(store))
    async with asyncio.timeout(5), store.lock("another user"):
        pass  # another user's token has a lock of its own
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), store.lock(USER):
            pass
    assert not waiter.done()
    os.kill(holder.pid, signal.SIGKILL)
    await holder.wait()
    async with asyncio.timeout(5):
        await waiter


async def enter(store: LockingTokenStore, seconds: float = 0.0) -> None:
    async with store.lock(USER):
        await asyncio.sleep(seconds)


async def test_a_waiter_that_is_cancelled_keeps_no_lock(tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path / "tokens.json")
    for n in range(20):
        async with store.lock(USER):
            waiter = asyncio.create_task(enter(store))
            await asyncio.sleep(0.0005 * n)
            waiter.cancel()
        with suppress(asyncio.CancelledError):
            await waiter
    for n in range(20):
        alone = asyncio.create_task(enter(store))
        await asyncio.sleep(0.0002 * n)
        alone.cancel()
        with suppress(asyncio.CancelledError):
            await alone
    async with asyncio.timeout(5), store.lock(USER):
        pass


async def test_a_lock_that_cannot_be_made_names_no_path(tmp_path: Path) -> None:
    with pytest.raises(TokenStoreError, match="locked: No such file") as caught:
        await enter(FileTokenStore(tmp_path / "missing" / "tokens.json"))
    assert "missing" not in str(caught.value)
    assert caught.value.__context__ is None


async def test_a_renewal_uses_the_stores_lock() -> None:
    store = TransactionStore()
    await store.save(USER, expiring())
    manager = manager_of(store=store)
    assert (await manager.renew(manager.token, TokenService(answer()))) is manager.token
    assert store.locks == 1
    assert store.rows[USER].value == VALUE
    assert manager.is_saved


@pytest.mark.looptime
async def test_a_lock_that_others_do_not_let_go_of_fails_the_renewal_and_sends_nothing() -> None:
    store = TransactionStore()
    manager, service = manager_of(store=store), TokenService(answer())
    async with store.mutex:
        with pytest.raises(TokenStoreError, match="does not finish"):
            await manager.renew(manager.token, service)
    assert not service.requests
    assert await manager.renew(manager.token, service)


@pytest.mark.looptime
async def test_closing_ends_the_wait_for_a_lock() -> None:
    store = TransactionStore()
    manager = manager_of(store=store)
    async with store.mutex:
        waiting = asyncio.create_task(manager.renew(manager.token, TokenService(answer())))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await manager.close()
        assert (await asyncio.gather(waiting, return_exceptions=True))[
            0
        ].__class__.__name__ == "ClientClosedError"


# --- reading again


class Rival(TokenService):
    """Refuses, since another process has used the refresh token, and has just stored what it got."""

    def __init__(self, store: MemoryTokenStore, theirs: Token, *answers: object) -> None:
        super().__init__(*answers)
        self.store = store
        self.theirs = theirs

    async def __call__(self, request: Request) -> Response:
        await self.store.save(USER, self.theirs)
        return await super().__call__(request)


@pytest.mark.parametrize("created_at", [LATER, NOON, NOON - timedelta(minutes=10)])
async def test_after_a_refusal_another_stored_token_is_taken(created_at: datetime) -> None:
    store = MemoryTokenStore()
    theirs = Token("theirs", created_at=created_at, refresh_token="rotated")
    manager, service = manager_of(store=store), Rival(store, theirs, REFUSED)
    assert await manager.renew(manager.token, service) is theirs
    assert manager.token is theirs
    assert len(service.requests) == 1


async def test_after_a_refusal_the_refresh_token_of_another_stored_token_is_used(clock: Clock) -> None:
    store = MemoryTokenStore()
    theirs = evolve(expiring(value="theirs"), refresh_token="rotated")
    manager, service = manager_of(clock=clock, store=store), Rival(store, theirs, REFUSED, answer())
    clock.advance(7200)
    assert (await manager.current(service)).value == VALUE
    assert service.form(1)["refresh_token"] == ["rotated"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_only_the_refusal_of_the_newest_token_asks_for_a_new_authorization() -> None:
    store = MemoryTokenStore()
    theirs = evolve(expiring(value="theirs"), refresh_token="rotated", expires_at=LATER)
    manager, service = manager_of(store=store, clock=Clock()), Rival(store, theirs, REFUSED)
    manager._now.time += timedelta(hours=2)  # type: ignore[attr-defined]
    with pytest.raises(ReauthorizationRequiredError):
        await manager.renew(manager.token, service)
    assert [service.form(n)["refresh_token"] for n in range(2)] == [[REFRESH_TOKEN], ["rotated"]]
    assert len(service.requests) == 2


@pytest.mark.parametrize("created_at", [NOON - timedelta(minutes=10), LATER])
async def test_a_token_that_was_stored_since_is_taken_whatever_the_clocks_say(created_at: datetime) -> None:
    """The clock of the other process, or of the whole machine, was set back by ten minutes."""
    store = MemoryTokenStore()
    await store.save(USER, expiring())
    manager = await TokenManager.load(store, USER, app=app(), now=Clock())
    theirs = Token("theirs", created_at=created_at)
    await store.save(USER, theirs)
    service = TokenService(REFUSED)
    assert await manager.renew(manager.token, service) is theirs
    assert not service.requests


async def test_an_expired_stored_token_is_used_even_when_its_first_renewal_fails(clock: Clock) -> None:
    store = MemoryTokenStore()
    await store.save(USER, expiring())
    manager = await TokenManager.load(store, USER, app=app(clock=clock), now=clock)
    await store.save(USER, evolve(expiring(value="theirs"), refresh_token="rotated"))
    clock.advance(7200)
    service = TokenService(ConnectError(CALL, "no connection"), answer())
    with pytest.raises(ConnectError):
        await manager.current(service)
    assert (await manager.current(service)).value == VALUE
    assert [service.form(n)["refresh_token"] for n in range(2)] == [["rotated"], ["rotated"]]


@pytest.mark.parametrize("kind", [RowStore, TransactionStore])
async def test_a_store_that_cannot_be_read_sends_no_refresh_token_out(kind: type[RowStore]) -> None:
    """Another process may have used it: to use it again could end the whole authorization."""
    store = kind()
    manager, service = manager_of(store=store), TokenService(answer())
    store.fails_to = "load"
    if kind is RowStore:
        with pytest.raises(TokenStoreError, match="RuntimeError") as caught:
            await manager.renew(manager.token, service)
        assert VALUE not in str(caught.value)
        assert not service.requests
    store.fails_to = ""
    assert await manager.renew(manager.token, service)


# --- refusals that are none


@pytest.mark.parametrize(
    "refusal",
    [
        BadRequestError(CALL, 400, server_code="temporarily_unavailable"),
        BadRequestError(CALL, 400, server_message="<html>blocked</html>"),
        UnauthorizedError(CALL, 401, server_message="<html>sign in to the proxy</html>"),
        {"error": "slow_down"},
        b"<html>",
    ],
)
async def test_another_refusal_lets_the_next_call_try_again(refusal: object) -> None:
    manager, service = manager_of(store=MemoryTokenStore()), TokenService(refusal, answer())
    with pytest.raises(TokenRequestError):
        await manager.renew(manager.token, service)
    renewed = await manager.renew(manager.token, service)
    assert renewed is not None
    assert renewed.value == VALUE


async def test_a_token_that_is_still_good_is_used_though_its_renewal_failed(clock: Clock) -> None:
    manager = TokenManager(expiring(100), app=app(clock=clock), now=clock)
    service = TokenService(UnauthorizedError(CALL, 401))
    clock.advance(80)
    for _ in range(3):
        assert await manager.current(service) is manager.token
    assert len(service.requests) == 1  # not for every call
    clock.advance(20)
    with pytest.raises(TokenRequestError):
        await manager.current(service)


async def test_a_rotated_refresh_token_beside_an_unusable_token_is_kept_and_used() -> None:
    store = MemoryTokenStore()
    service = TokenService(answer(access_token="", refresh_token="rotated"), answer())
    manager = manager_of(store=store)
    with pytest.raises(TokenRequestError, match="access_token"):
        await manager.renew(manager.token, service)
    stored = await store.load(USER)
    assert stored is not None
    assert stored.refresh_token == "rotated"
    assert await manager.renew(manager.token, service)
    assert service.form(1)["refresh_token"] == ["rotated"]


async def test_a_time_of_day_that_is_set_back_delays_no_renewal(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    token = Token("old", created_at=now, expires_at=now + timedelta(hours=1), refresh_token=REFRESH_TOKEN)
    manager = TokenManager(token, app=app())

    monkeypatch.setattr(token_module, "datetime", SetBack)
    machine.sleep(3600)
    assert (await manager.current(TokenService(answer()))).value == VALUE


class OfDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


class SetBack(metaclass=OfDatetime):
    """A time of day that was set back by ten minutes."""

    @staticmethod
    def now(tz: Any = None) -> datetime:
        return datetime.now(tz) - timedelta(minutes=10)


# --- what is not saved yet


@pytest.mark.looptime
@pytest.mark.parametrize("failure", ["save", "commit"])
async def test_what_could_not_be_saved_is_saved_as_soon_as_that_is_possible(failure: str) -> None:
    store = RowStore() if failure == "save" else TransactionStore()
    await store.save(USER, expiring())
    manager = manager_of(store=store)
    store.fails_to = failure
    renewed = await manager.renew(manager.token, TokenService(answer(refresh_token="rotated")))
    assert renewed is manager.token
    was_saved = manager.is_saved
    await asyncio.sleep(0.9)
    assert store.rows[USER].value == "old"
    store.fails_to = ""
    await asyncio.sleep(0.5)
    assert (was_saved, manager.is_saved) == (False, True)
    assert store.rows[USER].refresh_token == "rotated"
    await asyncio.sleep(0)


@pytest.mark.looptime
async def test_other_managers_use_what_is_not_saved_yet(clock: Clock) -> None:
    store = RowStore()
    await store.save(USER, expiring())
    first, second = manager_of(store=store, clock=clock), manager_of(store=store, clock=clock)
    store.fails_to = "save"
    service = TokenService(
        answer(access_token="t1", refresh_token="r1", expires_in=60), answer(refresh_token="r2")
    )
    await first.renew(first.token, service)
    assert await second.renew(second.token, service) is first.token
    third = await TokenManager.load(store, USER, app=app(clock=clock), now=clock)
    assert third.token is first.token
    assert len(service.requests) == 1
    # It has expired before it was saved, and while it was tried to.
    clock.advance(60)
    assert (await first.current(service)).refresh_token == "r2"
    assert service.form(1)["refresh_token"] == ["r1"]
    store.fails_to = ""
    await first.close()
    assert store.rows[USER].refresh_token == "r2"


@pytest.mark.looptime
async def test_a_new_authorization_is_not_overwritten_by_what_waits_to_be_saved() -> None:
    store = RowStore()
    await store.save(USER, expiring())
    manager = manager_of(store=store)
    store.fails_to = "save"
    await manager.renew(manager.token, TokenService(answer(refresh_token="rotated")))
    store.rows[USER] = theirs = Token("of-a-new-authorization", created_at=NOON - timedelta(days=1))
    store.fails_to = ""
    await asyncio.sleep(2)
    assert store.rows[USER] is theirs
    assert manager.token is theirs
    assert manager.is_saved


@pytest.mark.looptime
async def test_others_wait_while_a_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileTokenStore(tmp_path / "tokens.json")
    await store.save(USER, expiring())
    manager = manager_of(store=store)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", _full)
        renewed = await manager.renew(manager.token, TokenService(answer(refresh_token="rotated")))
        assert not manager.is_saved
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30), FileTokenStore(tmp_path / "tokens.json").lock(USER):
                pass
    async with asyncio.timeout(100), FileTokenStore(tmp_path / "tokens.json").lock(USER):
        assert await store.load(USER) == renewed
    await manager.close()


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")
