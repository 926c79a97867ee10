"""A client of the gateway in plain aiohttp: the SDK itself has no part in that."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from attrs import frozen

from healthmsg.sandbox import Sandbox

Frame = tuple[str, dict[str, Any]]
PROPERTIES = {"os": "linux", "browser": "Tests", "device": "Tests", "version": "1.0"}


@frozen
class Wire:
    """A connection; what the server sends is read as it comes."""

    socket: ClientWebSocketResponse

    async def send(self, name: str, **data: Any) -> None:
        await self.socket.send_str(json.dumps({"event": name, "data": data}))

    async def shake_hands(self, token: str, **properties: str) -> Frame:
        await self.send("handshake", token=token, properties=PROPERTIES | properties)
        return await self.next()

    async def next(self) -> Frame:
        """Return the next frame."""
        message = await self.socket.receive(timeout=30)
        assert message.type is WSMsgType.TEXT, message
        frame = json.loads(message.data)
        assert set(frame) == {"event", "data"}
        return frame["event"], frame["data"]

    async def take(self, many: int) -> list[Frame]:
        return [await self.next() for _ in range(many)]

    async def until(self, name: str) -> list[Frame]:
        """Return all frames up to one of this name."""
        frames = [await self.next()]
        while frames[-1][0] != name:
            frames.append(await self.next())
        return frames

    async def settled(self) -> list[Frame]:
        """Return all frames that were sent before this call, on a line that is not late."""
        await self.send("nothing such")
        return (await self.until("error"))[:-1]

    async def end(self) -> WSMsgType:
        """Wait until the server ends the connection; return how."""
        async with asyncio.timeout(30):
            while (message := await self.socket.receive()).type is WSMsgType.TEXT:
                pass
        return message.type


@asynccontextmanager
async def wire_to(session: ClientSession, sandbox: Sandbox, **kwargs: Any) -> AsyncIterator[Wire]:
    """Connect, without the handshake."""
    url = sandbox.environment.gateway_url
    assert url is not None
    async with session.ws_connect(url, **kwargs) as socket:
        yield Wire(socket)


@asynccontextmanager
async def signed_in(
    session: ClientSession, sandbox: Sandbox, user: str | None = None, **kwargs: Any
) -> AsyncIterator[Wire]:
    """Connect as a user, the main user unless another one is named."""
    async with wire_to(session, sandbox, **kwargs) as wire:
        name, data = await wire.shake_hands(sandbox.issue_token(user))
        assert name == "authenticated"
        assert data["user"]["id"] == (user or sandbox.user_id)
        yield wire
