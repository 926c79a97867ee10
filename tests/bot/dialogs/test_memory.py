"""Dialogs that are kept in memory, those that are not, and events that come again."""

import gc
import logging
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest

from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.registration import register
from healthmsg.bot.store.effects import Finish
from healthmsg.ids import ChatAddress, ChatKind
from tests.bot.dialogs.simple import Choice, Number, Text
from tests.bot.dialogs.world import CHAT, Scope, World

RUNS: list[str] = []


@register(back=("terug",))
async def intake(d: Dialog) -> None:
    RUNS.append(d.user_id)
    name = await d.ask(Text("Naam?"))
    pain = await d.ask(Number("Pijn?"))
    await d.say(f"{name} {pain}")


@pytest.fixture(autouse=True)
def no_runs() -> None:
    RUNS.clear()


async def test_a_dialog_that_is_kept_is_not_replayed_and_one_that_is_not_is() -> None:
    world = World([intake], options={"keep": 2})
    for user in ("an", "bea", "cor"):
        await world.says("start", user=user)
    assert RUNS == ["an", "bea", "cor"]

    for user in ("bea", "cor", "an"):
        await world.says("X", user=user)

    assert RUNS == ["an", "bea", "cor", "an"]
    for user in ("an", "bea", "cor"):
        await world.says("8", user=user)
    assert world.sees[-3:] == ["X 8"] * 3


async def test_what_goes_wrong_on_the_way_leaves_nothing_in_memory_that_is_not_in_the_store() -> None:
    world = World([intake])
    await world.says("start")
    world.outbox.failures = [ConnectionError("down")]

    await world.says("An")
    await world.says("8")

    assert world.sees == ["Naam?", "Pijn?", "An 8"]
    assert not world.is_open()


async def test_an_event_that_comes_again_since_its_end_was_not_committed_is_taken_from_the_store() -> None:
    world = World([intake])
    await world.says("start")
    lost = Scope(world.message("An"), world.store)
    assert await world.engine.handle(lost)
    assert not any(isinstance(effect, Finish) for effect in lost.effects)

    again = Scope(lost.event, world.store)
    assert await world.engine.handle(again)

    assert world.sees == ["Naam?", "Pijn?"]
    await world.says("8")
    assert world.sees[-1] == "An 8"


async def test_the_end_of_a_dialog_is_committed_with_that_of_its_event() -> None:
    world = World([intake])
    await world.says("start")
    await world.says("An")
    lost = Scope(world.message("8"), world.store)
    assert await world.engine.handle(lost)
    assert world.is_open()

    again = Scope(lost.event, world.store)
    assert await world.engine.handle(again)
    await world.store.commit(*again.effects)

    assert world.sees == ["Naam?", "Pijn?", "An 8"]
    assert not world.is_open()


async def test_messages_of_users_without_a_dialog_do_not_ask_the_store_each_time() -> None:
    world = World([intake])
    for _ in range(5):
        await world.says("hallo")

    assert len(world.store.looked_up) == 1
    await world.says("start")
    await world.says("An")
    assert world.sees == ["Naam?", "Pijn?"]


async def test_a_dialog_in_another_chat_begins_in_that_chat_s_order() -> None:
    other = ChatAddress(ChatKind.CONVERSATION, "c2")

    async def handler(world: World, scope: Any) -> None:
        if scope.event.user_id == "an":
            assert await world.for_(scope).start(intake, (other, "bea"), answers={"Naam?": "Bea"})
            assert not world.store.timers

    world = World([intake], "straight", handler)
    await world.says("start")
    await world.rings()

    assert [(chat, content.body) for chat, content in world.outbox.sent.values()] == [(other, "Pijn?")]
    assert world.engine.wants(world.message("", user="bea", chat=other))
    await world.says("7", user="bea", chat=other)
    assert world.sees[-1] == "Bea 7"


async def test_a_dialog_that_is_started_from_outside_knows_what_started_it() -> None:
    kinds = []

    @register()
    async def curious(d: Dialog) -> None:
        kinds.append((d.started_by.kind, d.chat, d.user_id))
        await d.sleep(timedelta(1))

    world = World([curious])
    await world.by_hand("start", "curious", (CHAT.text, "an"))
    await world.says("start", user="bea")
    await world.kill_and_restart()
    await world.passes(timedelta(1))

    assert kinds == [("timer_due", CHAT, "an"), ("message_created", CHAT, "bea")] * 2
    assert not world.is_open()


async def test_a_dialog_that_has_left_memory_takes_no_room_there() -> None:
    world = World([intake], options={"keep": 10})
    for number in range(50):
        await world.says("start", user=f"u{number}")
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(50, 150):
            chat = ChatAddress(ChatKind.CONVERSATION, f"c{number}")
            scope = Scope(world.message("start", user="v", chat=chat), world.store)
            await world.start(scope)
        # What the store of the test and its outbox hold is theirs.
        world.store.commits.clear()
        gc.collect()
        found = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(True, "*/bot/dialogs/kept.py"),
             tracemalloc.Filter(True, "*/bot/dialogs/run.py"),
             tracemalloc.Filter(True, "*/bot/dialogs/engine.py")]
        )  # fmt: skip
    finally:
        tracemalloc.stop()

    assert len(world.engine._kept) == 10
    assert sum(trace.size for trace in found.statistics("filename")) < 40_000


async def test_nothing_that_was_said_is_in_a_log_or_a_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    @register(back=("terug",))
    async def private(d: Dialog) -> None:
        name = await d.text("Geheim?")
        await d.once(print, "Geheim")
        await d.say(f"Dag {name}")
        await d.hand_over(f"Geheim van {name}")

    world = World([private])
    shown = []
    for said in ("start", "Geheim", "Geheim"):
        await world.says(said, user="Geheim")
        runs = list(world.engine._kept._runs.values())
        shown += [repr(runs), repr([run.journal for run in runs]), repr([run.waiting for run in runs])]
        shown += [repr(world.engine), repr(world.store.dialog_records), repr(world.store.step_records)]
        shown += [repr([run.document for run in runs]), repr(world.for_())]

    assert "Geheim" not in "".join(shown) + caplog.text
    assert "has handed its chat over" in caplog.text


async def test_choices_by_button_are_found_by_the_message_they_belong_to() -> None:
    @register()
    async def choosing(d: Dialog) -> None:
        await d.say(await d.ask(Choice("Komt u?")))

    world = World([choosing], options={"keep": 0})
    await world.says("start")
    await world.presses("nee")

    assert world.sees == ["Komt u?", "nee"]
