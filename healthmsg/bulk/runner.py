"""Sending many messages: one runner enters them into a journal, claims them there, and sends them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast

from healthmsg.aio import start
from healthmsg.api import Api
from healthmsg.bulk.circuit_breaker import CircuitBreaker
from healthmsg.bulk.dispatch import CallTracker, DispatchWindow, Lease, OrderKeeper
from healthmsg.bulk.intake import Intake, JournalIntake, MemoryIntake
from healthmsg.bulk.journal import InputIndex, open_journal
from healthmsg.bulk.journal.base import Claim, Journal
from healthmsg.bulk.journal.memory import MemoryJournal
from healthmsg.bulk.models import JournalTarget, Messages, SendOptions, SendReport, SendResult
from healthmsg.bulk.reconcile import DeliveryProofs, my_id
from healthmsg.bulk.sender import Doubts, Sender
from healthmsg.database.states import State
from healthmsg.errors import (
    AuthorizationError,
    CallError,
    CampaignError,
    ClaimLostError,
    InvalidInputError,
    JournalError,
    ReauthorizationRequiredError,
    SendingStoppedError,
)
from healthmsg.log import log
from healthmsg.models import Outcome
from healthmsg.pipeline.request import Request
from healthmsg.ratelimit.limiter import RateLimit
from healthmsg.task_pool import BulkRun, Job, TaskPool, Words

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import SqlJournal

# More than the limit allows within the three seconds that a slow answer takes.
_MOST_IN_FLIGHT: Final = 128
_MOST_CLAIMED: Final = 64
_MOST_FAILURES: Final = 1_000
# Seconds between two polls of what other workers have done.
_POLL_INTERVAL: Final = 1.0
_WORDS: Final = Words("a send_many", "messages", "send", "sent")
_GO_ON: Final = "Start again with the same journal and messages to go on: nothing is sent twice."
_NO_JOURNAL: Final = "What has no result was not sent. A run with a journal could be continued."
_LEASE_LOST: Final = f"The journal could not be reached in time, so others may send its messages. {_GO_ON}"
_NOT_DONE: Final = "The run was ended before this message was done; it is not sent."
_LEFT_OUT: Final = "%(left_out)d messages are left out: a later run had something else for their recipients"
_OTHER_TEXT: Final = (
    "some recipients already got another text from this journal: other_text is %(other_text)r for them"
)
_BEHIND: Final = (
    "To the recipients of all that is left, messages of a campaign go first. Workers send those (`healthmsg"
    " worker`); or pause or cancel the campaign, and this goes on without them."
)
_ENDED_BEHIND: Final = (
    "To the recipients of what is left, messages of a campaign go first, which a run does not send. Have a"
    f" worker send them, or pause or cancel the campaign. {_GO_ON}"
)
_Task = asyncio.Task[None]
T = TypeVar("T")


class SendMany(BulkRun[SendResult]):
    """Messages that are being sent. Iterate it for the results, in the order in which they come.

    Messages are read as they are needed and sent in parallel. Those to one chat go out one after the other,
    in the order given; see `Outgoing` for several addresses of one chat. Unread results block
    the sending. Leaving the `async with` (or closing the client) sends no further message and waits for those
    under way; the results that are left can still be read by iterating on.

    A message that may have been delivered is looked for in its chat, as `reconcile` does with `settle`, and
    sent again if it was proven not to have been, at most five times; the later messages of that chat wait
    meanwhile. With `on_unknown="report"` it is reported at once. What concerns every message (a revoked
    token, a host that cannot be reached, a full disk) pauses the run, for `stop_after` seconds at most.

    With a journal, what an earlier run has delivered is not sent again, and what it had under way is
    reconciled. What still waits from it is sent only if it is given again, or if no messages are given; what
    failed is retried with `retry_failed`. A message is known by its `key`, or else by its
    chat, text, names of files and how many like it came before; one with other words, or with something else
    in its files, under a known key is refused.

    A message whose recipient already got, or may have got, another one from the journal, which this run was
    not given, is sent too; with `other_text="skip"` it is not, and its result has an `OtherTextError`. Either
    way the report counts them. A run without messages leaves out what a later run had something else for,
    unless `superseded` is given.
    """

    _called = "send_many"
    _instead_of_await = "await its report()"

    def __init__(
        self,
        api: Api,
        messages: Messages | None,
        options: SendOptions,
        opening: "AbstractAsyncContextManager[Journal]",
        rate: RateLimit,
    ) -> None:
        self._runner = Runner(api, messages, options, opening, rate)
        self._pool: TaskPool[Claim, SendResult] = self._runner.pool

    @property
    def paused_by(self) -> Exception | None:
        """Why the run is paused just now: an error that concerns every message, such as a full disk.

        Also while calls are being retried, from the first one that failed. And while all that is left waits
        for messages of a campaign, which go first to its recipients: a `CampaignError` then.
        """
        runner = self._runner
        paused_by = runner.breaker.waits_for or (runner.journal.paused_by if runner.is_open else None)
        return paused_by or runner.waits_behind

    @property
    def in_doubt(self) -> int:
        """How many messages are being reconciled just now, since no clear answer came."""
        return len(self._runner.doubts)

    @property
    def settled_in(self) -> float:
        """Seconds until they are reconciled at the latest, if the service answers."""
        return self._runner.doubts.settled_in

    async def report(self) -> SendReport:
        """Send everything, and return a summary.

        Raises:
            SendingGivenUpError: nothing got through for `stop_after` seconds.
            JournalError: the journal cannot be used any more.
            CampaignError: with an SQLite file: the rest waits for messages of a campaign.
        """
        started = asyncio.get_running_loop().time()
        counts = dict.fromkeys(Outcome, 0)
        attempts, failures = 0, list[SendResult]()
        async with self:
            async for result in self:
                counts[result.outcome] += 1
                attempts += result.attempts
                if result.outcome is not Outcome.DELIVERED and len(failures) < _MOST_FAILURES:
                    failures.append(result)
        return SendReport(
            messages=sum(counts.values()),
            delivered=counts[Outcome.DELIVERED],
            not_sent=counts[Outcome.NOT_SENT],
            unknown=counts[Outcome.UNKNOWN],
            attempts=attempts,
            seconds=asyncio.get_running_loop().time() - started,
            failures=tuple(failures),
            other_text=self._runner.other_texts,
            superseded=self._runner.superseded,
        )


class Supply(Protocol):
    """What a runner sends that was given no messages, and does not go on with a run."""

    @property
    def most_ahead(self) -> int:
        """How many messages are held at most whose calls have not left yet."""

    @property
    def intake(self) -> Intake:
        """What knows of their results."""

    def check(self, claim: Claim, check_lease: Callable[[], None] | None) -> None:
        """Refuse a call that is about to leave: see `Lease.of`."""

    async def begin(self, journal: "SqlJournal") -> None:
        """Get ready to claim, with a journal that is open."""

    async def claim(self, most: int) -> list[Claim]:
        """Take what is next; see `Journal.claim`."""

    async def claim_in_doubt(self) -> list[Claim]:
        """Take what may have been sent by others; see `Journal.claim_in_doubt`."""

    async def end(self) -> None:
        """Leave the journal, which is still open."""


class Runner:
    """Enters messages into a journal, and sends what it claims there, until nothing is left.

    With a `supply`, it sends what that has, until it is stopped.
    """

    waits_behind: CampaignError | None = None
    """Set while all that is left waits for messages of campaigns, which only workers send."""
    _has_waited_behind = False

    def __init__(  # noqa: PLR0913 - the last by keyword
        self,
        api: Api,
        messages: Messages | None,
        options: SendOptions,
        opening: "AbstractAsyncContextManager[Journal]",
        rate: RateLimit,
        *,
        supply: Supply | None = None,
    ) -> None:
        self._messages, self._supply = messages, supply
        self._options = options
        self._opening = opening
        job = Job(_WORDS, self._feed, self._work, self._cancelled_result, self._may_finish, self._forget)
        self.pool: TaskPool[Claim, SendResult] = TaskPool(job, api.spawn, places=_MOST_IN_FLIGHT)
        self._calls = CallTracker(api, self.pool.in_flight, self._prepare)
        self._api = self._calls.api
        advice = _NO_JOURNAL if isinstance(opening, MemoryJournal) else _GO_ON
        self.breaker: CircuitBreaker = CircuitBreaker(self._api, options.stop_after, advice)
        self.breaker.when_given_up = self._give_up
        self.doubts: Doubts = Doubts(self.pool, self.breaker, api.deliveries.clock, options.settle)
        self._window = DispatchWindow(rate)
        self._order = OrderKeeper(api.aliases)
        self._index = InputIndex()
        self._changed = asyncio.Event()
        """Set when there may be something more to claim, or the run may be over."""
        self.failure: Exception | None = None
        self._requeueing: set[_Task] = set()
        self._polled_at = 0.0
        self.superseded: int = 0
        """How many messages of the journal are left out, since a later run had something else for them."""
        self.left_in_doubt: int = 0
        """Of how many results the outcome is unknown since the run ended before it was found out."""
        self.is_open: bool = False
        """Whether the journal is open. Before that, the attributes below are not set."""
        self.journal: Journal
        self.intake: Intake
        self._proofs: DeliveryProofs
        self.sender: Sender

    @property
    def under_way(self) -> int:
        """How many messages may have been sent whose answer is still to come."""
        return sum(self._may_finish(task) for task in self.pool.in_flight)

    def wake(self) -> None:
        """Look whether there is more to claim."""
        self._changed.set()

    @property
    def other_texts(self) -> int:
        """How many messages are to recipients who got another one."""
        return self.intake.other_texts if self.is_open else 0

    async def _feed(self) -> None:
        """Send the messages, or what the journal holds.

        Raises:
            SendingGivenUpError: nothing got through for too long.
            JournalError: the journal has failed.
            Exception: what reading the messages has raised.
        """
        async with self._opening as journal:
            lease = Lease(journal, self._lose_all)
            self._set_up(journal, lease)
            with self._index if journal.is_durable else nullcontext():
                async with lease:
                    try:
                        await self._run(() if self._messages is None else self._messages)
                    finally:
                        await self._shut_down()
        self._raise_failure()

    def _set_up(self, journal: Journal, lease: Lease) -> None:
        self.journal, self.is_open = journal, True
        resumes = self._messages is None and self._supply is None
        if self._supply is not None:
            self.intake = self._supply.intake
        elif isinstance(journal, MemoryJournal):
            self.intake = MemoryIntake(journal, self.pool.places, self._changed.set)
        else:
            options = self._options
            self.intake = JournalIntake(
                self._api,
                cast("SqlJournal", journal),
                self._index,
                self._report,
                self._changed.set,
                retry_failed=options.retry_failed,
                other_text=options.other_text,
                on_other_texts=lambda: log(logging.WARNING, _OTHER_TEXT, other_text=options.other_text),
                resumes=resumes,
            )
        self._proofs = DeliveryProofs(journal, self._api.deliveries, self._changed.set)
        self.sender = Sender(
            *(journal, self.intake, self._options, self._calls, self.breaker, self.doubts, self._proofs),
            *(self._order, self._window, lease),
            resumes=resumes,
            check=None if self._supply is None else self._supply.check,
        )

    async def _run(self, messages: Messages) -> None:
        if self.journal.is_durable:
            await self._start(cast("SqlJournal", self.journal))
        reading = start(self.intake.take(messages))
        reading.add_done_callback(lambda _: self._changed.set())
        try:
            with self._order.listening():
                await self._send_all(reading)
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()  # retrieved, so that asyncio does not log it
        if self.intake.failure is not None:
            raise self.intake.failure

    async def _shut_down(self) -> None:
        self.journal.stop_retrying()
        self.doubts.stop()
        # With a journal that has failed, each of them would fail, one after the other.
        self._cancel_unbegun()
        await self.pool.wait_for_in_flight()
        self._report_held_back()
        for claim in self.journal.left_over():
            self._report_not_done(claim)
        if self._requeueing:
            await asyncio.wait(self._requeueing)
        if self._supply is not None:
            await self._supply.end()

    async def _start(self, journal: "SqlJournal") -> None:
        """Start a run of the journal, and reconcile what the run before it left in doubt."""
        options = self._options
        await journal.check_owner(self._api.url)  # before even the user is asked for there
        await journal.set_owner(await self._account(), self._api.url)
        if self._supply is not None:
            await self._supply.begin(journal)
            await self._launch_in_doubt()
            return
        self.superseded = await journal.start_run(
            resumes=self._messages is None, retry_failed=options.retry_failed, superseded=options.superseded
        )
        if self.superseded:
            log(logging.WARNING, _LEFT_OUT, left_out=self.superseded)
        await self._launch_in_doubt()

    async def _account(self) -> str:
        """Return the id of the user. If the service does not answer, wait as for any message.

        Raises:
            SendingGivenUpError: nothing got through for too long.
        """
        while True:
            await self.breaker.acquire()
            try:
                account = await my_id(self._api)
            except ReauthorizationRequiredError:
                raise
            except (CallError, AuthorizationError) as error:
                if not await self.breaker.record_failure(error):
                    raise
            else:
                self.breaker.record_success()
                return account

    async def _send_all(self, reading: _Task) -> None:
        pool = self.pool
        while True:
            self._raise_failure()
            is_read = reading.done()
            if is_read:
                reading.result()  # raises if a message could not be entered
                self._report_held_back()
            self._changed.clear()
            if await self._launch_next() or await self._launch_blocked_in_doubt():
                self.waits_behind = None
                continue
            if is_read and not self._changed.is_set():
                if not pool.in_flight and await self._is_over():
                    return
                if pool.in_flight and len(pool.in_flight) == self._proofs.waiting:
                    self._proofs.release_one()
            await self._wait_for_change()

    async def _is_over(self) -> bool:
        """Return whether nothing is left; if all that is left waits for messages of a campaign, say so.

        Raises:
            CampaignError: no worker can send these while this run has the journal.
        """
        is_open = await self.intake.has_open_elsewhere()
        is_of_run = self.journal.is_durable and self._supply is None
        may_wait = is_of_run and (is_open or self._messages is None)
        if not (may_wait and await cast("SqlJournal", self.journal).is_behind_campaigns()):
            self.waits_behind = None
            return not is_open
        if self.journal.lease is None:
            raise CampaignError(_ENDED_BEHIND)
        if not self._has_waited_behind:
            log(logging.WARNING, _BEHIND)
        self._has_waited_behind = True
        self.waits_behind = CampaignError(_BEHIND)
        return False

    def _raise_failure(self) -> None:
        failure = self.failure or self.sender.failure or self.breaker.given_up
        if failure is not None:
            raise failure

    async def _launch_next(self) -> bool:
        """Start as many as there are places for; return whether there were any."""
        if not self.journal.is_durable:  # each has held its place since it was read
            claims = await self.journal.claim(_MOST_IN_FLIGHT)
        else:
            claims = await self._claim_with_places()
        for claim in claims:
            self.pool.launch(claim)
        return bool(claims)

    def _room_ahead(self) -> int:
        """Return how many messages may be claimed now: none before the calls of half of them have left."""
        if self._supply is None:
            return _MOST_CLAIMED
        most, has_left = self._supply.most_ahead, self._calls.has_begun
        ahead = sum(not has_left(task) and task not in self.doubts for task in self.pool.in_flight)
        return min(most - ahead, _MOST_CLAIMED) if 2 * ahead <= most else 0

    async def _claim_with_places(self) -> list[Claim]:
        most = self._room_ahead()
        if most <= 0:
            return []
        places = self.pool.places
        await places.acquire()
        taken = 1
        while taken < most and not places.locked():
            await places.acquire()
            taken += 1
        claims = await (self._supply or self.journal).claim(taken)
        self.intake.expect(claims)
        if self._messages is None:  # otherwise this was done when they were entered
            self._order.learn_about(claim.chat for claim in claims)
        for _ in range(taken - len(claims)):
            places.release()
        return claims

    async def _launch_in_doubt(self) -> bool:
        claims = await (self._supply or self.journal).claim_in_doubt()
        for claim in claims:
            await self.pool.places.acquire()
            self.pool.launch(claim)
        return bool(claims)

    async def _launch_blocked_in_doubt(self) -> bool:
        """Reconcile messages behind others of their chat. Only a partly lost journal has them."""
        return self.journal.is_partly_lost and await self._launch_in_doubt()

    async def _wait_for_change(self) -> None:
        if self.journal.lease is None:
            await self._changed.wait()
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), _POLL_INTERVAL)
        now = asyncio.get_running_loop().time()
        if now >= self._polled_at + _POLL_INTERVAL:
            self._polled_at = now
            await self._launch_in_doubt()

    # --- one message

    async def _work(self, claim: Claim) -> SendResult | None:
        """Send one message; what goes wrong with it is in its result."""
        try:
            result = await self.sender.send(claim)
        except ClaimLostError:
            self.breaker.release_probe()
            # The worker that has it now handles it. If none has it, it was not sent.
            self.intake.mark_pending(claim)
            await self._requeue(claim)
            result = None
        except SendingStoppedError:
            result = None  # it waits in the journal
        except Exception as error:  # a message without a result must not pass in silence
            if not self.journal.is_durable:
                raise
            self.failure = self.failure or error
            result = None
        if result is not None:
            self.intake.release(claim)
        elif not self.journal.is_durable:
            self.pool.places.take()  # it waits in memory, and has its place there
        return self.intake.hold_back(result)

    def _cancelled_result(self, claim: Claim, task: _Task) -> SendResult | None:
        """Return the result of a message whose task was cancelled, or had a bug."""
        attempts = claim.attempts + self._calls.calls_of(task)
        if task in self.doubts or claim.state is not State.WAITING or self._calls.has_begun(task):
            self.left_in_doubt += 1
            unclear = self.doubts.pop(task) or SendingStoppedError(self.sender.unresolved_text)
            result = self.sender.result(claim, Outcome.UNKNOWN, unclear, attempts)
        elif self.journal.is_durable:
            requeueing = start(self._requeue(claim))
            self._requeueing.add(requeueing)
            requeueing.add_done_callback(self._requeueing.discard)
            return None
        else:
            error = self.breaker.given_up or SendingStoppedError(_NOT_DONE)
            result = self.sender.result(claim, Outcome.NOT_SENT, error, attempts)
        self.journal.abandon(claim)
        self.intake.release(claim)
        return self.intake.hold_back(result)

    def _may_finish(self, task: _Task) -> bool:
        return self._calls.has_begun(task) and task not in self.doubts

    def _forget(self, task: _Task) -> None:
        self._calls.forget(task)
        self._changed.set()

    def _prepare(self, request: Request, task: _Task | None) -> None:
        request.may_repeat = partial(self.breaker.may_repeat, request, asyncio.get_running_loop().time())
        if task is not None:
            self.sender.prepare(request, task)
            if self._supply is not None:
                request.on_departure = partial(self._make_room, request.on_departure)

    def _make_room(self, leave: Callable[[], object] | None) -> None:
        """Note that a call has left: of few that are held, there is room for another."""
        if leave is not None:
            leave()
        self._changed.set()

    def _give_up(self) -> None:
        """Start nothing new and stop reconciling, since no call succeeds."""
        self.doubts.stop()
        self._cancel_unbegun()
        self._changed.set()

    def _cancel_unbegun(self) -> None:
        """Cancel the tasks that have sent nothing yet, and those that reconcile."""
        this = asyncio.current_task()
        self.pool.cancel_unless(lambda task: task is this or self._may_finish(task))

    async def _requeue(self, claim: Claim) -> None:
        try:
            await self.journal.requeue(claim)
        except ClaimLostError:
            pass  # its outcome is noted already, or another worker has it
        except JournalError as error:  # then the next run proves that it was not sent
            self.failure = self.failure or error

    def _lose_all(self) -> None:
        """End the run, since other workers may claim its messages."""
        self.failure = JournalError(_LEASE_LOST)
        self.pool.cancel_unless(lambda _: False)
        self._changed.set()

    # --- results that come from elsewhere

    async def _report(self, result: SendResult) -> None:
        await self.pool.places.acquire()
        self.pool.report(self.intake.hold_back(result))

    def _report_held_back(self) -> None:
        for result in self.intake.held_back():
            self.pool.places.take()
            self.pool.report(result)

    def _report_not_done(self, claim: Claim) -> None:
        error = self.breaker.given_up or SendingStoppedError(_NOT_DONE)
        self.intake.release(claim)
        self.pool.report(self.sender.result(claim, Outcome.NOT_SENT, error, claim.attempts))


def send_many(  # noqa: PLR0913 - what a run needs
    api: Api,
    messages: Messages | None,
    journal: JournalTarget | None,
    options: SendOptions,
    rate: RateLimit,
    *,
    sharing: AbstractAsyncContextManager[None],
) -> SendMany:
    """Make a run, with a journal or without; `sharing` is entered while the journal is open.

    Raises:
        InvalidInputError: there are neither messages nor a journal, or an option cannot be right.
        ConfigurationError: the journal is neither a file nor a PostgreSQL database.
    """
    options.check_fit(messages, journal)
    if journal is not None:
        opening = sharing_while_open(open_journal(journal, patience=options.stop_after), sharing)
        return SendMany(api, messages, options, opening, rate)
    if options.retry_failed:
        raise InvalidInputError("retry_failed needs a journal, which knows what has failed")
    return SendMany(api, messages, options, MemoryJournal(api.aliases), rate)


@asynccontextmanager
async def sharing_while_open(
    opening: AbstractAsyncContextManager[T], sharing: AbstractAsyncContextManager[None]
) -> AsyncIterator[T]:
    """Open a journal, and enter `sharing` while it is open."""
    async with opening as opened, sharing:
        yield opened
