"""A sandbox in another process, seen from here."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from attrs import field, frozen

from healthmsg.environment import Environment
from healthmsg.errors import ConfigurationError
from healthmsg.sandbox.admin import SECRET_HEADER
from healthmsg.sandbox.service import API_BASE


@frozen
class RemoteSandbox:
    """A sandbox that listens at `url`; anything in between that passes calls on is as good."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)

    @property
    def environment(self) -> Environment:
        """The sandbox's URLs, for a `Client`."""
        return Environment(
            name="sandbox",
            api_url=f"{self.url}/{API_BASE}",
            authorize_url=f"{self.url}/oauth/authorize",
            token_url=f"{self.url}/oauth/token",
        )

    async def add_conversations(self, people: Sequence[Mapping[str, str]]) -> list[str]:
        """Start a conversation with each new patient, `{first_name, last_name, aux_id?}`; give the ids."""
        ids: list[str] = await self._ask("POST", "conversations", people)
        return ids

    async def add_attachment(self, chat: str, name: str, size: int) -> str:
        """Have a file of so many made-up bytes sent to the main user, in a chat with this id; give its id."""
        document = {"chat": chat, "name": name, "size": size}
        attachment_id: str = (await self._ask("POST", "attachments", document))["id"]
        return attachment_id

    async def report(self) -> dict[str, object]:
        """Give the sum of what arrived, from the sandbox's log and store."""
        report: dict[str, object] = await self._ask("GET", "report")
        return report

    async def reset_log(self) -> None:
        """Forget the calls so far; what they did stays."""
        await self._ask("POST", "reset-log")

    async def _ask(self, method: str, path: str, document: object = None) -> Any:
        headers = {SECRET_HEADER: self.client_secret, "Content-Type": "application/json"}
        url = f"{self.url}/sandbox/{path}"
        try:
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.request(method, url, data=orjson.dumps(document)) as answer,
            ):
                status, body = answer.status, await answer.read()
        except aiohttp.ClientError:
            status, body = None, b""
        if status is None:
            raise ConfigurationError(f"no sandbox answers at {self.url}")
        if status >= 400:  # noqa: PLR2004 - HTTP
            raise ConfigurationError(
                f"the sandbox at {self.url} answered {status}: is the client's secret right?"
            )
        return orjson.loads(body)


@asynccontextmanager
async def sandbox_process() -> AsyncIterator[RemoteSandbox]:
    """Run a sandbox in a process of its own.

    Raises:
        ConfigurationError: it did not start.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "healthmsg.sandbox", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None  # noqa: S101 - asked for above
        line = await process.stdout.readline()
        if not line:
            raise ConfigurationError("the sandbox did not start")
        yield RemoteSandbox(**orjson.loads(line))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
