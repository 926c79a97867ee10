"""Faults to order."""

import asyncio
import json
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError

from healthmsg.sandbox import (
    AnswerStatus,
    CutAfter,
    CutBefore,
    CutBody,
    Delay,
    Fault,
    Faults,
    Garbage,
    Sandbox,
    TooManyRequests,
    WrongShape,
)
from tests.caller import Caller, first_call
from tests.waiting import until

HELLO = {"body": "Hallo"}


def statuses(faults: Faults, calls: int, *, path: str = "/v1/me", moment: float = 0.0) -> list[int]:
    """Give the status that strikes each of so many calls; 0: none does."""
    taken = [faults.take("GET", path, None, moment) for _ in range(calls)]
    return [fault.status if isinstance(fault, AnswerStatus) else 0 for fault in taken]


@pytest.fixture
def chat(sandbox: Sandbox) -> str:
    return f"conversations/{sandbox.add_conversation()}"


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


async def test_a_fault_can_be_for_a_template_or_a_piece_of_a_path(call: Caller, sandbox: Sandbox) -> None:
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


def test_the_first_calls_can_pass_and_strikes_are_counted_from_there() -> None:
    faults = Faults()
    faults.add(kind=AnswerStatus(500), path_contains="me", after=2, times=3)
    assert statuses(faults, 5, path="/v1/users/x") == [0] * 5
    assert statuses(faults, 7) == [0, 0, 500, 500, 500, 0, 0]


def test_a_probability_is_kept_and_is_the_same_in_every_run_with_a_seed() -> None:
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
    # The oldest takes a call that several would strike: 0.3, 0.7 * 0.3 and 0.49 * 0.3.
    assert [round(struck.count(status), -3) for status in (501, 502, 503)] == [3000, 2000, 1000]


def test_an_order_strikes_the_same_calls_whatever_the_others_do() -> None:
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


def test_a_strike_that_another_order_made_does_not_count() -> None:
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


def test_a_strike_can_last_for_some_time_and_counts_once() -> None:
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
def test_an_order_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Faults().add(kind=CutBefore(), **wrong)


@pytest.mark.parametrize("make", [lambda: Delay(-1), lambda: TooManyRequests(retry_after=-1)])
def test_a_kind_that_cannot_be_is_refused(make: Callable[[], Fault]) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()
