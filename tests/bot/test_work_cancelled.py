"""Handlers that cancel their own task, or raise what is no `Exception`: their chat goes on all the same."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from healthmsg.bot.store.effects import Effect
from healthmsg.errors import ClientUsageError
from healthmsg.events import Event
from tests.bot.working import Work, ids, working
from tests.gateway.inbox.inboxes import message
from tests.waiting import until

LINES = Path(__file__).read_text(encoding="utf-8").splitlines()
FIRST, SECOND, THIRD = message(0), message(1), message(2)


def cancel_this() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def test_one_that_cancels_its_own_task_is_parked() -> None:
    async def handle(event: Event) -> Sequence[Effect]:
        if event.id == FIRST.id:
            cancel_this()
            await asyncio.sleep(0)
        return ()

    async with working(handler=handle) as work:
        work.add(FIRST, SECOND)
        await work.idle()
        assert work.handled == ids(FIRST, SECOND)
        assert [one.event.id for one in work.store.parked_events.values()] == [FIRST.id]


@pytest.mark.parametrize("is_raised", [True, False], ids=["and has caught it", "and has ended before"])
async def test_one_that_has_cancelled_its_own_task_leaves_nothing_of_it_to_the_next(
    *, is_raised: bool
) -> None:
    async def handle(event: Event) -> Sequence[Effect]:
        if event.id == FIRST.id:
            cancel_this()
            with suppress(asyncio.CancelledError):
                if is_raised:
                    await asyncio.sleep(0)
        elif event.id == SECOND.id:
            raise asyncio.CancelledError  # of something that it has waited for
        return ()

    async with working(handler=handle) as work:
        work.add(FIRST, SECOND, THIRD)
        await work.idle()
        assert work.handled == ids(FIRST, SECOND, THIRD)
        assert [one.event.id for one in work.store.parked_events.values()] == [SECOND.id]


@pytest.mark.parametrize("error", [SystemExit(3), BaseException()], ids=["SystemExit", "BaseException"])
async def test_one_that_wants_to_end_the_process_is_parked_and_does_not_end_it_again_and_again(
    error: BaseException,
) -> None:
    async def handle(event: Event) -> Sequence[Effect]:
        if event.id == FIRST.id:
            raise error
        return ()

    async with working(handler=handle) as work:
        work.add(FIRST, SECOND)
        await work.idle()
        assert work.handled == ids(FIRST, SECOND)
        assert [one.reason for one in work.store.parked_events.values()] == [type(error).__name__]


async def test_one_whose_task_is_cancelled_later_ends_the_bot_and_does_not_stop_its_chat_in_silence() -> None:
    work = Work()
    work.add(FIRST)

    async def handle(_: Event) -> Sequence[Effect]:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)  # while its end is written
        return ()

    work.handler = handle
    with pytest.raises(ClientUsageError, match="cancelled by other code"):
        async with asyncio.timeout(5):
            await work.loop.run()


async def test_what_is_in_hand_when_all_tasks_are_cancelled_is_not_parked() -> None:
    work = Work()
    work.hold(FIRST)
    work.add(FIRST)
    running = asyncio.create_task(work.loop.run())
    await work.until(lambda: work.running)
    # As `asyncio.run` does at its end: the handlers' tasks may be the first ones.
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert not work.store.parked_events
    assert [one.event.id for one in work.store.events.values()] == [FIRST.id]


# --- handlers that swallow it


async def test_one_that_does_not_end_is_named_and_left_behind_as_after_a_kill(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone, is_in = asyncio.Event(), list[str]()

    async def handle(event: Event) -> Sequence[Effect]:
        is_in.append(event.id)
        while not gone.is_set():
            with suppress(asyncio.CancelledError):
                if event.id == FIRST.id:
                    await gone.wait()  # it stands here
                else:
                    await asyncio.sleep(60)
            if event.id != FIRST.id:
                raise asyncio.CancelledError
        return ()

    work = Work(handler=handle)
    work.loop._ends_within = 0.05
    elsewhere = message(5, chat="c5")
    work.add(FIRST, elsewhere)
    running = asyncio.create_task(work.loop.run())
    await work.until(lambda: len(is_in) == 2)

    work.loop.cut_short()
    work.loop.cut_short()
    async with asyncio.timeout(5):
        await running
        await work.loop.idle()
    gone.set()
    in_hand = {*work.store.running}
    await work.until(lambda: not work.loop.running)

    assert in_hand == {1}  # the other one waits again, as if it had never been begun
    (said,) = [one for one in caplog.records if one.levelname == "ERROR"]
    line = next(n for n, text in enumerate(LINES, start=1) if "# it stands here" in text)
    assert f"{__file__}:{line}" in said.getMessage()


async def test_one_that_does_not_end_does_not_keep_a_loop_from_ending_that_is_cancelled() -> None:
    gone, begun = asyncio.Event(), asyncio.Event()

    async def handle(_: Event) -> Sequence[Effect]:
        begun.set()
        while not gone.is_set():
            with suppress(asyncio.CancelledError):
                await gone.wait()
        return ()

    work = Work(handler=handle)
    work.loop._ends_within = 0.05
    work.add(FIRST)
    running = asyncio.create_task(work.loop.run())
    await begun.wait()
    running.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait([running])
    gone.set()
    await work.until(lambda: not work.loop.running)
    assert running.cancelled()


async def test_a_handler_that_holds_the_end_up_is_named_with_what_a_second_signal_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go_on = asyncio.Event()

    async def handle(event: Event) -> Sequence[Effect]:
        await go_on.wait()  # it holds the end up
        return ()

    async with working(handler=handle) as work:
        work.loop._ends_within = 0.05
        work.add(FIRST)
        await until(lambda: work.loop.running)
        work.loop.drain()
        await until(lambda: "second signal" in caplog.text)
        go_on.set()
    line = next(n for n, text in enumerate(LINES, start=1) if "# it holds the end up" in text)
    (record,) = caplog.records
    assert f"{__file__}:{line}" in record.getMessage()
    assert work.handled == ids(FIRST)
