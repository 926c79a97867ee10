"""Injected faults: answers, connections and bodies that fail, and outages."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientPayloadError,
    ClientSession,
)

from healthmsg.sandbox import (
    AnswerStatus,
    CutAfter,
    CutBefore,
    CutBody,
    Delay,
    Fault,
    Faults,
    Forbidden,
    Garbage,
    Outage,
    RedirectLoop,
    RedirectTo,
    RevokeToken,
    Sandbox,
    SlowBody,
    StallBody,
    TooManyRequests,
    WrongShape,
)
from tests.caller import Caller, first_call
from tests.sandbox.helpers import CONTENT, HELLO, linked
from tests.waiting import until


def statuses(faults: Faults, calls: int, *, path: str = "/v1/me", moment: float = 0.0) -> list[int]:
    """Return the status that is injected into each of so many calls; 0: none is."""
    taken = [faults.take("GET", path, None, moment) for _ in range(calls)]
    return [fault.status if isinstance(fault, AnswerStatus) else 0 for fault in taken]


async def test_a_status_is_answered_once_and_nothing_is_done(
    call: Caller, sandbox: Sandbox, chat: str
) -> None:
    sandbox.faults.add(method="POST", kind=AnswerStatus(503, b"later", {"Retry-After": "3"}))
    assert (await call("GET", chat)).status == 200
    struck = await call("POST", f"{chat}/messages", json=HELLO)
    assert (struck.status, struck.body, struck.headers["Retry-After"]) == (503, b"later", "3")
    assert sandbox.messages(chat) == ()
    assert (await call("POST", f"{chat}/messages", json=HELLO)).status == 201


@pytest.mark.parametrize(("kind", "sent"), [(CutBefore(), 0), (CutAfter(), 1)])
async def test_a_line_is_cut_before_or_after_the_call_took_effect(
    call: Caller, sandbox: Sandbox, chat: str, kind: Fault, sent: int
) -> None:
    sandbox.faults.add(kind=kind)
    with pytest.raises(ClientConnectionError):
        await call("POST", f"{chat}/messages", json=HELLO)
    assert len(sandbox.messages(chat)) == sent
    assert sandbox.calls[-1].status is None
    assert (await call("GET", "me")).status == 200


async def test_a_status_can_be_answered_though_the_call_took_effect(
    call: Caller, sandbox: Sandbox, chat: str
) -> None:
    sandbox.faults.add(kind=AnswerStatus(500, b"oops", {"Retry-After": "3"}, after=True))
    struck = await call("POST", f"{chat}/messages", json=HELLO)
    assert (struck.status, struck.body, struck.headers["Retry-After"]) == (500, b"oops", "3")
    assert len(sandbox.messages(chat)) == 1


async def test_half_a_body_arrives_and_then_nothing(call: Caller, sandbox: Sandbox, chat: str) -> None:
    sandbox.faults.add(kind=CutBody())
    with pytest.raises(ClientPayloadError):
        await call("POST", f"{chat}/messages", json=HELLO)
    assert len(sandbox.messages(chat)) == 1


@pytest.mark.parametrize("after", [False, True])
async def test_a_delay_delays(call: Caller, sandbox: Sandbox, chat: str, *, after: bool) -> None:
    sandbox.faults.add(kind=Delay(0.02, after=after))
    started = time.perf_counter()
    assert (await call("POST", f"{chat}/messages", json=HELLO)).status == 201
    assert time.perf_counter() - started >= 0.019
    assert len(sandbox.messages(chat)) == 1


@pytest.mark.parametrize("after", [False, True])
async def test_a_delayed_call_takes_effect_though_its_caller_has_gone(
    call: Caller, sandbox: Sandbox, chat: str, *, after: bool
) -> None:
    sandbox.faults.add(kind=Delay(0.05, after=after))
    calling = asyncio.create_task(call("POST", f"{chat}/messages", json=HELLO))
    await first_call(sandbox)
    calling.cancel()
    await asyncio.wait([calling])
    assert len(sandbox.messages(chat)) == after
    await until(lambda: sandbox.messages(chat))


async def test_a_delayed_call_whose_body_is_too_large_is_refused_as_ever(
    call: Caller, sandbox: Sandbox, chat: str
) -> None:
    async def status() -> int:
        text = BytesIO(b'{"body": "%s"}' % (b"x" * 3_000_000))
        answer = await call(
            "POST", f"{chat}/messages", data=text, headers={"Content-Type": "application/json"}
        )
        return answer.status

    sandbox.faults.add(kind=Delay(0))
    assert [await status(), await status()] == [413, 413]


async def test_stopping_ends_a_delayed_call_whose_caller_has_gone(call: Caller, chat: str) -> None:
    sandbox = call.sandbox
    sandbox.faults.add(kind=Delay(3600))
    before = asyncio.all_tasks()
    calling = asyncio.create_task(call("POST", f"{chat}/messages", json=HELLO))
    await first_call(sandbox)
    calling.cancel()
    await asyncio.wait([calling])
    await sandbox.stop()
    assert asyncio.all_tasks() <= before


async def test_garbage_keeps_the_status_and_is_no_json(call: Caller, sandbox: Sandbox, chat: str) -> None:
    sandbox.faults.add(kind=Garbage(), times=2)
    sent = await call("POST", f"{chat}/messages", json=HELLO)
    assert (sent.status, (await call("GET", "me")).status) == (201, 200)
    with pytest.raises(ValueError, match=r"."):
        json.loads(sent.body)
    assert len(sandbox.messages(chat)) == 1


async def test_a_wrong_shape_is_json_of_the_other_kind(call: Caller, sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=WrongShape(), times=2)
    assert isinstance((await call("GET", "me")).document, list)
    assert isinstance((await call("GET", "conversations")).document, dict)


async def test_a_rule_can_match_a_template_or_a_part_of_a_path(call: Caller, sandbox: Sandbox) -> None:
    sandbox.faults.add(template="conversations/{id}/messages", kind=AnswerStatus(500))
    sandbox.faults.add(path_contains="users/abc", kind=AnswerStatus(502))
    sandbox.faults.add(template="oauth/token", kind=AnswerStatus(503), times=None)
    assert (await call("GET", "conversations")).status == 200
    assert (await call("GET", "users/abc")).status == 502
    assert (await call("GET", "conversations/x/messages")).status == 500
    assert [(await call("POST", "/oauth/token")).status for _ in range(3)] == [503] * 3
    sandbox.faults.clear()
    assert (await call("POST", "/oauth/token")).status == 400


async def test_a_download_can_be_cut_in_half(call: Caller, sandbox: Sandbox) -> None:
    stored, message = next(
        (stored, message)
        for stored in sandbox.store.chats.values()
        for message in stored.messages
        if message.files
    )
    link = await call("GET", f"{stored.address}/attachments/{message.files[0].id}")
    cookie = "; ".join(f"{name}={value}" for name, value in link.cookies.items())
    sandbox.faults.add(template="files/{key}", kind=CutBody())
    with pytest.raises(ClientPayloadError):
        await call("GET", link.document["link"], headers={"Cookie": cookie})


# --- by count and by probability


def test_the_first_calls_can_pass_before_faults_are_counted() -> None:
    faults = Faults()
    faults.add(kind=AnswerStatus(500), path_contains="me", after=2, times=3)
    assert statuses(faults, 5, path="/v1/users/x") == [0] * 5
    assert statuses(faults, 7) == [0, 0, 500, 500, 500, 0, 0]


def test_a_seeded_probability_picks_the_same_calls_in_every_run() -> None:
    runs = []
    for seed in (7, 7, 8):
        faults = Faults()
        faults.add(kind=AnswerStatus(500), probability=0.06, seed=seed, times=None)
        runs.append(statuses(faults, 10_000))
    assert all(540 <= run.count(500) <= 660 for run in runs)
    assert runs[0] == runs[1] != runs[2]


def test_without_a_seed_runs_differ() -> None:
    faults = Faults()
    faults.add(kind=AnswerStatus(500), probability=0.5, times=None)
    first = statuses(faults, 200)
    faults.clear()
    faults.add(kind=AnswerStatus(500), probability=0.5, times=None)
    assert statuses(faults, 200) != first


def test_probabilities_do_not_depend_on_each_other_even_with_one_seed() -> None:
    faults = Faults()
    for status, probability in ((501, 0.3), (502, 0.3), (503, 0.3)):
        faults.add(kind=AnswerStatus(status), probability=probability, seed=7, times=None)
    struck = statuses(faults, 10_000)
    # The oldest takes a call that several rules would fail: 0.3, 0.7 * 0.3 and 0.49 * 0.3.
    assert [round(struck.count(status), -3) for status in (501, 502, 503)] == [3000, 2000, 1000]


def test_a_rule_picks_the_same_calls_whatever_other_rules_do() -> None:
    struck = []
    for others in (False, True):
        faults = Faults()
        if others:
            faults.add(kind=AnswerStatus(502), probability=0.3, seed=1, times=None)
        faults.add(kind=AnswerStatus(501), probability=0.3, seed=7, times=None)
        if others:
            faults.add(kind=AnswerStatus(503), probability=0.3, seed=2, times=None)
        struck.append(statuses(faults, 1000))
    alone, together = struck
    assert [
        now for now, before in zip(together, alone, strict=True) if before and now not in {501, 502}
    ] == []
    assert [now for now, before in zip(together, alone, strict=True) if now == 501 and not before] == []


def test_a_fault_of_another_rule_does_not_count() -> None:
    faults = Faults()
    faults.add(kind=AnswerStatus(501), times=2)
    faults.add(kind=AnswerStatus(502), times=1)
    assert statuses(faults, 4) == [501, 501, 502, 0]


def test_probability_times_and_after_go_together() -> None:
    faults = Faults()
    faults.add(kind=AnswerStatus(500), probability=0.5, seed=7, times=3, after=10)
    struck = statuses(faults, 100)
    assert struck[:10] == [0] * 10
    assert struck.count(500) == 3
    faults.clear()
    faults.add(kind=AnswerStatus(500), probability=0.5, seed=7, times=3, after=10)
    assert statuses(faults, 100) == struck


def test_a_storm_lasts_for_some_time_and_counts_once() -> None:
    faults = Faults()
    faults.add(kind=AnswerStatus(429), after=1, seconds=2, times=2)
    assert statuses(faults, 3, moment=100.0) == [0, 429, 429]
    assert statuses(faults, 3, moment=101.9) == [429] * 3
    assert statuses(faults, 1, moment=102.0) == [429]
    assert statuses(faults, 1, moment=103.9) == [429]
    assert statuses(faults, 2, moment=104.0) == [0, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"probability": 1.01},
        {"probability": -0.1},
        {"probability": float("nan")},
        {"times": -1},
        {"after": -1},
        {"seconds": -1.0},
    ],
)
def test_an_invalid_rule_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Faults().add(kind=CutBefore(), **wrong)


@pytest.mark.parametrize("make", [lambda: Delay(-1), lambda: TooManyRequests(retry_after=-1)])
def test_an_invalid_fault_is_refused(make: Callable[[], Fault]) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


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


# --- being offline


async def test_it_refuses_connections_while_offline_and_comes_back_on_its_port(
    call: Caller, sandbox: Sandbox, chat: str
) -> None:
    url = sandbox.url
    assert (await call("POST", f"{chat}/messages", json=HELLO)).status == 201
    outage = asyncio.create_task(sandbox.go_offline(0.3))
    started = time.perf_counter()
    while await answers(call):
        assert not outage.done()
    async with asyncio.timeout(10):
        while not await answers(call):
            pass
    assert time.perf_counter() - started >= 0.28
    await outage
    assert sandbox.url == url
    assert (await call("POST", f"{chat}/messages", json=HELLO)).status == 201
    assert len(sandbox.messages(chat)) == 2


async def test_going_offline_cuts_what_is_running(call: Caller, sandbox: Sandbox, chat: str) -> None:
    sandbox.faults.add(kind=Delay(3600))
    calling = asyncio.create_task(call("POST", f"{chat}/messages", json=HELLO))
    await first_call(sandbox)
    await sandbox.go_offline(0.01)
    with pytest.raises(ClientConnectionError):
        await calling
    assert sandbox.messages(chat) == ()


async def test_a_call_can_take_it_offline(call: Caller, sandbox: Sandbox, chat: str) -> None:
    sandbox.faults.add(kind=Outage(0.2), method="POST", times=3)
    # Several at once: there is one outage, until the latest of their ends.
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


async def test_overlapping_outages_last_until_the_later_end(call: Caller, sandbox: Sandbox) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(sandbox.go_offline(0.1), sandbox.go_offline(0.3), sandbox.go_offline(0.2))
    assert loop.time() - started >= 0.3
    assert (await call("GET", "me")).status == 200


async def test_no_other_program_gets_the_port_while_it_is_offline(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    outage = asyncio.create_task(sandbox.go_offline(0.3))
    await until(lambda: not listens(port))
    await asyncio.sleep(0.15)  # what is running has some time to end first
    with socket.socket() as other_program, pytest.raises(OSError, match="in use"):
        other_program.bind(("127.0.0.1", port))
    await outage


async def test_stopping_ends_an_outage(session: ClientSession) -> None:
    before = asyncio.all_tasks()
    sandbox = Sandbox(foreign_downloads=True)
    await sandbox.start()
    port = int(sandbox.url.rpartition(":")[2])
    outage = asyncio.create_task(sandbox.go_offline(3600))
    await until(lambda: not listens(port))
    await sandbox.stop()
    await outage
    assert asyncio.all_tasks() == before
    await sandbox.start(port=port)
    assert (await Caller(sandbox, session)("GET", "me")).status == 200
    await sandbox.stop()


async def test_cancelling_the_wait_does_not_keep_it_offline(call: Caller, sandbox: Sandbox) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await sandbox.go_offline(0.2)
    await sandbox.go_offline(0.2)
    assert (await call("GET", "me")).status == 200


async def test_only_a_started_sandbox_goes_offline_and_not_for_negative_time(sandbox: Sandbox) -> None:
    with pytest.raises(RuntimeError, match="not started"):
        await Sandbox().go_offline(1)
    for seconds in (-1, float("nan")):
        with pytest.raises(ValueError, match="0 or more"):
            await sandbox.go_offline(seconds)
        with pytest.raises(ValueError, match="must be"):
            Outage(seconds)


# --- on_message


async def test_on_message_is_called_before_the_sender_has_the_answer(
    call: Caller, sandbox: Sandbox, chat: str
) -> None:
    message_ids: list[str] = []
    sandbox.on_message = message_ids.append
    sandbox.faults.add(kind=Delay(3600, after=True))
    calling = asyncio.create_task(call("POST", f"{chat}/messages", json=HELLO))
    await until(lambda: message_ids)
    assert not calling.done()
    calling.cancel()
    assert message_ids == [message.id for message in sandbox.messages(chat)]


# --- bodies and links


@pytest.mark.parametrize("after", [0, 1, 5000, len(CONTENT) - 1])
async def test_a_file_is_cut_where_it_is_said(call: Caller, sandbox: Sandbox, after: int) -> None:
    file = await linked(call)
    sandbox.faults.add(kind=CutBody(after), template="files/{key}")
    received = bytearray()

    async def receive() -> None:
        async with call.session.get(file.url, headers={"Cookie": file.cookie}) as answer:
            async for chunk, _ in answer.content.iter_chunks():
                received.extend(chunk)

    with pytest.raises(ClientPayloadError):
        await receive()
    assert received == CONTENT[: len(received)]
    assert len(received) <= after
    assert (await file()).body == CONTENT


async def test_a_transfer_can_stand_still(call: Caller, sandbox: Sandbox) -> None:
    file = await linked(call)
    sandbox.faults.add(kind=StallBody(5000), template="files/{key}")
    async with call.session.get(file.url, headers={"Cookie": file.cookie}) as answer:
        assert await answer.content.readexactly(5000) == CONTENT[:5000]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.content.readany(), 0.05)
        answer.close()


@pytest.mark.looptime
async def test_a_transfer_can_be_slow(call: Caller, sandbox: Sandbox) -> None:
    file = await linked(call)
    sandbox.faults.add(kind=SlowBody(1024), template="files/{key}")
    started = asyncio.get_running_loop().time()
    assert (await file()).body == CONTENT
    assert 9.9 < asyncio.get_running_loop().time() - started < 11


@pytest.mark.parametrize("link", ["file:///etc/passwd", "http://evil.example/a b", "/files/x", ""])
async def test_a_link_can_lead_anywhere(call: Caller, sandbox: Sandbox, link: str) -> None:
    sandbox.faults.add(kind=RedirectTo(link), template="conversations/{id}/attachments/{attachment_id}")
    answer = await call("GET", "conversations/c1/attachments/a1")
    assert (answer.status, answer.document, answer.headers["Location"]) == (302, {"link": link}, link)
    assert answer.cookies == {"download": "made-up"}


async def test_redirects_can_be_without_end(call: Caller, sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=RedirectLoop(), method="GET", path_contains="/attachments/")
    link = (await linked(call)).url
    for turn in range(1, 10):
        assert link == f"{sandbox.url}/files/loop/{turn}"
        answer = await call("GET", link)
        assert answer.status == 302
        link = answer.headers["Location"]
