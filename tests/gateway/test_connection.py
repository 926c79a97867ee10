"""Staying connected, in fake time and over fake sockets."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from healthmsg.errors import (
    CallError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    HealthmsgError,
    Outcome,
    ProxyAuthenticationError,
    RateLimitedError,
    ReauthorizationRequiredError,
    TokenRequestError,
    TokenStoreError,
    UnauthorizedError,
)
from healthmsg.gateway.backoff import Backoff
from healthmsg.gateway.connection import GatewayState
from healthmsg.ids import ChatAddress
from healthmsg.transport.websocket import Opcode
from tests.gateway.fakes import (
    AUTHENTICATED,
    MESSAGE,
    TOKEN,
    FakeSocket,
    Gateway,
    Running,
    Tokens,
    running,
    text_of,
)
from tests.machine import Machine

pytestmark = [pytest.mark.looptime(noop_cycles=8), pytest.mark.usefixtures("nothing_is_left_behind")]
REFUSAL = text_of("error", code=403, error="forbidden")


def time() -> float:
    return asyncio.get_running_loop().time()


def longest() -> Backoff:
    return Backoff(lambda _, most: most)


def refusing(_: int) -> FakeSocket:
    socket = FakeSocket(answers_handshake=False)
    socket.say(REFUSAL)
    return socket


def not_there(problem: str = "refused") -> ConnectError:
    return ConnectError("GET gateway", problem, host="gateway.example", port=443)


def is_live(run: Running) -> bool:
    return run.connection.state is GatewayState.LIVE


async def test_it_is_live_once_the_service_says_whose_token_it_is() -> None:
    gateway = Gateway()
    async with running(gateway) as run:
        assert (run.connection.state.value, run.connection.connected_since) == ("connecting", None)
        await run.until(is_live)

        assert [user.id for user in run.ear.users] == ["u1"]
        since = run.connection.connected_since
        assert since is not None
        assert since.tzinfo is not None
        assert run.connection.connects == 1
    assert (run.connection.state.value, run.connection.connected_since) == ("closed", None)
    assert gateway.sockets[0].is_aborted


async def test_frames_are_handed_on_in_their_order() -> None:
    gateway = Gateway()
    async with running(gateway) as run:
        await run.until(is_live)
        for number in range(100):
            gateway.sockets[0].say(text_of("x", number=number))
        gateway.sockets[0].say(b"{")
        await run.until(lambda run: run.ear.unread)

    assert [data["number"] for _, data in run.ear.frames] == list(range(100))
    assert run.connection.unreadable == 1


async def test_a_lost_connection_is_made_again() -> None:
    gateway = Gateway()
    async with running(gateway, backoff=longest()) as run:
        await run.until(is_live)
        gateway.sockets[0].break_off()
        await run.until(lambda run: run.connection.state is GatewayState.WAITING)
        assert run.connection.connected_since is None
        assert len(run.ear.losses) == 1
        await run.until(is_live)

    assert run.connection.connects == 2
    assert len(run.ear.users) == 2
    assert gateway.sockets[0].is_aborted


async def test_a_line_that_goes_silent_is_noticed_within_41_seconds() -> None:
    gateway = Gateway()
    async with running(gateway) as run:
        await run.until(is_live)
        await asyncio.sleep(60.5)  # the second ping is answered
        gateway.sockets[0].answers_pings = False
        silent_since = time()
        await run.until(lambda run: run.ear.losses)

    assert run.ear.losses[0][0] - silent_since <= 41
    assert "silent" in run.ear.losses[0][1]
    assert gateway.sockets[0].is_aborted


async def test_a_line_that_takes_nothing_any_more_is_noticed_within_41_seconds() -> None:
    gateway = Gateway()
    async with running(gateway) as run:
        await run.until(is_live)
        gateway.sockets[0].takes = False
        silent_since = time()
        await run.until(lambda run: run.ear.losses)

    assert run.ear.losses[0][0] - silent_since <= 41


async def test_that_the_machine_has_slept_is_noticed_within_a_second(machine: Machine) -> None:
    gateway = Gateway()
    async with running(gateway) as run:
        await run.until(is_live)
        await asyncio.sleep(7.3)
        machine.sleep(60)
        woken_at = time()
        await run.until(lambda run: run.ear.losses)

    assert run.ear.losses[0][0] - woken_at <= 1
    assert "slept" in run.ear.losses[0][1]


async def test_a_nap_costs_no_connection(machine: Machine) -> None:
    async with running(Gateway()) as run:
        await run.until(is_live)
        for _ in range(20):
            machine.sleep(5)
            await asyncio.sleep(10)

    assert run.ear.losses == []


async def test_what_the_machine_slept_counts_as_waiting(machine: Machine) -> None:
    gateway = Gateway(lambda _: not_there())
    async with running(gateway, backoff=longest()) as run:
        await run.until(lambda _: len(gateway.opened_at) == 5)  # the next wait lasts 60 seconds
        machine.sleep(60)
        woken_at = time()
        await run.until(lambda _: len(gateway.opened_at) == 6)

    assert gateway.opened_at[-1] - woken_at <= 1


async def test_waits_grow_until_a_connection_lives_for_a_minute_and_the_catch_up_has_ended() -> None:
    def make(number: int) -> FakeSocket | CallError:
        return not_there() if number < 4 else FakeSocket()

    gateway = Gateway(make)
    async with running(gateway, backoff=longest()) as run:
        await run.until(is_live)
        assert [round(at) for at in gateway.opened_at] == [0, 5, 15, 35, 75]
        await asyncio.sleep(61)
        gateway.sockets[-1].break_off()
        await run.until(lambda run: run.connection.connects == 2)

    assert gateway.opened_at[-1] - run.ear.losses[-1][0] == pytest.approx(5, abs=0.1)


async def test_a_catch_up_that_has_not_ended_keeps_the_wait_long() -> None:
    gateway = Gateway(lambda number: not_there() if number < 4 else FakeSocket())
    async with running(gateway, backoff=longest(), is_settled=False) as run:
        await run.until(is_live)
        await asyncio.sleep(1000)
        gateway.sockets[-1].break_off()
        await run.until(lambda run: run.connection.connects == 2)

    assert gateway.opened_at[-1] - run.ear.losses[-1][0] == pytest.approx(60, abs=0.1)


def accepting_and_closing(_: int) -> FakeSocket:
    socket = FakeSocket(answers_handshake=False)
    socket.close()
    return socket


def authenticating_and_closing(_: int) -> FakeSocket:
    socket = FakeSocket(answers_handshake=False)
    socket.say(AUTHENTICATED)
    socket.close()
    return socket


@pytest.mark.parametrize("make", [accepting_and_closing, authenticating_and_closing])
async def test_a_service_that_accepts_and_closes_gets_at_most_40_connections_in_10_minutes(
    make: Callable[[int], FakeSocket],
) -> None:
    gateway = Gateway(make)
    async with running(gateway):
        await asyncio.sleep(600)

    assert 10 < len(gateway.opened_at) <= 40
    assert all(socket.is_aborted for socket in gateway.sockets)


@pytest.mark.parametrize("ends", [FakeSocket.close, FakeSocket.break_off])
async def test_after_a_limit_error_it_waits_a_minute(ends: Callable[[FakeSocket], None]) -> None:
    gateway = Gateway()
    async with running(gateway) as run:
        await run.until(is_live)
        gateway.sockets[0].say(text_of("error", code=429, error="limit"))
        ends(gateway.sockets[0])
        await run.until(lambda run: run.connection.connects == 2)

    assert gateway.opened_at[1] - run.ear.losses[0][0] >= 60
    assert run.ear.frames[0][0] == "error"


async def test_so_it_does_when_the_upgrade_is_refused_for_too_many_calls() -> None:
    error = RateLimitedError("GET gateway", 429)
    gateway = Gateway(lambda number: FakeSocket() if number else error)
    async with running(gateway) as run:
        await run.until(is_live)

    assert gateway.opened_at[1] >= 60


async def test_a_refused_token_is_renewed_once_and_at_once() -> None:
    gateway = Gateway(lambda number: FakeSocket() if number else refusing(0))
    async with running(gateway, tokens=Tokens(["old", "new"])) as run:
        await run.until(is_live)

    assert run.tokens.renewals == ["old"]
    assert gateway.sockets[1].handshakes == ["new"]
    assert gateway.opened_at[1] < 1


async def test_what_had_come_before_nothing_more_could_be_sent_is_still_read() -> None:
    gateway = Gateway()
    async with running(gateway, tokens=Tokens(["old", "new"])) as run:
        await run.until(is_live)
        gateway.sockets[0].is_aborted = True
        assert run.connection.send_presence("away")
        await asyncio.sleep(0.5)
        gateway.sockets[0].say(REFUSAL)
        await run.until(lambda run: run.connection.connects == 2)

    assert run.tokens.renewals == ["old"]


async def test_a_token_that_was_replaced_meanwhile_is_used_without_a_renewal() -> None:
    tokens = Tokens(["old"])

    def make(number: int) -> FakeSocket:
        if number:
            return FakeSocket()
        tokens.values = ["new"]
        return refusing(0)

    gateway = Gateway(make)
    async with running(gateway, tokens=tokens) as run:
        await run.until(is_live)

    assert tokens.renewals == []


@pytest.mark.parametrize("tokens", [["old"], ["old", "new"]])
async def test_without_a_token_that_is_accepted_the_user_has_to_authorize_again(tokens: list[str]) -> None:
    gateway = Gateway(refusing)
    async with running(gateway, tokens=Tokens(list(tokens))) as run:
        await asyncio.wait({run.task})
        with pytest.raises(ReauthorizationRequiredError, match="403"):
            run.task.result()

    assert run.tokens.renewals == ["old"]
    assert len(gateway.opened_at) == len(tokens)
    assert run.connection.state is GatewayState.CLOSED


async def test_a_token_that_is_refused_again_within_a_minute_is_final() -> None:
    gateway = Gateway()
    async with running(gateway, tokens=Tokens(["a", "b", "c"])) as run:
        for number in range(2):
            await run.until(lambda run, number=number: run.connection.connects == number + 1)  # type: ignore[misc]
            gateway.sockets[-1].say(REFUSAL)
        await asyncio.wait({run.task})
        with pytest.raises(ReauthorizationRequiredError):
            run.task.result()
    assert len(run.ear.losses) == 2


async def test_a_token_that_was_good_for_hours_is_renewed_each_time() -> None:
    gateway = Gateway()
    async with running(gateway, tokens=Tokens(["a", "b", "c", "d"])) as run:
        for number in range(3):
            await run.until(lambda run, number=number: run.connection.connects == number + 1)  # type: ignore[misc]
            await asyncio.sleep(3600)
            gateway.sockets[-1].say(REFUSAL)
        await run.until(lambda run: run.connection.connects == 4)

    assert run.tokens.renewals == ["a", "b", "c"]


async def test_so_it_is_when_the_line_was_lost_first_and_the_next_handshake_is_refused() -> None:
    gateway = Gateway(lambda number: refusing(number) if number % 2 == 0 else FakeSocket())
    async with running(gateway, tokens=Tokens(["a", "b", "c", "d"])) as run:
        for number in range(3):
            await run.until(lambda run, number=number: run.connection.connects == number + 1)  # type: ignore[misc]
            await asyncio.sleep(3600)
            if number < 2:
                gateway.sockets[-1].break_off()

    assert run.tokens.renewals == ["a", "b", "c"]


async def test_a_renewal_that_fails_for_want_of_a_network_is_tried_again_without_the_refused_token() -> None:
    failures: list[HealthmsgError] = [not_there(), TokenStoreError("x"), TokenRequestError("x", status=503)]
    gateway = Gateway(lambda number: FakeSocket() if number else refusing(0))
    async with running(gateway, tokens=Tokens(["old", "new"], failures=failures)) as run:
        await run.until(is_live)

    assert run.tokens.renewals == ["old"] * 4
    assert [socket.handshakes for socket in gateway.sockets] == [["old"], ["new"]]


@pytest.mark.parametrize(
    "error",
    [
        ReauthorizationRequiredError("x"),
        TokenRequestError("x", code="invalid_client"),
        ClientClosedError(),
        ConfigurationError("x"),
    ],
)
async def test_what_no_repetition_can_mend_is_raised(error: HealthmsgError) -> None:
    tokens = Tokens(["old"], failures=[error])
    async with running(Gateway(refusing), tokens=tokens) as run:
        await asyncio.wait({run.task})
        with pytest.raises(type(error)):
            run.task.result()


async def test_a_proxy_that_wants_other_credentials_is_not_asked_again() -> None:
    error = ProxyAuthenticationError("GET gateway", "x")
    gateway = Gateway(lambda _: error)
    async with running(gateway) as run:
        await asyncio.wait({run.task})
        with pytest.raises(ProxyAuthenticationError):
            run.task.result()
    assert len(gateway.opened_at) == 1


async def test_a_401_to_the_upgrade_which_carries_no_token_is_tried_again() -> None:
    error = UnauthorizedError("GET gateway", 401)
    gateway = Gateway(lambda number: FakeSocket() if number else error)
    async with running(gateway) as run:
        await run.until(is_live)
    assert run.tokens.renewals == []


@pytest.mark.parametrize("answers_close", [True, False])
async def test_closing_says_so_and_takes_five_seconds_at_most(answers_close: bool) -> None:
    gateway = Gateway(lambda _: FakeSocket(answers_close=answers_close))
    async with running(gateway) as run:
        await run.until(is_live)
        begun_at = time()
        await run.connection.close()
        took = time() - begun_at

        assert run.task.done()
    assert took == pytest.approx(0 if answers_close else 3, abs=0.01)
    assert gateway.sockets[0].sent[-1] == (Opcode.CLOSE, b"\x03\xe8")
    assert gateway.sockets[0].is_aborted
    assert run.ear.losses == []


async def test_closing_ends_a_wait_an_upgrade_and_a_renewal_at_once() -> None:
    async def hang() -> FakeSocket:
        await asyncio.Event().wait()
        return FakeSocket()

    waiting, opening, renewing = Gateway(lambda _: not_there()), Gateway(lambda _: hang()), Gateway(refusing)
    for gateway in (waiting, opening, renewing):
        async with running(gateway, tokens=Tokens(hangs=True), backoff=longest()) as run:
            await asyncio.sleep(2)
            begun_at = time()
            await run.connection.close()
            assert time() == begun_at
            assert run.task.done()


async def test_closing_twice_or_before_the_start_or_after_the_end_does_no_harm() -> None:
    async with running(Gateway()) as run:
        await asyncio.gather(run.connection.close(), run.connection.close())
        await asyncio.wait({run.task})
        await run.connection.close()
    assert run.connection.state is GatewayState.CLOSED


@pytest.mark.parametrize("seconds", [0, 0.005, 1])
async def test_cancelling_it_ends_the_connection_and_stays_a_cancellation(seconds: float) -> None:
    gateway = Gateway(lambda _: FakeSocket(answers_close=False))
    async with running(gateway) as run:
        await asyncio.sleep(seconds)
        run.task.cancel()
        await asyncio.wait({run.task})
        assert run.task.cancelled()
        assert all(socket.is_aborted for socket in gateway.sockets)


async def test_a_mistake_in_the_listener_is_raised_and_ends_the_connection() -> None:
    gateway = Gateway()
    async with running(gateway) as run:
        run.ear.fails = True
        await run.until(is_live)
        gateway.sockets[0].say(MESSAGE)
        await asyncio.wait({run.task})
        with pytest.raises(ZeroDivisionError):
            run.task.result()
    assert gateway.sockets[0].is_aborted


async def test_typing_and_presence_go_out_while_live_and_are_dropped_else() -> None:
    chat, group = ChatAddress.parse("conversations/c1"), ChatAddress.parse("groupchats/g1")
    gateway = Gateway()
    async with running(gateway, backoff=longest()) as run:
        connection = run.connection
        assert not connection.send_typing(chat)
        await run.until(is_live)
        assert connection.send_typing(chat)
        assert connection.send_typing_stopped(group)
        assert connection.send_presence("away")
        assert not connection.send_typing(ChatAddress.parse("aux/conversations/p7"))
        await run.until(lambda _: len(gateway.sockets[0].texts) == 4)
        gateway.sockets[0].break_off()
        await run.until(lambda run: run.ear.losses)
        assert not connection.send_presence("online")

    assert gateway.sockets[0].texts[1:] == [
        {"event": "typing", "data": {"conversation_id": "c1"}},
        {"event": "stop_typing", "data": {"groupchat_id": "g1"}},
        {"event": "presence_update", "data": {"status": "away"}},
    ]


async def test_subscriptions_leave_at_most_200_a_minute() -> None:
    gateway = Gateway()
    async with running(gateway) as run:
        run.connection.subscribe("too early")
        await run.until(is_live)
        for number in range(300):
            run.connection.subscribe(f"g{number}")
        run.connection.unsubscribe("g299")
        await asyncio.sleep(59)
        assert len(gateway.sockets[0].texts) == 201
        await asyncio.sleep(10)

    groups = [text["data"]["groupchat_id"] for text in gateway.sockets[0].texts[1:]]
    assert groups == [f"g{number}" for number in range(300)]
    assert gateway.sockets[0].texts[-1]["event"] == "groupchat_unsubscribe"


async def test_a_call_without_an_answer_is_retried_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "healthmsg")
    gateway = Gateway(lambda number: FakeSocket() if number else not_there("gateway.example is away"))
    async with running(gateway, backoff=longest()) as run:
        await run.until(is_live)

    assert [record.getMessage() for record in caplog.records] == [
        "No connection to the gateway: gateway.example is away; the next try is in 5.0 s",
        "Connected to the gateway",
    ]
    assert not_there().outcome is Outcome.NOT_SENT
    assert TOKEN not in caplog.text
