"""The order of a run's messages to one patient, whatever their addresses."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from healthmsg.delivery.aliases import Aliases
from healthmsg.ids import plain_address

_Task = asyncio.Task[Any]


class Order:
    """Lets messages to one chat go one after the other, in the order in which they were given.

    That two addresses lead to one chat can turn out while messages to both are under way. From then on, a
    message that is not being sent yet waits for the earlier ones. When an earlier message is just starting
    the conversation with a user, the answer says which conversation that is: one that may be it waits.
    """

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases
        self._under_way: dict[str, dict[int, _Task]] = {}
        """By address and number; what was given first comes first."""
        self._starting: dict[int, asyncio.Future[None]] = {}
        """The messages that are about to start a conversation."""

    @contextmanager
    def place(self, address: str, number: int, task: _Task) -> Iterator[None]:
        """Note that a message is under way; `number` is its place among all of the run."""
        plain = plain_address(address)
        self._under_way.setdefault(plain, {})[number] = task
        try:
            yield
        finally:
            self.has_started(number)
            there = self._under_way[plain]
            del there[number]
            if not there:
                del self._under_way[plain]

    def starts(self, address: str, number: int) -> None:
        """Note that a message goes ahead, and starts the conversation if it is to a user without one."""
        if self._aliases.is_still_to_start(address):
            self._starting[number] = asyncio.get_running_loop().create_future()

    def has_started(self, number: int) -> None:
        """Note that the conversation of a message is known now, or will not be."""
        starting = self._starting.pop(number, None)
        if starting is not None and not starting.done():
            starting.set_result(None)

    async def starts_before(self, address: str, number: int) -> None:
        """Wait for the conversations that earlier messages start, if this address may be one of them."""
        while self._starting and self._aliases.may_be_started(address):
            earlier = [starting for other, starting in self._starting.items() if other < number]
            if not earlier:
                return
            await asyncio.wait(earlier)

    def is_turn(self, address: str, number: int) -> bool:
        """Tell whether no earlier message to the same chat is under way, as far as is known."""
        return not self._earlier(address, number)

    async def turn(self, address: str, number: int) -> None:
        """Wait until every earlier message to the same chat has come to its end, as far as is known."""
        # To its end, so that the results are in order too.
        while earlier := self._earlier(address, number):
            await asyncio.wait(earlier)

    def _earlier(self, address: str, number: int) -> list[_Task]:
        """Return the last earlier one of each address: it has waited for those before it."""
        found = list[_Task]()
        for alias in self._aliases.addresses_of(address):
            there = self._under_way.get(alias)
            if there is None:
                continue
            last = next((there[other] for other in reversed(there) if other < number), None)
            if last is not None:
                found.append(last)
        return found
