"""A bot's store in both databases: all or nothing, what was running counts as a crash, texts are erased."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from sqlalchemy import Connection, text

from healthmsg.bot.store.effects import (
    Begin,
    CancelTimer,
    CancelTimers,
    CloseDialog,
    Finish,
    Fire,
    ForgetSteps,
    MoveTimer,
    Park,
    Postpone,
    PutDialog,
    PutStep,
    PutTimer,
    Unpark,
)
from healthmsg.bot.store.store import BotStore
from healthmsg.bot.timetable import NEVER
from healthmsg.errors import (
    InboxLostError,
    InvalidInputError,
    JournalError,
    JournalInUseError,
    JournalNotFoundError,
)
from healthmsg.gateway.inbox import open_inbox
from healthmsg.gateway.inbox.sql import SqlInbox
from tests.bot.store.stores import (
    CHAT,
    NOW,
    after_attempt,
    dialog,
    due,
    enter,
    ids,
    opened,
    step,
    timer,
)
from tests.gateway.inbox.inboxes import TEXT, begin, message, of
from tests.gateway.inbox.test_inbox_killed import steal

HOUR = timedelta(hours=1)


async def states(store: BotStore) -> list[tuple[str, bool, int, int]]:
    """Return of each event its state, whether its text is there, its attempts and its crashes."""

    def read(connection: Connection) -> list[tuple[str, bool, int, int]]:
        asked = text("SELECT state, body, attempts, crashes FROM healthmsg_inbox ORDER BY sequence")
        return [
            (state, body is not None, attempts, crashes)
            for state, body, attempts, crashes in connection.execute(asked)
        ]

    return await store.writer.run_in_batch(read)


async def other_states(target: str) -> list[tuple[str, bool, int, int]]:
    """Return the same, seen by another process."""
    async with BotStore.open(target, is_reading=True) as store:
        return await states(store)


# --- events


async def test_what_waits_comes_by_sequence_as_it_was_entered(target: str) -> None:
    async with opened(target) as store:
        first, second, third = await enter(store, message(1), message(2, "c2"), message(3))
        found = await store.waiting(0, 2)
        assert [one.sequence for one in found] == [first, second]
        assert [one.event for one in found] == [message(1), message(2, "c2")]
        assert [one.sequence for one in await store.waiting(second, 9)] == [third]
    async with opened(target) as store:
        assert [one.event for one in await store.waiting(0, 9)] == [message(1), message(2, "c2"), message(3)]


async def test_what_waits_in_one_chat_can_be_read(target: str) -> None:
    async with opened(target) as store:
        first, *_, fourth = await enter(store, *(message(number, f"c{number % 2}") for number in range(4)))
        assert ids(await store.waiting(0, 9, chat="conversations/c1")) == ["message/m1", "message/m3"]
        assert ids(await store.waiting(0, 9, chat="conversations/c1", until=fourth - 1)) == ["message/m1"]
        assert ids(await store.waiting(first, 1, chat="conversations/c0")) == ["message/m2"]


async def test_an_event_is_begun_and_finished_with_the_effects_of_its_handler(target: str) -> None:
    async with opened(target) as store:
        first, second = await enter(store, message(1), message(2))
        await store.commit(Begin(first))
        assert [one.sequence for one in await store.waiting(0, 9)] == [second]
        await store.commit(PutDialog(dialog()), Finish(first), Begin(second))

        assert await states(store) == [("done", False, 1, 0), ("running", True, 1, 0)]
        assert await store.dialogs() == [dialog()]


async def test_what_was_running_when_the_process_died_waits_again_and_counts_as_a_crash(target: str) -> None:
    async with opened(target) as store:
        first, second = await enter(store, message(1), message(2, "c2"))
        await store.commit(Begin(first))
        assert await store.crashed() == []
    async with opened(target) as store:
        (crashed,) = await store.crashed()
        assert (crashed.sequence, crashed.crashes, crashed.event) == (first, 1, after_attempt(message(1), 2))
        assert [(one.sequence, one.crashes) for one in await store.waiting(0, 9)] == [(first, 1), (second, 0)]


async def test_a_postponed_event_says_until_when_also_after_a_restart(target: str) -> None:
    async with opened(target) as store:
        (first,) = await enter(store, message(1))
        await store.commit(Begin(first))
        until = (NOW + HOUR).astimezone(timezone(timedelta(hours=2)))
        await store.commit(Postpone(first, until))
    async with opened(target) as store:
        (found,) = await store.waiting(0, 9)
        assert (found.not_before, found.event.attempt, found.crashes) == (NOW + HOUR, 2, 0)
        await store.commit(Begin(first), Park(first, "x"), Unpark(first))
        (found,) = await store.waiting(0, 9)
        assert found.not_before is None


async def test_what_was_finished_is_not_postponed_any_more(target: str) -> None:
    async with opened(target) as store:
        (first,) = await enter(store, message(1))
        await store.commit(Begin(first), Finish(first))
        await store.commit(Postpone(first, NOW))
        assert await store.waiting(0, 9) == []


async def test_a_parked_event_is_kept_with_its_reason_and_waits_again_behind_the_others(target: str) -> None:
    async with opened(target) as store:
        first, _ = await enter(store, message(1), message(2))
        await store.commit(Begin(first), Park(first, 'één "\0" \ud800'))
        (parked,) = await store.parked()
        assert (parked.sequence, parked.event) == (first, message(1))
        assert parked.reason.startswith('één "')
        assert ids(await store.waiting(0, 9)) == ["message/m2"]
    async with opened(target) as store:
        assert len(await store.parked()) == 1
        await store.commit(Unpark(first))
        assert await store.parked() == []
        assert [(one.event.id, one.event.attempt) for one in await store.waiting(0, 9)] == [
            ("message/m2", 1),
            ("message/m1", 1),
        ]
        await store.inbox.apply(of(message(3)))
        assert ids(await store.waiting(0, 9))[-1] == "message/m3"


async def test_a_parked_event_can_wait_again_while_no_bot_runs(target: str) -> None:
    async with opened(target) as store:
        first, _ = await enter(store, message(1), message(2))
        await store.commit(Park(first, "x"))
    async with BotStore.open(target) as store:
        await store.inbox.hold()
        await store.commit(Unpark(first))
        assert ids(await store.waiting(0, 9)) == ["message/m2", "message/m1"]


async def test_plain_events_take_over_the_store_of_a_bot(target: str) -> None:
    async with opened(target) as store:
        first, second, _ = await enter(store, message(1), message(2, "c2"), message(3, "c3"))
        await store.commit(Begin(first), Park(second, "x"), PutTimer(timer("t")))
        await store.commit(Fire("t", due(timer("t"))))
    async with open_inbox(target) as inbox:
        assert isinstance(inbox, SqlInbox)
        await begin(inbox)
        taken = await inbox.next(9)
        assert taken == [after_attempt(message(1), 2), message(3, "c3"), due(timer("t"))]


# --- dialogs and steps


async def test_a_dialog_comes_back_as_it_was_put(target: str) -> None:
    put = dialog(document='{"naam":"Zoë 😀 \\u0000"}')
    async with opened(target) as store:
        await store.commit(PutDialog(put), PutDialog(dialog("d2", user="u2")))
    async with opened(target) as store:
        assert await store.dialog(CHAT, "u1") == put
        assert await store.dialog_of("d1") == put
        assert await store.dialog(CHAT, "u3") is None
        assert await store.dialog_of("d3") is None
        assert [one.id for one in await store.dialogs()] == ["d1", "d2"]


async def test_a_chat_and_user_have_one_dialog(target: str) -> None:
    async with opened(target) as store:
        await store.commit(PutDialog(dialog()))
        (first,) = await enter(store, message(1))
        with pytest.raises(InvalidInputError, match="another dialog already"):
            await store.commit(Begin(first), PutStep(step(1, of="d2")), PutDialog(dialog("d2")))
        with pytest.raises(InvalidInputError, match="another dialog already"):
            await store.commit(PutDialog(dialog("d3", user="u3")), PutDialog(dialog("d4", user="u3")))

        assert await store.dialogs() == [dialog()]
        assert await store.steps("d2") == []
        assert len(await store.waiting(0, 9)) == 1  # nothing of it was written, and the store goes on
        await store.commit(CloseDialog("d1"), PutDialog(dialog("d2")))
        assert await store.dialogs() == [dialog("d2")]


async def test_steps_are_completed_and_forgotten_from_a_number_on(target: str) -> None:
    async with opened(target) as store:
        await store.commit(*(PutStep(step(number)) for number in (3, 1, 2)))
        await store.commit(PutStep(step(2, value='"An"')))
        assert await store.steps("d1") == [step(1), step(2, value='"An"'), step(3)]
        await store.commit(ForgetSteps("d1", 2))
        assert await store.steps("d1") == [step(1)]


async def test_closing_a_dialog_takes_its_steps_and_timers_along_and_no_others(target: str) -> None:
    async with opened(target) as store:
        other = dialog("d2", user="u2")
        await store.commit(PutDialog(dialog()), PutStep(step(1)), PutTimer(timer("t1")))
        await store.commit(PutDialog(other), PutStep(step(1, of="d2")), PutTimer(timer("t2", of="d2")))
        await store.commit(CloseDialog("d1"))

        assert await store.dialogs() == [other]
        assert await store.steps("d1") == []
        assert await store.steps("d2") == [step(1, of="d2")]
        assert [one.id for one in await store.due(NOW, 9)] == ["t2"]


async def test_that_a_dialog_has_ended_is_kept(target: str) -> None:
    async with opened(target) as store:
        await store.commit(PutDialog(dialog()))
        assert not await store.has_ended("d1")
        await store.commit(PutDialog(dialog()), CloseDialog("d1"))
        await store.commit(CloseDialog("d1"), CloseDialog("d2\0"))
    async with opened(target) as store:
        assert [await store.has_ended(one) for one in ("d1", "d2\0", "d3")] == [True, True, False]


async def test_no_file_has_what_was_said_when_all_is_done(file: Path) -> None:
    async with opened(file) as store:
        for number in range(200):
            name = f"d{number}"
            await store.commit(
                PutDialog(dialog(name, user=name, document=f'"{TEXT}"')),
                PutStep(step(1, key=TEXT, value=f'"{TEXT}"', of=name)),
                PutTimer(timer(f"t{number}", of=name)),
            )
            sequence = (await enter(store, message(number)))[-1]
            await store.commit(Begin(sequence), Park(sequence, TEXT))
            await store.commit(CloseDialog(name), Finish(sequence))

    for path in file.parent.iterdir():
        assert TEXT.encode() not in path.read_bytes(), path


# --- timers


async def test_timers_are_due_the_earliest_first(target: str) -> None:
    async with opened(target) as store:
        assert await store.next_due() is None
        late, early, later = timer("a", NOW + HOUR), timer("b", NOW), timer("c", NOW + HOUR * 2, None)
        await store.commit(*(PutTimer(one) for one in (late, early, later)))
        assert await store.next_due() == NOW
        assert await store.due(NOW - timedelta(microseconds=1), 9) == []
        assert await store.due(NOW + HOUR, 9) == [early, late]
        assert await store.due(NOW + HOUR, 1) == [early]
        await store.commit(PutTimer(timer("b", NOW + HOUR * 3)), CancelTimer("a"), CancelTimer("none"))
        assert await store.due(NOW + HOUR * 3, 9) == [later, timer("b", NOW + HOUR * 3)]
        asked = evolve(timer("b", NOW + HOUR * 3), kind="stop")
        await store.commit(PutTimer(asked), PutTimer(timer("d", NOW + HOUR * 4)))
        await store.commit(CancelTimers("d1"))
        assert await store.due(NOW + HOUR * 5, 9) == [later, asked]


async def test_the_timers_of_a_kind_are_told_from_all_others(target: str) -> None:
    async with opened(target) as store:
        mine = [evolve(timer("b", NOW + HOUR), kind="schedule"), evolve(timer("a", NEVER), kind="schedule")]
        await store.commit(*map(PutTimer, [timer("other", NOW), *mine]))

        assert await store.timers("schedule") == mine
        assert await store.timers("none") == []
        assert await store.due(NEVER, 9) == [timer("other", NOW), *mine]


async def test_a_timer_of_any_year_is_kept_and_due(target: str) -> None:
    years = [timer(f"t{year}", datetime(year, 1, 1, tzinfo=UTC)) for year in (1, 999, 1999, 9999)]
    async with opened(target) as store:
        await store.commit(*map(PutTimer, years))
        assert await store.due(NOW, 9) == years[:3]
        assert await store.next_due() == years[0].due


async def test_a_timer_becomes_an_event_once(target: str) -> None:
    one = timer("t")
    async with opened(target) as store:
        await store.commit(PutTimer(one))
        await store.commit(Fire("t", due(one), timer("t", NOW + HOUR)))
        await store.commit(Fire("t", due(one)))
        await store.commit(Fire("none", due(timer("none"))))
        assert [found.event for found in await store.waiting(0, 9)] == [due(one)]
        assert await store.next_due() == NOW + HOUR


async def test_a_timer_that_was_set_again_does_not_fire_at_its_old_moment(target: str) -> None:
    async with opened(target) as store:
        await store.commit(PutTimer(timer("t", NOW + HOUR)))
        await store.commit(Fire("t", due(timer("t")), timer("again")))
        assert await store.waiting(0, 9) == []
        assert await store.next_due() == NOW + HOUR


async def test_one_that_is_new_is_set_once_and_not_again_after_it_has_fired(target: str) -> None:
    one = evolve(timer("t"), document='{"n":1,"m":2}')
    async with opened(target) as store:
        await store.commit(PutTimer(one, is_new=True))
        await store.commit(PutTimer(evolve(one, due=NOW + HOUR, document='{"m":2, "n":1}'), is_new=True))
        assert await store.timer("t") == one
        assert not await store.has_fired(one)
        await store.commit(Fire("t", due(one)))
        await store.commit(*(Finish(found.sequence) for found in await store.waiting(0, 9)))
        await store.commit(PutTimer(one, is_new=True))
        assert await store.has_fired(one)
        assert await store.timer("t") is None
        await store.commit(PutTimer(evolve(one, due=NOW + HOUR), is_new=True))
        assert await store.next_due() == NOW + HOUR


@pytest.mark.parametrize("change", [{"document": '{"n":2}'}, {"chat": None}, {"user": "u2"}, {"kind": "k"}])
async def test_one_that_is_new_replaces_no_other_one(target: str, change: dict[str, Any]) -> None:
    async with opened(target) as store:
        await store.commit(PutTimer(timer("t")))
        with pytest.raises(InvalidInputError, match="another schedule has this id"):
            await store.commit(PutTimer(timer("other")), PutTimer(evolve(timer("t"), **change), is_new=True))
        assert await store.due(NOW, 9) == [timer("t")]


async def test_a_timer_is_moved_if_it_is_still_due_when_it_was(target: str) -> None:
    async with opened(target) as store:
        await store.commit(*(PutTimer(timer(name)) for name in ("a", "b")))
        await store.commit(
            MoveTimer("a", NOW, NOW + HOUR),
            MoveTimer("b", NOW + HOUR, NOW + HOUR),
            MoveTimer("none", NOW, NOW + HOUR),
        )
        assert await store.due(NOW + HOUR, 9) == [timer("b"), timer("a", NOW + HOUR)]


@pytest.mark.parametrize("chat", [None, CHAT])
async def test_while_an_event_of_a_repeated_timer_waits_no_further_one_comes(
    target: str, chat: str | None
) -> None:
    at = [evolve(timer("t", NOW + HOUR * hour, None), chat=chat) for hour in range(6)]
    other = evolve(timer("other", NOW, None), chat=chat)
    async with opened(target) as store:
        await store.commit(PutTimer(at[0]), PutTimer(other))
        await store.commit(Fire("other", due(other), at[0]))
        for one, following in pairwise(at[:3]):
            await store.commit(Fire("t", due(one), following))
        assert ids(await store.waiting(0, 9)) == [due(other).id, due(at[0]).id]
        begun = (await store.waiting(0, 9))[1].sequence
        await store.commit(Begin(begun))
        for one, following in pairwise(at[2:]):
            await store.commit(Fire("t", due(one), following))
        assert ids(await store.waiting(0, 9)) == [due(other).id, due(at[2]).id]
        assert await store.timer("t") == at[5]


@pytest.mark.parametrize("change", [{"document": '{"n":2}'}, {"user": "u2"}])
async def test_the_event_of_a_schedule_that_was_replaced_does_not_stand_for_the_new_one(
    target: str, change: dict[str, Any]
) -> None:
    old = timer("t", of=None)
    new = evolve(old, due=NOW + HOUR, **change)
    async with opened(target) as store:
        await store.commit(PutTimer(old))
        await store.commit(Fire("t", due(old), evolve(old, due=NOW + HOUR)))
        await store.commit(PutTimer(new))
        await store.commit(Fire("t", due(new), evolve(new, due=NOW + 2 * HOUR)))
        assert [one.event for one in await store.waiting(0, 9)] == [due(old), due(new)]


@pytest.mark.parametrize("change", [{"document": '{"n":2}'}, {"chat": None}, {"user": "u2"}, {"user": None}])
async def test_one_that_was_replaced_for_the_same_moment_does_not_fire_as_what_it_was(
    target: str, change: dict[str, Any]
) -> None:
    old = timer("t")
    new = evolve(old, **change)
    async with opened(target) as store:
        await store.commit(PutTimer(old))
        await store.commit(PutTimer(new))
        await store.commit(Fire("t", due(old), evolve(old, due=NOW + HOUR)))
        assert await store.waiting(0, 9) == []
        assert await store.due(NOW, 9) == [new]
        await store.commit(Fire("t", due(new)))
        assert [one.event for one in await store.waiting(0, 9)] == [due(new)]


async def test_who_cancels_a_timer_learns_whether_it_was_there(target: str) -> None:
    async with opened(target) as store:
        await store.commit(*(PutTimer(timer(name)) for name in ("a", "b")))
        first, second = await asyncio.gather(store.cancel_timer("a"), store.cancel_timer("a"))
        assert (first, second) == (True, False)
        fired, is_cancelled = await asyncio.gather(
            store.commit(Fire("b", due(timer("b")))), store.cancel_timer("b")
        )
        assert (fired, is_cancelled) == (None, False)
        assert ids(await store.waiting(0, 9)) == [due(timer("b")).id]


# --- the store itself


async def test_commits_of_one_moment_share_a_transaction_and_are_made_in_order(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(target) as store:
        transactions = 0
        run = store.database.run

        async def counted(*values: object, **named: object) -> object:
            nonlocal transactions
            transactions += 1
            return await run(*values, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(store.database, "run", counted)
        await asyncio.gather(*(store.commit(PutStep(step(1, value=f"{number}"))) for number in range(50)))
        assert transactions == 1
        assert (await store.steps("d1"))[0].value == "49"


async def test_what_was_committed_is_said(target: str) -> None:
    said = list[object]()
    async with opened(target) as store:
        store.watchers.add(said.append)
        await store.commit(PutDialog(dialog()))
        with pytest.raises(InvalidInputError):
            await store.commit(PutDialog(dialog("d2")))
    assert said == [(PutDialog(dialog()),)]


async def test_what_was_committed_is_said_though_who_asked_for_it_was_cancelled(target: str) -> None:
    said = list[object]()
    async with opened(target) as store:
        store.watchers.add(said.append)
        asking = asyncio.create_task(store.commit(PutTimer(timer("t1"))))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await store.commit(PutTimer(timer("t2")))
        assert len(await store.due(NOW + timedelta(days=999), 9)) == 2
    assert said == [(PutTimer(timer("t1")),), (PutTimer(timer("t2")),)]


async def test_a_moment_without_a_zone_is_refused_and_the_store_goes_on(target: str) -> None:
    async with opened(target) as store:
        with pytest.raises(InvalidInputError, match="time zone"):
            await store.commit(PutTimer(timer("t", datetime(2026, 3, 2, 9))))  # noqa: DTZ001 - as a program may
        await store.commit(PutTimer(timer("t")))


async def test_nothing_is_committed_before_the_store_is_held_and_started(target: str) -> None:
    async with BotStore.open(target) as store:
        if store.database.is_shared:
            with pytest.raises(JournalError, match=r"hold\(\)"):
                await store.commit(PutTimer(timer("t")))
        await store.inbox.hold()
        await store.commit(PutTimer(timer("t")))
        with pytest.raises(InvalidInputError, match="started"):
            await store.commit(Fire("t", due(timer("t"))))
        assert await store.next_due() == NOW


async def test_another_program_can_read_it_meanwhile_and_write_nothing(target: str) -> None:
    with pytest.raises(JournalNotFoundError):
        async with BotStore.open(target, is_reading=True):
            pass
    async with opened(target) as store:
        (first,) = await enter(store, message(1))
        await store.commit(PutDialog(dialog()), PutStep(step(1)), Park(first, "x"))
        async with BotStore.open(target, is_reading=True) as reader:
            assert await reader.dialogs() == [dialog()]
            assert await reader.steps("d1") == [step(1)]
            assert [one.reason for one in await reader.parked()] == ["x"]
            with pytest.raises(JournalError, match="reading only"):
                await reader.commit(CloseDialog("d1"))
        if not store.database.is_shared:
            with pytest.raises(JournalInUseError):
                async with BotStore.open(target):
                    pass


async def test_who_takes_it_at_once_is_refused_while_a_bot_has_it(target: str) -> None:
    async with opened(target) as store:
        (first,) = await enter(store, message(1))
        await store.commit(Park(first, "x"))
        with pytest.raises(JournalInUseError):
            async with BotStore.open(target, at_once=True):
                pass
    async with BotStore.open(target, at_once=True) as store:
        await store.commit(Unpark(first))
        assert ids(await store.waiting(0, 9)) == ["message/m1"]


async def test_nothing_is_committed_after_another_process_has_taken_it_over(database: str) -> None:
    async with opened(database) as store:
        (first,) = await enter(store, message(1))
        await steal(database)
        with pytest.raises(InboxLostError, match="taken the inbox over"):
            await store.commit(Begin(first))
        assert [state for state, *_ in await other_states(database)] == ["new"]


async def test_the_key_of_an_event_says_nothing_of_it_and_lasts(target: str) -> None:
    async with opened(target) as store:
        key = store.event_key("answer/m1/u1/ja")
        assert len(key) == 32
        assert key != store.event_key("answer/m1/u1/nee")
    async with opened(target) as store:
        assert store.event_key("answer/m1/u1/ja") == key
