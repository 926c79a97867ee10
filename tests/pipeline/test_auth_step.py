import asyncio
from collections.abc import Awaitable, Callable

import pytest

from healthmsg import Client, Environment
from healthmsg.auth.manager import TokenManager
from healthmsg.auth.token import Token
from healthmsg.errors import (
    CallError,
    CallTimeoutError,
    ConnectError,
    ForbiddenError,
    NotFoundError,
    Outcome,
    RateLimitedError,
    ReauthorizationRequiredError,
    ServiceUnavailableError,
    TokenRenewalError,
    TokenRequestError,
    TokenStoreError,
    UnauthorizedError,
)
from healthmsg.pipeline import fold
from healthmsg.pipeline.auth import AuthStep
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.request import Request, Response, Send, Step
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from tests.servers import a_request, answering, let_the_clock_tick, response, serve

OLD, NEW = Token("old"), Token("new")


class Tokens:
    """Has tokens, and remembers what was asked."""

    def __init__(self, newer: Token | Exception | None = NEW, *, now: Token | Exception = OLD) -> None:
        self.newer = newer
        self.now = now
        self.renewed: list[Token] = []
        self.while_asked: Callable[[], Awaitable[None]] | None = None

    async def current(self, _: Send) -> Token:
        if self.while_asked is not None:
            await self.while_asked()
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    async def renew(self, stale: Token, _: Send) -> Token | None:
        self.renewed.append(stale)
        if self.while_asked is not None:
            await self.while_asked()
        if isinstance(self.newer, Exception):
            raise self.newer
        return self.newer


class Service:
    """Accepts some tokens; to others it says 401, each time with another error."""

    def __init__(self, *accepted: str) -> None:
        self.accepted = accepted
        self.seen: list[str | None] = []
        self.refusals: list[UnauthorizedError] = []

    async def __call__(self, request: Request) -> Response:
        self.seen.append(request.current.token)
        if request.current.token in self.accepted:
            return response()
        self.refusals.append(UnauthorizedError(request.call, 401))
        raise self.refusals[-1]


async def no_token_call(request: Request) -> Response:
    raise AssertionError


def authorized(tokens: Tokens, service: Send) -> Awaitable[Response]:
    return AuthStep(tokens, no_token_call)(a_request(), service)


async def test_the_token_is_put_on() -> None:
    tokens, service = Tokens(), Service("old")
    await authorized(tokens, service)
    assert service.seen == ["old"]
    assert not tokens.renewed


async def test_a_401_renews_once_and_the_call_goes_again() -> None:
    tokens, service = Tokens(), Service("new")
    await authorized(tokens, service)
    assert service.seen == ["old", "new"]
    assert tokens.renewed == [OLD]


async def test_without_a_newer_token_the_401_itself_is_raised() -> None:
    tokens, service = Tokens(newer=None), Service()
    with pytest.raises(ReauthorizationRequiredError) as caught:
        await authorized(tokens, service)
    assert caught.value is service.refusals[0]
    assert service.seen == ["old"]


async def test_a_second_401_is_raised_and_renews_nothing() -> None:
    tokens, service = Tokens(), Service()
    with pytest.raises(UnauthorizedError) as caught:
        await authorized(tokens, service)
    assert caught.value is service.refusals[1]
    assert service.seen == ["old", "new"]
    assert tokens.renewed == [OLD]


async def test_a_renewal_that_fails_is_what_is_raised() -> None:
    failure = ReauthorizationRequiredError("no longer")
    with pytest.raises(ReauthorizationRequiredError) as caught:
        await authorized(Tokens(newer=failure), Service())
    assert caught.value is failure


async def test_the_second_try_is_one_of_its_own() -> None:
    tries: list[tuple[int, float, float]] = []

    async def refuse_once(request: Request) -> Response:
        tries.append((request.current.number, request.current.started_at, request.current.waited))
        request.current.waited = 7.0
        if request.current.number == 1:
            raise UnauthorizedError(request.call, 401)
        return response()

    request = a_request()
    await AuthStep(Tokens(), no_token_call)(request, refuse_once)
    assert [attempt for attempt, _, _ in tries] == [1, 2]
    assert tries[0][1] < tries[1][1]
    assert [waited for _, _, waited in tries] == [0, 0]
    assert request.current.waited_before == 7


TOKEN_CALL = "POST oauth token"
UNCLEAR = [
    CallTimeoutError(TOKEN_CALL, "late"),
    ServiceUnavailableError(TOKEN_CALL, 503, retry_after=17.0),
]


@pytest.mark.parametrize("failure", UNCLEAR)
@pytest.mark.parametrize("is_refused_first", [True, False])
async def test_a_token_call_of_unknown_outcome_says_that_the_call_itself_did_nothing(
    failure: CallError, *, is_refused_first: bool
) -> None:
    tokens = Tokens(failure) if is_refused_first else Tokens(now=failure)
    service = Service()
    with pytest.raises(TokenRenewalError) as caught:
        await authorized(tokens, service)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert caught.value.call == a_request().call
    assert caught.value.__cause__ is failure
    assert caught.value.retry_after == getattr(failure, "retry_after", None)
    assert service.seen == (["old"] if is_refused_first else [])


@pytest.mark.parametrize(
    "failure", [ConnectError(TOKEN_CALL, "no"), RateLimitedError(TOKEN_CALL, 429, retry_after=17.0)]
)
async def test_a_token_call_that_did_not_run_fails_as_it_is(failure: CallError) -> None:
    for tokens in (Tokens(failure), Tokens(now=failure)):
        with pytest.raises(type(failure)) as caught:
            await authorized(tokens, Service())
        assert caught.value is failure


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ForbiddenError(TOKEN_CALL, 403), "POST oauth token: answered 403 Forbidden"),
        (NotFoundError(TOKEN_CALL, 404), "answered 404"),
        (TokenRequestError("It refused: slow_down.", code="slow_down", retry_after=17.0), "slow_down"),
        (TokenRequestError("The answer is not JSON."), "not JSON"),
        (TokenStoreError("The token store could not be locked (OSError)."), "could not be locked"),
    ],
)
async def test_a_renewal_that_may_succeed_later_says_why_it_failed(failure: Exception, reason: str) -> None:
    """A firewall's 403 would else be taken for a chat that this user may not write to."""
    for tokens in (Tokens(failure), Tokens(now=failure)):
        with pytest.raises(TokenRenewalError, match=reason) as caught:
            await authorized(tokens, Service())
        assert caught.value.outcome is Outcome.NOT_SENT
        assert caught.value.retry_after == getattr(failure, "retry_after", None)
        assert caught.value.__cause__ is failure


async def test_an_unknown_application_is_said_as_it_is() -> None:
    failure = TokenRequestError("no such application", code="invalid_client")
    with pytest.raises(TokenRequestError) as caught:
        await authorized(Tokens(failure), Service())
    assert caught.value is failure


async def test_another_refusal_renews_nothing() -> None:
    async def forbid(request: Request) -> Response:
        raise ForbiddenError(request.call, 403)

    tokens = Tokens()
    with pytest.raises(ForbiddenError):
        await authorized(tokens, forbid)
    assert not tokens.renewed


@pytest.mark.looptime(noop_cycles=0)
async def test_waiting_for_a_token_holds_no_place_in_the_limit() -> None:
    let_the_clock_tick()
    limiter = Limiter(RateLimit())
    held: list[int] = []

    async def look() -> None:
        await asyncio.sleep(2)
        assert limiter._window.count_returned(limiter.now())
        held.append(limiter.rate.calls - limiter._window.free)

    tokens, service = Tokens(), Service("new")
    tokens.while_asked = look
    steps: list[Step] = [AuthStep(tokens, no_token_call), LimitStep(limiter, longest_pause=1)]
    await fold(steps, service)(a_request())
    assert held == [0, 0]


async def test_in_a_client_the_token_comes_before_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    current, wait_for_turn = TokenManager.current, LimitStep.__call__

    async def noted_current(manager: TokenManager, send: Send) -> Token:
        order.append("token")
        return await current(manager, send)

    async def noted_limit(step: LimitStep, request: Request, proceed: Send) -> Response:
        order.append("limit")
        return await wait_for_turn(step, request, proceed)

    monkeypatch.setattr(TokenManager, "current", noted_current)
    monkeypatch.setattr(LimitStep, "__call__", noted_limit)
    async with (
        serve(answering(401)) as server,
        Client("t", environment=Environment("test", f"{server.url}/v1")) as client,
    ):
        with pytest.raises(CallError):
            await client.me.get()
    assert order == ["token", "limit"]
