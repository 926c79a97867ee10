"""A kept-alive connection breaks after the service has carried a call out: it is carried out once."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from healthmsg import CallError, Client, DeliveryUnknownError, Retries
from healthmsg.errors import ConnectionLostError
from tests.machine import Machine
from tests.servers import Incoming, answering, serve
from tests.transport.hospital import FRESH, environment_at

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")


async def answer_only_the_first(incoming: Incoming) -> None:
    await incoming.request()
    await incoming.answer(200, b'{"id": "u1"}')
    await incoming.request()


@pytest.mark.parametrize(
    ("method", "retries", "kind"),
    [
        ("GET", Retries.none(), ConnectionLostError),
        ("PUT", Retries.none(), DeliveryUnknownError),
        ("DELETE", Retries.none(), DeliveryUnknownError),
        ("POST", Retries.none(), DeliveryUnknownError),
        ("DELETE", Retries(), DeliveryUnknownError),
        ("POST", Retries(), DeliveryUnknownError),
    ],
)
async def test_nothing_sends_it_again(method: str, retries: Retries, kind: type[CallError]) -> None:
    async with serve(answer_only_the_first) as server:
        async with Client(FRESH, environment=environment_at(server.url), retries=retries) as client:
            await client.me.get()
            group = client.groupchats("g1")
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "GET": group.get,
                "PUT": lambda: group.rename("Nazorg"),
                "DELETE": lambda: group.close(send_email=False),
                "POST": lambda: group.send("Hallo"),
            }
            with pytest.raises(kind):
                await calls[method]()

        assert [call.method for call in server.executed] == ["GET", method]
        assert server.opened == 1


@pytest.mark.parametrize(("seconds", "opened"), [(0, 1), (60, 2)])
async def test_a_connection_that_was_kept_while_the_machine_slept_is_not_used(
    machine: Machine, seconds: float, opened: int
) -> None:
    async with serve(answering(200, b'{"id": "u1"}')) as server:
        async with Client(FRESH, environment=environment_at(server.url)) as client:
            await client.me.get()
            machine.sleep(seconds)
            for _ in range(2):
                await client.groupchats("g1").rename("Nazorg")

        assert len(server.executed) == 3
        assert server.opened == opened


async def test_a_call_that_was_under_way_when_the_machine_slept_goes_on(machine: Machine) -> None:
    is_awake = asyncio.Event()

    async def answer_after_the_sleep(incoming: Incoming) -> None:
        call = await incoming.request()
        if call.method == "POST":
            await is_awake.wait()
        await incoming.answer(200, b'{"id": "u1"}')

    async with (
        serve(answer_after_the_sleep) as server,
        Client(FRESH, environment=environment_at(server.url)) as client,
    ):
        sending = asyncio.ensure_future(client.groupchats("g1").send("Hallo"))
        await server.until(lambda server: len(server.executed) == 1)
        machine.sleep(60)
        await client.me.get()
        is_awake.set()
        assert (await sending).id == "u1"
