"""Processes that renew one user's token at once, on a service that revokes the authorization on reuse."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from healthmsg import RedisTokenStore, SQLTokenStore, Token, TokenCipher
from healthmsg.sandbox import Sandbox

USER = "dr"
KEY = TokenCipher.new_key()
WORKER = """
import asyncio, sys
from healthmsg import Client, Environment, OAuthApp, RedisTokenStore, SQLTokenStore, TokenCipher, TokenManager

async def main(store_url, key, prefix, life, url, secret, callback):
    cipher = TokenCipher(key)
    if store_url.startswith("postgresql"):
        store = SQLTokenStore(store_url, cipher, lock_life=float(life))
    else:
        store = RedisTokenStore(store_url, cipher, prefix=prefix, lock_life=float(life))
    environment = Environment("sandbox", f"{url}/v1", f"{url}/oauth/authorize", f"{url}/oauth/token")
    app = OAuthApp("healthmsg-sandbox", secret, callback, environment)
    manager = await TokenManager.load(store, "dr", app=app)
    async with Client(manager, environment=environment) as client:
        send = client._parts.token_call
        print("ready", flush=True)
        while order := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if order == "hold":
                async with store.lock("dr"):
                    print("held", flush=True)
                    await asyncio.sleep(60)
            try:
                await manager.renew(manager.token, send)
                await manager.close()
                print("renewed", manager.token.value, flush=True)
            except Exception as error:
                print(type(error).__name__, error, flush=True)
    if hasattr(store, "close"):
        await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(
        refresh_tokens=True, revoke_on_reuse=True, announce_expiry=True, sample_data=False
    ) as sandbox:
        yield sandbox


@pytest.fixture(params=["redis", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("redis_url" if request.param == "redis" else "database")
    return url


@asynccontextmanager
async def workers(
    count: int, sandbox: Sandbox, store_url: str, prefix: str, life: float = 30
) -> AsyncIterator[list[Process]]:
    """Start so many, which have loaded one token that was stored before."""
    token = Token(
        "first",
        created_at=datetime.now(UTC) - timedelta(hours=1),
        expires_at=datetime.now(UTC) + timedelta(days=1),
        refresh_token=sandbox.issue_token(refresh=True),
    )
    if store_url.startswith("postgresql"):
        await SQLTokenStore(store_url, TokenCipher(KEY)).save(USER, token)
    else:
        async with RedisTokenStore(store_url, TokenCipher(KEY), prefix=prefix) as store:
            await store.save(USER, token)
    url = sandbox.environment.api_url.removesuffix("/v1")
    arguments = (store_url, KEY, prefix, str(life), url, sandbox.client_secret, str(sandbox.redirect_uri))
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, *arguments, stdin=PIPE, stdout=PIPE
        )
        for _ in range(count)
    ]
    try:
        for process in started:
            assert await line_of(process) == "ready"
        yield started
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*(process.wait() for process in started))


async def line_of(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().strip()


def order(process: Process, what: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{what}\n".encode())


async def renew_at_once(processes: list[Process]) -> set[str]:
    """Let all of them renew at once, and return what they say: one line, if they have the same token."""
    for process in processes:
        order(process, "renew")
    return set(await asyncio.gather(*(line_of(process) for process in processes)))


def token_calls(sandbox: Sandbox) -> list[int | None]:
    return [call.status for call in sandbox.calls if call.path == "/oauth/token"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "rounds"), [(3, 4), pytest.param(8, 200, marks=pytest.mark.thorough)], ids=["few", "many"]
)
async def test_each_round_of_renewals_costs_one_token_call(
    count: int, rounds: int, sandbox: Sandbox, store_url: str, redis_prefix: str
) -> None:
    async with workers(count, sandbox, store_url, redis_prefix) as processes:
        for n in range(1, rounds + 1):
            said = await renew_at_once(processes)
            assert len(said) == 1, said
            assert said.pop().startswith("renewed")
            assert len(token_calls(sandbox)) == n
    assert set(token_calls(sandbox)) == {200}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("how", ["killed", pytest.param("frozen", marks=pytest.mark.thorough)])
async def test_a_process_that_holds_the_lock_and_does_not_go_on_stops_no_other(
    how: str, sandbox: Sandbox, store_url: str, redis_prefix: str
) -> None:
    async with workers(3, sandbox, store_url, redis_prefix, life=1) as (holder, *others):
        order(holder, "hold")
        assert await line_of(holder) == "held"
        os.kill(holder.pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        said = await renew_at_once(others)
        assert len(said) == 1, said
        assert said.pop().startswith("renewed")
        assert token_calls(sandbox) == [200]


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGSTOP")
async def test_a_process_that_was_frozen_at_any_moment_of_a_renewal_uses_no_token_twice(
    sandbox: Sandbox, store_url: str, redis_prefix: str
) -> None:
    async with workers(3, sandbox, store_url, redis_prefix, life=1) as (frozen, *others):
        for n in range(12):
            before = len(token_calls(sandbox))
            order(frozen, "renew")
            await asyncio.sleep(0.0007 * n)
            if len(token_calls(sandbox)) > before:
                # A call whose answer is not saved yet is what no lock that ends by time can make up for.
                assert (await line_of(frozen)).startswith("renewed")
                continue
            os.kill(frozen.pid, signal.SIGSTOP)
            await asyncio.sleep(0.05)
            if len(token_calls(sandbox)) > before:
                os.kill(frozen.pid, signal.SIGCONT)
                assert (await line_of(frozen)).startswith("renewed")
                continue
            said = await renew_at_once(others)
            assert said.pop().startswith("renewed"), said
            os.kill(frozen.pid, signal.SIGCONT)
            assert not (await line_of(frozen)).startswith("Reauthorization")
    assert set(token_calls(sandbox)) == {200}
