"""What a practice knows of its patients: here a CSV with `id`, `to` and `name`; in earnest its own system."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from healthmsg import Outgoing

TEXT = "Beste {name}, het is tijd voor uw jaarlijkse controle. Belt u ons voor een afspraak?"


def recall() -> Iterator[Outgoing]:
    """Yield a message for each patient who is to be recalled.

    The key is the practice's own number of this recall of this patient. By it a message is the same one,
    however often it is entered, also when its text has been improved meanwhile.
    """
    with Path(os.environ["RECALL_LIST"]).open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            yield Outgoing(row["to"], TEXT.format(name=row["name"]), key=row["id"])
