"""Campaigns: messages that wait in a journal under a name, until workers send them."""

from healthmsg.bulk.campaigns.campaigns import CampaignJournal, Campaigns, open_campaigns, open_journal
from healthmsg.bulk.campaigns.models import CampaignCounts, CampaignInfo, EntryReport, Workforce
from healthmsg.database.states import CampaignState

__all__ = [
    "CampaignCounts",
    "CampaignInfo",
    "CampaignJournal",
    "CampaignState",
    "Campaigns",
    "EntryReport",
    "Workforce",
    "open_campaigns",
    "open_journal",
]
