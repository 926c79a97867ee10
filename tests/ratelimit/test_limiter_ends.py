"""What a call holds, and until when, for each way in which it can end. Over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from healthmsg.errors import CallError, CallTimeoutError, ConnectError, ConnectionLostError
from healthmsg.pipeline import fold
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.request import Request, Response
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.ratelimit.window import Slot
from healthmsg.transport.timeouts import Timeout
from tests.servers import (
    Handler,
    Incoming,
    a_request,
    answering,
    cut_the_answer,
    hang,
    reset_after_the_call,
    serve,
    wire_to,
)

PER, ARRIVAL = 0.5, 0.2
Send = Callable[[Request], Awaitable[Response]]


@pytest.fixture
def limiter() -> Limiter:
    return Limiter(RateLimit(calls=2, per=PER, arrival=ARRIVAL))


@pytest.fixture
def silent_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
async def mute() -> AsyncIterator[str]:
    """Return the https URL of a server that never answers the handshake."""
    async with serve(hang) as server:
        yield server.url.replace("http:", "https:")


def held(limiter: Limiter) -> int:
    assert limiter._window.count_returned(limiter.now())
    return limiter.rate.calls - limiter._window.free


def slot_of(request: Request) -> Slot:
    assert isinstance(request.current.slot, Slot)
    return request.current.slot


async def ended(limiter: Limiter, url: str, error: type[CallError] | None, total: float = 5.0) -> Slot:
    """Make a call that ends so, and give what was its slot."""
    request = a_request()
    async with wire_to(url, Timeout(total=total)) as wire:
        send = fold([LimitStep(limiter, longest_pause=1)], wire)
        if error is None:
            await send(request)
        else:
            with pytest.raises(error):
                await send(request)
    return slot_of(request)


def is_connecting(request: Request) -> bool:
    return request.current.url is not None and request.current.has_left is False


async def cancelled(limiter: Limiter, url: str, is_time: Callable[[Request], bool]) -> Slot:
    """Make a call, cancel it at that time, and give what was its slot."""
    request = a_request()
    async with wire_to(url) as wire:
        call = asyncio.ensure_future(fold([LimitStep(limiter, longest_pause=1)], wire)(request))
        async with asyncio.timeout(5):
            while not is_time(request):  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    return slot_of(request)


async def test_a_call_that_was_never_connected_holds_nothing(limiter: Limiter, silent_address: str) -> None:
    await ended(limiter, silent_address, ConnectError)
    assert held(limiter) == 0


async def test_a_call_that_timed_out_before_it_could_leave_holds_nothing(limiter: Limiter, mute: str) -> None:
    await ended(limiter, mute, ConnectError, total=0.05)
    assert held(limiter) == 0


async def test_a_call_that_was_cancelled_before_it_left_may_still_arrive(limiter: Limiter, mute: str) -> None:
    slot = await cancelled(limiter, mute, is_connecting)
    assert slot.sent_at is None
    assert held(limiter) == 1
    assert limiter._window.next_due() == pytest.approx(limiter.now() + ARRIVAL + PER, abs=0.1)


async def test_a_call_that_was_answered_is_counted_until_an_interval_later(limiter: Limiter) -> None:
    async with serve(answering()) as server:
        slot = await ended(limiter, server.url, None)
    assert slot.sent_at is not None
    assert held(limiter) == 1
    assert slot.sent_at + PER <= limiter._window.next_due() <= min(limiter.now() + PER, slot.due)
    assert limiter._window.next_due() < slot.due - ARRIVAL / 4


async def never_answers(incoming: Incoming) -> None:
    await incoming.request()
    await hang(incoming)


async def is_slow(incoming: Incoming) -> None:
    await incoming.request()
    await asyncio.sleep(ARRIVAL + 0.05)
    await incoming.answer()


@pytest.mark.parametrize(
    ("handler", "error", "total"),
    [
        pytest.param(reset_after_the_call, ConnectionLostError, 5.0, id="cut without an answer"),
        pytest.param(never_answers, CallTimeoutError, 0.05, id="timed out"),
        pytest.param(is_slow, None, 5.0, id="answered late"),
    ],
)
async def test_a_call_without_an_answer_in_time_has_arrived_by_then_and_is_counted_an_interval_more(
    limiter: Limiter, handler: Handler, error: type[CallError] | None, total: float
) -> None:
    async with serve(handler) as server:
        slot = await ended(limiter, server.url, error, total)
    assert slot.sent_at is not None
    assert held(limiter) == 1
    assert limiter._window.next_due() == pytest.approx(slot.sent_at + ARRIVAL + PER)


async def test_a_call_whose_answer_was_cut_had_arrived_before_that_answer(limiter: Limiter) -> None:
    async with serve(cut_the_answer) as server:
        slot = await ended(limiter, server.url, ConnectionLostError)
    assert held(limiter) == 1
    assert limiter._window.next_due() < slot.due


async def test_a_call_that_was_cancelled_after_it_left_is_counted_like_one_without_an_answer(
    limiter: Limiter,
) -> None:
    async with serve(never_answers) as server:
        slot = await cancelled(limiter, server.url, lambda _: bool(server.executed))
    assert slot.sent_at is not None
    assert held(limiter) == 1
    assert limiter._window.next_due() == pytest.approx(slot.sent_at + ARRIVAL + PER)


async def test_a_call_that_was_cancelled_while_it_waited_holds_nothing_and_was_never_sent(
    limiter: Limiter,
) -> None:
    limiter.pause(1)
    request = a_request()
    async with serve(answering()) as server, wire_to(server.url) as wire:
        call = asyncio.ensure_future(fold([LimitStep(limiter, longest_pause=1)], wire)(request))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not server.opened
    assert request.current.slot is None
    assert held(limiter) == 0
    assert limiter.waiting == 0
