"""The state machine, without a socket, a task or a clock."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthmsg.gateway.budget import Budget
from healthmsg.gateway.protocol import (
    Authenticated,
    Cause,
    Ended,
    GatewayProtocol,
    Happening,
    Received,
    Unreadable,
)
from healthmsg.transport.websocket import Opcode
from healthmsg.version import __version__
from tests.gateway.fakes import AUTHENTICATED, CANARIES, MESSAGE, TEXT, TOKEN, text_of


def a_protocol(budget: Budget | None = None, now: float = 0.0) -> GatewayProtocol:
    return GatewayProtocol(TOKEN, budget=budget or Budget(), now=now)


def a_live_one(budget: Budget | None = None) -> GatewayProtocol:
    protocol = a_protocol(budget)
    assert sent(protocol, 0.0)
    assert isinstance(hear(protocol, AUTHENTICATED), Authenticated)
    return protocol


def sent(protocol: GatewayProtocol, now: float) -> list[tuple[Opcode, bytes]]:
    frames = []
    while (frame := protocol.next_frame(now)) is not None:
        frames.append(frame)
    return frames


def hear(protocol: GatewayProtocol, data: bytes) -> Happening | None:
    return protocol.received(Opcode.TEXT, data)


def run(protocol: GatewayProtocol, start: float, end: float, *, pongs: bool) -> tuple[float, Ended] | None:
    """Tick every second, as the connection does, and return when and why it ends."""
    now = start
    while now <= end:
        ended = protocol.tick(now)
        if ended is not None:
            return now, ended
        for opcode, _ in sent(protocol, now):
            if opcode is Opcode.PING and pongs:
                protocol.received(Opcode.PONG, b"")
        now = max(now + 1e-6, min(now + 1, protocol.next_tick()))
    return None


def test_the_handshake_is_sent_first() -> None:
    (opcode, data), *rest = sent(a_protocol(), 0.0)

    document = orjson.loads(data)
    assert (opcode, rest) == (Opcode.TEXT, [])
    assert document["event"] == "handshake"
    assert document["data"]["token"] == TOKEN
    assert set(document["data"]["properties"]) == {"os", "browser", "device", "version"}
    assert document["data"]["properties"]["version"] == __version__


def test_the_user_of_the_token_is_handed_on() -> None:
    protocol = a_protocol()

    happening = hear(protocol, AUTHENTICATED)

    assert isinstance(happening, Authenticated)
    assert happening.user.id == "u1"
    assert protocol.is_live


def test_no_answer_to_the_handshake_ends_it_after_five_seconds() -> None:
    at, ended = run(a_protocol(), 0, 100, pongs=True) or pytest.fail("it goes on")

    assert at == 5
    assert ended.cause is Cause.LOST


@pytest.mark.parametrize("user", [None, {}, {"first_name": "x"}, "u1", {"id": 7}])
def test_an_answer_without_a_user_is_none(user: object) -> None:
    protocol = a_protocol()

    assert isinstance(hear(protocol, text_of("authenticated", user=user)), Ended)
    assert not protocol.is_live


def test_frames_before_the_handshakes_answer_are_dropped() -> None:
    protocol = a_protocol()

    assert hear(protocol, MESSAGE) is None
    assert hear(protocol, b"{") is None


def test_a_frame_is_handed_on_with_its_name_and_data() -> None:
    happening = hear(a_live_one(), MESSAGE)

    assert isinstance(happening, Received)
    assert happening.name == "conversation_new_message"
    assert happening.data["body"] == TEXT


def test_json_in_a_binary_frame_is_read_too() -> None:
    assert isinstance(a_live_one().received(Opcode.BINARY, MESSAGE), Received)


def test_a_frame_without_data_has_none() -> None:
    assert hear(a_live_one(), b'{"event": "x"}') == Received("x", {})


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"7", b'"x"', b"{}", b'{"event": 7}', b'{"event": "x", "data": []}', b"\xff\xfe\xfa"],
)
def test_what_cannot_be_read_is_said_by_its_size_alone(data: bytes) -> None:
    assert hear(a_live_one(), data) == Unreadable(len(data))


def test_a_frame_of_more_than_a_mebibyte_is_not_read() -> None:
    fits = text_of("x", body="")
    assert isinstance(hear(a_live_one(), text_of("x", body="a" * (2**20 - len(fits)))), Received)
    assert hear(a_live_one(), text_of("x", body="a" * (2**20 - len(fits) + 1))) == Unreadable(2**20 + 1)


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr).map(str.encode))
def test_whatever_comes_it_raises_nothing(data: bytes) -> None:
    hear(a_live_one(), data)
    hear(a_protocol(), data)


@given(
    st.fixed_dictionaries(
        {"event": st.sampled_from(["error", "authenticated"])},
        optional={
            "data": st.dictionaries(
                st.sampled_from(["code", "user", "groupchat_id"]),
                st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(),
            )
        },
    )
)
def test_whatever_an_error_says_it_raises_nothing(document: dict[str, object]) -> None:
    hear(a_live_one(), orjson.dumps(document))
    hear(a_protocol(), orjson.dumps(document))


def test_an_error_whose_code_is_nested_deeply_raises_nothing() -> None:
    frame = b'{"event":"error","data":{"code":' + b"[" * 1000 + b"]" * 1000 + b"}}"

    assert isinstance(hear(a_live_one(), frame), Received)


@pytest.mark.parametrize("code", [403, "403"])
@pytest.mark.parametrize("make", [a_protocol, a_live_one])
def test_error_403_is_about_the_token(code: object, make: type) -> None:
    ended = hear(make(), text_of("error", code=code, error="forbidden"))

    assert isinstance(ended, Ended)
    assert ended.cause is Cause.TOKEN_REFUSED
    assert ended.is_open


def test_error_403_with_a_chat_is_about_that_chat() -> None:
    frame = text_of("error", code=403, error="forbidden", groupchat_id="g1")

    assert isinstance(hear(a_live_one(), frame), Received)


@pytest.mark.parametrize("code", [304, 404, 500, None])
def test_other_errors_are_handed_on(code: int | None) -> None:
    assert isinstance(hear(a_live_one(), text_of("error", code=code)), Received)


@pytest.mark.parametrize(
    ("last", "cause"),
    [
        (text_of("error", code=429, error="limit"), Cause.LIMIT),
        (text_of("error", error="too_many_events"), Cause.LIMIT),
        (text_of("error", code=304, groupchat_id="g1"), Cause.LOST),
        (text_of("error", code=404), Cause.LOST),
        (MESSAGE, Cause.LOST),
        (b"{", Cause.LOST),
    ],
)
def test_an_error_that_is_the_last_thing_said_counts_as_a_limit_error(last: bytes, cause: Cause) -> None:
    protocol = a_live_one()
    hear(protocol, text_of("error", code=500))
    hear(protocol, MESSAGE)
    hear(protocol, last)

    assert protocol.ended("x").cause is cause
    ended = protocol.received(Opcode.CLOSE, b"\x03\xe9")
    assert isinstance(ended, Ended)
    assert ended.cause is cause
    assert ended.is_open
    assert "1001" in ended.reason


def test_a_ping_is_answered_with_what_it_carries() -> None:
    protocol = a_live_one()
    protocol.received(Opcode.PING, b"abc")

    assert sent(protocol, 1.0) == [(Opcode.PONG, b"abc")]


def test_a_flood_of_pings_needs_no_room() -> None:
    protocol = a_live_one()
    for number in range(1000):
        protocol.received(Opcode.PING, str(number).encode())

    assert sent(protocol, 1.0) == [(Opcode.PONG, b"999")]


def test_it_pings_every_30_seconds() -> None:
    protocol, pings, now = a_live_one(), [], 0.0
    while now < 100:
        protocol.tick(now)
        for opcode, _ in sent(protocol, now):
            pings.append((opcode, now))
            protocol.received(Opcode.PONG, b"")
        now += 1

    assert pings == [(Opcode.PING, at) for at in (30, 60, 90)]


@pytest.mark.parametrize("last_heard", [0.5, 29.9, 30.01, 39.9])
def test_a_silent_line_is_noticed_within_41_seconds(last_heard: float) -> None:
    protocol, now, is_heard = a_live_one(), 0.0, False
    while (ended := protocol.tick(now)) is None:
        sent(protocol, now)
        if not is_heard and now >= last_heard:
            is_heard = True
            protocol.received(Opcode.PONG, b"")
        now = min(now + 1, protocol.next_tick(), now + 1 if is_heard else max(last_heard, now + 1e-3))

    assert 0 < now - last_heard <= 41
    assert not ended.is_open


def test_a_line_that_answers_pings_is_kept_for_a_day() -> None:
    assert run(a_live_one(), 0, 86_400, pongs=True) is None


def test_any_frame_is_a_sign_of_life() -> None:
    protocol = a_live_one()
    for now in range(1000):
        assert protocol.tick(now) is None
        sent(protocol, now)
        protocol.received(Opcode.TEXT, MESSAGE)


@pytest.mark.parametrize("blocked_at", [31.0, 35.0])
def test_time_in_which_the_loop_was_blocked_does_not_count_against_the_other_side(blocked_at: float) -> None:
    protocol = a_live_one()
    for now in (10.0, 20.0, 29.0, 30.0, 31.0, blocked_at):
        assert protocol.tick(now) is None
        sent(protocol, now)

    assert protocol.tick(blocked_at + 600) is None
    protocol.received(Opcode.PONG, b"")  # which had been there all the time
    assert run(protocol, blocked_at + 600.1, blocked_at + 2000, pongs=True) is None


def test_nor_does_a_blocked_loop_hide_a_silent_line_for_long() -> None:
    protocol = a_live_one()
    for now in (29.0, 30.0, 31.0):
        assert protocol.tick(now) is None
        sent(protocol, now)

    at, _ = run(protocol, 631.0, 2000, pongs=False) or pytest.fail("it goes on")
    assert at <= 631 + 41


def subscriptions(frames: list[tuple[Opcode, bytes]]) -> list[str]:
    documents = [orjson.loads(data) for _, data in frames]
    return [document["data"]["groupchat_id"] for document in documents if "subscribe" in document["event"]]


def test_subscriptions_wait_for_the_budget_and_keep_their_order() -> None:
    protocol, groups = a_live_one(), [f"g{number}" for number in range(500)]
    for group in groups:
        protocol.subscribe(group)

    first = subscriptions(sent(protocol, 1.0))
    assert first == groups[:200]
    assert subscriptions(sent(protocol, 60.9)) == []
    assert subscriptions(sent(protocol, 66.1)) == groups[200:400]
    assert subscriptions(sent(protocol, 140.0)) == groups[400:]


def test_a_subscription_that_is_taken_back_before_it_left_ends_as_it_was_last_wanted() -> None:
    protocol = a_live_one()
    protocol.subscribe("g1")
    protocol.subscribe("g1", wanted=False)

    assert [orjson.loads(data)["event"] for _, data in sent(protocol, 1.0)] == ["groupchat_unsubscribe"]


def test_nothing_is_sent_before_the_handshakes_answer() -> None:
    protocol = a_protocol()
    protocol.subscribe("g1")

    assert not protocol.send_now("typing", {}, 0.0)
    assert len(sent(protocol, 0.0)) == 1


def test_at_most_250_events_leave_in_any_minute_handshakes_included() -> None:
    budget, left = Budget(), []
    for second in range(300):
        now = second / 2
        if second % 20 == 0:
            protocol = a_protocol(budget, now)
            left += [now for _ in sent(protocol, now)]
            hear(protocol, AUTHENTICATED)
            for number in range(1000):
                protocol.subscribe(f"g{number}")
        for _ in range(5):
            protocol.send_now("typing", {"conversation_id": "c1"}, now)
            left += [now for opcode, _ in sent(protocol, now) if opcode is Opcode.TEXT]

    assert len(left) > 500
    assert max(sum(start <= at < start + 60 for at in left) for start in left) <= 250


def test_typing_is_dropped_and_never_queued_when_the_budget_is_used_up() -> None:
    protocol = a_live_one()
    taken = 0
    for _ in range(1000):
        taken += protocol.send_now("typing", {"conversation_id": "c1"}, 1.0)
        sent(protocol, 1.0)

    assert taken == 239  # the handshake is one of 250, and ten are kept for others
    assert sent(protocol, 1000.0) == []


def test_subscriptions_leave_room_for_typing() -> None:
    protocol = a_live_one()
    for number in range(1000):
        protocol.subscribe(f"g{number}")
    sent(protocol, 1.0)

    assert protocol.send_now("typing", {"conversation_id": "c1"}, 2.0)


def test_typing_does_not_pile_up_before_a_connection_that_takes_nothing() -> None:
    protocol = a_live_one()

    assert sum(protocol.send_now("typing", {}, 1.0) for _ in range(100)) == 8


def test_no_repr_tells_anything() -> None:
    protocol = a_live_one()
    things = [protocol, hear(a_protocol(), AUTHENTICATED), hear(protocol, MESSAGE), protocol.ended("x")]

    assert not [canary for canary in CANARIES if canary in repr(things)]
