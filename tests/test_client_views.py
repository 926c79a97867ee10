"""One client, many users."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TraceConfig

from healthmsg import (
    CallRecord,
    Client,
    ConfigurationError,
    Environment,
    MemoryTokenStore,
    OAuthApp,
    Outcome,
    Outgoing,
    QuotaExceededError,
    RateLimitedError,
    Retries,
    Token,
    TokenManager,
    UnauthorizedError,
)
from healthmsg.errors import ClientClosedError, WrongEventLoopError
from healthmsg.quota import Quota
from healthmsg.sandbox import AnswerStatus, Delay, Sandbox
from healthmsg.sandbox import Quota as ServedQuota
from tests.caller import first_call

HERE = Environment("here", "http://127.0.0.1:1")


def new_user(sandbox: Sandbox, name: str = "Anna") -> tuple[str, str]:
    """Return another user's id and token."""
    user = sandbox.add_user(name, "Bakker")
    return user, sandbox.issue_token(user)


def app_of(sandbox: Sandbox) -> OAuthApp:
    return OAuthApp(
        sandbox.client_id, sandbox.client_secret, "http://localhost:8765/callback", sandbox.environment
    )


def stale(sandbox: Sandbox, store: MemoryTokenStore) -> TokenManager:
    """Return a manager whose first call renews the token, and saves it for the user `anna`."""
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    refresh_token = sandbox.issue_token(refresh=True)
    token = Token("stale", created_at=long_ago, expires_at=long_ago, refresh_token=refresh_token)
    return TokenManager(token, app=app_of(sandbox), store=store, user="anna")


# --- whose calls they are


async def test_each_view_is_its_own_user(client: Client, sandbox: Sandbox) -> None:
    users = [new_user(sandbox, name) for name in ("Anna", "Bert", "Cor")]
    views = [client.with_token(token) for _, token in users]

    people = await asyncio.gather(*(view.me.get() for view in [client, *views] * 5))

    assert [person.id for person in people] == [sandbox.user_id, *(user for user, _ in users)] * 5


@pytest.mark.parametrize("make", [str, Token, lambda value: TokenManager(Token(value))])
async def test_a_views_token_comes_as_text_as_token_or_with_a_manager(
    client: Client, sandbox: Sandbox, make: Callable[[str], Any]
) -> None:
    user, token = new_user(sandbox)

    assert (await client.with_token(make(token)).me.get()).id == user


@pytest.mark.parametrize("token", [None, "", 7, b"token", "with space"])
def test_a_views_token_that_cannot_be_one_is_refused(token: Any) -> None:
    with pytest.raises(ConfigurationError, match="token"):
        Client("t", environment=HERE).with_token(token)


async def test_a_view_of_a_view_is_a_view(client: Client, sandbox: Sandbox) -> None:
    user, token = new_user(sandbox)
    view = client.with_token("nobody").with_token(token)

    assert isinstance(view, Client)
    assert (await view.me.get()).id == user
    await view.close()
    assert (await client.me.get()).id == sandbox.user_id


async def test_a_token_that_is_refused_harms_no_other_user(client: Client, sandbox: Sandbox) -> None:
    user, token = new_user(sandbox)
    good, bad = client.with_token(token), client.with_token("revoked")

    results = await asyncio.gather(
        *(view.me.get() for view in (bad, good, client, bad, good, client)), return_exceptions=True
    )

    assert [isinstance(result, UnauthorizedError) for result in results] == [True, False, False] * 2
    assert (await good.me.get()).id == user


async def test_neither_token_nor_cookie_of_one_user_goes_with_anothers_calls(
    client: Client, sandbox: Sandbox
) -> None:
    user, token = new_user(sandbox)
    view = client.with_token(token)
    cookie = AnswerStatus(200, b'{"id": "u1"}', {"Set-Cookie": "whose=anna; Path=/"})
    sandbox.faults.add(kind=cookie, path_contains="me")

    await view.me.get()
    await client.me.get()
    await view.me.get()

    assert [(call.user_id, call.has_cookie) for call in sandbox.calls] == [
        (user, False),
        (sandbox.user_id, False),
        (user, False),
    ]


async def test_the_cookie_of_one_users_download_goes_with_that_download_alone(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    view = client.with_token(sandbox.issue_token())
    chat = view.conversations(sandbox.add_conversation())
    sent = await chat.upload(__file__)
    message = await chat.message(sent.id)
    await chat.download(message.attachments[0], to=tmp_path)

    assert sandbox.calls[-1].has_cookie
    for user in (client, view):
        await user.me.get()
        assert not sandbox.calls[-1].has_cookie


# --- what they share


async def test_all_views_use_one_pool(sandbox: Sandbox) -> None:
    made: list[object] = []
    tracing = TraceConfig()

    async def note(*reported: object) -> None:
        made.append(reported)

    tracing.on_connection_create_end.append(note)
    async with (
        ClientSession(trace_configs=[tracing]) as session,
        Client("t", environment=sandbox.environment, session=session) as client,
    ):
        for _ in range(10):
            await client.with_token(sandbox.issue_token()).me.get()

    assert len(made) == 1


@pytest.mark.looptime(idle_step=0.1, idle_timeout=3)
async def test_all_views_share_one_limit(client: Client, sandbox: Sandbox, ticking_clock: None) -> None:
    views = [client.with_token(new_user(sandbox)[1]) for _ in range(2)]
    started = asyncio.get_running_loop().time()

    await asyncio.gather(*(view.me.get() for _ in range(20) for view in views))

    assert sandbox.rejected == 0
    assert len(sandbox.calls) == 40
    assert sandbox.most_calls_in_any_second() <= 30
    assert 1 <= asyncio.get_running_loop().time() - started < 3


async def test_a_view_has_the_clients_options(sandbox: Sandbox) -> None:
    records: list[CallRecord] = []
    sandbox.faults.add(kind=AnswerStatus(503), path_contains="me")
    async with Client(
        "t", environment=sandbox.environment, retries=Retries.none(), on_call=records.append
    ) as client:
        view = client.with_token(sandbox.issue_token())
        with pytest.raises(Exception, match="503"):
            await view.me.get()
        await view.me.get()

        assert view.environment is client.environment
    assert [(record.status, record.attempt) for record in records] == [(503, 1), (200, 1)]


async def test_the_apis_version_is_known_to_all_views_at_once(client: Client, sandbox: Sandbox) -> None:
    view = client.with_token(sandbox.issue_token())
    assert client.api_version is None

    await view.me.get()

    assert client.api_version == view.api_version == "1.0"


# --- quotas


async def test_each_user_has_a_quota() -> None:
    async with Sandbox(quota=ServedQuota(limit=5, interval=2, time_unit="month")) as sandbox:
        _, token = new_user(sandbox)
        async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
            view = client.with_token(token)
            before = client.quota
            await client.me.get()
            await client.me.get()
            await view.me.get()

            assert before is None
            assert client.with_token(token).quota is None
            assert client.quota is not None
            reset = client.quota.reset
            assert reset is not None
            assert reset > datetime.now(UTC)
            assert client.quota == Quota(limit=5, used=2, interval=2, unit="month", reset=reset)
            assert view.quota == Quota(limit=5, used=1, interval=2, unit="month", reset=reset)


async def test_an_error_tells_the_quota_too(client: Client, sandbox: Sandbox) -> None:
    with pytest.raises(Exception, match="404"):
        await client.users.get("nobody")

    assert client.quota is not None
    assert client.quota.used == 1


async def test_a_429_tells_the_quota(sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=AnswerStatus(429), path_contains="me")
    token = sandbox.issue_token()
    async with Client(token, environment=sandbox.environment, retries=Retries.none()) as client:
        with pytest.raises(RateLimitedError) as caught:
            await client.me.get()

        assert caught.value.quota is not None
        assert caught.value.quota == client.quota


@pytest.mark.parametrize("retry_after", [True, False])
async def test_a_quota_that_is_used_up_holds_back_its_user_alone(*, retry_after: bool) -> None:
    quota = ServedQuota(limit=2, time_unit="month")
    async with Sandbox(quota=quota, retry_after=retry_after) as sandbox:
        user, token = new_user(sandbox)
        async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
            view = client.with_token(token)
            await client.me.get()
            await client.me.get()  # the answer says that this was the last
            with pytest.raises(QuotaExceededError) as caught:
                await client.me.get()

            assert caught.value.quota == client.quota
            assert caught.value.outcome is Outcome.NOT_SENT
            assert (await view.me.get()).id == user
            assert len(sandbox.calls) == 3
            with pytest.raises(QuotaExceededError):  # a view of one's own knows nothing yet
                await client.with_token(sandbox.issue_token()).me.get()
            assert sandbox.rejected == 1


async def test_a_view_knows_the_quota_that_another_of_the_same_token_got() -> None:
    async with Sandbox(quota=ServedQuota(limit=1, time_unit="month")) as sandbox:
        _, token = new_user(sandbox)
        async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
            await client.with_token(token).me.get()
            with pytest.raises(QuotaExceededError) as caught:
                await client.with_token(token).me.get()
            assert caught.value.quota is not None
            assert caught.value.quota.remaining == 0
            assert len(sandbox.calls) == 1
            await client.me.get()


# --- how long they live


async def test_closing_a_view_closes_nothing(client: Client, sandbox: Sandbox) -> None:
    async with client.with_token(sandbox.issue_token()) as view:
        await view.me.get()
    await view.close()

    assert (await view.me.get()).id == sandbox.user_id
    assert (await client.me.get()).id == sandbox.user_id


async def test_a_view_ends_with_its_client(client: Client, sandbox: Sandbox) -> None:
    view = client.with_token(sandbox.issue_token())
    await view.me.get()
    await client.close()

    with pytest.raises(ClientClosedError):
        await view.me.get()
    with pytest.raises(ClientClosedError):
        async with view:
            pass
    with pytest.raises(ClientClosedError):
        await client.with_token(sandbox.issue_token()).me.get()
    with pytest.raises(ClientClosedError):
        async for _ in view.conversations.list():
            pass
    await view.close()


def test_a_view_in_another_event_loop_says_so() -> None:
    client = Client("t", environment=HERE, retries=Retries.none())
    view = client.with_token("other")

    async def first() -> None:
        with pytest.raises(Exception, match="refused the connection"):
            await view.me.get()

    async def second() -> None:
        with pytest.raises(WrongEventLoopError):
            await client.me.get()

    with asyncio.Runner() as one, asyncio.Runner() as other:
        one.run(first())
        other.run(second())
        one.run(client.close())


async def test_lists_and_bulk_runs_of_a_view_end_with_the_client(
    sandbox: Sandbox, nothing_is_left_behind: None
) -> None:
    chat = f"conversations/{sandbox.add_conversation()}"
    async with Client("t", environment=sandbox.environment) as client:
        view = client.with_token(sandbox.issue_token())
        async for _ in view.conversations.list():
            break
        sandbox.faults.add(kind=Delay(0.05), method="POST", times=None)
        run = view.send_many([Outgoing(chat, "Hallo")])
        run.start()
        while not any(call.method == "POST" for call in sandbox.calls):  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0.001)

    assert [result.outcome async for result in run] == [Outcome.DELIVERED]


async def test_one_manager_serves_two_views_and_renews_once() -> None:
    async with Sandbox(refresh_tokens=True) as sandbox:
        tokens = stale(sandbox, MemoryTokenStore())
        async with Client("t", environment=sandbox.environment) as client:
            people = await asyncio.gather(*(client.with_token(tokens).me.get() for _ in range(2)))

        assert {person.id for person in people} == {sandbox.user_id}
        assert [call.template for call in sandbox.calls].count("oauth/token") == 1


async def cancelled_while_renewing(client: Client, sandbox: Sandbox, tokens: TokenManager) -> None:
    """Make a call through a view, and give it up when the renewal has reached the service."""
    call = asyncio.create_task(client.with_token(tokens).me.get())
    await first_call(sandbox)
    call.cancel()
    await asyncio.wait([call])


async def test_a_renewal_ends_before_the_client_is_closed_though_its_view_is_gone(
    nothing_is_left_behind: None,
) -> None:
    async with Sandbox(refresh_tokens=True) as sandbox:
        sandbox.faults.add(kind=Delay(0.05, after=True), template="oauth/token")
        store = MemoryTokenStore()
        async with Client("t", environment=sandbox.environment) as client:
            await cancelled_while_renewing(client, sandbox, stale(sandbox, store))
            gc.collect()

        saved = await store.load("anna")
        assert saved is not None
        assert saved.value != "stale"


async def test_a_renewal_that_never_ends_is_cut_off_when_the_client_is_closed(
    nothing_is_left_behind: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healthmsg.auth.manager._CLOSING_GRACE", 0.01)
    async with Sandbox(refresh_tokens=True) as sandbox:
        sandbox.faults.add(kind=Delay(60), template="oauth/token")
        async with Client("t", environment=sandbox.environment) as client:
            await cancelled_while_renewing(client, sandbox, stale(sandbox, MemoryTokenStore()))


async def test_a_view_without_a_reference_is_forgotten(client: Client, sandbox: Sandbox) -> None:
    tokens = TokenManager(Token(sandbox.issue_token()))
    view = client.with_token(tokens)
    await view.me.get()
    left_view, left_tokens = weakref.ref(view), weakref.ref(tokens)

    del view, tokens
    gc.collect()

    assert left_view() is None
    assert left_tokens() is None
    assert len(client._parts.shared._managers) == 1


def test_a_client_and_its_views_show_no_token() -> None:
    client = Client("t0ken-canary", environment=HERE)
    view = client.with_token("t0ken-canary")

    assert repr(client) == repr(view) == "<Client environment='here'>"


def test_a_client_that_was_refused_can_be_shown() -> None:
    assert repr(Client.__new__(Client)) == "<Client that was not made>"
