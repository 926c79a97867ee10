"""`healthmsg bot show`, `check` and `retry` on a store as a bot leaves it, also while a bot has it."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from healthmsg.bot.store.effects import Begin, Park, PutDialog, PutStep
from healthmsg.bot.store.records import DialogRecord, StepRecord
from healthmsg.events import MessageCreated
from healthmsg.gateway.inbox.base import Change
from healthmsg.ids import ChatAddress
from healthmsg.models import Message
from tests.cli.command_line import Done, invoke

store_module: Any = pytest.importorskip("healthmsg.bot.store.store")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECRET = "CANARY"
CHAT = ChatAddress.parse("conversations/c1")


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Return a store with two parked events and an open dialog."""
    path = tmp_path / "bot.db"
    async with store_module.BotStore.open(path) as store:
        await store.inbox.hold()
        await store.inbox.start("me", "https://api.example/v1", None)
        events = tuple(
            MessageCreated.of(CHAT, Message(f"m{n}", body=SECRET, user_id="u1"), me="me", received_at=NOON)
            for n in (1, 2)
        )
        await store.inbox.apply([Change(chat=None, events=events)])
        for waiting in await store.waiting(0, 10):
            await store.commit(Begin(waiting.sequence))
            await store.commit(Park(waiting.sequence, "KeyError"))
        dialog = DialogRecord("d1", "intake", 2, CHAT.text, "u1", "open", "{}", NOON, NOON)
        step = StepRecord("d1", 0, "text", f"Naam van {SECRET}?")
        await store.commit(PutDialog(dialog), PutStep(step))
    return path


async def called(*arguments: object) -> Done:
    return await asyncio.to_thread(invoke, *map(str, arguments))


async def shown(path: Path) -> Any:
    done = await called("bot", "show", path, "--json")
    assert done.code == 0, done.err
    assert SECRET not in done.out
    return json.loads(done.out)


async def test_show_reads_a_store_that_no_bot_has(path: Path) -> None:
    found = await shown(path)
    assert [(one["sequence"], one["reason"]) for one in found["parked"]] == [(1, "KeyError"), (2, "KeyError")]
    assert [(one["name"], one["waits_for"]) for one in found["dialogs"]] == [("intake", "text")]
    assert found["unknown_replies"] == []
    assert (await called("bot", "show", path, "--texts")).out.count(SECRET) >= 3


async def test_retry_takes_one_up_and_then_all_that_is_left(path: Path) -> None:
    assert (await called("bot", "retry", path, "2")).out == "1 taken up again.\n"
    assert [one["sequence"] for one in (await shown(path))["parked"]] == [1]
    assert (await called("bot", "retry", path, "2")).code == 2
    assert (await called("bot", "retry", path, "--all")).out == "1 taken up again.\n"
    async with store_module.BotStore.open(path) as store:
        await store.inbox.hold()
        await store.inbox.start("me", "https://api.example/v1", None)
        assert len(await store.waiting(0, 10)) == 2


@pytest.fixture
async def held(path: Path) -> AsyncIterator[Path]:
    """Return a store that a bot has."""
    async with store_module.BotStore.open(path) as store:
        await store.inbox.hold()
        await store.inbox.start("me", "https://api.example/v1", None)
        yield path


async def test_show_works_beside_a_bot_and_retry_asks_for_its_control_surface(held: Path) -> None:
    assert len((await shown(held))["parked"]) == 2
    done = await called("bot", "retry", held, "1")
    assert done.code == 2
    assert "--control" in done.err
    assert len((await shown(held))["parked"]) == 2


async def test_check_tries_the_dialogs_of_a_store_beside_a_bot(
    held: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "authors_of_store.py").write_text(
        "from tests.bot.fake_bot import SilentBot\nbot = SilentBot()\n"
    )
    done = await called("bot", "check", held, "authors_of_store:bot")
    assert (done.code, done.out) == (0, "1 of 1 open dialogs fit this code.\n")
