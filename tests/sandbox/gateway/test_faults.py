"""What a test can make go wrong with the gateway."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWSTimeout, WSCloseCode, WSMsgType, WSServerHandshakeError

from healthmsg.sandbox import Gateway, Sandbox
from tests.sandbox.gateway.wire import Frame, signed_in, wire_to
from tests.waiting import until


@pytest.fixture
def group(sandbox: Sandbox) -> Callable[[int], list[str]]:
    """Return what makes so many group chats, which are events, and returns their ids."""
    return lambda many: [sandbox.add_group_chat(f"Team {number}") for number in range(many)]


def ids(frames: list[Frame]) -> list[str]:
    return [data["groupchat_id"] for _, data in frames]


async def test_a_dropped_connection_ends_without_a_close(session: ClientSession, sandbox: Sandbox) -> None:
    patient = sandbox.add_user("Bea", "Bos")
    async with signed_in(session, sandbox) as mine, signed_in(session, sandbox, patient) as theirs:
        assert sandbox.gateway.drop(sandbox.user_id) == 1
        assert sandbox.gateway.connected() == 1
        assert await mine.end() in (WSMsgType.CLOSED, WSMsgType.ERROR)
        assert mine.socket.close_code == 1006
        assert await theirs.settled() == []
        assert sandbox.gateway.drop() == 1
        assert sandbox.gateway.drop() == 0
        assert await theirs.end() in (WSMsgType.CLOSED, WSMsgType.ERROR)


@pytest.mark.looptime
async def test_a_silently_dropped_connection_stays_open_and_says_nothing_not_even_pong(
    session: ClientSession, sandbox: Sandbox, group: Callable[[int], list[str]]
) -> None:
    async with signed_in(session, sandbox, autoping=False) as wire:
        assert sandbox.gateway.drop(silently=True) == 1
        assert sandbox.gateway.connected() == 0
        group(1)
        await wire.socket.ping()
        await wire.send("presence_update", status="busy")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.socket.receive(), 290)
        assert sandbox.store.people[sandbox.user_id].presence == "offline"
        assert sandbox.gateway.drop() == 0
        # In the end the sandbox lets go of it.
        assert (await asyncio.wait_for(wire.socket.receive(), 20)).type in (
            WSMsgType.CLOSED,
            WSMsgType.ERROR,
        )


async def test_a_share_of_the_frames_comes_twice(
    session: ClientSession, sandbox: Sandbox, group: Callable[[int], list[str]]
) -> None:
    sandbox.gateway.duplicate(0.3, seed=7)
    async with signed_in(session, sandbox) as wire:
        made = group(100)
        came = ids(await wire.settled())
    assert list(dict.fromkeys(came)) == made
    assert set(Counter(came).values()) == {1, 2}
    assert 15 < len(came) - 100 < 45


async def test_a_share_of_the_frames_changes_places_with_the_next_one(
    session: ClientSession, sandbox: Sandbox, group: Callable[[int], list[str]]
) -> None:
    sandbox.gateway.reorder(0.3, seed=7)
    async with signed_in(session, sandbox) as wire:
        made = group(101)[:100]
        came = ids(await wire.settled())[:100]
    assert came != made
    assert sorted(came) == sorted(made)
    assert max(abs(came.index(each) - made.index(each)) for each in made) == 1


@pytest.mark.looptime
async def test_the_last_frame_does_not_wait_for_ever_for_one_to_change_places_with(
    session: ClientSession, sandbox: Sandbox, group: Callable[[int], list[str]]
) -> None:
    loop = asyncio.get_running_loop()
    sandbox.gateway.reorder(1.0)
    async with signed_in(session, sandbox) as wire:
        started = loop.time()
        (made,) = group(1)
        assert ids([await wire.next()]) == [made]
        assert 0.5 <= loop.time() - started < 1
        one, other = group(2)
        assert ids(await wire.take(2)) == [other, one]
        await asyncio.sleep(1)
        assert await wire.settled() == []


@pytest.mark.looptime
async def test_frames_can_be_late_in_order(
    session: ClientSession, sandbox: Sandbox, group: Callable[[int], list[str]]
) -> None:
    loop = asyncio.get_running_loop()
    async with signed_in(session, sandbox) as wire:
        started = loop.time()
        sandbox.gateway.delay(5)
        made = group(3)
        sandbox.gateway.delay(0)
        made += group(1)
        assert ids(await wire.take(4)) == made
        assert 5 <= loop.time() - started < 6


async def kept_until_dropped(session: ClientSession, sandbox: Sandbox, lines: int) -> AsyncIterator[int]:
    """Yield for each of so many lines, one after the other, how many of 20 frames came."""
    for _ in range(lines):
        async with signed_in(session, sandbox) as wire:
            for number in range(20):
                sandbox.add_group_chat(str(number))
            came = 0
            while (await wire.socket.receive()).type is WSMsgType.TEXT:
                came += 1
                if came == 20:
                    break
            yield came


async def test_a_share_of_the_lines_is_dropped_at_a_random_frame_the_same_in_every_run(
    session: ClientSession,
) -> None:
    runs: list[list[int]] = []
    for _ in range(2):
        async with Sandbox() as sandbox:
            sandbox.gateway.drop_lines(0.5, within=15, seed=7)
            runs.append([came async for came in kept_until_dropped(session, sandbox, 20)])
    assert runs[0] == runs[1]
    dropped = [came for came in runs[0] if came < 20]
    assert 5 < len(dropped) < 15
    assert max(dropped) < 15
    assert len(set(dropped)) > 3


@pytest.mark.looptime
async def test_a_line_can_be_dropped_at_a_frame_silently(
    session: ClientSession, sandbox: Sandbox, group: Callable[[int], list[str]]
) -> None:
    sandbox.gateway.drop_lines(1.0, within=1, silently=True)
    async with signed_in(session, sandbox) as wire:
        group(2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.socket.receive(), 200)
        assert sandbox.gateway.connected() == 0


async def test_a_flood_goes_on_over_a_close_until_the_client_ends_the_connection(
    session: ClientSession, sandbox: Sandbox
) -> None:
    async with signed_in(session, sandbox) as wire, signed_in(session, sandbox, autoclose=False) as closing:
        sandbox.gateway.flood()
        async with signed_in(session, sandbox) as later:
            for each in (wire, later):
                frames = await each.take(1000)
                assert {name for name, _ in frames} == {"presence_update"}
            await closing.send("conversation_new_message", conversation_id="none", body="Dag")
            await closing.until("error")
            await closing.socket._writer.close(1000)
            await closing.take(5000)
            assert sandbox.gateway.connected() == 3
            sandbox.gateway.clear()
            assert await closing.end() is WSMsgType.CLOSE
            await later.settled()
        await until(lambda: sandbox.gateway.connected() == 1)


async def test_a_close_can_be_left_without_an_answer(session: ClientSession, sandbox: Sandbox) -> None:
    sandbox.gateway.ignore_close()
    async with signed_in(session, sandbox, timeout=ClientWSTimeout(ws_close=0.2)) as wire:
        closing = asyncio.create_task(wire.socket.close())
        await asyncio.wait([closing], timeout=0.1)
        assert not closing.done()
        assert sandbox.gateway.connected() == 1
        await closing
        assert wire.socket.close_code == WSCloseCode.ABNORMAL_CLOSURE
    await until(lambda: sandbox.gateway.connected() == 0)


async def test_connections_can_be_accepted_and_closed_at_once(
    session: ClientSession, sandbox: Sandbox
) -> None:
    sandbox.gateway.close_at_once(times=2)
    for _ in range(2):
        async with wire_to(session, sandbox) as wire:
            assert await wire.end() is WSMsgType.CLOSE
    async with signed_in(session, sandbox) as wire:
        assert await wire.settled() == []
    sandbox.gateway.close_at_once()
    for _ in range(3):
        async with wire_to(session, sandbox) as wire:
            assert await wire.end() is WSMsgType.CLOSE
    assert sandbox.gateway.connects == 6


async def test_an_upgrade_can_be_refused(session: ClientSession, sandbox: Sandbox) -> None:
    sandbox.gateway.refuse(503, times=1)
    with pytest.raises(WSServerHandshakeError, match="503"):
        async with wire_to(session, sandbox):
            pass
    async with signed_in(session, sandbox):
        pass
    sandbox.gateway.refuse(401)
    for _ in range(3):
        with pytest.raises(WSServerHandshakeError, match="401"):
            async with wire_to(session, sandbox):
                pass


async def test_all_faults_can_be_taken_away(
    session: ClientSession, sandbox: Sandbox, group: Callable[[int], list[str]]
) -> None:
    gateway = sandbox.gateway
    gateway.duplicate(1.0)
    gateway.reorder(1.0)
    gateway.delay(3600)
    gateway.drop_lines(1.0)
    gateway.close_at_once()
    gateway.refuse(503)
    gateway.ignore_close()
    gateway.flood()
    gateway.clear()
    async with signed_in(session, sandbox) as wire:
        made = group(200)
        assert ids(await wire.settled()) == made
    await until(lambda: gateway.connected() == 0)


@pytest.mark.parametrize(
    "ask",
    [
        lambda gateway: gateway.duplicate(1.1),
        lambda gateway: gateway.reorder(-0.1),
        lambda gateway: gateway.drop_lines(float("nan")),
        lambda gateway: gateway.drop_lines(0.5, within=0),
        lambda gateway: gateway.delay(-1),
        lambda gateway: gateway.refuse(200),
        lambda gateway: gateway.refuse(503, times=-1),
        lambda gateway: gateway.close_at_once(times=-1),
    ],
)
def test_what_cannot_be_is_refused(ask: Callable[[Gateway], Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ask(Gateway())


async def test_a_client_that_does_not_read_is_dropped_before_too_much_waits(
    session: ClientSession, sandbox: Sandbox, group: Callable[[int], list[str]]
) -> None:
    sandbox.gateway.delay(3600)
    async with signed_in(session, sandbox):
        group(10_000)
        assert sandbox.gateway.connected() == 1
        group(1)
        assert sandbox.gateway.connected() == 0
