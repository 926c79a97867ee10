"""The connection: the handshake, its time-outs, pings, the budget of events, and its end."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from aiohttp import ClientSession, WSCloseCode, WSMsgType, WSServerHandshakeError, web

from healthmsg import Environment
from healthmsg.sandbox import Sandbox
from healthmsg.sandbox.remote import RemoteSandbox
from tests.caller import Caller
from tests.sandbox.gateway.wire import signed_in, wire_to
from tests.waiting import until


def test_the_environment_says_where_the_gateway_is() -> None:
    there = RemoteSandbox("https://sandbox.example", "id", "secret").environment
    assert isinstance(there, Environment)
    assert there.gateway_url == "wss://sandbox.example/v1/gateway"


async def test_the_handshake_is_answered_with_the_user_and_a_session(
    session: ClientSession, sandbox: Sandbox
) -> None:
    async with wire_to(session, sandbox) as wire:
        name, data = await wire.shake_hands(sandbox.issue_token(), browser="Hubot")
        assert sandbox.gateway.connected() == sandbox.gateway.connected(sandbox.user_id) == 1
    assert name == "authenticated"
    assert data["user"] == sandbox.store.people[sandbox.user_id].to_json()
    assert {"id", "first_name", "last_name", "company_name", "company_id"} <= set(data["user"])
    assert isinstance(data["session_id"], str)
    await until(lambda: not sandbox.gateway.connected())
    assert sandbox.gateway.connects == 1


async def test_a_client_that_has_gone_before_the_upgrade_is_no_mistake_of_the_sandbox(
    session: ClientSession,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def gone(*_: object) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(web.WebSocketResponse, "prepare", gone)
    with pytest.raises(WSServerHandshakeError):
        async with wire_to(session, sandbox):
            pass
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("kind", ["unknown", "expired", "revoked", "not for reading"])
async def test_a_bad_token_is_refused_with_403_and_disconnected(
    session: ClientSession, sandbox: Sandbox, kind: str
) -> None:
    token = sandbox.issue_token(
        lifetime=timedelta() if kind == "expired" else None,
        scopes=["write"] if kind == "not for reading" else ["read"],
    )
    if kind == "revoked":
        sandbox.revoke_token(token)
    async with wire_to(session, sandbox) as wire:
        name, data = await wire.shake_hands("made-up" if kind == "unknown" else token)
        assert (name, data["code"]) == ("error", 403)
        assert await wire.end() is WSMsgType.CLOSE
    assert sandbox.gateway.connected() == 0


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"event":"typing","data":{}}', '{"event":"handshake","data":{"token":7}}', "\ud83d"],
)
async def test_what_is_no_handshake_is_refused(session: ClientSession, sandbox: Sandbox, text: str) -> None:
    async with wire_to(session, sandbox) as wire:
        await wire.socket.send_bytes(text.encode(errors="surrogatepass"))
        name, data = await wire.next()
        assert (name, data["code"]) == ("error", 400)
        assert await wire.end() is WSMsgType.CLOSE


@pytest.mark.looptime
async def test_a_client_that_says_nothing_is_disconnected_after_ten_seconds(
    session: ClientSession, sandbox: Sandbox
) -> None:
    loop = asyncio.get_running_loop()
    async with wire_to(session, sandbox) as wire:
        connected = loop.time()
        assert await wire.end() is WSMsgType.CLOSE
        assert 10 <= loop.time() - connected < 11
        assert wire.socket.close_code == WSCloseCode.POLICY_VIOLATION


@pytest.mark.looptime
async def test_pings_are_sent_and_answered(session: ClientSession, sandbox: Sandbox) -> None:
    loop = asyncio.get_running_loop()
    async with signed_in(session, sandbox, autoping=False) as wire:
        connected = loop.time()
        await wire.socket.ping(b"7")
        message = await wire.socket.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"7")
        for pings in (1, 2):
            assert (await wire.socket.receive()).type is WSMsgType.PING
            assert 30 * pings <= loop.time() - connected < 30 * pings + 1
            await wire.socket.pong()
        assert (await wire.socket.receive()).type is WSMsgType.PING
        assert (await wire.socket.receive()).type is WSMsgType.CLOSED
        assert 100 <= loop.time() - connected < 101


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_the_251st_event_within_a_minute_ends_the_connection(session: ClientSession) -> None:
    clock = Clock()
    async with Sandbox(clock=clock) as sandbox, signed_in(session, sandbox) as wire:
        for _ in range(2):
            for _ in range(248):
                await wire.send("presence_update", status="away")
            assert await wire.settled() == []
            clock.now += 60
        for _ in range(250):
            await wire.send("presence_update", status="away")
        await wire.send("presence_update", status="busy")
        name, data = await wire.next()
        assert (name, data["code"]) == ("error", 429)
        assert await wire.end() is WSMsgType.CLOSE
        assert sandbox.store.people[sandbox.user_id].presence == "away"


async def test_the_101st_message_within_a_minute_ends_the_connection(session: ClientSession) -> None:
    clock = Clock()
    async with Sandbox(clock=clock) as sandbox, signed_in(session, sandbox) as wire:
        chat = sandbox.add_conversation()
        for _ in range(101):
            await wire.send("conversation_new_message", conversation_id=chat, body="Dag")
        assert (await wire.until("error"))[-1][1]["code"] == 429
        assert await wire.end() is WSMsgType.CLOSE
        assert len(sandbox.messages(f"conversations/{chat}")) == 100


async def test_connections_with_one_token_share_a_budget(session: ClientSession) -> None:
    async with Sandbox(clock=Clock()) as sandbox:
        token = sandbox.issue_token()
        async with wire_to(session, sandbox) as one, wire_to(session, sandbox) as other:
            await one.shake_hands(token)
            await other.shake_hands(token)
            for _ in range(247):
                await one.send("presence_update", status="away")
            assert await one.settled() == []
            await other.send("presence_update", status="away")
            assert (await other.next())[1]["code"] == 429
        async with wire_to(session, sandbox) as again:
            assert (await again.shake_hands(token))[1]["code"] == 429
        async with signed_in(session, sandbox) as with_another_token:
            assert await with_another_token.settled() == []


async def test_an_answer_to_a_plain_request_says_that_this_is_a_websocket(call: Caller) -> None:
    assert (await call("GET", "gateway")).status == 426
    assert (await call("POST", "gateway")).status == 404


async def test_a_page_under_another_name_cannot_connect(session: ClientSession, sandbox: Sandbox) -> None:
    with pytest.raises(Exception, match="421"):
        async with wire_to(session, sandbox, headers={"Host": "evil.example"}):
            pass


async def test_a_frame_over_a_mebibyte_ends_the_connection(session: ClientSession, sandbox: Sandbox) -> None:
    async with signed_in(session, sandbox) as wire:
        await wire.send("presence_update", status="x" * 1024 * 1024)
        assert await wire.end() is WSMsgType.CLOSE
        assert wire.socket.close_code == WSCloseCode.MESSAGE_TOO_BIG


async def test_the_connections_are_not_calls(session: ClientSession, sandbox: Sandbox) -> None:
    async with signed_in(session, sandbox):
        assert sandbox.calls == []


async def test_an_outage_cuts_the_connections_and_new_ones_are_made_after_it(
    session: ClientSession, sandbox: Sandbox
) -> None:
    async with signed_in(session, sandbox) as wire:
        await sandbox.go_offline(0.01)
        assert await wire.end() in (WSMsgType.CLOSED, WSMsgType.ERROR)
    async with signed_in(session, sandbox):
        assert sandbox.gateway.connected() == 1


async def test_a_sandbox_stops_at_once_with_clients_that_are_connected(session: ClientSession) -> None:
    before = asyncio.all_tasks()
    async with AsyncExitStack() as until_the_end:
        async with Sandbox() as sandbox:
            patient = sandbox.add_user("Bea", "Bos")
            wires = [
                await until_the_end.enter_async_context(connected)
                for connected in (
                    signed_in(session, sandbox),
                    signed_in(session, sandbox, patient),
                    wire_to(session, sandbox),
                )
            ]
            assert sandbox.gateway.drop(patient, silently=True) == 1
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 2
        assert asyncio.all_tasks() == before
        for wire in wires:
            assert await wire.end() in (WSMsgType.CLOSED, WSMsgType.CLOSE, WSMsgType.ERROR)
