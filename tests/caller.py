"""Calling a sandbox with plain aiohttp: the SDK itself has no part in that."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import ClientSession
from attrs import frozen
from yarl import URL

from healthmsg.sandbox import Sandbox


async def first_call(sandbox: Sandbox) -> None:
    """Wait until a call has arrived."""
    while not sandbox.calls:  # noqa: ASYNC110 - the sandbox has no event for it
        await asyncio.sleep(0.001)


@frozen
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    document: Any
    cookies: Mapping[str, str]


class Caller:
    """Calls a sandbox, with its main user's token unless it is set otherwise."""

    def __init__(self, sandbox: Sandbox, session: ClientSession) -> None:
        self.sandbox = sandbox
        self.session = session
        self.token: str | None = sandbox.issue_token()

    async def __call__(self, method: str, path: str, *, headers: Any = None, **kwargs: Any) -> Answer:
        """Call a path below the API's base, or one below the origin when it starts with `/`, or a URL."""
        if path.startswith("http"):
            url = path
        elif path.startswith("/"):
            url = self.sandbox.url + path
        else:
            url = f"{self.sandbox.environment.api_url}/{path}"
        headers = dict(headers or {})
        if self.token and url.startswith(self.sandbox.environment.api_url):
            headers.setdefault("Authorization", f"Bearer {self.token}")
        async with self.session.request(
            method, URL(url, encoded=True), headers=headers, allow_redirects=False, **kwargs
        ) as answer:
            body = await answer.read()
            is_json = answer.content_type == "application/json"
            cookies = {name: morsel.value for name, morsel in answer.cookies.items()}
            document = await answer.json() if is_json else None
            return Answer(answer.status, answer.headers, body, document, cookies)
