"""The messages to send, out of the CSV.

The command line sends the same, without a program:

    healthmsg send-many tomorrow.csv --journal visits.db --label visit \
        --template 'Beste {name}, u hebt een afspraak op {day} om {time}. Komt u?' \
        --option confirm='Ik kom' --option move='Ik wil verzetten' --option cancel='Ik kom niet'
"""

import csv
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Final

from healthmsg import Option, Outgoing, Question

QUESTION: Final = "visit"
"""The name by which the bot knows the answers."""


class Visit(Enum):
    """The buttons."""

    CONFIRM = Option("Ik kom", name="confirm", style="green")
    MOVE = Option("Ik wil verzetten", name="move", style="orange")
    CANCEL = Option("Ik kom niet", name="cancel", style="red")


def reminders(path: Path) -> Iterator[Outgoing]:
    """Yield a question for each row; its key comes back with the answer."""
    question = Question([option.value for option in Visit])
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Outgoing(
                f"aux/conversations/{row['aux_id']}",
                f"Beste {row['name']}, u hebt een afspraak op {row['day']} om {row['time']}. Komt u?",
                key=row["key"],
                question=question,
                label=QUESTION,
            )
