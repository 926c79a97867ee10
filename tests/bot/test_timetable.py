"""Schedules of a bot as timers: known again after a restart, and fired once however late."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from healthmsg.bot.schedule import WORKDAYS, At, Every, at, every
from healthmsg.bot.store.effects import CancelTimer, Fire, PutTimer
from healthmsg.bot.store.records import TimerRecord
from healthmsg.bot.timetable import (
    ASKED_FOR,
    IN_CODE,
    NEVER,
    Job,
    Timetable,
    calls,
    following,
    job_of,
    set_while_running,
)
from healthmsg.errors import InvalidInputError
from healthmsg.events import TimerDue
from healthmsg.ids import ChatAddress
from tests.bot.fakes import FakeStore

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
CHAT = ChatAddress.of_text("aux/conversations/patient 7")
DAILY = every("08:00", tz="UTC")


def report(schedule: At | Every = DAILY, name: str = "report") -> Job:
    return Job(name, schedule, "handler", "duty.report")


def intake(schedule: At | Every = DAILY, user: str = "u1", name: str = "intake") -> Job:
    return Job(name, schedule, "dialog", "intake", CHAT, user, {"name": "An"})


async def started(store: FakeStore, jobs: Sequence[Job], now: datetime = NOW) -> tuple[str, ...]:
    """Start a bot whose code has these; return which were too late."""
    table = Timetable()
    for job in jobs:
        table.add(job, is_named=job.name != "intake")
    plan = table.plan(store.timers.values(), now, store.event_key)
    await store.commit(*plan.effects)
    return plan.too_late


def due(timer: TimerRecord) -> TimerDue:
    return TimerDue(
        id=f"timer/{timer.id}/{timer.due.isoformat()}",
        received_at=NOW,
        chat=None if timer.chat is None else ChatAddress.of_text(timer.chat),
        timer=timer.id,
        due=timer.due,
        user_id=timer.user,
        timer_kind=timer.kind,
        document=timer.document,
    )


async def fired(store: FakeStore, now: datetime) -> list[TimerDue]:
    """Fire what is due until nothing is, as a bot does; return the events."""
    before = {*store.events}
    while timers := await store.due(now, 10):
        await store.commit(*[Fire(timer.id, due(timer), following(timer, now)) for timer in timers])
    found = [waiting.event for number, waiting in store.events.items() if number not in before]
    assert all(isinstance(event, TimerDue) for event in found)
    return [event for event in found if isinstance(event, TimerDue)]


async def test_the_same_in_the_code_stays_as_it_is_after_a_restart() -> None:
    store = FakeStore()
    jobs = [report(), intake(), intake(user="u2"), report(at(NOW + timedelta(days=9)), "later")]
    await started(store, jobs)
    before = dict(store.timers)

    await started(store, [*reversed(jobs)], NOW + timedelta(days=2))

    assert len(before) == 4
    assert store.timers == before


async def test_one_that_was_changed_in_the_code_replaces_its_timer() -> None:
    store = FakeStore()
    await started(store, [report()])

    await started(store, [report(every("10:00", WORKDAYS, tz="UTC"))])

    assert [timer.due for timer in store.timers.values()] == [NOW.replace(hour=10)]


NAMED = evolve(intake(name="named"), do="handler")


@pytest.mark.parametrize(
    "changed",
    [evolve(NAMED, chat=None), evolve(NAMED, target="other"), evolve(NAMED, answers={"name": "Bo"})],
)
async def test_what_it_does_is_part_of_it(changed: Job) -> None:
    store = FakeStore()
    await started(store, [NAMED])

    await started(store, [changed])

    (timer,) = store.timers.values()
    assert job_of(timer) == changed


async def test_one_that_is_gone_from_the_code_is_removed_and_others_are_not() -> None:
    store = FakeStore()
    await store.commit(set_while_running(intake(), "1", NOW))
    await store.commit(PutTimer(TimerRecord("reminder", NOW, dialog="d", kind="remind")))
    await started(store, [report()])

    await started(store, [])

    assert sorted(store.timers) == ["reminder", f"{ASKED_FOR}/1"]


async def test_one_that_was_missed_often_fires_once_and_then_goes_on() -> None:
    store = FakeStore()
    await started(store, [report()])
    after = NOW + timedelta(days=30, minutes=1)

    await started(store, [report()], after)
    (event,) = await fired(store, after)

    assert event.due == datetime(2026, 3, 3, 8, tzinfo=UTC)
    assert [timer.due for timer in store.timers.values()] == [datetime(2026, 4, 2, 8, tzinfo=UTC)]
    assert await fired(store, after) == []


async def test_one_that_is_due_once_fires_once_also_if_the_bot_was_down_and_starts_again() -> None:
    store, job = FakeStore(), report(at(NOW + timedelta(hours=1)))
    await started(store, [job])
    late = NOW + timedelta(days=3)

    await started(store, [job], late)
    events = await fired(store, late)
    for days in (3, 4, 400):
        assert await started(store, [job], NOW + timedelta(days=days)) == ()
        events += await fired(store, NOW + timedelta(days=days))

    assert [event.due for event in events] == [NOW + timedelta(hours=1)]


async def test_one_that_had_fired_is_removed_with_the_code_and_due_again_if_it_was_changed() -> None:
    store, moment = FakeStore(), NOW + timedelta(hours=1)
    await started(store, [report(at(moment))])
    await fired(store, moment)
    assert [timer.due for timer in store.timers.values()] == [NEVER]

    await started(store, [report(at(moment + timedelta(days=1)))], moment)
    assert [timer.due for timer in store.timers.values()] == [moment + timedelta(days=1)]
    await started(store, [], moment)
    assert not store.timers


@pytest.mark.parametrize("minutes", [30, 90])
@pytest.mark.parametrize("renamed", [report(name="new"), intake(name="new"), NAMED])
async def test_one_that_has_fired_is_not_due_again_when_it_is_renamed(renamed: Job, minutes: int) -> None:
    moment = NOW + timedelta(hours=1)
    renamed = evolve(renamed, schedule=at(moment))
    store, deployed = FakeStore(), moment + timedelta(minutes=minutes)
    await started(store, [evolve(renamed, name="old", target="old")])
    assert len(await fired(store, moment)) == 1

    for _ in range(2):
        assert await started(store, [renamed], deployed) == ()
        assert await fired(store, deployed) == []
    assert [timer.due for timer in store.timers.values()] == [NEVER]


@pytest.mark.parametrize("schedule", [DAILY, at(NOW + timedelta(hours=1))])
async def test_one_that_was_due_while_the_bot_was_down_is_caught_up_though_it_was_renamed(
    schedule: At | Every,
) -> None:
    store = FakeStore()
    await started(store, [report(schedule, "old")])
    (missed,) = (timer.due for timer in store.timers.values())

    await started(store, [report(schedule, "new")], missed + timedelta(hours=3))
    (event,) = await fired(store, missed + timedelta(hours=3))

    assert (event.timer, event.due) == ("schedule/new", missed)


@pytest.mark.parametrize(
    "other",
    [intake(name="new", user="u2"), evolve(intake(name="new"), answers={}), evolve(NAMED, name="new")],
)
async def test_another_one_of_the_same_moment_is_none_that_was_renamed(other: Job) -> None:
    store, moment = FakeStore(), NOW + timedelta(hours=1)
    await started(store, [intake(at(moment), name="old")])
    await fired(store, moment)

    await started(store, [evolve(other, schedule=at(moment))], moment)
    assert [event.timer for event in await fired(store, moment)] == ["schedule/new"]


async def test_two_that_take_the_place_of_one_are_one_that_was_renamed_and_a_new_one() -> None:
    store, moment = FakeStore(), NOW + timedelta(hours=1)
    await started(store, [report(at(moment), "old")])
    await fired(store, moment)

    await started(store, [report(at(moment), "a"), report(at(moment), "b")], moment)
    assert [event.timer for event in await fired(store, moment)] == ["schedule/b"]


async def test_a_moment_long_before_the_bot_knew_of_it_does_not_fire_and_is_named_once() -> None:
    store, jobs = FakeStore(), [report(at(NOW - timedelta(hours=2)), "old"), report(at(NOW), "new")]

    assert await started(store, jobs) == ("old",)
    assert [event.timer for event in await fired(store, NOW)] == ["schedule/new"]
    assert await started(store, jobs) == ()


async def test_one_set_while_running_fires_and_is_gone_and_a_repeated_one_stays() -> None:
    store = FakeStore()
    await store.commit(set_while_running(intake(at(NOW - timedelta(days=1))), "1", NOW))
    await store.commit(set_while_running(report(), "2", NOW))

    (event,) = await fired(store, NOW)

    assert (event.chat, event.user_id, event.timer_kind) == (CHAT, "u1", ASKED_FOR)
    assert job_of(event) == intake(at(NOW - timedelta(days=1)))
    assert [*store.timers] == [f"{ASKED_FOR}/2"]


def test_a_dialogs_own_timer_has_none_that_follows() -> None:
    assert following(TimerRecord("r", NOW, "conversations/c1", "u1", "d1", "remind"), NOW) is None


def test_a_timer_calls_the_handler_that_it_was_set_for_and_no_other() -> None:
    event = due(report().timer("t", IN_CODE, NOW))

    assert calls("duty.report")(event)
    assert not calls("duty.other")(event)
    assert not calls("intake")(due(intake().timer("t", IN_CODE, NOW)))
    assert not calls("duty.report")(evolve(event, timer_kind="remind"))
    assert not calls("duty.report")(evolve(event, document="{}"))


@pytest.mark.parametrize(
    "document", ["{}", "no", "[]", '{"name":"n","schedule":{},"answers":{},"handler":"h"}']
)
def test_a_timer_that_cannot_be_read_fires_for_the_last_time_and_its_event_is_refused(document: str) -> None:
    timer = TimerRecord("t", NOW, kind=ASKED_FOR, document=document)

    assert following(timer, NOW) is None
    with pytest.raises(InvalidInputError):
        job_of(due(timer))


def test_two_of_one_name_are_refused() -> None:
    table = Timetable()
    table.add(report(), is_named=True)
    table.add(intake(), is_named=False)
    table.add(intake(user="u2"), is_named=False)

    with pytest.raises(InvalidInputError, match="two schedules are called 'report'"):
        table.add(report(every("12:00")), is_named=False)
    with pytest.raises(InvalidInputError, match="two schedules are called 'intake'"):
        table.add(intake(every("12:00")), is_named=False)


@pytest.mark.parametrize(
    "job",
    [
        evolve(intake(), chat=None, user=None),
        evolve(report(), name=" "),
        evolve(report(), name="a\nb"),
        evolve(report(), target=""),
    ],
)
def test_a_job_that_cannot_be_done_is_refused_where_it_is_set(job: Job) -> None:
    with pytest.raises(InvalidInputError):
        Timetable().add(job, is_named=True)
    with pytest.raises(InvalidInputError):
        set_while_running(job, "1", NOW)


def test_neither_a_chat_nor_an_answer_is_shown_nor_part_of_an_id() -> None:
    table = Timetable()
    table.add(intake(), is_named=False)
    plan = table.plan([], NOW, lambda _: "hash")

    assert [one.timer.id for one in plan.effects if isinstance(one, PutTimer)] == ["schedule/intake/hash"]
    for shown in (repr(plan), repr(intake()), repr(intake().timer("t", IN_CODE, NOW))):
        assert "patient 7" not in shown
        assert "An" not in shown.replace("And", "")
    assert CancelTimer("schedule/intake/hash") not in plan.effects
