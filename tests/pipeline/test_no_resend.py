"""A kept-alive connection breaks after the service has carried a call out: it is carried out once."""

from collections.abc import Awaitable, Callable

import pytest
from hospital import FRESH, environment_at
from servers import Incoming, nothing_reaches_the_event_loop, serve

from healthmsg import CallError, Client, ConnectionLostError, DeliveryUnknownError, Retries

pytestmark = pytest.mark.usefixtures(nothing_reaches_the_event_loop.__name__)
__all__ = ["nothing_reaches_the_event_loop"]


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
