"""What a proxy can do to a call instead of passing it on."""

import asyncio
import re
import socket

import pytest

from healthmsg import Client, ConnectError, DeliveryUnknownError, Outcome, Retries, Timeout
from healthmsg.errors import ConnectionLostError, ProxyAuthenticationError
from healthmsg.network import Network
from healthmsg.pipeline import fold
from healthmsg.pipeline.retry import RetryStep
from tests.servers import (
    METHODS,
    Handler,
    Incoming,
    a_request,
    answering,
    assert_error_tells_nothing,
    hang,
    nothing_logged,
    reset_after_the_call,
    reset_at_once,
    serve,
    speak_no_http,
    wire_to,
)
from tests.transport.hospital import FRESH, Authority, Proxy, environment_at

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")


async def close_at_once(incoming: Incoming) -> None:
    await incoming.head()


async def close_in_the_handshake(incoming: Incoming) -> None:
    await incoming.head()
    incoming.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await incoming.reader.read(1)


REFUSED = [
    (status, f"the proxy PROXY made no connection to HOST: it answered {status}")
    for status in (403, 407, 502)
]
NO_CONNECTION = "no connection to (HOST through )?the proxy PROXY could be made"


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        *((Proxy(refusal=status), problem) for status, problem in REFUSED),
        (Proxy(needs_credentials=True), "the proxy PROXY made no connection to HOST: it answered 407"),
        (reset_at_once, NO_CONNECTION),
        (close_at_once, NO_CONNECTION),
        (reset_after_the_call, NO_CONNECTION),
        (speak_no_http, NO_CONNECTION),
        (close_in_the_handshake, NO_CONNECTION),
        (hang, "took too long"),
    ],
)
async def test_without_a_tunnel_the_service_never_saw_the_call(
    handler: Handler, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(handler) as proxy, serve(answering()) as server:
        url = proxy.url.replace("://", "://b0dy-canary:Jansen-canary@")
        network = Network(proxy=url)
        secure = server.url.replace("http:", "https:")
        with nothing_logged(caplog):
            for patience in (Timeout(connect=0.1), Timeout(total=0.1)):
                async with wire_to(secure, patience, network=network) as wire:
                    request = a_request()
                    with pytest.raises(ConnectError) as caught:
                        await wire(request)
                reported = caught.value.problem.replace(proxy.url.partition("://")[2], "PROXY")
                assert re.search(problem, reported.replace(server.url.partition("://")[2], "HOST"))
                assert caught.value.outcome is Outcome.NOT_SENT
                assert not request.current.has_left
                assert_error_tells_nothing(caught.value)
        assert not server.opened


@pytest.mark.parametrize(("refusal", "tries"), [(407, 1), (503, 3)])
async def test_a_proxy_that_wants_other_credentials_is_asked_once(refusal: int, tries: int) -> None:
    async with serve(Proxy(refusal=refusal)) as proxy:
        async with wire_to("https://127.0.0.1:1", network=Network(proxy=proxy.url)) as wire:
            send = fold([RetryStep(Retries(attempts=3, max_wait=0.001))], wire)
            with pytest.raises(ConnectError) as caught:
                await send(a_request())
        assert isinstance(caught.value, ProxyAuthenticationError) == (refusal == 407)
        assert len(proxy.begun) == tries


async def test_a_missing_proxy_is_distinguished_from_a_missing_service() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        network = Network(proxy=f"http://127.0.0.1:{unused.getsockname()[1]}")
        for url in ("http://127.0.0.1:1", "https://127.0.0.1:1"):
            async with wire_to(url, network=network) as wire:
                with pytest.raises(ConnectError) as caught:
                    await wire(a_request())
            assert (
                caught.value.problem
                == f"the proxy {str(network.proxy).partition('://')[2]} refused the connection"
            )


async def test_a_proxys_name_that_cannot_be_resolved_means_that_the_call_had_no_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "canary")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with wire_to("https://127.0.0.1:1", network=Network(proxy="http://proxy.invalid:3128")) as wire:
        with pytest.raises(ConnectError, match="could not be resolved"):
            await wire(a_request())


@pytest.mark.parametrize("method", METHODS)
async def test_a_tunnel_that_breaks_after_the_call_ran_does_not_make_it_run_twice(
    authority: Authority, method: str
) -> None:
    async with serve(Proxy()) as at_proxy, serve(reset_after_the_call, authority.tls) as server:
        network = Network(proxy=at_proxy.url, ssl=authority.bundle)
        async with wire_to(server.url, network=network) as wire:
            with pytest.raises(ConnectionLostError) as caught:
                await wire(a_request(method))
        assert len(server.executed) == 1
    assert caught.value.outcome is (Outcome.NOT_SENT if method == "GET" else Outcome.UNKNOWN)


async def test_a_message_is_sent_again_after_a_tunnel_that_was_not_made_and_never_after_one_that_broke(
    authority: Authority,
) -> None:
    made: list[str] = []
    proxy = Proxy()

    async def make_the_second(incoming: Incoming) -> None:
        made.append("")
        if len(made) == 1:
            await close_at_once(incoming)
        else:
            await proxy(incoming)

    async with serve(make_the_second) as at_proxy, serve(reset_after_the_call, authority.tls) as server:
        async with Client(
            FRESH,
            environment=environment_at(server.url),
            proxy=at_proxy.url,
            ssl=authority.bundle,
            retries=Retries(max_wait=0),
        ) as client:
            with pytest.raises(DeliveryUnknownError) as caught:
                await client.conversations("c1").send("Hallo")

        assert (len(made), len(server.executed), caught.value.attempts) == (2, 1, 2)
