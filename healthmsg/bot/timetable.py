"""What a bot does at which times: the schedules in its code, those set while it runs, and their timers.

Both are timers in the bot's database. Those of the code are compared with it at each start, by their names:
one that is there already stays as it is, also if it is overdue; a changed one is replaced, and one that is
no longer in the code is removed. A new one that differs from a removed one in nothing but the name, or the
function's, is taken for that one. An overdue one fires once, however often it was due meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from attrs import define, evolve, field, frozen

from healthmsg.bot.schedule import At, Every, schedule_from_dict
from healthmsg.bot.store.effects import CancelTimer, Effect, MoveTimer, PutTimer
from healthmsg.bot.store.records import TimerRecord
from healthmsg.codec import encode
from healthmsg.errors import InvalidInputError
from healthmsg.events import TimerDue
from healthmsg.events.base import known_address
from healthmsg.ids import ChatAddress
from healthmsg.json_text import JSONObject, NotJSONError, parse_json
from healthmsg.validation import check_name, check_text

IN_CODE: Final = "schedule"
"""The kind of a timer that the code has."""
ASKED_FOR: Final = "scheduled"
"""The kind of a timer that was set while the bot ran: it stays until it has fired or is cancelled."""
NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""When a timer of the code is due that has fired for the last time: it stays, so that it is not set again."""
MOST_LATE: Final = timedelta(hours=1)

_NOT_OURS: Final = "this timer was not set by a schedule of this version"


@frozen
class Job:
    """What is to be done, and when: a dialog is started, or a handler is called.

    A dialog is with `user` in `chat`: without the one, with the other side of a conversation; without the
    other, in the conversation with the user.
    """

    name: str
    """Shown in logs."""
    schedule: At | Every
    do: Literal["dialog", "handler"]
    target: str
    """The dialog's name, or the handler's."""
    chat: ChatAddress | None = field(default=None, repr=False)
    user: str | None = field(default=None, repr=False)
    answers: JSONObject = field(factory=dict, repr=False)
    """Prefilled answers of the dialog, by the keys of its questions."""

    def timer(self, timer_id: str, kind: str, due: datetime) -> TimerRecord:
        """Return its timer."""
        document = {
            "name": self.name,
            self.do: self.target,
            "schedule": self.schedule.to_dict(),
            "answers": self.answers,
        }
        chat = None if self.chat is None else self.chat.text
        return TimerRecord(timer_id, due, chat, self.user, kind=kind, document=encode(document).decode())


@frozen
class Plan:
    """What the timers of the code change to at a start."""

    effects: tuple[Effect, ...]
    too_late: tuple[str, ...]
    """Names of those whose one moment passed more than an hour before the bot first had them: it would not
    know whether they still make sense. They do not fire."""


@define
class Timetable:
    """The schedules in a bot's code."""

    _jobs: dict[tuple[str, str, str], Job] = field(factory=dict, init=False)

    def add(self, job: Job, *, is_named: bool) -> None:
        """Add one. Its name was given, or made of its target; then chat and user tell it from others.

        Raises:
            InvalidInputError: it has no name, or another one's; or it is a dialog without a chat or a user.
        """
        check_job(job)
        key = (job.name, "", "") if is_named else (job.name, _text(job.chat), job.user or "")
        if key in self._jobs:
            raise InvalidInputError(
                f"two schedules are called {job.name!r}: give each a name of its own, name=…, by which it is"
                " known after a restart"
            )
        self._jobs[key] = job

    def has_handler(self, target: str) -> bool:
        """Return whether a function of this name is in the code."""
        return any(job.do == "handler" and job.target == target for job in self.jobs())

    def jobs(self) -> Iterable[Job]:
        """Return all of them."""
        return self._jobs.values()

    def plan(self, stored: Iterable[TimerRecord], now: datetime, event_key: Callable[[str], str]) -> Plan:
        """Return what becomes of the stored timers of kind `IN_CODE`; `event_key` hashes what is private."""
        known = {timer.id: timer for timer in stored if timer.kind == IN_CODE}
        effects, too_late = list[Effect](), list[str]()
        wanted = dict(self._with_ids(event_key))
        gone = [timer for timer_id, timer in known.items() if timer_id not in wanted]
        effects += [CancelTimer(timer.id) for timer in gone]
        for timer_id, job in wanted.items():
            before = known.get(timer_id) or _taken_from(gone, job)
            due = _due_after(before, job.schedule, now)
            timer = job.timer(timer_id, IN_CODE, due or NEVER)
            if before is not None and evolve(before, due=timer.due) == timer:
                continue
            effects.append(PutTimer(timer))
            if due is None and isinstance(job.schedule, At) and not _is_done(before, job.schedule):
                too_late.append(job.name)
        return Plan((*effects,), (*too_late,))

    def _with_ids(self, event_key: Callable[[str], str]) -> Iterator[tuple[str, Job]]:
        for (_, chat, user), job in self._jobs.items():
            whose = f"/{event_key(f'{chat} {user}')}" if chat or user else ""
            yield f"{IN_CODE}/{job.name}{whose}", job


def check_job(job: Job) -> Job:
    """Return what can be done.

    Raises:
        InvalidInputError: it has no name; or it is a dialog without a chat or a user.
    """
    check_name(check_text(job.name, "the name of a schedule"), "the name of a schedule")
    check_text(job.target, "what a schedule is to do")
    if job.do == "dialog" and job.chat is None and not job.user:
        raise InvalidInputError(f"the schedule {job.name!r} starts a dialog: it needs a chat or a user")
    return job


def set_while_running(job: Job, timer_id: str, now: datetime) -> PutTimer:
    """Return what sets a timer that is not in the code; the same id again replaces it.

    A moment that has passed is due at once.

    Raises:
        InvalidInputError: as `check_job` says; or it will never be due.
    """
    schedule = check_job(job).schedule
    due = schedule.moment if isinstance(schedule, At) else schedule.next_after(now)
    if due is None:
        raise InvalidInputError(f"the schedule {job.name!r} is never due: all its days are excluded")
    return PutTimer(job.timer(f"{ASKED_FOR}/{timer_id}", ASKED_FOR, due))


def following(timer: TimerRecord, now: datetime) -> TimerRecord | None:
    """Return the timer that follows one that fires now; `None`: there is none."""
    if timer.kind not in {IN_CODE, ASKED_FOR}:
        return None
    try:
        schedule = job_of(timer).schedule
    except InvalidInputError:
        # The one that handles its event finds that out, too, and parks it: there a person sees it.
        return None
    due = schedule.next_after(max(timer.due, now))
    if due is None and timer.kind == ASKED_FOR:
        return None
    return evolve(timer, due=due or NEVER)


def brought_forward(timers: Iterable[TimerRecord], now: datetime) -> list[MoveTimer]:
    """Return what has timers come at their next moment that wait for a later one.

    A clock that is only ever right leaves none of those. It was ahead when they were set, or fired. A moment
    at which one has fired then is no moment for it any more: its event is in the inbox.
    """
    found = list[MoveTimer]()
    for timer in timers:
        with suppress(InvalidInputError):  # as in `following`
            due = job_of(timer).schedule.next_after(now)
            if due is not None and due < timer.due:
                found.append(MoveTimer(timer.id, timer.due, due))
    return found


def job_of(timer: TimerRecord | TimerDue) -> Job:
    """Return the job of a timer of kind `IN_CODE` or `ASKED_FOR`, or of its event.

    Raises:
        InvalidInputError: it is of another kind, or not as this version writes them.
    """
    document: object = None
    with suppress(NotJSONError):
        document = parse_json(timer.document)
    do: Literal["dialog", "handler"]
    match document:
        case {"name": str(name), "schedule": dict(when), "answers": dict(answers), "dialog": str(target)}:
            do = "dialog"
        case {"name": str(name), "schedule": dict(when), "answers": dict(answers), "handler": str(target)}:
            do = "handler"
        case _:
            raise InvalidInputError(_NOT_OURS)
    user = timer.user if isinstance(timer, TimerRecord) else timer.user_id
    return Job(name, schedule_from_dict(when), do, target, known_address(timer.chat), user, answers)


def calls(target: str) -> Callable[[TimerDue], bool]:
    """Return what tells whether a timer that is due calls the handler of this name."""

    def is_meant(event: TimerDue) -> bool:
        if event.timer_kind not in {IN_CODE, ASKED_FOR}:
            return False
        try:
            job = job_of(event)
        except InvalidInputError:
            return False
        return (job.do, job.target) == ("handler", target)

    return is_meant


def _taken_from(gone: list[TimerRecord], job: Job) -> TimerRecord | None:
    """Take what seems to be the same schedule under the name that it had, or that its function had."""
    for timer in gone:
        with suppress(InvalidInputError):
            if evolve(job_of(timer), name=job.name, target=job.target) == job:
                gone.remove(timer)
                return timer
    return None


def _due_after(before: TimerRecord | None, schedule: At | Every, now: datetime) -> datetime | None:
    """Return when a schedule of the code is due, whose timer was this."""
    if _is_moved(schedule, now):
        return _first_due(schedule, now)
    if before is not None and before.due <= now:
        return before.due  # it was due while the bot was down: that is caught up, whatever was changed
    return None if _is_done(before, schedule) else _first_due(schedule, now)


def _is_done(before: TimerRecord | None, schedule: At | Every) -> bool:
    """Return whether the timer of a schedule has fired at its only moment, or was too late for it."""
    if before is None or before.due != NEVER or not isinstance(schedule, At):
        return False
    with suppress(InvalidInputError):
        return job_of(before).schedule == schedule
    return False


def _first_due(schedule: At | Every, now: datetime) -> datetime | None:
    if isinstance(schedule, At):
        return schedule.moment if schedule.moment >= now - MOST_LATE else None
    return schedule.next_after(now)


def _is_moved(schedule: At | Every, now: datetime) -> bool:
    """Return whether the only moment of a schedule is still to come."""
    return isinstance(schedule, At) and schedule.moment > now


def _text(chat: ChatAddress | None) -> str:
    return "" if chat is None else chat.text
