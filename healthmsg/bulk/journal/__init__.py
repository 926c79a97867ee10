"""The journal of bulk sending: what is in it survives a power cut, and is sent once."""

from healthmsg.bulk.journal.journal import Journal
from healthmsg.bulk.journal.keys import KeyMaker, default_key
from healthmsg.bulk.journal.values import Claimed, Entry, JournalFile, Row, Sample, Standing, State

__all__ = [
    "Claimed",
    "Entry",
    "Journal",
    "JournalFile",
    "KeyMaker",
    "Row",
    "Sample",
    "Standing",
    "State",
    "default_key",
]
