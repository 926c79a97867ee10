"""A service that serves nobody for a while, or this caller no more."""

import asyncio
import socket
import time

import pytest
from aiohttp import ClientConnectionError, ClientConnectorError, ClientSession

from healthmsg.sandbox import Delay, Forbidden, Outage, RevokeToken, Sandbox, TooManyRequests
from tests.caller import Caller, first_call
from tests.waiting import until

HELLO = {"body": "Hallo"}


@pytest.fixture
def chat(sandbox: Sandbox) -> str:
    return f"conversations/{sandbox.add_conversation()}"


def listens(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


async def answers(call: Caller) -> bool:
    try:
        return (await call("GET", "me")).status == 200
    except ClientConnectorError:
        return False


# --- refusing


async def test_a_storm_of_429_lasts_for_some_time_and_lets_nothing_through(session: ClientSession) -> None:
    moment = 100.0
    async with Sandbox(clock=lambda: moment, rate_limit=None) as sandbox:
        call, chat = Caller(sandbox, session), f"conversations/{sandbox.add_conversation()}"
        sandbox.faults.add(kind=TooManyRequests(), method="POST", seconds=5)
        for _ in range(3):
            refused = await call("POST", f"{chat}/messages", json=HELLO)
            assert (refused.status, refused.document["error"]) == (429, "rate_limit_exceeded")
            assert "Retry-After" not in refused.headers
            moment += 2
        assert (await call("POST", f"{chat}/messages", json=HELLO)).status == 201
        assert len(sandbox.messages(chat)) == 1
        assert sandbox.rejected == 0


async def test_a_storm_can_say_when_to_come_back(call: Caller, sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=TooManyRequests(retry_after=1.5), times=2)
    assert [(await call("GET", "me")).headers.get("Retry-After") for _ in range(3)] == ["2", "2", None]


async def test_an_application_can_be_refused(call: Caller, sandbox: Sandbox, chat: str) -> None:
    sandbox.faults.add(kind=Forbidden(), times=None)
    refused = await call("POST", f"{chat}/messages", json=HELLO)
    assert (refused.status, refused.document["error"]) == (403, "not_allowed")
    assert sandbox.messages(chat) == ()


async def test_a_token_ends_with_the_call_that_is_struck(call: Caller, sandbox: Sandbox, chat: str) -> None:
    sandbox.faults.add(kind=RevokeToken(), after=1)
    answers = [await call("POST", f"{chat}/messages", json=HELLO) for _ in range(3)]
    assert [answer.status for answer in answers] == [201, 401, 401]
    assert answers[1].document["error"] == "invalid_token"
    assert len(sandbox.messages(chat)) == 1
    call.token = sandbox.issue_token()
    assert (await call("POST", f"{chat}/messages", json=HELLO)).status == 201


async def test_revoking_the_token_of_a_call_without_one_changes_nothing(
    call: Caller, sandbox: Sandbox
) -> None:
    sandbox.faults.add(kind=RevokeToken(), times=2)
    assert (await call("POST", "/oauth/token")).status == 400
    assert (await call("GET", "me", headers={"Authorization": "Bearer strange"})).status == 401
    assert (await call("GET", "me")).status == 200


# --- being away


async def test_it_refuses_connections_while_it_is_away_and_is_back_on_the_same_port(
    call: Caller, sandbox: Sandbox, chat: str
) -> None:
    url = sandbox.url
    assert (await call("POST", f"{chat}/messages", json=HELLO)).status == 201
    away = asyncio.create_task(sandbox.go_offline(0.3))
    started = time.perf_counter()
    while await answers(call):
        assert not away.done()
    async with asyncio.timeout(10):
        while not await answers(call):
            pass
    assert time.perf_counter() - started >= 0.28
    await away
    assert sandbox.url == url
    assert (await call("POST", f"{chat}/messages", json=HELLO)).status == 201
    assert len(sandbox.messages(chat)) == 2


async def test_going_away_cuts_what_is_running(call: Caller, sandbox: Sandbox, chat: str) -> None:
    sandbox.faults.add(kind=Delay(3600))
    calling = asyncio.create_task(call("POST", f"{chat}/messages", json=HELLO))
    await first_call(sandbox)
    await sandbox.go_offline(0.01)
    with pytest.raises(ClientConnectionError):
        await calling
    assert sandbox.messages(chat) == ()


async def test_a_call_can_be_what_makes_it_go_away(call: Caller, sandbox: Sandbox, chat: str) -> None:
    sandbox.faults.add(kind=Outage(0.2), method="POST", times=3)
    # Several at once: it is away once, until the last of them says.
    struck = [call("POST", f"{chat}/messages", json=HELLO) for _ in range(3)]
    assert all(
        isinstance(answer, ClientConnectionError)
        for answer in await asyncio.gather(*struck, return_exceptions=True)
    )
    with pytest.raises(ClientConnectorError):
        await call("GET", "me")

    async with asyncio.timeout(10):
        while not await answers(call):
            pass
    assert sandbox.messages(chat) == ()


async def test_being_asked_again_it_stays_away_until_the_later_moment(call: Caller, sandbox: Sandbox) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(sandbox.go_offline(0.1), sandbox.go_offline(0.3), sandbox.go_offline(0.2))
    assert loop.time() - started >= 0.3
    assert (await call("GET", "me")).status == 200


async def test_nobody_else_is_given_the_port_while_it_is_away(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    away = asyncio.create_task(sandbox.go_offline(0.3))
    await until(lambda: not listens(port))
    await asyncio.sleep(0.15)  # what is running has some time to end first
    with socket.socket() as somebody_else, pytest.raises(OSError, match="in use"):
        somebody_else.bind(("127.0.0.1", port))
    await away


async def test_stopping_ends_being_away(session: ClientSession) -> None:
    before = asyncio.all_tasks()
    sandbox = Sandbox(foreign_downloads=True)
    await sandbox.start()
    port = int(sandbox.url.rpartition(":")[2])
    away = asyncio.create_task(sandbox.go_offline(3600))
    await until(lambda: not listens(port))
    await sandbox.stop()
    await away
    assert asyncio.all_tasks() == before
    await sandbox.start(port=port)
    assert (await Caller(sandbox, session)("GET", "me")).status == 200
    await sandbox.stop()


async def test_giving_up_waiting_for_it_does_not_keep_it_away(call: Caller, sandbox: Sandbox) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await sandbox.go_offline(0.2)
    await sandbox.go_offline(0.2)
    assert (await call("GET", "me")).status == 200


async def test_only_what_is_there_can_go_away_and_not_for_less_than_nothing(sandbox: Sandbox) -> None:
    with pytest.raises(RuntimeError, match="not started"):
        await Sandbox().go_offline(1)
    for seconds in (-1, float("nan")):
        with pytest.raises(ValueError, match="0 or more"):
            await sandbox.go_offline(seconds)
        with pytest.raises(ValueError, match="must be"):
            Outage(seconds)


# --- being told


async def test_each_message_is_told_of_before_its_sender_has_the_answer(
    call: Caller, sandbox: Sandbox, chat: str
) -> None:
    told: list[str] = []
    sandbox.on_message = told.append
    sandbox.faults.add(kind=Delay(3600, after=True))
    calling = asyncio.create_task(call("POST", f"{chat}/messages", json=HELLO))
    await until(lambda: told)
    assert not calling.done()
    calling.cancel()
    assert told == [message.id for message in sandbox.messages(chat)]
