"""A worker: sends what campaigns are in a journal, until it is stopped."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from attrs import evolve, frozen

from healthmsg.bulk.campaigns.supply import CampaignSupply
from healthmsg.bulk.journal import LEASE, open_journal
from healthmsg.bulk.models import JournalTarget, SendOptions, SendResult
from healthmsg.bulk.runner import Runner, sharing_while_open
from healthmsg.client import Client
from healthmsg.codec import Model
from healthmsg.database.target import Target
from healthmsg.errors import CallError, ClientUsageError, JournalError, ReauthorizationRequiredError
from healthmsg.errors.base import Outcome, hides_arguments
from healthmsg.log import log
from healthmsg.ratelimit.queue import Priority
from healthmsg.task_pool import BulkRun
from healthmsg.validation import check_seconds

# Seconds: a worker does not give up. A year, since nothing waits for ever.
_STOP_AFTER: Final = 365 * 24 * 3600.0
# Seconds until a journal that has failed is opened again; doubled each time.
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 30.0
_ONCE: Final = "A worker runs once: make another one."


@frozen
class WorkerStats(Model):
    """What a worker has done since it began, and what there is to do."""

    delivered: int = 0
    not_sent: int = 0
    """Refused, and so on: certainly not delivered, and will not be."""
    unknown: int = 0
    """Could not be found out. Not what was in doubt when the worker stopped: others find that out."""
    attempts: int = 0
    """Calls that were begun for these, by any worker; one that was stopped before it left is among them."""
    claimed: int = 0
    """Messages that it holds just now; the two below are among them."""
    under_way: int = 0
    """Messages whose call is being made just now."""
    in_doubt: int = 0
    """Messages of which it finds out just now whether they were delivered."""
    waiting: int = 0
    """Messages of campaigns that are sent which nothing has begun, over the whole journal; 5 s old."""


class _Sending(BulkRun[SendResult]):
    """What a worker sends with one opening of its journal."""

    _called = "worker"

    def __init__(self, client: Client, journal: JournalTarget, settle: float) -> None:
        parts = client._parts  # noqa: SLF001 - as the client's other parts see it
        api = evolve(parts.api(), priority=Priority.BACKGROUND)
        options = SendOptions("reconcile", settle, retry_failed=False, stop_after=_STOP_AFTER)
        opening = sharing_while_open(
            open_journal(journal, lease=LEASE, patience=_STOP_AFTER), parts.sharing.over(journal)
        )
        self.supply: CampaignSupply = CampaignSupply(parts.limiter.rate, lambda: self.problem)
        self.runner: Runner = Runner(api, None, options, opening, parts.limiter.rate, supply=self.supply)
        self.supply.wake = self.runner.wake
        self._pool = self.runner.pool

    @property
    def problem(self) -> Exception | None:
        """Why it sends nothing just now."""
        runner = self.runner
        return runner.breaker.waits_for or (runner.journal.paused_by if runner.is_open else None)


class Worker:
    """Sends what campaigns are in a journal, until it is stopped. There can be any number of them.

    They share what there is to send: each message is one worker's at a time, and what one that was killed had
    in hand, the others find out about, and send again only if it was not delivered. Campaigns share the limit
    in proportion to their weights. What is paused, cancelled or added from elsewhere takes effect within two
    seconds. Calls of programs that use the same client go first. With PostgreSQL, the limit of calls is
    shared with all that use its database for their journal, unless the client was given a `rate_limit`.

    `journal` is as in `Client.send_many`; it is made if there is none. An SQLite file is for one worker, with
    nothing beside it but what reads. The worker goes on for as long as it is not stopped: while the service
    or the database is away, it waits, and `problem` says why. `settle` is as in `send_many`.

    Raises:
        InvalidInputError: `settle` cannot be right.
        ConfigurationError: the journal is neither a file nor a PostgreSQL database.
    """

    @hides_arguments  # the URL may have a password in it
    def __init__(self, client: Client, journal: JournalTarget, *, settle: float = 90.0) -> None:
        Target.parse(journal)
        self._client = client
        self._journal = journal
        self._settle = check_seconds(settle, "settle")
        self._sending: _Sending | None = None
        self._error: Exception | None = None
        self._stopping = asyncio.Event()
        self._has_begun = False
        self._has_worked = False
        self._outcomes = dict.fromkeys(Outcome, 0)
        self._attempts = 0
        # By what it sent with earlier openings of the journal.
        self._left_before = 0

    async def run(self) -> None:
        """Send until `stop` is called; then finish what is under way, and leave the rest to others.

        Cancelling it does the same. If the service does not answer, or the journal fails after it could be
        used, it begins again, as often as it takes.

        Raises:
            JournalError: the journal cannot be used, or is another account's; or it failed while this was
                stopped: what became of what was under way, other workers find out.
            SendingGivenUpError: the token is not accepted, and no other can come.
            ConfigurationError: a package that the journal needs is not installed.
            ClientUsageError: it has run before.
        """
        if self._has_begun:
            raise ClientUsageError(_ONCE)
        self._has_begun = True
        wait = _FIRST_WAIT
        while not self._stopping.is_set():
            self._left_before = self._left_in_doubt()
            sending = self._sending = self._register(_Sending(self._client, self._journal, self._settle))
            problem = await self._send(sending)
            self._has_worked |= sending.supply.has_begun
            if problem is None:
                return
            if self._stopping.is_set() or not self._may_pass(problem):
                raise problem
            self._error = problem
            wait = _FIRST_WAIT if sending.supply.has_begun else min(2 * wait, _LONGEST_WAIT)
            log(logging.WARNING, "the worker begins again: %(error)s", error=str(problem))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)

    def stop(self) -> None:
        """Begin nothing more: `run` returns when what is under way has come to its end."""
        self._stopping.set()
        if self._sending is not None:
            self._sending.stop()

    def stats(self) -> WorkerStats:
        """Return its figures."""
        outcomes, sending = self._outcomes, self._sending
        found = WorkerStats(
            delivered=outcomes[Outcome.DELIVERED],
            not_sent=outcomes[Outcome.NOT_SENT],
            unknown=outcomes[Outcome.UNKNOWN] - self._left_in_doubt(),
            attempts=self._attempts,
        )
        if sending is None:
            return found
        runner = sending.runner
        return evolve(
            found,
            claimed=len(runner.pool.in_flight),
            under_way=runner.under_way,
            in_doubt=len(runner.doubts),
            waiting=sending.supply.waiting,
        )

    @property
    def is_ready(self) -> bool:
        """Whether it is sending, or would if there were something to send."""
        sending = self._sending
        if sending is None or self._stopping.is_set() or not sending.supply.has_begun:
            return False
        return self.problem is None

    @property
    def problem(self) -> Exception | None:
        """Why it sends nothing just now; `None` if nothing is wrong."""
        sending = self._sending
        if sending is None:
            return None
        return sending.problem or (None if sending.supply.has_begun else self._error)

    async def _send(self, sending: _Sending) -> Exception | None:
        """Send with one opening of the journal; return what has ended it, if anything has."""
        if self._stopping.is_set():
            return None
        try:
            async with sending:
                async for result in sending:
                    self._outcomes[result.outcome] += 1
                    self._attempts += result.attempts
        except (JournalError, CallError) as error:
            return error
        # One that is being stopped ends without an error, whatever could not be noted.
        runner = sending.runner
        return runner.failure or (runner.sender.failure if runner.is_open else None)

    def _left_in_doubt(self) -> int:
        """Return how many results say only that it was stopped before the outcome was known."""
        return self._left_before + (0 if self._sending is None else self._sending.runner.left_in_doubt)

    def _may_pass(self, problem: Exception) -> bool:
        if isinstance(problem, JournalError):
            # Not one of the kinds that say why it can never be used; and it could be.
            return type(problem) is JournalError and self._has_worked
        return not isinstance(problem, ReauthorizationRequiredError)

    def _register(self, sending: _Sending) -> _Sending:
        return self._client._parts.shared.register_run(sending)  # noqa: SLF001 - ends with the client
