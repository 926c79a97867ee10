"""Questions of a dialog: how they are asked, reminded of, and answered."""

import logging
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, TypeVar

import orjson
from attrs import evolve

from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.brought import shown_key
from healthmsg.bot.dialogs.exits import DialogExit, NoAnswer, Stopped, TooManyTries
from healthmsg.bot.dialogs.journal import ASK
from healthmsg.bot.dialogs.questions.base import Given, Invalid, More, QuestionType
from healthmsg.bot.dialogs.questions.verification import VerificationQuestion, VerificationResult
from healthmsg.bot.dialogs.run import Run
from healthmsg.bot.dialogs.steps import SUSPENDED, Raised, Step, outcome_of, set_timer
from healthmsg.bot.dialogs.values import exit_to_json
from healthmsg.bot.store.records import StepRecord
from healthmsg.errors import ConfigurationError
from healthmsg.events import (
    Event,
    MessageCreated,
    QuestionAnswered,
    TimerDue,
    VerificationAccepted,
    VerificationRejected,
)
from healthmsg.json_text import JSONObject
from healthmsg.log import log
from healthmsg.models import IdentityProvider, SentMessage

T = TypeVar("T")

_NO_ANSWER: Final = (
    "The answer that was brought along to the dialog %(dialog)s under the key %(key)s is none to its question"
    " (%(kind)s), which is asked."
)


class Ask(Step[T]):
    """A question that is asked until it is answered."""

    __slots__ = ("invalid", "question", "remind", "timeout", "tries")

    def __init__(  # noqa: PLR0913, PLR0917 - what every question has
        self,
        run: Run,
        question: QuestionType[T],
        key: str | None = None,
        remind: timedelta | Sequence[timedelta] = (),
        timeout: timedelta | None = None,
        tries: int | None = None,
        invalid: str | None = None,
    ) -> None:
        # Not by way of the classes it stands on: a replay makes one for each answer.
        self.kind: str = ASK + question.kind
        if not run._is_active:  # noqa: SLF001 - the run's other half
            run.check_active(self.kind)
        self.run = run
        self.key: str = question.body if key is None else key
        self.row: StepRecord | None = None
        self.question: QuestionType[T] = question
        self.remind: Sequence[timedelta] = (remind,) if isinstance(remind, timedelta) else remind
        self.timeout: timedelta | None = timeout
        self.tries: int | None = tries
        self.invalid: str | None = invalid
        self.is_awaited = False

    def decode(self, text: str) -> T:
        """Return the answer that was given."""
        return self.question.decode(orjson.loads(text)[0])

    # --- asking

    async def perform(self) -> object:
        """Ask it, unless its answer is known; ask it once, however often this is called."""
        run = self.run
        if self.row is None:
            provider: IdentityProvider | None = None
            known = self._known_before()
            if known is None and isinstance(self.question, VerificationQuestion):
                provider, known = await self._provider(self.question)
            if known is not None:
                text = self._kept(known)
                run.journal.add(self.kind, self.key, text)
                return self.decode(text)
            self.row = run.journal.open(self.kind, self.key)
            if provider is not None:
                said = orjson.dumps({"provider": [provider.provider_id, provider.name]}).decode()
                run.journal.add_try(said, None)
            self._set_timers(self.row.number)
            self._note_others()
        await run.flush()
        await self._send(self.row)
        return SUSPENDED

    async def _send(self, row: StepRecord) -> None:
        run = self.run
        sent = await self._send_first(run.key(row.number))
        run.message_id = sent.id if sent else None
        # What the last answer led to may not have been sent when the process died.
        if run.journal.tries:
            await self._send_again(run.journal.tries[-1])

    async def _send_first(self, key: str) -> SentMessage | None:
        run = self.run
        content = evolve(self.question.content(run.tools.texts), label=self.key)
        if not isinstance(self.question, VerificationQuestion):
            return await run.send(key, self._to_user(content))
        if content.body:
            await run.send(f"{key}/body", content)
        provider = next(
            found["provider"]
            for row in run.journal.tries
            if "provider" in (found := orjson.loads(row.value or "{}"))
        )
        return await run.request_verification(key, IdentityProvider(*provider))

    async def _provider(self, question: VerificationQuestion) -> tuple[IdentityProvider | None, Any]:
        """Return with what to verify the user, or the result if that cannot or need not be."""
        run = self.run
        if run.tools.identities is None:
            raise ConfigurationError("This bot cannot ask for verifications: it does not know with what.")
        found = question.request(*await run.tools.identities(run.record.user))
        if isinstance(found, IdentityProvider):
            return found, None
        return None, found or VerificationResult(is_verified=False, provider=question.provider)

    def _to_user(self, content: Content) -> Content:
        """Ask the dialog's user alone, where others could press the buttons too."""
        asked = content.question
        if asked is None or asked.users or not self.run.address.kind.is_group:
            return content
        return evolve(content, question=evolve(asked, users=(self.run.record.user,)))

    async def _send_again(self, row: StepRecord) -> None:
        said = orjson.loads(row.value or "{}")
        body, run = said.get("say"), self.run
        if body is None:
            return
        content = Content(body)
        if said.get("ask"):
            again = self.question.content_again(said.get("more"), run.tools.texts)
            content = evolve(again, body=f"{body}\n\n{again.body}", label=self.key)
        await run.send(run.key(row.number), self._to_user(content))

    def _known_before(self) -> T | None:
        run = self.run
        if self.key not in run.document.answers or self.key in run.used:
            return None
        run.used.add(self.key)
        value = run.document.answers[self.key]
        if value is None:
            return None
        found = self.question.read_known(value, run.tools.texts, run.tools.today())
        if not isinstance(found, Invalid | More):
            return found
        log(
            logging.WARNING,
            _NO_ANSWER,
            dialog=run.record.name,
            key=shown_key(self.key),
            kind=self.question.kind,
        )
        return None

    def _kept(self, value: T) -> str:
        return orjson.dumps([self.question.encode(value)]).decode()

    # --- waiting

    def _set_timers(self, number: int) -> None:
        run, now = self.run, self.run.tools.clock.now()
        if self.timeout is not None:
            set_timer(run, number, "timeout", now + self.timeout)
        self._set_reminder(number, now, now)

    def _set_reminder(self, number: int, asked: datetime, after: datetime) -> None:
        """Set the timer of the first reminder after a moment that comes before the time-out."""
        end = None if self.timeout is None else asked + self.timeout
        for part, since in enumerate(self.remind, start=1):
            due = asked + since
            if due > after and (end is None or due < end):
                set_timer(self.run, number, "remind", due, part=part, asked=asked.isoformat())
                return

    async def take_timer(self, event: TimerDue, key: str) -> object:
        """Remind of the question, or end it."""
        document = orjson.loads(event.document)
        if self.row is None or document.get("number") != self.row.number:
            return SUSPENDED  # of a question that has been answered meanwhile
        if event.timer_kind == "timeout":
            return self.end(NoAnswer, key)
        now, asked = self.run.tools.clock.now(), datetime.fromisoformat(document["asked"])
        # After days without the bot: a reminder is no use when the time-out comes right after it.
        if self.timeout is None or now < asked + self.timeout:
            content = self.question.content_again(self._state(), self.run.tools.texts)
            texts = self.run.tools.texts
            body = f"{texts.reminder} {content.body or texts.verification_waiting}"
            key = self.run.key(self.row.number, document["part"])
            await self.run.send(key, self._to_user(evolve(content, body=body, label=self.key)))
        self._set_reminder(self.row.number, asked, now)
        return SUSPENDED

    # --- answers

    async def take(self, event: Event, key: str) -> object:
        """Take what a user typed or pressed."""
        tools = self.run.tools
        found = self.question.read(given_by(event, tools.today()), self._state(), tools.texts)
        if isinstance(found, Invalid):
            return await self._refuse(found, key)
        if isinstance(found, More):
            return await self._try_again({"more": found.state, "say": found.say}, key)
        return self._complete(self._kept(found), key)

    async def say_that_it_is_the_first(self, key: str) -> object:
        """Ask again, since there is nothing to go back to."""
        said = self.run.tools.texts.nothing_to_go_back_to
        return await self._try_again({"say": said, "ask": True, "more": self._state()}, key)

    def stop(self, key: str) -> object:
        """End it with the user's stop word."""
        return self.end(Stopped, key)

    async def _refuse(self, found: Invalid, key: str) -> object:
        before = sum(1 for row in self.run.journal.tries if '"invalid"' in (row.value or ""))
        if self.tries is not None and before + 1 >= self.tries:
            return self.end(TooManyTries, key)
        said = self.invalid or found.reason
        more = self._state() if found.state is None else found.state
        return await self._try_again({"invalid": True, "say": said, "ask": True, "more": more}, key)

    async def _try_again(self, said: dict[str, object], key: str) -> object:
        row = self.run.journal.add_try(orjson.dumps(said).decode(), key)
        if said["say"] is not None:
            await self.run.flush()
            await self._send_again(row)
        return SUSPENDED

    def _state(self) -> JSONObject | None:
        tries = self.run.journal.tries
        state: Any = orjson.loads(tries[-1].value or "{}").get("more") if tries else None
        return state if isinstance(state, dict) else None

    def end(self, how: type[DialogExit], key: str) -> object:
        """End it with one of the dialog's own exceptions."""
        return self._complete(exit_to_json(how), key)

    def _complete(self, text: str, key: str) -> object:
        run, row = self.run, self.row
        if row is None:
            raise AssertionError(self.kind)
        run.journal.fill(row, text, key)
        if self.timeout is not None or self.remind:
            run.journal.cancel_timers(row, ("remind", "timeout"))
        run.message_id = None
        if text[0] == "{":
            return outcome_of(text)
        try:
            return self.decode(text)
        except Exception as failure:  # noqa: BLE001 - of an author's own type of question
            return Raised(failure)

    def _note_others(self) -> None:
        document = self.run.document
        others = {*document.others, *self.others()}
        if others != {*document.others}:
            document.others = tuple(sorted(others))
            self.run.put_record()

    def others(self) -> set[str]:
        """Return who is asked beside the dialog's user."""
        return {user for user in self.question.users if user != self.run.record.user}


def given_by(event: Event, today: date) -> Given:
    """Return what a user typed or pressed."""
    match event:
        case MessageCreated(message=message):
            return Given(message.body or "", None, message, event.user_id or "", event, today)
        case QuestionAnswered(options=options, user_id=user_id):
            return Given(None, options, None, user_id, event, today)
        case VerificationAccepted(user_id=user) | VerificationRejected(user_id=user):
            return Given(None, None, None, user or "", event, today)
        case _:
            raise AssertionError(event.kind)


def word_of(event: MessageCreated) -> str:
    """Return what a message says, as stop and back words are compared."""
    return Given(event.message.body or "").said.casefold()
