"""The journal of bulk sending: what is in it survives a power cut, and is sent once."""

from healthmsg.bulk.journal.given import Given
from healthmsg.bulk.journal.journal import Journal
from healthmsg.bulk.journal.keys import fingerprint_of, likeness_of
from healthmsg.bulk.journal.values import (
    Claimed,
    Decision,
    Earlier,
    Entry,
    JournalFile,
    Row,
    Sample,
    Standing,
    State,
)

__all__ = [
    "Claimed",
    "Decision",
    "Earlier",
    "Entry",
    "Given",
    "Journal",
    "JournalFile",
    "Row",
    "Sample",
    "Standing",
    "State",
    "fingerprint_of",
    "likeness_of",
]
