"""What an error says of a connection that was not made."""

import errno
import os
import socket
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from yarl import URL

from healthmsg.errors import ConnectError, HealthmsgError
from healthmsg.pipeline.request import Request
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.transport.connections import connect_error
from tests.servers import CANARIES, a_request

PROXY = URL("http://user:c4nary@proxy.example:3128")
WORDS = " ".join(CANARIES)
KEY: Any = SimpleNamespace(host="h", port=1, ssl=True)


def failed(kind: type[aiohttp.ClientConnectorError], number: int, os_error: type[OSError] = OSError) -> Any:
    return kind(KEY, os_error(number, WORDS))


CASES = [
    (
        failed(aiohttp.ClientConnectorError, errno.ECONNREFUSED),
        None,
        "api.example:443 refused the connection",
    ),
    (
        failed(aiohttp.ClientProxyConnectionError, errno.ECONNREFUSED),
        PROXY,
        "the proxy proxy.example:3128 refused the connection",
    ),
    (
        failed(aiohttp.ClientConnectorError, errno.ENETUNREACH),
        None,
        f"no connection to api.example:443 could be made ({os.strerror(errno.ENETUNREACH)})",
    ),
    (
        failed(aiohttp.ClientConnectorDNSError, socket.EAI_NONAME, socket.gaierror),
        None,
        "the name of api.example:443 could not be resolved (there is no such host)",
    ),
    (
        failed(aiohttp.ClientConnectorDNSError, socket.EAI_AGAIN, socket.gaierror),
        PROXY,
        "the name of the proxy proxy.example:3128 could not be resolved (the name server does not answer)",
    ),
    (aiohttp.ConnectionTimeoutError(), None, "making a connection to api.example:443 took too long"),
    (TimeoutError(), None, "making a connection to api.example:443 took too long"),
    (
        TimeoutError(),
        PROXY,
        "making a connection to api.example:443 through the proxy proxy.example:3128 took too long",
    ),
]


def going_to(url: str, proxy: URL | None = None) -> Request:
    request = a_request()
    request.current.url, request.current.proxy, request.current.has_left = URL(url), proxy, False
    return request


@pytest.mark.parametrize(("error", "proxy", "problem"), CASES)
def test_it_names_the_host_and_the_reason_and_nothing_private(
    error: Any, proxy: URL | None, problem: str
) -> None:
    made = connect_error(going_to("https://api.example/v1/x", proxy), error, notes_sending=True)

    assert made is not None
    assert (made.problem, made.host, made.port) == (problem, "api.example", 443)
    assert not any(canary in repr(made) for canary in (*CANARIES, "c4nary"))


def test_the_host_of_a_file_is_not_named() -> None:
    request = going_to("https://patient7.files.example/f")
    request.path, request.streamed = "https://patient7.files.example/f", True

    made = connect_error(request, aiohttp.ConnectionTimeoutError(), notes_sending=True)

    assert made is not None
    assert (made.problem, made.host) == ("making a connection to the host took too long", None)


@pytest.mark.looptime(idle_step=0.1, idle_timeout=3)
@pytest.mark.parametrize(("attempts", "reported"), [(1, ""), (3, r" \(tried 3 times in [\d.]+ s\)")])
async def test_it_says_how_often_and_how_long_it_was_tried(attempts: int, reported: str) -> None:
    async def refuse(request: Request) -> Any:
        raise ConnectError(
            request.call, "api.example:443 refused the connection", host="api.example", port=443
        )

    with pytest.raises(
        ConnectError, match=f"api.example:443 refused the connection{reported}. It had no"
    ) as caught:
        await RetryStep(Retries(attempts=attempts))(a_request(), refuse)
    assert caught.value.attempts == attempts


async def test_a_call_is_made_again_only_while_that_is_wanted() -> None:
    asked: list[tuple[HealthmsgError, float]] = []

    async def refuse(request: Request) -> Any:
        raise ConnectError(request.call, "no")

    request = a_request()
    request.may_repeat = lambda error, wait: asked.append((error, wait)) or len(asked) < 3  # type: ignore[func-returns-value]
    with pytest.raises(ConnectError):
        await RetryStep(Retries(max_wait=0.001))(request, refuse)

    assert request.current.number == 3
    assert {type(error) for error, _ in asked} == {ConnectError}
