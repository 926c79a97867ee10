"""Putting campaigns into a journal, and steering them from anywhere. Nothing is sent by this."""

from contextlib import AbstractAsyncContextManager

from healthmsg.bulk.campaigns.models import CampaignInfo, EntryReport, Workforce
from healthmsg.bulk.models import JournalTarget, Messages


class CampaignJournal:
    """A journal into which messages are entered, for workers to send."""

    async def enter(self, messages: Messages, *, campaign: str) -> EntryReport:
        """Enter messages into a campaign, which is made if there is none of that name; they are sent as they come.

        Safe to do twice, and to be killed in the middle of.
        """
        raise NotImplementedError


class Campaigns:
    """The campaigns in a journal."""

    async def add(
        self, name: str, messages: Messages, *, weight: int = 1, is_paused: bool = False
    ) -> EntryReport:
        """Add a campaign. It is sent once all of it is entered."""
        raise NotImplementedError

    async def list(self) -> tuple[CampaignInfo, ...]:
        """Return all campaigns, the newest last."""
        raise NotImplementedError

    async def get(self, name: str) -> CampaignInfo:
        """Return what there is to know of one."""
        raise NotImplementedError

    async def pause(self, name: str) -> CampaignInfo:
        """Begin nothing more of it."""
        raise NotImplementedError

    async def resume(self, name: str) -> CampaignInfo:
        """Go on with it."""
        raise NotImplementedError

    async def cancel(self, name: str) -> CampaignInfo:
        """Send nothing more of it, for good."""
        raise NotImplementedError

    async def reweight(self, name: str, weight: int) -> CampaignInfo:
        """Change its share."""
        raise NotImplementedError

    async def workforce(self) -> Workforce:
        """Return which workers there are."""
        raise NotImplementedError


def open_campaigns(journal: JournalTarget) -> AbstractAsyncContextManager[Campaigns]:
    """Open the campaigns of a journal."""
    raise NotImplementedError


def open_journal(journal: JournalTarget) -> AbstractAsyncContextManager[CampaignJournal]:
    """Open a journal for a program that enters messages."""
    raise NotImplementedError
