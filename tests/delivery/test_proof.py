"""The rule of proof, driven by a model of a service with every habit that it knows of, in fake time."""

import asyncio
import os
from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from healthmsg.delivery.rewriting import explain
from healthmsg.models import Outcome
from healthmsg.sandbox import Habits
from tests.delivery.modelled_service import CHAT, FORMS, OTHERS, YOU, ModelledService

pytestmark = pytest.mark.looptime

TEXT = 'Uw afspraak is bevestigd & u krijgt "post" \U0001f44d vóór ﬁn. 10 maart'
WITNESS = 'Beste mevrouw & meneer, "post" \U0001f44d komt vóór ﬁn. 11 april bij u thuis aan'
OTHER = "Dit is een heel ander bericht dat een collega in deze chat schreef."
DAY = 86_400.0
SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)

MODELS = st.fixed_dictionaries(
    {
        "resolution": st.sampled_from([SECOND, SECOND, MILLISECOND, timedelta(minutes=1)]),
        "rounds": st.booleans(),
        "clock_ahead": st.sampled_from([0, 0, 20, -20, 600, -130]).map(lambda n: timedelta(seconds=n)),
        "utc_offset": st.sampled_from([None, None, timedelta(hours=1), timedelta(hours=-5)]),
        "sends_date": st.booleans(),
        "order": st.sampled_from(["newest first", "newest first", "oldest first", "none"]),
        "listing_lag": st.sampled_from([0, 0, 5, 60]).map(lambda n: timedelta(seconds=n)),
    }
)
SETTINGS = settings(
    max_examples=int(os.environ.get("PROOF_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def service_of(habits: dict[str, Any], form: str = "as it is", **more: Any) -> ModelledService:
    return ModelledService(Habits(**habits, rewrite_text=FORMS[form]), **more)


@pytest.mark.slow
@SETTINGS
@given(
    habits=MODELS,
    form=st.sampled_from(sorted(FORMS)),
    latency=st.sampled_from([0.02, 0.1, 2.0]),
    skew=st.sampled_from([0.0, 3.0, -45.0]),
    before=st.integers(0, 2),
    after=st.integers(0, 2),
    history=st.lists(st.tuples(st.floats(70, 3 * DAY), st.sampled_from([TEXT, OTHER])), max_size=3),
    pinned=st.integers(0, 2),
    arrives_after=st.none() | st.floats(0, 1) | st.floats(0, 90),
    jump=st.none() | st.tuples(st.floats(0, 120), st.sampled_from([600.0, -600.0, 3600.0, -60.0])),
    colleague=st.none() | st.floats(0, 60),
)
async def test_what_arrived_is_never_sent_again_and_what_did_not_is_never_delivered(  # noqa: C901, PLR0917 - a whole story
    habits: dict[str, Any],
    form: str,
    latency: float,
    skew: float,
    before: int,
    after: int,
    history: list[tuple[float, str]],
    pinned: int,
    arrives_after: float | None,
    jump: tuple[float, float] | None,
    colleague: float | None,
) -> None:
    if not before:  # then `Date` stands for the clock of the stamps, as is assumed
        habits |= {"clock_ahead": timedelta(), "utc_offset": None}
    if habits["resolution"] > SECOND:  # as long ago as minutes and a slow answer leave open
        history = [(ago + 200, text) for ago, text in history]
    if jump is not None:  # no equal text is just as old as the clock is set back, as is assumed
        history = [(ago + 300 if -200 < ago + jump[1] < 100 else ago, text) for ago, text in history]
    service = service_of(habits, form, latency=latency, ahead=timedelta(seconds=skew))
    loop = asyncio.get_running_loop()
    for ago, text in history:
        service.take_in(CHAT, text, ago=ago)
    service.chat(CHAT).pinned |= {message.id for message in service.chat(CHAT).messages[:pinned]}
    old = {message.id for message in service.chat(CHAT).messages}
    for number in range(before):
        await service.deliver(OTHERS[number], WITNESS)
        await asyncio.sleep(3)
    if jump is not None:
        loop.call_later(
            jump[0], lambda: setattr(service, "ahead", service.ahead + timedelta(seconds=jump[1]))
        )
    if colleague is not None:
        loop.call_later(colleague, service.take_in, CHAT, OTHER)
    if arrives_after is not None:  # what takes effect is listed within that time, as is assumed
        arrives_after = min(arrives_after, 90 - habits["listing_lag"].total_seconds())
    attempt = await service.lose_answer(TEXT, arrives_after=arrives_after)
    note(f"{habits} {form} latency {latency} before {before} after {after} {arrives_after} {jump}")

    async def goes_on() -> None:
        for number in range(after):
            await asyncio.sleep(7)
            await service.deliver(OTHERS[2 + number], WITNESS)

    others = asyncio.create_task(goes_on())
    found = await service.find_out(attempt)
    await others
    await asyncio.sleep(700)  # until the next example, so that nothing is left of this one

    event(f"{found.outcome.name} after {'arriving' if arrives_after is not None else 'being lost'}")
    if arrives_after is not None:
        assert found.outcome is not Outcome.NOT_SENT
    if found.outcome is Outcome.DELIVERED:
        assert arrives_after is not None
        assert found.message_id not in old
        [it] = [one for one in service.chat(CHAT).messages if one.id == found.message_id]
        assert explain(TEXT, it.body) is not None


async def delivered_after(service: ModelledService, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await service.deliver(OTHERS[2], WITNESS)


@pytest.mark.slow
@settings(SETTINGS, max_examples=60)
@given(
    habits=MODELS,
    form=st.sampled_from(sorted(FORMS.keys() - {"garbled"})),
    skew=st.sampled_from([0.0, 3.0, -45.0]),
    history=st.lists(st.tuples(st.floats(70, 3 * DAY), st.sampled_from([TEXT, OTHER])), max_size=3),
    arrives_after=st.none() | st.floats(0, 0.9),
)
async def test_with_a_steady_offset_it_is_always_found_out(
    habits: dict[str, Any],
    form: str,
    skew: float,
    history: list[tuple[float, str]],
    arrives_after: float | None,
) -> None:
    habits |= {
        "resolution": min(habits["resolution"], SECOND),
        "listing_lag": min(habits["listing_lag"], SECOND),
    }
    service = service_of(habits, form, ahead=timedelta(seconds=skew))
    for ago, text in history:
        service.take_in(CHAT, text, ago=ago)
    await service.deliver(OTHERS[0], WITNESS)
    await asyncio.sleep(3)
    attempt = await service.lose_answer(TEXT, arrives_after=arrives_after)
    await asyncio.sleep(1)
    await service.deliver(OTHERS[1], WITNESS)
    loop = asyncio.get_running_loop()
    later = loop.create_task(delivered_after(service, 90))  # when no more of the attempt can come
    found = await service.find_out(attempt)
    await later
    await asyncio.sleep(700)
    assert found.outcome is (Outcome.NOT_SENT if arrives_after is None else Outcome.DELIVERED)


# --- one habit after the other


@pytest.mark.parametrize(
    "habits",
    [
        {},
        {"rounds": True},
        {"resolution": MILLISECOND},
        {"utc_offset": timedelta(hours=2)},
        {"clock_ahead": timedelta(seconds=20)},
        {"clock_ahead": timedelta(minutes=-10)},
        {"sends_date": False, "clock_ahead": timedelta(minutes=-2)},
        {"order": "oldest first"},
        {"order": "none"},
    ],
    ids=str,
)
@pytest.mark.parametrize("arrives", [True, False])
async def test_each_habit_alone_hides_nothing(habits: dict[str, Any], arrives: bool) -> None:
    service = service_of(habits)
    service.take_in(CHAT, TEXT, ago=DAY)
    for number in range(200):
        service.take_in(CHAT, "Iets", sender=YOU, ago=DAY / 2 + number)
    service.chat(CHAT).pinned |= {message.id for message in service.chat(CHAT).messages[:2]}
    await service.deliver(OTHERS[0], WITNESS)
    attempt = await service.lose_answer(TEXT, arrives_after=0.3 if arrives else None)
    await service.deliver(OTHERS[0], WITNESS)
    found = await service.find_out(attempt)
    assert found.outcome is (Outcome.DELIVERED if arrives else Outcome.NOT_SENT)


@pytest.mark.parametrize("form", sorted(FORMS))
async def test_a_text_that_is_kept_in_another_form_is_never_held_for_absent(form: str) -> None:
    service = service_of({}, form)
    await service.deliver(OTHERS[0], "Hallo")  # which teaches nothing of the form
    attempt = await service.lose_answer(TEXT, arrives_after=0.3)
    found = await service.find_out(attempt)
    if form == "as it is":
        assert found.outcome is Outcome.DELIVERED
    else:
        assert found.outcome is Outcome.UNKNOWN
        assert found.reason


async def test_what_was_found_in_its_stead_is_named() -> None:
    service = service_of({}, "entities")
    await service.deliver(OTHERS[0], "Hallo")
    found = await service.find_out(await service.lose_answer(TEXT, arrives_after=0.3))
    assert found.similar == (service.chat(CHAT).messages[-1].id,)
    assert "1" in found.reason
    assert TEXT not in found.reason


@pytest.mark.parametrize("phase", [0, 25, 50])
@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize("gap", [3, 10, 25, 40])
async def test_one_stamp_in_whole_minutes_is_not_held_for_seconds(
    gap: float, rounds: bool, phase: int
) -> None:
    service = service_of({"resolution": timedelta(minutes=1), "rounds": rounds})
    service.ahead = timedelta(seconds=(phase - service.now.second) % 60)
    await service.deliver(OTHERS[0], WITNESS)
    await asyncio.sleep(gap)
    found = await service.find_out(await service.lose_answer(TEXT, arrives_after=0.3))
    assert found.outcome is not Outcome.NOT_SENT


@frozen(kw_only=True)
class SummerTime(Habits):
    """Stamps are in local time, and do not say so; at a moment, that one changes."""

    at: datetime
    change: timedelta

    def stamp(self, moment: datetime) -> str:
        zone = timedelta(hours=2) + (self.change if moment >= self.at else timedelta())
        return Habits(utc_offset=zone).stamp(moment)


@pytest.mark.parametrize("hours", [1, -1])
@pytest.mark.parametrize("arrives_after", [0.3, 60])
async def test_what_arrives_when_local_time_changes_is_not_absent(hours: int, arrives_after: float) -> None:
    service = service_of({})
    at = service.now + timedelta(seconds=30)
    service.habits = SummerTime(at=at, change=timedelta(hours=hours))
    for number in range(200):
        service.take_in(CHAT, OTHER, sender=YOU, ago=DAY + 60 * number)
    await service.deliver(OTHERS[0], WITNESS)
    await asyncio.sleep(31 - min(arrives_after, 20))
    found = await service.find_out(await service.lose_answer(TEXT, arrives_after=arrives_after))
    assert found.outcome is not Outcome.NOT_SENT


async def test_a_clock_that_is_set_while_a_call_hangs_proves_nothing_too_early() -> None:
    service = service_of({})
    await service.deliver(OTHERS[0], WITNESS)
    attempt = await service.lose_answer(TEXT, arrives_after=60)
    service.ahead = timedelta(minutes=10)
    found = await service.find_out(attempt)
    assert found.outcome is not Outcome.NOT_SENT


async def test_a_clock_that_is_set_back_holds_nothing_up_for_as_long() -> None:
    service = service_of({})
    await service.deliver(OTHERS[0], WITNESS)
    attempt = await service.lose_answer(TEXT, arrives_after=None)
    service.ahead = timedelta(minutes=-10)
    began = asyncio.get_running_loop().time()
    await service.find_out(attempt)
    assert asyncio.get_running_loop().time() - began < 300


async def test_a_known_message_that_is_not_found_disproves_the_search() -> None:
    service = service_of({})
    await service.deliver(OTHERS[0], WITNESS)
    service.chat(OTHERS[0]).messages.clear()
    found = await service.find_out(await service.lose_answer(TEXT, arrives_after=None))
    assert (found.outcome, found.similar) == (Outcome.UNKNOWN, ())
    assert "not find" in found.reason


async def test_without_any_known_message_absence_proves_nothing() -> None:
    service = service_of({})
    found = await service.find_out(await service.lose_answer(TEXT, arrives_after=None))
    assert found.outcome is Outcome.UNKNOWN
    assert found.reason


async def test_without_any_known_message_the_date_stands_for_the_stamps() -> None:
    service = service_of({})
    await service.call()
    attempt = await service.lose_answer(TEXT, arrives_after=0.3)
    assert (await service.find_out(attempt)).outcome is Outcome.DELIVERED


async def test_an_old_chat_is_not_read_to_its_end() -> None:
    service = service_of({})
    for number in range(1000):
        service.take_in(CHAT, "Iets", sender=YOU, ago=DAY + number)
    await service.deliver(OTHERS[0], WITNESS)
    attempt = await service.lose_answer(TEXT, arrives_after=None)
    await service.deliver(OTHERS[0], WITNESS)
    before = service.pages_read
    assert (await service.find_out(attempt)).outcome is Outcome.NOT_SENT
    assert service.pages_read - before < 10


async def test_a_message_of_another_process_settles_from_now_on() -> None:
    service = service_of({})
    await service.deliver(OTHERS[0], WITNESS)
    attempt = await service.lose_answer(TEXT, arrives_after=None)
    foreign = evolve(attempt, sender=("another", 1), ended_at=attempt.ended_at - timedelta(hours=1))
    began = asyncio.get_running_loop().time()
    assert (await service.find_out(foreign)).outcome is Outcome.NOT_SENT
    assert asyncio.get_running_loop().time() - began > 89
