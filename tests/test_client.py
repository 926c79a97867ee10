import asyncio
import gc
import inspect
from collections.abc import Callable
from typing import Any

import pytest

import healthmsg
from healthmsg import (
    CallRecord,
    Client,
    ConfigurationError,
    DeliveryUnknownError,
    Environment,
    ForbiddenError,
    HealthmsgError,
    InvalidInputError,
    MemoryTokenStore,
    NotFoundError,
    OAuthApp,
    RateLimit,
    ReauthorizationRequiredError,
    Retries,
    Timeout,
    Token,
    TokenManager,
    UnauthorizedError,
)
from healthmsg.bulk.circuit_breaker import STOP_AFTER
from healthmsg.bulk.reconcile import SETTLE
from healthmsg.errors import ClientClosedError, InvalidResponseError, WrongEventLoopError
from healthmsg.sandbox import AnswerStatus, CutBody, Delay, Garbage, Sandbox, WrongShape
from tests.conftest import Answers
from tests.servers import answering, serve

HERE = Environment("here", "http://127.0.0.1:1")


def test_making_a_client_needs_no_event_loop() -> None:
    Client("token", environment=HERE)


@pytest.mark.parametrize("token", [None, "", 7, b"token", "with space", "line\nbreak", "accentué"])
def test_a_token_that_cannot_be_one_is_refused(token: Any) -> None:
    with pytest.raises(ConfigurationError, match="token"):
        Client(token, environment=HERE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("environment", "kpn"),
        ("environment", None),
        ("rate_limit", 30),
        ("retries", 3),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", True),
        ("timeout", "10"),
        ("timeout", float("inf")),
        ("api_version", 2),
        ("api_version", "1\r\nX-Evil: 1"),
        ("api_version", "één"),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_name(name: str, value: Any) -> None:
    options: dict[str, Any] = {"environment": HERE, name: value}

    with pytest.raises(ConfigurationError):
        Client("token", **options)


@pytest.mark.parametrize("calls", [-1, 0, 1.5, True, "30"])
def test_a_limit_that_is_no_limit_is_refused(calls: Any) -> None:
    with pytest.raises(ConfigurationError, match="calls"):
        RateLimit(calls=calls)


async def test_a_client_reads_who_it_is(client: Client, sandbox: Sandbox) -> None:
    me = await client.me.get()

    assert me.id == sandbox.user_id
    assert me.first_name


@pytest.mark.parametrize("make", [str, Token, lambda value: TokenManager(Token(value))])
async def test_a_token_comes_as_text_as_token_or_with_a_manager(
    sandbox: Sandbox, make: Callable[[str], Any]
) -> None:
    async with Client(make(sandbox.issue_token()), environment=sandbox.environment) as client:
        assert (await client.me.get()).id == sandbox.user_id


async def test_three_legs_lead_to_a_working_client(sandbox: Sandbox, session: Any) -> None:
    app = OAuthApp(
        sandbox.client_id, sandbox.client_secret, "http://localhost:8765/callback", sandbox.environment
    )
    request = app.authorization_request(scopes=("read", "write"))
    async with session.get(request.url, allow_redirects=False) as answer:
        callback = answer.headers["Location"]

    token = await app.exchange(app.parse_callback(callback, request.state))

    assert token.scopes == ("read", "write")
    async with Client(token, environment=sandbox.environment) as client:
        assert (await client.me.get()).id == sandbox.user_id


@pytest.mark.slow
async def test_an_expired_token_is_renewed_once_for_a_hundred_calls() -> None:
    async with Sandbox(refresh_tokens=True, rate_limit=None) as sandbox:
        app = OAuthApp(
            sandbox.client_id, sandbox.client_secret, "http://localhost:8765/callback", sandbox.environment
        )
        refresh_token = sandbox.issue_token(refresh=True)
        tokens = TokenManager(Token("stale", refresh_token=refresh_token), app=app)
        limit = RateLimit(calls=1000)
        async with Client(tokens, environment=sandbox.environment, rate_limit=limit) as client:
            people = await asyncio.gather(*(client.me.get() for _ in range(100)))

        assert {person.id for person in people} == {sandbox.user_id}
        assert [call.template for call in sandbox.calls].count("oauth/token") == 1


async def test_a_revoked_token_without_renewal_says_to_authorize_again(
    client: Client, sandbox: Sandbox
) -> None:
    await client.me.get()
    sandbox.revoke_token(client_token := sandbox.issue_token())

    async with Client(client_token, environment=sandbox.environment) as other:
        with pytest.raises(UnauthorizedError) as caught:
            await other.me.get()

    assert isinstance(caught.value, ReauthorizationRequiredError)
    assert caught.value.status == 401


async def test_what_is_not_there_and_what_is_not_allowed_are_errors_of_their_own(
    client: Client, sandbox: Sandbox
) -> None:
    with pytest.raises(NotFoundError) as caught:
        await client.users.get("nobody")
    assert caught.value.call == "GET users/{user_id}"
    assert "nobody" not in str(caught.value)

    token = sandbox.issue_token(scopes=("read",))
    chat = sandbox.add_conversation()
    async with Client(token, environment=sandbox.environment) as reader:
        with pytest.raises(ForbiddenError):
            await reader.conversations(chat).send("Hallo")
    assert sandbox.messages(f"conversations/{chat}") == ()


@pytest.mark.parametrize("kind", [Garbage(), WrongShape(), CutBody()])
async def test_an_answer_that_cannot_be_understood_is_a_typed_error(
    client: Client, sandbox: Sandbox, kind: Any
) -> None:
    sandbox.faults.add(kind=kind, path_contains="me")

    if isinstance(kind, CutBody):
        assert (await client.me.get()).id == sandbox.user_id  # reading again does no harm
    else:
        with pytest.raises(InvalidResponseError) as caught:
            await client.me.get()
        assert caught.value.__context__ is None


async def test_unknown_fields_and_values_are_no_error(answers: Answers) -> None:
    document = {"id": "u1", "type": "hologram", "mood": {"now": "fine"}}
    answers.get("http://127.0.0.1:1/me", payload=document)

    async with Client("token", environment=HERE) as client:
        me = await client.me.get()

    assert (me.type, me.extra) == ("hologram", {"mood": {"now": "fine"}})


async def test_a_closed_client_says_so(client: Client) -> None:
    await client.me.get()
    await client.close()

    with pytest.raises(ClientClosedError):
        await client.me.get()
    with pytest.raises(ClientClosedError):
        await client.conversations("c1").send("Hallo")
    with pytest.raises(ClientClosedError):
        async for _ in client.conversations.list():
            pass
    with pytest.raises(ClientClosedError):
        async with client:
            pass


async def test_closing_twice_is_closing(client: Client) -> None:
    await client.me.get()

    await client.close()
    await client.close()


def test_a_client_of_another_event_loop_says_so() -> None:
    client = Client("token", environment=HERE, retries=Retries.none())

    async def first() -> None:
        with pytest.raises(Exception, match="refused the connection"):
            await client.me.get()

    async def second() -> None:
        with pytest.raises(WrongEventLoopError):
            await client.me.get()
        with pytest.raises(WrongEventLoopError):
            await client.close()

    async def last() -> None:
        await client.close()

    with asyncio.Runner() as one, asyncio.Runner() as other:
        one.run(first())
        other.run(second())
        one.run(last())


async def test_a_cancelled_call_leaks_neither_slot_nor_connection_nor_task(sandbox: Sandbox) -> None:
    tasks = asyncio.all_tasks()
    sandbox.faults.add(kind=Delay(60), path_contains="me", times=3)
    limit = RateLimit(calls=3, per=0.05, arrival=0.01)
    async with Client(sandbox.issue_token(), environment=sandbox.environment, rate_limit=limit) as client:
        calls = [asyncio.create_task(client.me.get()) for _ in range(3)]
        while len(sandbox.calls) < 3:  # noqa: ASYNC110 - the sandbox has no event for it
            await asyncio.sleep(0.001)
        for call in calls:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)

        assert (await client.me.get()).id == sandbox.user_id

    assert {task for task in asyncio.all_tasks() if "healthmsg" in repr(task)} <= tasks
    gc.collect()  # an unclosed connection would warn here, and fail the test


async def test_the_hook_receives_each_try_and_nothing_private(sandbox: Sandbox) -> None:
    records: list[CallRecord] = []
    sandbox.faults.add(kind=AnswerStatus(503, b"canary", {"Retry-After": "0"}), path_contains="users")
    token = sandbox.issue_token()
    async with Client(token, environment=sandbox.environment, on_call=records.append) as client:
        await client.users.get(sandbox.user_id)

    assert [(record.call, record.status, record.attempt) for record in records] == [
        ("GET users/{user_id}", 503, 1),
        ("GET users/{user_id}", 200, 2),
    ]
    assert token not in repr(records)
    assert sandbox.user_id not in repr(records)


async def test_any_endpoint_can_be_called(client: Client, sandbox: Sandbox) -> None:
    response = await client.request("GET", "company/users", query={"amount": "2"})

    assert response.status == 200
    assert len(response.json()) == 2
    assert sandbox.calls[-1].query == "amount=2"


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/me",
        "//evil.example/me",
        "../oauth/token",
        "users/../me",
        "users/%2e%2e/me",
        "me#x",
        "a b",
        "",
        "ünïcode",
        None,
    ],
)
async def test_a_path_of_your_own_stays_below_the_api(client: Client, sandbox: Sandbox, path: Any) -> None:
    with pytest.raises(InvalidInputError):
        await client.request("GET", path)

    assert not sandbox.calls


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("me/contacts?page=0", {"amount": "2"}),
        ("me", "page=0"),
        ("me", {"q": None}),
        ("me", {"q": 7}),
        ("me", {7: "q"}),
        ("me", {"q": "s3cret \ud800"}),
    ],
)
async def test_a_query_that_cannot_be_one_is_refused_without_repeating_it(
    client: Client, sandbox: Sandbox, path: str, query: Any
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await client.request("GET", path, query=query)

    assert "s3cret" not in repr(caught.value)
    assert caught.value.__context__ is None
    assert not sandbox.calls


@pytest.mark.parametrize("method", ["", "TRACE", "get\r\n", None, 7])
async def test_a_method_that_is_none_is_refused(client: Client, method: Any) -> None:
    with pytest.raises(InvalidInputError, match="method"):
        await client.request(method, "me")


async def test_settings_come_from_the_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTHMSG_TOKEN", sandbox.issue_token())
    monkeypatch.setenv("HEALTHMSG_API_URL", sandbox.environment.api_url)

    async with Client.from_env(timeout=Timeout(total=5)) as client:
        assert (await client.me.get()).id == sandbox.user_id


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "HEALTHMSG_TOKEN"),
        ({"HEALTHMSG_TOKEN": "t"}, "HEALTHMSG_ENVIRONMENT"),
        ({"HEALTHMSG_TOKEN": "t", "HEALTHMSG_ENVIRONMENT": "acme"}, "HEALTHMSG_ENVIRONMENT"),
        ({"HEALTHMSG_TOKEN": "t", "HEALTHMSG_API_URL": "http://example.com"}, "api_url"),
        (
            {"HEALTHMSG_TOKEN": "t", "HEALTHMSG_API_URL": "http://localhost", "HEALTHMSG_ENVIRONMENT": "kpn"},
            "HEALTHMSG_API_URL and HEALTHMSG_ENVIRONMENT are both set",
        ),
    ],
)
def test_a_missing_variable_is_named(
    variables: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEALTHMSG_TOKEN", "HEALTHMSG_ENVIRONMENT", "HEALTHMSG_API_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=named):
        Client.from_env()


@pytest.mark.parametrize(
    ("name", "host"),
    [("kpn", "api-prd.kpn.com"), ("alterdesk", "api.alterdesk.com"), ("KPN", "api-prd.kpn.com")],
)
def test_the_environments_have_names(name: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTHMSG_TOKEN", "t")
    monkeypatch.setenv("HEALTHMSG_ENVIRONMENT", name)
    monkeypatch.delenv("HEALTHMSG_API_URL", raising=False)

    assert host in Client.from_env().environment.api_url


async def test_a_program_says_what_it_is_called() -> None:
    async with serve(answering(200, b'{"id": "u1"}')) as server:
        for app_info in ("ourehr/2.1", "recall", None):
            client = Client("t", environment=Environment("here", server.url), app_info=app_info)
            async with client:
                await client.with_token("another").me.get()

    own = f"healthmsg/{healthmsg.__version__}"
    agents = [call.headers["user-agent"] for call in server.executed]
    assert agents == [[f"ourehr/2.1 {own}"], [f"recall {own}"], [own]]


@pytest.mark.parametrize(
    "app_info",
    ["", "our ehr", "ourehr/2.1\r\nX: y", "ourehr/2.1\n", "é/1", "a/b/c", "/1", "a/", "a" * 201, 7, b"a/1"],
)
def test_a_name_that_no_program_can_have_is_refused(app_info: Any) -> None:
    with pytest.raises(ConfigurationError, match="app_info"):
        Client("t", environment=HERE, app_info=app_info)


async def test_a_hook_that_would_never_run_is_refused() -> None:
    async def on_call(record: CallRecord) -> None:
        del record

    options: dict[str, Any] = {"on_call": on_call}
    with pytest.raises(ConfigurationError, match="on_call"):
        Client("token", environment=HERE, **options)


async def test_a_very_long_message_is_sent_whole(client: Client, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()

    await client.conversations(chat).send("é" * 400_000)

    assert [len(message.body or "") for message in sandbox.messages(f"conversations/{chat}")] == [400_000]


async def test_a_post_that_is_redirected_may_have_had_an_effect(client: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=AnswerStatus(303, b"", {"Location": "/v1/me"}), method="POST")

    with pytest.raises(DeliveryUnknownError) as caught:
        await client.conversations(sandbox.add_conversation()).send("Hallo")

    assert caught.value.status == 303
    assert [call.method for call in sandbox.calls] == ["POST"]


@pytest.mark.parametrize("port", ["99999", "1x"])
async def test_a_link_that_is_no_url_is_an_error_of_ours(client: Client, sandbox: Sandbox, port: str) -> None:
    chat = sandbox.add_conversation()
    link = {"Location": f"https://localhost:{port}/file"}
    sandbox.faults.add(kind=AnswerStatus(302, b"", link), path_contains="attachments")

    with pytest.raises(HealthmsgError):
        await client.conversations(chat).download("a1", to="nowhere.pdf")


def test_what_a_client_gives_shows_what_it_is() -> None:
    client = Client("t0ken-canary", environment=HERE)

    shown = [
        *map(repr, (client.me, client.users, client.company, client.conversations, client.groupchats)),
        *map(repr, (client.auxiliary, client.auxiliary.conversations, client.conversations.list(limit=5))),
        repr(client.conversations("c1").download_stream("a1")),
        repr(TokenManager(Token("t0ken-canary", ["read"]))),
        repr(MemoryTokenStore()),
    ]

    assert shown[:-2] == [
        *("<Me>", "<Users>", "<Company>", "<Conversations>", "<GroupChats>"),
        *("<Auxiliary>", "<AuxiliaryConversations>", "<Pager page_size=5 limit=5>"),
        "<FileStream GET conversations/{id}/attachments/{attachment_id}>",
    ]
    assert "<TokenManager Token(scopes=('read',)" in shown[-2]
    assert shown[-1] == "<MemoryTokenStore of 0 users>"
    assert "canary" not in repr(shown)


def test_what_is_spelled_out_is_what_bulk_sending_counts_on() -> None:
    # Spelled out in the client, so that bulk sending is imported when it is first used.
    spelled_out = [
        inspect.signature(method).parameters["settle"].default
        for method in (Client.send_many, Client.preview_many, Client.reconcile)
    ]
    stops = [
        inspect.signature(method).parameters["stop_after"].default
        for method in (Client.send_many, Client.preview_many)
    ]

    assert set(spelled_out) == {SETTLE}
    assert set(stops) == {STOP_AFTER}
