"""Sending comes to a halt: the time-out that aiohttp does not have."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from healthmsg import (
    CallTimeoutError,
    Client,
    DeliveryUnknownError,
    Outcome,
    Timeout,
    UploadFile,
)
from healthmsg.network import Network
from healthmsg.pipeline.request import Content, FilePart, Multipart
from healthmsg.ratelimit.window import Slot
from healthmsg.transport.multipart import FileSource
from healthmsg.transport.timeouts import Standstill
from tests.servers import (
    Incoming,
    Server,
    a_request,
    answering,
    assert_error_tells_nothing,
    serve,
    wire_to,
)
from tests.transport.hospital import FRESH, Authority, environment_at

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")
# More than all buffers on the way take.
LARGE = 24 * 1024 * 1024
SHORT = 0.1


def a_form(open_file: Callable[[], Any] | None = None, size: int = LARGE) -> Multipart:
    source = FileSource(open_file or (lambda: BytesIO(bytes(size))))
    file = FilePart("files", "a.bin", "application/x-test", size, source)
    return Multipart((("message", "Hallo"),), (file,))


async def stop_reading(incoming: Incoming) -> None:
    await incoming.head()
    await asyncio.Event().wait()


async def answer_and_stop_reading(incoming: Incoming) -> None:
    await incoming.head()
    await incoming.answer(413)
    await asyncio.Event().wait()


@pytest.fixture(params=["plain", "tls"])
async def stuck(request: pytest.FixtureRequest, authority: Authority) -> AsyncIterator[Server]:
    async with serve(stop_reading, authority.tls if request.param == "tls" else None) as server:
        yield server


@pytest.mark.parametrize("body", [a_form(), Content("application/json", bytes(LARGE))], ids=["form", "json"])
async def test_a_server_that_stops_reading_ends_the_call_in_time(
    stuck: Server, authority: Authority, body: Content | Multipart
) -> None:
    loop, network = asyncio.get_running_loop(), Network(ssl=authority.bundle)
    request = a_request(body=body)
    started = loop.time()
    async with wire_to(stuck.url, Timeout(write=SHORT), network=network) as wire:
        with pytest.raises(CallTimeoutError) as caught:
            await wire(request)

    assert SHORT <= loop.time() - started < 20 * SHORT
    assert request.current.has_left
    assert caught.value.outcome is Outcome.UNKNOWN
    assert_error_tells_nothing(caught.value)
    assert stuck.opened == 1


async def test_an_upload_that_got_stuck_may_have_arrived_and_leaves_nothing_behind(
    authority: Authority,
) -> None:
    async with serve(stop_reading) as stuck:
        environment, timeout = environment_at(stuck.url), Timeout(write=SHORT)
        async with Client(FRESH, environment=environment, timeout=timeout) as client:
            with pytest.raises(DeliveryUnknownError) as caught:
                await client.conversations("c1").upload(UploadFile(bytes(LARGE), "scan.png"))
        assert stuck.opened == 1

    assert isinstance(caught.value.__cause__, CallTimeoutError)
    await asyncio.to_thread(_until_no_upload_runs)


def _until_no_upload_runs() -> None:
    for thread in threading.enumerate():
        if "healthmsg upload" in thread.name:
            thread.join(2)
            assert not thread.is_alive()


async def test_an_answer_before_all_was_sent_counts() -> None:
    async with serve(answer_and_stop_reading) as server, wire_to(server.url, Timeout(write=SHORT)) as wire:
        assert (await wire(a_request(body=a_form()))).status == 413


async def test_a_disk_that_is_slow_is_no_standstill(tmp_path: Path) -> None:
    class SlowDisk(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            threading.Event().wait(3 * SHORT)
            return super().read(size)

    form = a_form(lambda: SlowDisk(b"x" * 100_000), 100_000)
    async with serve(answering()) as server, wire_to(server.url, Timeout(write=SHORT)) as wire:
        assert (await wire(a_request(body=form))).status == 200


async def test_waiting_for_the_limit_is_no_standstill() -> None:
    class LateSlot(Slot):
        def __init__(self) -> None: ...

        def sent(self) -> bool:
            return True

        def answered(self) -> None: ...

        async def before_last_chunk(self) -> None:
            await asyncio.get_running_loop().run_in_executor(None, threading.Event().wait, 3 * SHORT)

    request = a_request(body=a_form(size=100_000))
    request.current.slot = LateSlot()
    async with serve(answering()) as server, wire_to(server.url, Timeout(write=SHORT)) as wire:
        assert (await wire(request)).status == 200


# --- in fake time


@define
class Outlet:
    """What is being sent, and how much of it waits."""

    output_size: int = 0
    waiting: int = 0

    @property
    def transport(self) -> Any:
        return self

    def get_write_buffer_size(self) -> int:
        return self.waiting


async def strikes_after(outlet: Outlet, seconds: float, meanwhile: Callable[[], None], steps: int) -> float:
    """Return how long it took until it struck, or -1 if it did not, while something is done each second."""
    loop = asyncio.get_running_loop()
    started, struck = loop.time(), [-1.0]
    with Standstill(outlet, seconds, lambda: struck.append(loop.time() - started)):
        for _ in range(steps):
            await asyncio.sleep(1)
            meanwhile()
    await asyncio.sleep(10 * seconds)
    assert len(struck) < 3
    return struck[-1]


@pytest.mark.looptime
async def test_it_strikes_once_when_nothing_moves() -> None:
    took = await strikes_after(Outlet(1000, 500), 10, lambda: None, 60)

    assert 10 <= took <= 11.5


@pytest.mark.looptime
async def test_it_does_not_strike_while_a_little_moves() -> None:
    outlet = Outlet(1000, 500)

    def move() -> None:
        outlet.waiting -= 1

    assert await strikes_after(outlet, 10, move, 200) == -1


@pytest.mark.looptime
async def test_more_to_be_sent_is_no_movement() -> None:
    outlet = Outlet(1000, 500)

    def add() -> None:
        outlet.output_size += 1
        outlet.waiting += 1

    assert 10 <= await strikes_after(outlet, 10, add, 60) <= 11.5


@pytest.mark.looptime
async def test_it_does_not_strike_while_nothing_waits_and_starts_over_after_that() -> None:
    outlet, seconds = Outlet(1000, 0), iter(range(1000))

    def fill_up_after_100_seconds() -> None:
        if next(seconds) == 100:
            outlet.waiting = 5

    assert 110 <= await strikes_after(outlet, 10, fill_up_after_100_seconds, 200) <= 113


@pytest.mark.looptime
async def test_it_does_not_strike_after_the_end() -> None:
    assert await strikes_after(Outlet(1000, 500), 10, lambda: None, 9) == -1
