"""The journal of bulk sending: what is in it survives a power cut, and is sent once."""

import os
from datetime import timedelta

from healthmsg.bulk.journal.base import (
    Claim,
    Decision,
    Entry,
    EntryStatus,
    JournalFile,
    Row,
    Sample,
    State,
)
from healthmsg.bulk.journal.input_index import InputIndex, fingerprint_of, likeness_of
from healthmsg.bulk.journal.journal import LEASE, Journal

__all__ = [
    "Claim",
    "Decision",
    "Entry",
    "EntryStatus",
    "InputIndex",
    "Journal",
    "JournalFile",
    "Row",
    "Sample",
    "State",
    "fingerprint_of",
    "likeness_of",
    "open_journal",
]


def open_journal(
    target: str | os.PathLike[str],
    *,
    lease: timedelta = LEASE,
    patience: float = 0.0,
    is_reading: bool = False,
) -> Journal:
    """Open a journal."""
    return Journal.open(target, lease=lease, patience=patience, is_reading=is_reading)
