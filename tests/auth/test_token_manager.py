import asyncio
import itertools
import logging
import traceback
from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from healthmsg import MemoryTokenStore, Token, TokenManager
from healthmsg.auth import token as token_module
from healthmsg.errors import (
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ReauthorizationRequiredError,
    TokenStoreError,
)
from tests.auth.token_service import NOON, REFRESH_TOKEN, VALUE, Clock, TokenService, answer, app, expiring
from tests.machine import Machine

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")

USER = "Jansen, J."
LOST = ConnectError("POST oauth token", "no connection")
REFUSED = BadRequestError("POST oauth token", 400, server_code="invalid_grant")


@pytest.fixture
def clock() -> Clock:
    return Clock()


class BrokenStore(MemoryTokenStore):
    """Takes nothing, and fails as foreign stores do: with the token in the message."""

    def __init__(self) -> None:
        super().__init__()
        self.is_broken = True
        self.is_unreadable = False

    async def load(self, user: str) -> Token | None:
        if self.is_unreadable:
            raise RuntimeError(f"{VALUE} {user}")
        return await super().load(user)

    async def save(self, user: str, token: Token) -> None:
        if self.is_broken:
            raise RuntimeError(f"{token.value} {user}")
        await super().save(user, token)


class SilentStore(MemoryTokenStore):
    """Never says that it has saved."""

    async def save(self, user: str, token: Token) -> None:
        await asyncio.Event().wait()
        await super().save(user, token)


# --- what is not renewed


async def test_a_token_without_a_known_end_is_given_without_looking_at_the_clock(clock: Clock) -> None:
    token = Token("t", refresh_token=REFRESH_TOKEN)
    service = TokenService(answer())
    assert await TokenManager(token, app=app(), now=clock).current(service) is token
    assert clock.looks == 0
    assert not service.requests


async def test_a_token_that_is_still_good_is_given_without_a_token_call(clock: Clock) -> None:
    manager = TokenManager(expiring(100), app=app(), now=clock)
    clock.advance(69)
    service = TokenService(answer())
    assert await manager.current(service) is manager.token
    assert not service.requests


@pytest.mark.parametrize("has_app", [True, False])
async def test_an_expired_token_that_cannot_be_renewed_fails_before_anything_is_sent(
    *, clock: Clock, has_app: bool
) -> None:
    token = expiring(100, refresh_token=None if has_app else REFRESH_TOKEN)
    manager = TokenManager(token, app=app() if has_app else None, now=clock)
    clock.advance(100)
    service = TokenService(answer())
    with pytest.raises(ReauthorizationRequiredError):
        await manager.current(service)
    assert await manager.renew(token, service) is None
    assert not service.requests


async def test_a_token_that_cannot_be_renewed_is_used_to_its_very_end(clock: Clock) -> None:
    manager = TokenManager(expiring(100), now=clock)
    clock.advance(99)
    assert await manager.current(TokenService(answer())) is manager.token


class TimeOfDay(datetime):
    """The machine's, which can be set."""

    is_set_by = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override] # of the base class
        return datetime.now(tz) + cls.is_set_by


@pytest.fixture
def time_of_day(monkeypatch: pytest.MonkeyPatch) -> type[TimeOfDay]:
    monkeypatch.setattr(TimeOfDay, "is_set_by", timedelta())
    monkeypatch.setattr(token_module, "datetime", TimeOfDay)  # `utc_now` looks there
    return TimeOfDay


def living_for(seconds: float) -> Token:
    now = datetime.now(UTC)
    return Token("old", created_at=now, expires_at=now + timedelta(seconds=seconds))


async def test_a_time_of_day_that_is_set_forward_ends_no_token(request: pytest.FixtureRequest) -> None:
    manager = TokenManager(living_for(3600))
    request.getfixturevalue("time_of_day").is_set_by = timedelta(days=400)
    assert await manager.current(TokenService(answer())) is manager.token


async def test_a_token_ends_while_the_machine_sleeps(
    machine: Machine, request: pytest.FixtureRequest
) -> None:
    manager = TokenManager(living_for(3600))
    machine.sleep(3601)
    request.getfixturevalue("time_of_day").is_set_by = timedelta(seconds=3601)
    with pytest.raises(ReauthorizationRequiredError):
        await manager.current(TokenService(answer()))


async def test_a_time_of_day_that_is_put_right_lets_a_token_be_used_again(
    request: pytest.FixtureRequest,
) -> None:
    token = living_for(3600)
    time_of_day = request.getfixturevalue("time_of_day")
    time_of_day.is_set_by = timedelta(days=400)
    manager = TokenManager(token)
    with pytest.raises(ReauthorizationRequiredError):
        await manager.current(TokenService(answer()))
    time_of_day.is_set_by = timedelta()
    assert await manager.current(TokenService(answer())) is token


# --- one renewal for all


async def test_an_expired_token_is_renewed_once_however_many_calls_find_it_expired(clock: Clock) -> None:
    store = MemoryTokenStore()
    manager = TokenManager(expiring(), app=app(clock=clock), store=store, user=USER, now=clock)
    clock.advance(3600)
    service = TokenService(answer(expires_in=3600))
    tokens = await asyncio.gather(*(manager.current(service) for _ in range(1000)))
    assert len(service.requests) == 1
    assert {token.value for token in tokens} == {VALUE}
    assert await manager.current(service) is tokens[0]
    assert await store.load(USER) is tokens[0]


async def test_a_token_is_renewed_a_leeway_before_its_end(clock: Clock) -> None:
    manager = TokenManager(expiring(100), app=app(clock=clock), now=clock, leeway=timedelta(seconds=20))
    service = TokenService(answer(expires_in=100))
    clock.advance(79)
    await manager.current(service)
    assert not service.requests
    clock.advance(1)
    assert (await manager.current(service)).value == VALUE


async def test_a_token_that_lives_shorter_than_the_leeway_is_not_renewed_for_every_call(clock: Clock) -> None:
    manager = TokenManager(expiring(), app=app(clock=clock), now=clock)
    clock.advance(3600)
    service = TokenService(answer(expires_in=10))
    for _ in range(5):
        await manager.current(service)
    assert len(service.requests) == 1
    clock.advance(5)
    await manager.current(service)
    assert len(service.requests) == 2


async def test_many_refused_calls_cause_one_renewal() -> None:
    manager = TokenManager(expiring(), app=app(), now=Clock())
    service = TokenService(answer())
    stale = manager.token
    tokens = await asyncio.gather(*(manager.renew(stale, service) for _ in range(1000)))
    assert len(service.requests) == 1
    assert all(token is manager.token for token in tokens)


async def test_a_late_refusal_of_an_old_token_discards_no_newer_one() -> None:
    manager = TokenManager(expiring(), app=app(), now=Clock())
    service = TokenService(answer())
    stale = manager.token
    newer = await manager.renew(stale, service)
    assert await manager.renew(stale, service) is newer
    assert manager.token is newer
    assert len(service.requests) == 1


# --- cancellation


async def test_cancelling_the_caller_that_began_the_renewal_does_not_stop_it_for_the_others() -> None:
    manager = TokenManager(expiring(), app=app(), now=Clock())
    service = TokenService(answer())
    first = asyncio.create_task(manager.renew(manager.token, service))
    others = [asyncio.create_task(manager.renew(manager.token, service)) for _ in range(10)]
    await asyncio.sleep(0)
    first.cancel()
    assert all(token is manager.token for token in await asyncio.gather(*others))
    assert first.cancelled()
    assert len(service.requests) == 1


@pytest.mark.looptime
@pytest.mark.parametrize("answered", [answer(), LOST])
async def test_a_renewal_that_is_not_awaited_any_more_ends_in_silence(answered: object) -> None:
    manager = TokenManager(expiring(), app=app(), now=Clock())
    service = TokenService(answered, delay=1)
    callers = [asyncio.create_task(manager.renew(manager.token, service)) for _ in range(10)]
    await asyncio.sleep(0.5)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    await asyncio.sleep(1)
    assert all(caller.cancelled() for caller in callers)
    assert len(service.requests) == 1
    assert (manager.token.value == VALUE) == (answered is not LOST)


# --- failure


async def test_all_who_wait_get_the_error_each_a_copy_of_its_own() -> None:
    manager = TokenManager(expiring(), app=app(), now=Clock())
    service = TokenService(LOST)
    errors = await asyncio.gather(
        *(manager.renew(manager.token, service) for _ in range(1000)), return_exceptions=True
    )
    assert len(service.requests) == 1
    assert len({id(error) for error in errors}) == 1000
    for error in errors:
        assert isinstance(error, ConnectError)
        assert (str(error), error.outcome) == (str(LOST), LOST.outcome)
        assert error.__cause__ is None
        assert error.__context__ is None
        assert len(traceback.extract_tb(error.__traceback__)) < 20


async def test_closing_the_client_of_another_call_does_not_fail_those_who_wait_with_it() -> None:
    closed, good = TokenService(ClientClosedError(), delay=0.01), TokenService(answer())
    tokens = TokenManager(expiring(), app=app())
    stale = tokens.token

    first, *others = await asyncio.gather(
        *(tokens.renew(stale, send) for send in (closed, good, good, closed)), return_exceptions=True
    )

    assert isinstance(first, ClientClosedError)
    assert others == [tokens.token] * 3
    assert len(good.requests) == 1


async def test_after_a_failure_a_later_call_tries_again() -> None:
    manager = TokenManager(expiring(), app=app(), now=Clock())
    service = TokenService(LOST, answer())
    with pytest.raises(ConnectError):
        await manager.renew(manager.token, service)
    renewed = await manager.renew(manager.token, service)
    assert renewed is not None
    assert renewed.value == VALUE
    assert len(service.requests) == 2


async def test_a_refused_refresh_token_asks_for_a_new_authorization() -> None:
    manager = TokenManager(expiring(), app=app(), now=Clock())
    with pytest.raises(ReauthorizationRequiredError):
        await manager.renew(manager.token, TokenService(REFUSED))
    assert manager.token.value == "old"


async def test_an_error_that_cannot_be_copied_still_arrives() -> None:
    class OddError(Exception):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(one + two)

    manager = TokenManager(expiring(), app=app(), now=Clock())
    with pytest.raises(OddError, match="ab"):
        await manager.renew(manager.token, TokenService(OddError("a", "b")))


# --- closing


@pytest.mark.looptime
async def test_closing_lets_a_running_renewal_end_so_that_no_refresh_token_is_lost() -> None:
    store = MemoryTokenStore()
    manager = TokenManager(expiring(), app=app(), store=store, user=USER, now=Clock())
    service = TokenService(answer(refresh_token="rotated"), delay=9)
    caller = asyncio.create_task(manager.renew(manager.token, service))
    await asyncio.sleep(1)
    await manager.close()
    assert (await caller) is manager.token
    assert await store.load(USER) is manager.token
    assert manager.token.refresh_token == "rotated"


@pytest.mark.looptime
async def test_closing_cuts_a_renewal_off_that_takes_too_long() -> None:
    manager = TokenManager(expiring(), app=app(), now=Clock())
    caller = asyncio.create_task(manager.renew(manager.token, TokenService(answer(), delay=3600)))
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    await manager.close()
    assert asyncio.get_running_loop().time() - began == pytest.approx(10, abs=0.1)
    with pytest.raises(ClientClosedError):
        await caller


@pytest.mark.looptime
async def test_cancelling_the_closing_leaves_no_task_behind() -> None:
    manager = TokenManager(expiring(), app=app(), now=Clock())
    caller = asyncio.create_task(manager.renew(manager.token, TokenService(answer(), delay=3600)))
    closing = asyncio.create_task(manager.close())
    await asyncio.sleep(1)
    closing.cancel()
    await asyncio.wait({caller, closing})
    assert closing.cancelled()
    assert isinstance(caller.exception(), ClientClosedError)


async def test_closing_an_idle_manager_does_nothing_and_may_be_done_twice() -> None:
    manager = TokenManager(expiring())
    await manager.close()
    await manager.close()


# --- stores


async def test_a_manager_is_loaded_from_its_store() -> None:
    store = MemoryTokenStore()
    with pytest.raises(ReauthorizationRequiredError) as caught:
        await TokenManager.load(store, USER)
    assert USER not in str(caught.value)
    await store.save(USER, expiring())
    assert (await TokenManager.load(store, USER, app=app())).token == expiring()


async def test_save_puts_the_present_token_into_the_store() -> None:
    store = MemoryTokenStore()
    manager = TokenManager(expiring(), store=store, user=USER)
    await manager.save()
    assert await store.load(USER) is manager.token
    await TokenManager(expiring()).save()


async def test_a_failing_store_loses_no_renewed_token_and_tells_only_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = BrokenStore()
    manager = TokenManager(expiring(), app=app(), store=store, user=USER, now=Clock())
    service = TokenService(answer(refresh_token="rotated"))
    renewed = await manager.renew(manager.token, service)
    assert renewed is manager.token
    assert manager.token.refresh_token == "rotated"
    assert not manager.is_saved
    assert caplog.records
    for record in caplog.records:
        assert (record.name, record.levelno) == ("healthmsg", logging.ERROR)
        assert record.exc_info is None
        assert VALUE not in caplog.text
        assert USER not in caplog.text

    with pytest.raises(TokenStoreError, match="RuntimeError") as caught:
        await manager.save()
    assert VALUE not in str(caught.value)
    assert caught.value.__context__ is None
    await manager.close()
    assert not manager.is_saved


async def test_what_could_not_be_saved_is_saved_when_the_manager_is_closed() -> None:
    store = BrokenStore()
    manager = TokenManager(expiring(), app=app(), store=store, user=USER, now=Clock())
    renewed = await manager.renew(manager.token, TokenService(answer()))
    store.is_broken = False
    await manager.close()
    assert manager.is_saved
    assert await store.load(USER) is renewed


@pytest.mark.looptime
async def test_a_store_that_never_answers_holds_calls_up_for_no_longer_than_its_limit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = TokenManager(expiring(), app=app(), store=SilentStore(), user=USER, now=Clock())
    began = asyncio.get_running_loop().time()
    assert await manager.renew(manager.token, TokenService(answer())) is manager.token
    assert asyncio.get_running_loop().time() - began == pytest.approx(10, abs=0.1)
    assert len(caplog.records) == 1
    assert not manager.is_saved
    await manager.close()


async def test_a_newer_token_that_another_process_stored_is_taken_instead_of_renewing() -> None:
    store = MemoryTokenStore()
    manager = TokenManager(expiring(), app=app(), store=store, user=USER, now=Clock())
    theirs = Token("theirs", created_at=NOON + timedelta(seconds=1))
    await store.save(USER, theirs)
    service = TokenService(answer())
    assert await manager.renew(manager.token, service) is theirs
    assert manager.token is theirs
    assert not service.requests


async def test_a_newer_token_is_taken_from_the_store_even_when_none_could_be_renewed() -> None:
    store = MemoryTokenStore()
    manager = TokenManager(expiring(refresh_token=None), store=store, user=USER, now=Clock())
    await store.save(USER, manager.token)
    assert await manager.renew(manager.token, TokenService(answer())) is None
    theirs = Token("theirs", created_at=NOON + timedelta(seconds=1))
    await store.save(USER, theirs)
    assert await manager.renew(manager.token, TokenService(answer())) is theirs


async def test_a_newer_stored_token_that_has_expired_too_lends_its_refresh_token(clock: Clock) -> None:
    store = MemoryTokenStore()
    manager = TokenManager(expiring(), app=app(clock=clock), store=store, user=USER, now=clock)
    clock.advance(7200)
    theirs = Token(
        "theirs",
        created_at=NOON + timedelta(seconds=1),
        expires_at=NOON + timedelta(seconds=3601),
        refresh_token="rotated",
    )
    await store.save(USER, theirs)
    service = TokenService(answer())
    assert (await manager.current(service)).value == VALUE
    assert service.form()["refresh_token"] == ["rotated"]


async def test_an_older_stored_token_is_not_taken() -> None:
    store = MemoryTokenStore()
    manager = TokenManager(expiring(), app=app(), store=store, user=USER, now=Clock())
    await store.save(USER, Token("older", created_at=NOON - timedelta(days=1)))
    renewed = await manager.renew(manager.token, TokenService(answer()))
    assert renewed is not None
    assert renewed.value == VALUE


# --- refused arguments


@pytest.mark.parametrize(
    ("store", "user"), [(MemoryTokenStore(), None), (MemoryTokenStore(), ""), (None, USER)]
)
def test_a_store_without_a_user_and_the_reverse_are_refused(
    store: MemoryTokenStore | None, user: str | None
) -> None:
    with pytest.raises(ConfigurationError):
        TokenManager(expiring(), store=store, user=user)


def test_a_bare_text_is_refused_without_repeating_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        TokenManager(VALUE)  # type: ignore[arg-type]  # what is tested is the wrong use
    assert VALUE not in str(caught.value)


async def test_renewals_one_after_another_each_use_the_newest_refresh_token() -> None:
    manager = TokenManager(expiring(), app=app(), now=Clock())
    service = TokenService(*(answer(access_token=f"t{n}", refresh_token=f"r{n}") for n in range(3)))
    for _ in range(3):
        await manager.renew(manager.token, service)
    sent = list(itertools.chain.from_iterable(service.form(n)["refresh_token"] for n in range(3)))
    assert sent == [REFRESH_TOKEN, "r0", "r1"]
