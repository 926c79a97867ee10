"""The journal of a run without a file: it ends with the process."""

# ruff: noqa: ARG002 - its methods take what any journal needs

import secrets
from datetime import datetime, timedelta
from heapq import heappop, heappush
from types import TracebackType
from typing import TYPE_CHECKING, Self

from healthmsg.bulk.journal.base import Claim, Journal
from healthmsg.database.states import State
from healthmsg.delivery.aliases import Aliases
from healthmsg.errors import ClaimLostError, Outcome
from healthmsg.ids import plain_address

if TYPE_CHECKING:
    from healthmsg.bulk.models import Outgoing


class MemoryJournal(Journal):
    """Holds messages in the order in which they were given, each until it has an outcome.

    Of the messages to one recipient, the first is ready to be claimed; when it is finished, the next one is.
    `aliases` is asked each time which addresses lead to one recipient, since that may be learnt late.
    """

    def __init__(self, aliases: Aliases) -> None:
        self.salt: bytes = secrets.token_bytes(16)
        self._aliases = aliases
        self._open: dict[int, Claim] = {}
        """What is not finished, by its number."""
        self._numbers_at: dict[str, dict[int, None]] = {}
        """The same numbers, by address; what was given first comes first."""
        self._ready: list[int] = []
        """A heap of the numbers of those that are the first at their address, and not claimed."""
        self._blocked: list[int] = []
        """Numbers that wait for an earlier message to another address of the same recipient."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def enter(self, index: int, chat: str, message: "Outgoing") -> None:
        """Take in the message with this number. `chat` is its address; without one it will be refused."""
        self._open[index] = Claim(
            str(index), chat, "", (), None, State.WAITING, 0, None, None, 0, index=index, message=message
        )
        if chat:
            there = self._numbers_at.setdefault(plain_address(chat), {})
            there[index] = None
            if len(there) > 1:
                return
        heappush(self._ready, index)

    async def claim(self, most: int) -> list[Claim]:
        """See `Journal`."""
        claims = list[Claim]()
        while self._ready and len(claims) < most:
            number = heappop(self._ready)
            claim = self._open[number]
            if self._is_first(claim):
                claims.append(claim)
            else:
                self._blocked.append(number)
        return claims

    def _is_first(self, claim: Claim) -> bool:
        """Return whether no earlier message to the same recipient is open, as far as is known."""
        addresses = self._aliases.addresses_of(claim.chat)
        if len(addresses) == 1:
            return True  # only the first at an address is ever claimed
        number = _number_of(claim)
        for address in addresses:
            there = self._numbers_at.get(address)
            if there is not None and next(iter(there)) < number:
                return False
        return True

    async def begin(
        self,
        claim: Claim,
        started_at: datetime,
        sent_to: str,
        date_ahead: timedelta | None = None,
    ) -> None:
        """See `Journal`."""
        if not self._is_first(claim):
            raise ClaimLostError("An earlier message goes to the same recipient: this one waits for it.")

    async def finish(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        message_id: str | None = None,
        error: str | None = None,
        is_final: bool = False,
    ) -> None:
        """See `Journal`."""
        if is_final or outcome is not Outcome.UNKNOWN:
            self.abandon(claim)

    async def requeue(self, claim: Claim) -> None:
        """See `Journal`."""
        number = _number_of(claim)
        self._open[number] = claim
        heappush(self._ready, number)

    async def park(self, claim: Claim) -> None:
        """See `Journal`. There are no earlier runs here."""
        await self.requeue(claim)

    def abandon(self, claim: Claim) -> None:
        """See `Journal`. The next message to the recipient can be claimed then."""
        number = _number_of(claim)
        del self._open[number]
        for blocked in self._blocked:
            heappush(self._ready, blocked)
        self._blocked.clear()
        if not claim.chat:
            return
        address = plain_address(claim.chat)
        there = self._numbers_at[address]
        del there[number]
        if there:
            heappush(self._ready, next(iter(there)))
        else:
            del self._numbers_at[address]

    def left_over(self) -> list[Claim]:
        """See `Journal`."""
        return [*self._open.values()]


def _number_of(claim: Claim) -> int:
    assert claim.index is not None  # noqa: S101 - for mypy: `enter` has set it
    return claim.index
