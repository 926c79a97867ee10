"""The commands of `healthmsg bot` that go over a control surface: which bot does what they ask for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copy
from socket import create_server
from typing import Any

import pytest
from attrs import define

from healthmsg.bot.control import Control
from healthmsg.bot.store.records import ParkedEvent
from healthmsg.cli.bots.calling import ControlClient
from healthmsg.errors import JournalError
from healthmsg.events import MessageDeleted
from healthmsg.ids import ChatAddress
from tests.bot.fake_bot import SilentBot
from tests.cli.command_line import Done, invoke

store_module: Any = pytest.importorskip("healthmsg.bot.store.store")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TOKEN = "t0ken"
ORDERS = [
    (("retry", "STORE", "7"), "1 taken up again.\n", ("retry", 7)),
    (("retry", "STORE", "--all"), "1 taken up again.\n", ("retry", None)),
    (("end", "STORE", "d1"), "It ends.\n", ("end", "d1")),
    (("take-back", "STORE", "d1"), "It goes on, if it fits the code.\n", ("take back", "d1")),
    (("stop-when-idle", "STORE"), "It ends when it is idle.\n", "stop when idle"),
]
each_order = pytest.mark.parametrize(("order", "said", "asked"), ORDERS, ids=lambda one: str(one[0]))


@define
class Controlled:
    """A bot with a store and a control surface."""

    bot: SilentBot
    store: Path
    port: int
    token: Path

    @property
    def options(self) -> list[str]:
        return ["--control", str(self.port), "--control-token", str(self.token)]


async def identity_of(path: Path) -> str:
    """Return the identity of a store, which is made if it is not there."""
    async with store_module.BotStore.open(path) as store:
        return str(store.identity)


def parked(sequence: int) -> ParkedEvent:
    chat = ChatAddress.parse("conversations/c1")
    event = MessageDeleted(id=f"deleted/{sequence}", message_id="m", chat=chat, received_at=NOON)
    return ParkedEvent(sequence, event, "KeyError", NOON)


@asynccontextmanager
async def controlled(folder: Path, name: str) -> AsyncIterator[Controlled]:
    token = folder / "token"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    path = folder / f"{name}.db"
    bot = SilentBot(store_id=await identity_of(path), parked_events=[parked(7)])
    async with Control(bot, TOKEN) as control:
        yield Controlled(bot, path, control.port, token)


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Controlled]:
    async with controlled(tmp_path, "one") as made:
        yield made


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Controlled]:
    async with controlled(tmp_path, "other") as made:
        yield made


async def called(order: tuple[str, ...], store: Path, *options: str) -> Done:
    arguments = [str(store) if argument == "STORE" else argument for argument in order]
    return await asyncio.to_thread(invoke, "bot", *arguments, *options)


@each_order
async def test_an_order_goes_to_the_bot_that_has_the_store(
    one: Controlled, order: tuple[str, ...], said: str, asked: object
) -> None:
    done = await called(order, one.store, *one.options)
    assert (done.code, done.out, done.err) == (0, said, "")
    assert one.bot.asked == [asked]


@each_order
async def test_a_bot_with_another_store_does_nothing_and_both_are_named(
    one: Controlled, other: Controlled, order: tuple[str, ...], said: str, asked: object
) -> None:
    done = await called(order, one.store, *other.options)

    assert (done.code, done.out) == (2, ""), (said, asked)
    assert f"{one.store} is the store {one.bot.store_id}" in done.err
    assert f"the bot on port {other.port} has another one" in done.err
    assert other.bot.store_id in done.err
    assert "Nothing was changed." in done.err
    assert one.bot.asked == other.bot.asked == []


@each_order
async def test_a_bot_that_stands_by_does_not_have_the_store(
    one: Controlled, order: tuple[str, ...], said: str, asked: object
) -> None:
    one.bot.has_store.clear()
    done = await called(order, one.store, *one.options)

    assert (done.code, done.out) == (2, ""), (said, asked)
    assert "stands by: another process has its store" in done.err
    assert "Nothing was changed." in done.err
    assert one.bot.asked == []


async def test_it_is_not_said_to_have_ended_because_it_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("healthmsg.cli.bots.calling._TIMEOUT", 0.05)
    with create_server(("127.0.0.1", 0)) as busy:
        client = ControlClient(busy.getsockname()[1], TOKEN)
        assert not await asyncio.to_thread(client.has_ended, "then")
    assert await asyncio.to_thread(client.has_ended, "then")


async def test_a_copy_of_a_store_has_its_identity_and_another_store_has_not(tmp_path: Path) -> None:
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    identity = await identity_of(first)
    assert identity == await identity_of(first)
    assert identity != await identity_of(second)
    copy(first, tmp_path / "copy.db")
    assert await identity_of(tmp_path / "copy.db") == identity
    assert identity in (await called(("show", "STORE"), first)).out


async def test_the_identity_is_not_what_hashes_are_made_with(tmp_path: Path) -> None:
    async with store_module.BotStore.open(tmp_path / "bot.db") as store:
        assert store.identity not in {store.database.salt.hex(), store.event_key(""), ""}


async def test_what_has_gone_from_a_bot_is_said_by_it(one: Controlled) -> None:
    assert (await called(("retry", "STORE", "7"), one.store, *one.options)).code == 0
    done = await called(("retry", "STORE", "7"), one.store, *one.options)
    assert done.code == 2
    assert "no event with this sequence is parked" in done.err


async def test_a_store_that_is_missing_and_a_file_that_is_none_are_refused(
    one: Controlled, tmp_path: Path
) -> None:
    order, none = ("retry", "STORE", "--all"), tmp_path / "none.db"
    done = await called(order, none, *one.options)
    assert (done.code, done.out) == (2, "")
    assert "no such store" in done.err
    assert not none.exists()

    none.write_text("no store")
    done = await called(order, none, *one.options)
    assert done.code != 0
    assert "Nothing was changed." in done.err
    assert one.bot.asked == []


async def test_a_wrong_token_and_a_port_without_a_bot_are_named(one: Controlled) -> None:
    order = ("stop-when-idle", "STORE")
    await asyncio.to_thread(one.token.write_text, "another")
    done = await called(order, one.store, *one.options)
    assert done.code == 2
    assert "missing or wrong" in done.err
    assert "another" not in done.err

    done = await called(order, one.store, "--control", "9", "--control-token", str(one.token))
    assert done.code == 2
    assert "no bot answers on port 9" in done.err

    done = await called(order, one.store, "--control", str(one.port))
    assert "--control-token" in done.err
    assert "--control is needed" in (await called(order, one.store)).err
    assert one.bot.asked == []


async def test_whether_an_order_was_done_is_not_claimed_where_its_answer_is_lost(one: Controlled) -> None:
    one.bot.failure = JournalError("the disk is full")
    done = await called(("end", "STORE", "d1"), one.store, *one.options)
    assert done.code == 1
    assert "the disk is full" in done.err
    assert "may have been done" in done.err
    assert "Nothing was changed" not in done.err


async def test_a_bot_that_dies_before_it_answers_is_no_bot_that_has_done_nothing(one: Controlled) -> None:
    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = str(server.sockets[0].getsockname()[1])
        options = ["--control", port, "--control-token", str(one.token)]
        done = await called(("retry", "STORE", "--all"), one.store, *options)
    assert done.code == 1
    assert f"the bot on port {port} gave no answer" in done.err
    assert "Nothing was changed" not in done.err


async def test_a_bot_that_was_started_again_after_it_ended_has_ended(
    one: Controlled, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = list[float]()

    def started_again(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            one.bot.started_at += timedelta(minutes=1)
        assert len(looks) < 9

    monkeypatch.setattr("healthmsg.cli.bot.time.sleep", started_again)
    done = await called(("stop-when-idle", "STORE", "--wait"), one.store, *one.options)
    assert (done.code, done.out, done.err) == (0, "It has ended.\n", "")
    assert len(looks) == 2
