"""Signing in from a terminal: a browser goes to the authorize URL and comes back to a port of ours."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPException
from typing import Final

from rich.console import Console

from healthmsg.auth.oauth import OAuthApp
from healthmsg.auth.token import Token
from healthmsg.errors import AuthorizationError, TokenRequestError
from healthmsg.sandbox.remote import RemoteSandbox

_PATIENCE: Final = 300.0
_PAGE: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"<!doctype html><title>healthmsg</title><p>Signed in. You can close this page."
)


async def sign_in(console: Console, sandbox: RemoteSandbox) -> Token:
    """Go through all three legs.

    Raises:
        AuthorizationError: the user or the service refused, nothing answers, or nobody approved in five
            minutes.
    """
    async with _callback_listener() as (redirect_uri, callback):
        app = OAuthApp(sandbox.client_id, sandbox.client_secret, redirect_uri, sandbox.environment)
        request = app.authorization_request()
        # A sandbox that approves by itself sends us straight back; any other shows a page.
        await asyncio.to_thread(_visit, request.url)
        if not callback.done():
            console.print("Open this in a browser, and approve:", request.url, soft_wrap=True)
        await asyncio.wait([callback], timeout=_PATIENCE)
        if not callback.done():
            raise AuthorizationError("nobody approved in time")
        code = app.parse_callback(callback.result(), request.state)
        try:
            return await app.exchange(code)
        except TokenRequestError as error:
            if error.code != "invalid_client":
                raise
    raise AuthorizationError("the token URL does not know this client: is the client's secret right?")


@asynccontextmanager
async def _callback_listener() -> AsyncIterator[tuple[str, "asyncio.Future[str]"]]:
    callback: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request_line = (await reader.readline()).decode("latin-1").split(" ")
        if len(request_line) > 1 and request_line[1].startswith("/callback") and not callback.done():
            callback.set_result(request_line[1])
        writer.write(_PAGE)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback", callback


def _visit(url: str) -> None:
    # Past any proxy, as all else that the demo sends: the callback leads back to this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:  # http(s): Environment has checked it
            answer.read()
    except urllib.error.HTTPError as error:
        problem = f"the authorize URL answered {error.code}: is the client's id right?"
        error.close()
    except (OSError, HTTPException):
        problem = f"nothing answers at {url.partition('?')[0]}"
    else:
        return
    raise AuthorizationError(problem)
