"""A view whose calls may take other times, or are tried otherwise."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TraceConfig

from healthmsg import (
    CallTimeoutError,
    Client,
    ConfigurationError,
    DeliveryUnknownError,
    Environment,
    Limiter,
    OAuthApp,
    Outcome,
    Outgoing,
    RateLimit,
    Response,
    Retries,
    Timeout,
    Token,
    TokenManager,
)
from healthmsg.errors import ClientClosedError, InvalidResponseError, ServiceUnavailableError
from healthmsg.sandbox import AnswerStatus, Delay, Sandbox

HERE = Environment("here", "http://127.0.0.1:1")
LONG, SHORT = 60, 0.05


def times_of(client: Client) -> Timeout:
    return client._parts.wire.timeout


# --- time-outs


async def test_a_call_may_have_a_time_of_its_own(client: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=Delay(LONG), path_contains="me")

    with pytest.raises(CallTimeoutError):
        await client.with_options(timeout=SHORT, retries=Retries.none()).me.get()
    assert (await client.me.get()).id == sandbox.user_id


async def test_a_call_may_have_more_time_than_the_client_gives(sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=Delay(4 * SHORT), method="POST", times=None)
    chat = sandbox.add_conversation()
    async with Client(sandbox.issue_token(), environment=sandbox.environment, timeout=SHORT) as client:
        await client.with_options(timeout=LONG).conversations(chat).send("Hallo")

        with pytest.raises(DeliveryUnknownError):
            await client.conversations(chat).send("Hallo")


@pytest.mark.parametrize("name", ["read", "total"])
async def test_each_time_can_be_set_for_single_calls(client: Client, sandbox: Sandbox, name: str) -> None:
    sandbox.faults.add(kind=Delay(LONG), path_contains="me")
    timeout = Timeout(**{name: SHORT})

    with pytest.raises(CallTimeoutError):
        await client.with_options(timeout=timeout, retries=Retries.none()).me.get()


def test_a_number_is_the_total_and_leaves_the_other_times_as_they_are() -> None:
    client = Client("t", environment=HERE, timeout=Timeout(connect=1, write=2, read=3, total=4))

    view = client.with_options(timeout=9)

    assert times_of(view) == Timeout(connect=1, write=2, read=3, total=9)
    assert times_of(client) == Timeout(connect=1, write=2, read=3, total=4)
    assert times_of(view.with_options(timeout=Timeout(read=5))) == Timeout(read=5)


async def test_downloads_and_uploads_keep_to_them_too(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    chat = sandbox.add_conversation()
    sent = await client.conversations(chat).upload(__file__)
    message = await client.conversations(chat).message(sent)
    sandbox.faults.add(kind=Delay(LONG), path_contains="files/")
    sandbox.faults.add(kind=Delay(LONG), method="POST")
    handle = client.with_options(
        timeout=Timeout(read=SHORT, total=4 * SHORT), retries=Retries.none()
    ).conversations(chat)

    with pytest.raises(CallTimeoutError):
        await handle.download(message.attachments[0], to=tmp_path)
    with pytest.raises(DeliveryUnknownError):
        await handle.upload(__file__)


async def test_a_download_from_another_host_keeps_to_them_too(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    tried: list[object] = []

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.append(writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    link = {"Location": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/file"}
    sandbox.faults.add(kind=AnswerStatus(302, b"{}", link), path_contains="attachments")
    view = client.with_options(timeout=Timeout(read=SHORT), retries=Retries.none())

    with pytest.raises(CallTimeoutError):
        await view.conversations(sandbox.add_conversation()).download("a1", to=tmp_path / "file")
    assert len(tried) == 1
    server.close()
    await server.wait_closed()


async def test_a_renewal_which_others_may_wait_for_keeps_the_clients_times() -> None:
    async with Sandbox(refresh_tokens=True) as sandbox:
        sandbox.faults.add(kind=Delay(4 * SHORT), template="oauth/token")
        app = OAuthApp(sandbox.client_id, sandbox.client_secret, "http://localhost:1/cb", sandbox.environment)
        long_ago = datetime(2026, 1, 1, tzinfo=UTC)
        refresh_token = sandbox.issue_token(refresh=True)
        token = Token("stale", created_at=long_ago, expires_at=long_ago, refresh_token=refresh_token)
        async with Client(TokenManager(token, app=app), environment=sandbox.environment) as client:
            assert (await client.with_options(timeout=2 * SHORT).me.get()).id == sandbox.user_id


# --- retries


async def test_a_call_may_be_tried_otherwise(client: Client, sandbox: Sandbox) -> None:
    def fail_once() -> None:
        sandbox.reset_calls()
        sandbox.faults.add(kind=AnswerStatus(503, b"", {"Retry-After": "0"}), path_contains="me")

    fail_once()
    with pytest.raises(ServiceUnavailableError):
        await client.with_options(retries=Retries.none()).me.get()
    assert len(sandbox.calls) == 1

    fail_once()
    assert (await client.me.get()).id == sandbox.user_id
    assert len(sandbox.calls) == 2


async def test_a_call_may_be_tried_more_often_than_the_client_does(sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=AnswerStatus(503, b"", {"Retry-After": "0"}), path_contains="me")
    token, retries = sandbox.issue_token(), Retries.none()
    async with Client(token, environment=sandbox.environment, retries=retries) as client:
        assert (await client.with_options(retries=Retries()).me.get()).id == sandbox.user_id


# --- what is shared, and how long it lives


Combine = Callable[[Client, str], Client]


@pytest.mark.parametrize(
    "combine",
    [
        lambda client, token: client.with_token(token).with_options(timeout=7, retries=Retries.none()),
        lambda client, token: client.with_options(timeout=7, retries=Retries.none()).with_token(token),
        lambda client, token: (
            client.with_options(timeout=7).with_token(token).with_options(retries=Retries.none())
        ),
    ],
)
async def test_it_can_be_combined_with_another_user(
    client: Client, sandbox: Sandbox, combine: Combine
) -> None:
    user = sandbox.add_user("Anna", "Bakker")
    view = combine(client, sandbox.issue_token(user))
    sandbox.faults.add(kind=AnswerStatus(503), path_contains="me")

    with pytest.raises(ServiceUnavailableError) as caught:
        await view.me.get()
    assert caught.value.attempts == 1
    assert (await view.me.get()).id == user
    assert times_of(view).total == 7
    assert (await client.me.get()).id == sandbox.user_id


async def test_connections_user_quota_and_figures_are_shared(sandbox: Sandbox) -> None:
    made: list[object] = []
    tracing = TraceConfig()

    async def note(*reported: object) -> None:
        made.append(reported)

    tracing.on_connection_create_end.append(note)
    async with (
        ClientSession(trace_configs=[tracing]) as session,
        Client(sandbox.issue_token(), environment=sandbox.environment, session=session) as client,
    ):
        view = client.with_options(timeout=7)
        assert (await view.me.get()).id == sandbox.user_id
        await client.me.get()

        assert view.quota == client.quota
        assert view.quota is not None
        assert view.api_version == client.api_version == "1.0"
        assert view.stats() == client.stats()
        assert client.stats().calls == 2
    assert len(made) == 1


async def test_bulk_runs_and_lists_have_them_too(client: Client, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    view = client.with_options(timeout=SHORT, retries=Retries.none())
    sandbox.faults.add(kind=Delay(LONG))

    with pytest.raises(CallTimeoutError):
        await view.conversations.list().first_page()
    sandbox.faults.add(kind=Delay(LONG))
    unclear = [Outgoing(f"conversations/{chat}", "Hallo")]
    results = [result async for result in view.send_many(unclear, on_unknown="report")]
    assert [result.outcome for result in results] == [Outcome.UNKNOWN]


async def test_it_ends_with_its_client_and_closing_it_closes_nothing(
    client: Client, sandbox: Sandbox
) -> None:
    async with client.with_options(timeout=7) as view:
        await view.me.get()
    await view.close()
    await view.me.get()
    await client.close()

    with pytest.raises(ClientClosedError):
        await view.me.get()


async def test_one_without_a_reference_is_forgotten(client: Client, sandbox: Sandbox) -> None:
    deadlines = client._parts.wire._connections._deadlines
    views = [client.with_options(timeout=Timeout(total=100 + number)) for number in range(50)]
    assert len(deadlines) == 51
    left = weakref.ref(views[0])

    views.clear()
    gc.collect()

    assert left() is None
    assert len(deadlines) == 1


async def test_no_timer_is_left_after_the_client(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: set[asyncio.TimerHandle] = set()
    call_at: Callable[..., asyncio.TimerHandle] = loop.call_at

    def noting(*args: Any, **options: Any) -> asyncio.TimerHandle:
        timer = call_at(*args, **options)
        timers.add(timer)
        return timer

    monkeypatch.setattr(loop, "call_at", noting)
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        for seconds in (1000, 2000, 3000):
            await client.with_options(timeout=seconds).me.get()

    lasting = [timer for timer in timers if timer.when() > loop.time() + 900 and not timer.cancelled()]
    assert len(timers) > 3
    assert lasting == []


# --- what is refused


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", True),
        ("timeout", "10"),
        ("timeout", float("inf")),
        ("retries", 3),
        ("retries", True),
    ],
)
def test_an_option_that_cannot_work_is_refused(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}

    with pytest.raises(ConfigurationError):
        Client("t", environment=HERE).with_options(**options)


@pytest.mark.parametrize("name", ["connect", "write", "read", "total"])
@pytest.mark.parametrize("value", [0, -1, True, "1", float("inf"), float("nan"), None])
def test_a_time_that_is_none_is_refused_by_name(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}

    with pytest.raises(ConfigurationError, match=name):
        Timeout(**options)


# --- a limiter of several clients


@pytest.mark.looptime(idle_step=0.1, idle_timeout=3)
async def test_clients_can_share_a_limiter(sandbox: Sandbox, ticking_clock: None) -> None:
    limiter = Limiter(RateLimit())
    started = asyncio.get_running_loop().time()
    async with (
        Client(sandbox.issue_token(), environment=sandbox.environment, rate_limit=limiter) as one,
        Client(sandbox.issue_token(), environment=sandbox.environment, rate_limit=limiter) as other,
    ):
        calls: list[Awaitable[object]] = [client.me.get() for _ in range(20) for client in (one, other)]
        await asyncio.gather(*calls)

    assert sandbox.rejected == 0
    assert sandbox.most_calls_in_any_second() <= 30
    assert 1 <= asyncio.get_running_loop().time() - started < 3


async def test_closing_one_client_leaves_the_limiter_to_the_other(sandbox: Sandbox) -> None:
    limiter = Limiter(RateLimit(calls=2, per=0.2))
    token = sandbox.issue_token()
    async with Client(token, environment=sandbox.environment, rate_limit=limiter) as other:
        async with Client(token, environment=sandbox.environment, rate_limit=limiter) as one:
            calls = asyncio.gather(*(other.me.get() for _ in range(6)))
            await one.me.get()
        people = await calls

    assert {person.id for person in people} == {sandbox.user_id}


# --- raw answers


async def test_the_raw_answers_of_typed_calls_can_be_had(client: Client, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    answers: list[Response] = []
    view = client.with_options(on_response=answers.append)

    me = await view.me.get()
    sent = await view.conversations(chat).send("Hallo")
    await client.me.get()

    assert [(answer.call, answer.status) for answer in answers] == [
        ("GET me", 200),
        ("POST conversations/{id}/messages", 201),
    ]
    assert [answer.json()["id"] for answer in answers] == [me.id, sent.id]
    assert "quota-limit" in answers[0].headers
    assert view.with_options(timeout=9)._parts.on_response == answers.append


async def test_a_list_gives_the_raw_answer_of_each_page(client: Client, sandbox: Sandbox) -> None:
    for _ in range(3):
        sandbox.add_conversation()
    answers: list[Response] = []

    pager = client.with_options(on_response=answers.append).conversations.list(page_size=2)
    found = await pager.all()

    assert sum(len(answer.json()) for answer in answers) == len(found)
    assert len(answers) > 1


async def test_a_raw_answer_can_be_had_though_it_cannot_be_decoded(client: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=AnswerStatus(200, b'{"id": 7}'), path_contains="me")
    answers: list[Response] = []

    with pytest.raises(InvalidResponseError):
        await client.with_options(on_response=answers.append).me.get()

    assert [answer.body for answer in answers] == [b'{"id": 7}']


async def test_what_takes_raw_answers_cannot_fail_a_call(
    client: Client, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(answer: Response) -> None:
        raise ValueError(answer.body)

    chat = client.with_options(on_response=fail).conversations(sandbox.add_conversation())

    assert (await chat.send("Hallo")).id
    (record,) = caplog.records
    assert record.getMessage() == "on_response raised ValueError"


async def test_a_file_has_no_raw_answer_but_that_with_its_link(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    chat = client.conversations(sandbox.add_conversation())
    message = await chat.message(await chat.upload(__file__))
    answers: list[Response] = []

    handle = client.with_options(on_response=answers.append).conversations(chat.id)
    await handle.download(message.attachments[0], to=tmp_path)

    assert [answer.call for answer in answers] == ["GET conversations/{id}/attachments/{attachment_id}"]


@pytest.mark.parametrize("hook", [7, "print"])
def test_what_cannot_take_raw_answers_is_refused(hook: Any) -> None:
    with pytest.raises(ConfigurationError, match="on_response"):
        Client("t", environment=HERE).with_options(on_response=hook)
