"""The schedules that are set while a bot runs: in a handler with the end of its event, elsewhere at once."""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from uuid import uuid4

from attrs import evolve, frozen

from healthmsg.bot.clock import BotClock
from healthmsg.bot.places import Places
from healthmsg.bot.schedule import schedule_from_dict
from healthmsg.bot.store.effects import CancelTimer, Effect, PutTimer
from healthmsg.bot.store.records import TimerRecord
from healthmsg.bot.store.store import BotStore
from healthmsg.bot.surface import DialogRequest, Scheduled
from healthmsg.bot.timetable import ASKED_FOR, Job, job_of, set_while_running
from healthmsg.bot.within import CURRENT, Within
from healthmsg.errors import CallError, InvalidInputError

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,99}", re.ASCII)
_NO_ID: Final = (
    "the id of a schedule must begin with a letter or digit, and have 100 of those and of . _ : ~ - at most."
    " Nothing was changed."
)
_OTHER: Final = (
    "there is another schedule with this id: cancel that one first, or say that this one replaces it. Nothing"
    " was changed."
)


@frozen
class Schedules:
    """Sets, shows and cancels them."""

    _store: BotStore
    _places: Places
    _clock: BotClock

    async def set(
        self, request: DialogRequest, schedule: Mapping[str, object], wanted: str | None, *, replace: bool
    ) -> Scheduled:
        """Have a dialog started later; see `Bot.schedule`."""
        within = _within()
        # Taken before anything is waited for: so it depends on the order of the calls alone.
        given = within.next_schedule() if within is not None else uuid4().hex
        number = given if wanted is None else _checked(wanted)
        job = Job(
            *(request.dialog, schedule_from_dict(schedule), "dialog", request.dialog),
            *(request.chat, request.user, dict(request.answers)),
        )
        put = set_while_running(job, number, self._clock.now())
        if request.chat is not None and request.user:
            with suppress(CallError):
                await self._places.prove(request.chat, request.user)
        if wanted is None:
            await self._commit(put)
            return _shown(put.timer, number)
        if not replace:
            put = evolve(put, is_new=True)
            if (known := await self._known(put.timer)) is not None:
                return _shown(known, number)
        if await self._store.has_fired(put.timer):
            if replace:
                await self._commit(CancelTimer(put.timer.id))
            return evolve(_shown(put.timer, number), due=None)
        await self._commit(put)
        return _shown(put.timer, number)

    async def find(self, schedule_id: str) -> Scheduled | None:
        """Return what was set and has not happened."""
        timer_id = f"{ASKED_FOR}/{schedule_id}"
        timer = await self._store.timer(timer_id)
        for put in self._puts(timer_id):
            timer = put.timer
        return None if timer is None else _shown(timer, schedule_id)

    async def cancel(self, schedule_id: str) -> bool:
        """Cancel it; return whether it was there, and now does not happen."""
        timer_id = f"{ASKED_FOR}/{schedule_id}"
        was_there = await self._store.cancel_timer(timer_id)
        effects, puts = self._effects_within() or [], self._puts(timer_id)
        for put in puts:
            effects.remove(put)
        return was_there or bool(puts)

    async def _known(self, timer: TimerRecord) -> TimerRecord | None:
        """Return the timer that is there already.

        Raises:
            InvalidInputError: it is another one.
        """
        known = await self._store.timer(timer.id)
        for put in self._puts(timer.id):
            known = put.timer
        if known is not None and not known.is_like(timer):
            raise InvalidInputError(_OTHER)
        return known

    async def _commit(self, effect: Effect) -> None:
        # A dialog's code may not wait for this, but in `d.once`: it is refused since something is waited for.
        await asyncio.sleep(0)
        effects = self._effects_within()
        if effects is None:
            await self._store.commit(effect)
        else:
            effects.append(effect)

    def _effects_within(self) -> list[Effect] | None:
        """Return what is committed with the end of the event that this bot handles, if that is open."""
        within = _within()
        return within.effects if within is not None and within.store is self._store else None

    def _puts(self, timer_id: str) -> list[PutTimer]:
        """Return what of this timer is to be committed so."""
        effects = self._effects_within() or ()
        return [one for one in effects if isinstance(one, PutTimer) and one.timer.id == timer_id]


def _within() -> Within | None:
    current = CURRENT.get()
    return current if current is not None and current.is_open else None


def _checked(wanted: str) -> str:
    if not isinstance(wanted, str) or not _ID.fullmatch(wanted):
        raise InvalidInputError(_NO_ID)
    return wanted


def _shown(timer: TimerRecord, schedule_id: str) -> Scheduled:
    job = job_of(timer)
    request = DialogRequest(dialog=job.target, user=job.user, chat=job.chat, answers=job.answers)
    return Scheduled(schedule_id, request, job.schedule.to_dict(), timer.due)
