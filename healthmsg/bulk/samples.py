"""Messages that are known to have been delivered, to prove with them that a search finds what is there."""

import asyncio
from collections.abc import Callable
from functools import partial

from healthmsg.addresses import ChatAddress
from healthmsg.bulk.journal import Journal
from healthmsg.resources.deliveries import Delivered, Deliveries


class Samples:
    """Gives one from a journal; while there is none yet, waits for one, which `somebody_waits` is told."""

    def __init__(
        self, journal: Journal, deliveries: Deliveries, somebody_waits: Callable[[], object]
    ) -> None:
        self._journal = journal
        self._somebody_waits = somebody_waits
        self._deliveries = deliveries
        self._news = asyncio.Event()
        self.waiting: int = 0
        """How many wait for the first one."""

    async def known(self, chat: ChatAddress) -> Delivered | None:
        """Give a message that was delivered, of this chat if there is one; `None` if none comes any more."""
        found = await self._find(chat)
        if found is None and not self._news.is_set():
            self.waiting += 1
            self._somebody_waits()
            try:
                await self._news.wait()
            finally:
                self.waiting -= 1
            found = await self._find(chat)
        return found

    def come_no_more(self) -> None:
        """Let nobody wait any longer: there is one now, or there will be none."""
        self._news.set()

    async def _find(self, chat: ChatAddress) -> Delivered | None:
        sample = await self._journal.delivered_sample(chat.text)
        if sample is None:
            return self._deliveries.known(chat)
        is_body = partial(self._journal.is_body, sample)
        return Delivered(ChatAddress.of_text(sample.sent_to), sample.message_id, is_body)
