"""What a client counts: by single steps in fake time, and over the sandbox."""

import asyncio
from urllib.parse import urlsplit

import pytest
from attrs import frozen
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from healthmsg import (
    CallRecord,
    Client,
    ConnectError,
    Environment,
    NotFoundError,
    OAuthApp,
    RateLimit,
    RateLimitedError,
    Retries,
    Stats,
    Token,
    TokenManager,
    UploadFile,
)
from healthmsg.pipeline.record import Counters, RecordStep
from healthmsg.pipeline.request import Request, Response
from healthmsg.sandbox import AnswerStatus, Sandbox
from tests.servers import Incoming, a_request, answering, hang, in_fake_time, response, serve

NOTHING = Stats(calls=0, retries=0, rate_limited=0, waited=0.0, in_flight=0, queued=0)


@frozen
class Try:
    """One try of one call: when it begins and ends, and how; or when it is cancelled."""

    begins: int
    ends: int
    how: str
    attempt: int
    waited: float

    async def carry_out(self, step: RecordStep) -> None:
        await asyncio.sleep(self.begins)
        request = a_request()
        request.current.number, request.current.waited = self.attempt, self.waited
        call = asyncio.ensure_future(step(request, self.answer))
        if self.how == "cancelled":
            await asyncio.sleep(self.ends - self.begins)
            call.cancel()
        await asyncio.wait([call])

    async def answer(self, request: Request) -> Response:
        await asyncio.sleep(self.ends - self.begins)
        if self.how == "refused":
            raise RateLimitedError(request.call, 429)
        if self.how == "not found":
            raise NotFoundError(request.call, 404)
        if self.how == "unreachable":
            raise ConnectError(request.call, "no")
        return response()


TRIES = st.builds(
    lambda begins, lasts, how, attempt, waited: Try(begins, begins + lasts, how, attempt, waited),
    st.integers(0, 20),
    st.integers(1, 20),
    st.sampled_from(["answered", "refused", "not found", "unreachable", "cancelled"]),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.25, 2.0]),
)


@given(tries=st.lists(TRIES, max_size=15), moment=st.integers(0, 45), hooked=st.booleans())
def test_the_figures_are_right_at_any_moment_however_tries_end(
    tries: list[Try], moment: int, hooked: bool
) -> None:
    counters = Counters()
    step = RecordStep((lambda _: None) if hooked else None, counters)

    async def main() -> None:
        all_tries = asyncio.gather(*(each.carry_out(step) for each in tries))
        await asyncio.sleep(moment + 0.5)
        begun = [each for each in tries if each.begins <= moment]
        ended = [each for each in begun if each.ends <= moment]
        assert counters.stats(queued=7) == Stats(
            calls=len(begun),
            retries=sum(each.attempt > 1 for each in begun),
            rate_limited=sum(each.how == "refused" for each in ended),
            waited=sum(each.waited for each in begun),
            in_flight=len(begun) - len(ended),
            queued=7,
        )
        await all_tries
        assert counters.in_flight == 0
        assert counters.calls == len(tries)

    in_fake_time(main)


def test_figures_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        NOTHING.calls = 1  # type: ignore[misc] # what is tested


async def test_a_client_and_its_views_count_together(sandbox: Sandbox) -> None:
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        view = client.with_token(sandbox.issue_token())
        assert client.stats() == NOTHING
        await client.me.get()
        await view.me.get()
        with pytest.raises(NotFoundError):
            await view.conversations.get("nowhere")

        assert client.stats() == view.stats()
        assert (client.stats().calls, client.stats().in_flight) == (3, 0)
        assert client.stats().waited > 0


async def test_repetitions_and_429s_are_counted(sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=AnswerStatus(503, b"", {"Retry-After": "0"}))
    sandbox.faults.add(kind=AnswerStatus(429, b"", {"Retry-After": "0"}))
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        await client.me.get()

        stats = client.stats()
    assert (stats.calls, stats.retries, stats.rate_limited) == (3, 2, 1)


async def test_a_token_call_and_the_repetition_after_it_are_counted() -> None:
    async def handler(incoming: Incoming) -> None:
        while True:
            received = await incoming.request()
            if received.target == "/token":
                await incoming.answer(200, b'{"access_token": "new", "token_type": "bearer"}')
            elif received.header("Authorization") == "Bearer new":
                await incoming.answer(200, b'{"id": "u1"}')
            else:
                await incoming.answer(401)

    records: list[CallRecord] = []
    async with serve(handler) as server:
        here = Environment("here", server.url, token_url=f"{server.url}/token")
        app = OAuthApp("id", "secret", "http://localhost/callback", here)
        tokens = TokenManager(Token("old", refresh_token="r"), app=app)
        async with Client(tokens, environment=here, on_call=records.append) as client:
            await client.me.get()

            stats = client.stats()
    assert (stats.calls, stats.retries, stats.in_flight) == (3, 1, 0)
    assert [(record.call, record.route, record.status, record.attempt) for record in records] == [
        ("GET me", "me", 401, 1),
        ("POST oauth token", None, 200, 1),
        ("GET me", "me", 200, 2),
    ]
    assert {(record.host, record.port) for record in records} == {("127.0.0.1", urlsplit(server.url).port)}


@pytest.mark.looptime(idle_step=0.1, idle_timeout=3)
@pytest.mark.usefixtures("ticking_clock")
async def test_calls_that_wait_and_calls_under_way_are_counted_apart() -> None:
    async with (
        serve(hang) as server,
        Client(
            "t",
            environment=Environment("here", server.url),
            rate_limit=RateLimit(calls=2, per=1.0),
            retries=Retries.none(),
        ) as client,
    ):
        calls = [asyncio.create_task(client.me.get()) for _ in range(5)]
        await asyncio.sleep(0.6)
        stats = client.stats()
        assert (stats.calls, stats.in_flight, stats.queued) == (2, 2, 3)
        assert stats.waited == pytest.approx(0.5, abs=0.05)

        calls[-1].cancel()  # it still waits
        calls[0].cancel()  # it is under way
        await asyncio.wait(calls[::4])
        stats = client.stats()
        assert (stats.calls, stats.in_flight, stats.queued) == (2, 1, 2)

        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        stats = client.stats()
        assert (stats.calls, stats.in_flight, stats.queued) == (2, 0, 0)


async def test_a_download_is_answered_when_it_begins(sandbox: Sandbox) -> None:
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        chat = client.conversations(sandbox.add_conversation())
        await chat.upload(UploadFile(b"content", "letter.txt"))
        (message,) = await chat.messages().first_page()
        before = client.stats().calls
        async with chat.download_stream(message.attachments[0]) as stream:
            async for _ in stream:
                assert client.stats().in_flight == 0

        assert client.stats().calls == before + 2  # for the link, and for the file


async def test_asking_for_the_figures_sends_nothing_and_works_after_the_end() -> None:
    async with serve(answering(200, b'{"id": "u1"}')) as server:
        client = Client("t", environment=Environment("here", server.url))
        assert client.stats() == NOTHING
        async with client:
            await client.me.get()
        assert client.stats().calls == 1
        assert server.opened == 1
