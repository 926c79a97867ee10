"""Starting, stopping, the limit, the headers and the log."""

import asyncio
import socket
import time
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import pytest
from aiohttp import ClientSession, ServerDisconnectedError
from aiohttp.test_utils import make_mocked_request

from healthmsg.sandbox import AnswerStatus, Delay, Quota, Sandbox, SlidingWindow
from healthmsg.sandbox.listener import is_allowed_host
from tests.caller import Caller, first_call


class Clock:
    """A hand-driven clock."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


async def test_it_starts_fast_and_stops_without_waiting_for_idle_connections(session: ClientSession) -> None:
    took_to_start = []
    for _ in range(3):  # the best of three: the machine may be busy
        started = time.perf_counter()
        sandbox = Sandbox()
        await sandbox.start()
        took_to_start.append(time.perf_counter() - started)
        await sandbox.stop()
    assert min(took_to_start) < 0.03
    await sandbox.start()
    call = Caller(sandbox, session)
    assert (await call("GET", "me")).status == 200
    started = time.perf_counter()
    await sandbox.stop()
    assert time.perf_counter() - started < 0.1


async def test_stopping_ends_a_call_that_is_still_running_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    sandbox = Sandbox()
    await sandbox.start()
    sandbox.faults.add(kind=Delay(3600))
    async with ClientSession() as session:
        # POST: aiohttp calls again by itself for a GET.
        running = asyncio.create_task(Caller(sandbox, session)("POST", "conversations", json={}))
        await first_call(sandbox)
        await sandbox.stop()
        assert asyncio.all_tasks() - {running} == before
        with pytest.raises(ServerDisconnectedError):
            await running


async def test_stopping_does_not_wait_for_the_rest_of_a_refused_upload() -> None:
    before = asyncio.all_tasks()
    sandbox = Sandbox()
    await sandbox.start()
    host, port = sandbox.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/conversations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{")
    assert b" 401 " in await reader.readline()
    started = time.perf_counter()
    await sandbox.stop()
    assert time.perf_counter() - started < 1
    assert asyncio.all_tasks() == before
    writer.close()
    await writer.wait_closed()


async def test_stopping_frees_the_port_and_it_can_start_again(session: ClientSession) -> None:
    sandbox = Sandbox()
    await sandbox.start()
    port = int(sandbox.url.rpartition(":")[2])
    with pytest.raises(RuntimeError):
        await sandbox.start()
    await sandbox.stop()
    await sandbox.stop()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=1):
        pass
    await sandbox.start(port=port)
    assert (await Caller(sandbox, session)("GET", "me")).status == 200
    await sandbox.stop()


def test_it_has_no_url_before_it_starts() -> None:
    assert repr(Sandbox()) == "<Sandbox, not started>"
    with pytest.raises(RuntimeError, match="not started"):
        _ = Sandbox().url


async def test_the_thirty_first_call_in_a_second_is_refused_and_does_nothing(session: ClientSession) -> None:
    clock = Clock()
    async with Sandbox(clock=clock) as sandbox:
        call = Caller(sandbox, session)
        chat = sandbox.add_conversation()
        statuses = [
            (await call("POST", f"conversations/{chat}/messages", json={"body": str(n)})).status
            for n in range(30)
        ]
        assert statuses == [201] * 30
        clock.seconds += 0.4
        refused = await call("POST", f"conversations/{chat}/messages", json={"body": "too many"})
        assert (refused.status, refused.document["error"]) == (429, "rate_limit_exceeded")
        assert refused.headers["Retry-After"] == "1"
        assert [message.body for message in sandbox.messages(f"conversations/{chat}")] == [
            str(n) for n in range(30)
        ]
        assert sandbox.rejected == 1
        assert sandbox.calls[-1].rejected
        clock.seconds += 0.6
        assert (await call("GET", "me")).status == 200
        assert sandbox.most_calls_in_any_second() == 31
        assert sandbox.calls_per_second() == pytest.approx(31.0)


@pytest.mark.looptime
async def test_the_event_loops_clock_counts_unless_there_is_another(call: Caller) -> None:
    assert {(await call("GET", "me")).status for _ in range(30)} == {200}
    assert (await call("GET", "me")).status == 429
    await asyncio.sleep(1)
    assert (await call("GET", "me")).status == 200


async def test_the_limit_is_the_applications_so_users_share_it(session: ClientSession) -> None:
    async with Sandbox(rate_limit=SlidingWindow(limit=1), clock=Clock(), retry_after=False) as sandbox:
        call = Caller(sandbox, session)
        assert (await call("GET", "me")).status == 200
        call.token = sandbox.issue_token(sandbox.add_user("Bea", "Bos"))
        refused = await call("GET", "me")
        assert refused.status == 429
        assert "Retry-After" not in refused.headers


async def test_only_calls_to_the_api_with_a_token_of_this_sandbox_count(session: ClientSession) -> None:
    async with Sandbox(rate_limit=SlidingWindow(limit=2), clock=Clock()) as sandbox:
        call = Caller(sandbox, session)
        for _ in range(3):
            assert (await call("POST", "/oauth/token")).status == 400
            assert (await call("GET", "/oauth/authorize")).status == 400
            assert (await call("GET", "/files/nothing")).status == 404
            assert (await call("GET", "me", headers={"Authorization": "Bearer strange"})).status == 401
        assert [(await call("GET", "me")).status for _ in range(3)] == [200, 200, 429]
        assert len(sandbox.arrivals) == 3
        assert len(sandbox.calls) == 15


async def test_a_call_with_an_expired_token_counts(session: ClientSession) -> None:
    async with Sandbox(rate_limit=SlidingWindow(limit=1), clock=Clock()) as sandbox:
        call = Caller(sandbox, session)
        call.token = sandbox.issue_token(lifetime=timedelta(0))
        assert [(await call("GET", "me")).status for _ in range(2)] == [401, 429]


async def test_without_a_limit_nothing_is_refused(session: ClientSession) -> None:
    async with Sandbox(rate_limit=None, clock=Clock()) as sandbox:
        call = Caller(sandbox, session)
        assert {(await call("GET", "me")).status for _ in range(40)} == {200}
        assert sandbox.most_calls_in_any_second() == 40


async def test_every_api_answer_has_the_headers_of_the_contract(call: Caller) -> None:
    for answer in (await call("GET", "me"), await call("GET", "nothing"), await call("DELETE", "me")):
        assert answer.headers["sunset"] == "n/a"
        assert {"api-version", "strict-transport-security", "access-control-allow-origin"} <= {
            name.lower() for name in answer.headers
        }
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["quota-interval"] == "1"
    assert answer.headers["quota-time-unit"] == "day"
    assert answer.headers["quota-limit"] == "1000000"
    assert answer.headers["quota-used"] == "3"
    assert datetime.fromisoformat(answer.headers["quota-reset-UTC"]) > datetime.now(UTC)


async def test_the_quota_counts_per_user_and_starts_again_in_the_next_period(session: ClientSession) -> None:
    moment = datetime(2026, 1, 2, 3, 59, 50, tzinfo=UTC)
    async with Sandbox(quota=Quota(limit=2, time_unit="hour"), now=lambda: moment) as sandbox:
        call = Caller(sandbox, session)
        other = sandbox.issue_token(sandbox.add_user("Bea", "Bos"))
        answers = [await call("GET", "me") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[2].document["error"] == "quota_exceeded"
        assert answers[2].headers["Retry-After"] == "10"
        assert answers[2].headers["quota-reset-UTC"] == "2026-01-02T04:00:00Z"
        assert (await call("GET", "me", headers={"Authorization": f"Bearer {other}"})).status == 200
        moment += timedelta(seconds=10)
        renewed = await call("GET", "me")
        assert (renewed.status, renewed.headers["quota-used"]) == (200, "1")


async def test_a_token_is_needed_and_ends_after_three_days(session: ClientSession) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    async with Sandbox(now=lambda: moment) as sandbox:
        call = Caller(sandbox, session)
        call.token = sandbox.issue_token()
        revoked = sandbox.issue_token()
        sandbox.revoke_token(revoked)
        refused = await call("GET", "me", headers={"Authorization": f"Bearer {revoked}"})
        assert (refused.status, refused.document["error"]) == (401, "invalid_token")
        moment += timedelta(days=3, seconds=-1)
        assert (await call("GET", "me")).status == 200
        moment += timedelta(seconds=1)
        assert (await call("GET", "me")).status == 401
        call.token = None
        assert (await call("GET", "me")).status == 401


async def test_a_token_without_the_scope_write_only_reads(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    call.token = sandbox.issue_token(scopes=["read"])
    assert (await call("GET", f"conversations/{chat}")).status == 200
    refused = await call("POST", f"conversations/{chat}/messages", json={"body": "Hallo"})
    assert (refused.status, refused.document["error"]) == (403, "insufficient_scope")
    assert sandbox.messages(f"conversations/{chat}") == ()


async def test_the_log_tells_what_arrived_but_no_token(call: Caller, sandbox: Sandbox) -> None:
    await call("GET", "aux/users/ward%203%2Fe?x=1")
    await call("POST", "/oauth/token", data={"grant_type": "x"}, headers={"Cookie": "a=b"})
    await call("PUT", "no/such/route")
    first, second, third = sandbox.calls
    assert (first.sequence, first.method, first.path) == (0, "GET", "/v1/aux/users/ward%203%2Fe")
    assert (first.query, first.template, first.status) == ("x=1", "aux/users/{aux_id}", 200)
    assert (first.counted, first.has_authorization, first.has_cookie) == (True, True, False)
    assert first.user_id == sandbox.user_id
    assert (second.template, second.content_type) == ("oauth/token", "application/x-www-form-urlencoded")
    assert (second.counted, second.has_authorization, second.has_cookie) == (False, False, True)
    assert (third.template, third.status) == (None, 404)
    assert call.token is not None
    assert call.token not in str(sandbox.calls)
    sandbox.reset_calls()
    assert (sandbox.calls, sandbox.rejected, sandbox.calls_per_second()) == ([], 0, 0.0)


async def test_a_path_that_is_no_utf8_is_refused(call: Caller) -> None:
    assert (await call("GET", "aux/users/%ff")).status == 400


async def test_another_method_gets_405_and_hears_which_there_are(call: Caller) -> None:
    answer = await call("DELETE", "conversations/x/messages")
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, POST"


async def test_a_fault_of_429_is_not_a_refusal_by_the_limit(call: Caller, sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=AnswerStatus(429, headers={"Retry-After": "7", "quota-used": "1000000"}))
    answer = await call("GET", "me")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    assert answer.headers.get("quota-used") == "1000000"
    assert sandbox.rejected == 0


@pytest.mark.parametrize("path", ["me", "groupchats/x/members", "no/such/route"])
async def test_a_browser_may_ask_what_it_may_call(call: Caller, sandbox: Sandbox, path: str) -> None:
    asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "PUT"}
    sandbox.faults.add(kind=AnswerStatus(503))
    for token in (call.token, None):
        call.token = token
        answer = await call("OPTIONS", path, headers=asked)
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert {"GET", "POST", "PUT", "DELETE"} <= set(
            answer.headers["access-control-allow-methods"].split(", ")
        )
        assert "authorization" in answer.headers["access-control-allow-headers"]
    assert (sandbox.arrivals, sandbox.calls) == ([], [])


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("localhost", True),
        ("LOCALHOST.:8080", True),
        ("api.localhost:1", True),
        ("127.0.0.1", True),
        ("127.8.9.1:443", True),
        ("[::1]:8765", True),
        ("sandbox", True),
        ("Sandbox:80", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("notlocalhost", False),
        ("192.168.1.5", False),
        ("0.0.0.0", False),  # noqa: S104 - it is refused
        ("evil.example@localhost:x", False),
        ("[::1", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("path", ["v1/me", "docs", "sandbox/report", "openapi.yaml", "nowhere"])
async def test_only_the_own_names_may_call(path: str, host: str, *, is_own: bool) -> None:
    async with Sandbox(sample_data=False, allowed_hosts=["sandbox"]) as sandbox:
        head = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        answered = await raw(sandbox, head.encode())

    assert answered.startswith(b"HTTP/1.1 421 ") is not is_own
    assert (b"allowed_hosts" in answered) is not is_own


async def raw(sandbox: Sandbox, request: bytes) -> bytes:
    """Send something that no client would let through, and give all that comes back."""
    port = int(sandbox.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answered = await reader.read()
    writer.close()
    return answered


@pytest.mark.parametrize(
    ("started_at", "called", "is_own"),
    [
        ("0.0.0.0", "0.0.0.0", True),  # noqa: S104 - of a sandbox in a test
        ("0.0.0.0", "127.0.0.1", True),  # noqa: S104 - the same
        ("0.0.0.0", "192.0.2.7", False),  # noqa: S104 - the same
        ("localhost", "localhost", True),
    ],
)
async def test_the_name_that_it_is_started_with_is_its_own(
    started_at: str, called: str, *, is_own: bool
) -> None:
    sandbox = Sandbox(sample_data=False)
    await sandbox.start(started_at)
    try:
        answered = await raw(
            sandbox, f"GET /v1/me HTTP/1.1\r\nHost: {called}\r\nConnection: close\r\n\r\n".encode()
        )
    finally:
        await sandbox.stop()

    assert answered.startswith(b"HTTP/1.1 421 ") is not is_own


def test_a_socket_for_both_versions_of_ip_knows_its_own_address() -> None:
    transport = Mock()
    transport.get_extra_info.return_value = ("::ffff:192.0.2.7", 8030, 0, 0)
    called = [
        make_mocked_request("GET", "/v1/me", {"Host": f"{host}:8030"}, transport=transport)
        for host in ("192.0.2.7", "[::ffff:192.0.2.7]", "192.0.2.8")
    ]

    assert [is_allowed_host(request, ()) for request in called] == [True, True, False]


def test_one_name_is_not_a_list_of_names() -> None:
    with pytest.raises(ValueError, match="allowed_hosts"):
        Sandbox(allowed_hosts="example")
