"""Sending many messages with a journal: the run, from entering them to the last result."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from healthmsg.aio import start
from healthmsg.api import Api
from healthmsg.bulk.intake import Intake, result_of
from healthmsg.bulk.journal import Given, Journal, State
from healthmsg.bulk.journal_work import JournalWork
from healthmsg.bulk.messages import Messages, SendResult
from healthmsg.bulk.reconcile import my_id
from healthmsg.bulk.sender import SendOptions
from healthmsg.errors import AuthorizationError, CallError, JournalError, ReauthorizationRequiredError
from healthmsg.log import log
from healthmsg.ratelimit.limiter import RateLimit

_DELETED: Final = "Messages of this run were deleted from the journal while it went on."
_LEFT_OUT: Final = "%(left_out)d messages are left out: a later run had something else for their recipients"
_OTHER_TEXT: Final = (
    "some recipients already got another text from this journal: other_text is %(other_text)r for them"
)
_MOST_CLAIMED: Final = 64
# Seconds between two looks at what other workers have done, and left undone.
_BETWEEN_LOOKS: Final = 1.0
_AT_ONCE: Final = 500


class JournalSendMany(JournalWork):
    """Enters messages into a journal, and claims from it what is to be sent next."""

    def __init__(
        self,
        api: Api,
        messages: Messages | None,
        options: SendOptions,
        journal: Journal,
        rate: RateLimit,
    ) -> None:
        super().__init__(api, () if messages is None else messages, options, journal, rate)
        self._resumes = messages is None
        self._looked_at = 0.0
        self._has_all = self._resumes
        self._early: dict[str | None, SendResult] = {}
        """Results of messages that an earlier run left in doubt, and that this one may be given yet."""

    @property
    def paused_by(self) -> Exception | None:
        """What holds the run up just now, since it concerns every message: a host, or a full disk."""
        return self._hold.waits_for or self._journal.paused_by

    # --- the run

    async def _feed(self) -> None:
        async with self._journal as journal:
            with Given() as self._given:
                async with self._lease:
                    try:
                        await self._run()
                    finally:
                        journal.lose_patience()
                        self._leave_doubts()
                        # A journal that has failed, say, would fail each of them, one after the other.
                        self._leave_unbegun()
                        await self._wait_for_those_in_flight()
                        self._tell_early()
                        if self._giving_back:
                            await asyncio.wait(self._giving_back)
        self._raise_what_ends_it()

    async def _run(self) -> None:
        journal, options = self._journal, self._options
        await journal.check_owner(self._api.url)  # before even the user is asked for there
        await journal.belong_to(await self._account(), self._api.url)
        self._superseded = await journal.set_out(
            resumes=self._resumes, retry_failed=options.retry_failed, superseded=options.superseded
        )
        if self._superseded:
            log(logging.WARNING, _LEFT_OUT, left_out=self._superseded)
        await self._launch_those_in_doubt()
        intake = Intake(
            self._api,
            journal,
            self._given,
            self._tell,
            self._changed.set,
            retry_failed=options.retry_failed,
            other_text=options.other_text,
            count_other_texts=self._count_other_texts,
        )
        taking = start(intake.take(self._items))
        taking.add_done_callback(lambda _: self._changed.set())
        aliases = self._api.aliases
        aliases.listen(self._note_as_learnt)
        try:
            await self._send_all(taking)
        finally:
            aliases.stop_listening(self._note_as_learnt)
            taking.cancel()
            await asyncio.wait([taking])
            if not taking.cancelled():
                taking.exception()  # what ends the run is another error, or this one
        if intake.failure is not None:
            raise intake.failure

    async def _account(self) -> str:
        """Return the id of the user; a service that does not answer yet is waited for as it is later.

        Raises:
            SendingGivenUpError: nothing got through for too long.
        """
        while True:
            await self._hold.passed()
            try:
                account = await my_id(self._api)
            except ReauthorizationRequiredError:
                raise
            except (CallError, AuthorizationError) as error:
                if not await self._hold.is_held_up_by(error):
                    raise
            else:
                self._hold.well()
                return account

    def _count_other_texts(self, count: int) -> None:
        if not self._other_texts:
            log(logging.WARNING, _OTHER_TEXT, other_text=self._options.other_text)
        self._other_texts += count

    async def _send_all(self, taking: "asyncio.Task[None]") -> None:
        while True:
            self._raise_what_ends_it()
            is_taken = taking.done()
            if is_taken:
                taking.result()  # raises what kept a message from being entered
                self._tell_early()
            self._changed.clear()
            if await self._launch_next() or await self._launch_those_behind():
                continue
            if is_taken and not self._changed.is_set():
                if not self._in_flight and not await self._others_are_at_work():
                    return
                if self._in_flight and len(self._in_flight) == self._proofs.waiting:
                    self._proofs.release_one()
            await self._wait_for_change()

    def _raise_what_ends_it(self) -> None:
        failure = self._failure or self._hold.given_up
        if failure is not None:
            raise failure

    async def _launch_next(self) -> bool:
        """Begin with as many as there is room for; tell whether there were any."""
        await self._places.acquire()
        places = 1
        while places < _MOST_CLAIMED and not self._places.locked():
            await self._places.acquire()
            places += 1
        claims = await self._journal.claim(places)
        self._given.expect(claim.key for claim in claims)
        if self._resumes:  # the others were entered with what is known of them
            self._learnt += self._api.aliases.known_groups(claim.chat for claim in claims)
        for claim in claims:
            self._launch(claim)
        for _ in range(places - len(claims)):
            self._places.release()
        return bool(claims)

    async def _launch_those_in_doubt(self) -> bool:
        claims = await self._journal.in_doubt()
        for claim in claims:
            await self._places.acquire()
            self._launch(claim)
        return bool(claims)

    async def _launch_those_behind(self) -> bool:
        """Go on with what is in doubt behind others of its chat, which only a lost state leaves."""
        return self._journal.is_partly_lost and await self._launch_those_in_doubt()

    async def _wait_for_change(self) -> None:
        if self._journal.lease is None:
            await self._changed.wait()
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), _BETWEEN_LOOKS)
        now = asyncio.get_running_loop().time()
        if now >= self._looked_at + _BETWEEN_LOOKS:
            self._looked_at = now
            await self._launch_those_in_doubt()

    async def _others_are_at_work(self) -> bool:
        """Tell what other workers have done of this run's messages, and whether there are more."""
        if self._resumes:
            return self._journal.lease is not None and await self._journal.has_open()
        after, are_some_open = "", False
        while page := self._given.awaited_after(after, _AT_ONCE):
            standings = {one.key: one for one in await self._journal.standings([key for _, key in page])}
            for index, key in page:
                standing = standings.get(key)
                if standing is None:
                    raise JournalError(_DELETED)
                if standing.state is State.SET_ASIDE:  # by one that was not given it
                    await self._journal.take_up([key])
                if standing.state is State.SET_ASIDE or not standing.is_final:
                    are_some_open = True
                else:
                    self._given.take(key)
                    await self._tell(result_of(standing, index, standing.label))
            after = page[-1][1]
        return are_some_open

    async def _tell(self, result: SendResult) -> None:
        await self._places.acquire()
        self._report(result)

    def _report(self, result: SendResult | None) -> None:
        if result is not None and result.index is None and not self._has_all:
            self._early[result.key] = result
            result = None
        super()._report(result)

    def _tell_early(self) -> None:
        """Tell what became of those that this run was not given; of the others it is told as of any."""
        self._has_all = True
        early, self._early = self._early, {}
        for key, result in early.items():
            if key is None or not self._given.knows(key):
                self._places.take()
                self._report(result)

    def _given_up(self) -> None:
        super()._given_up()
        self._changed.set()

    def _forget(self, task: "asyncio.Task[None]") -> None:
        super()._forget(task)
        self._changed.set()
