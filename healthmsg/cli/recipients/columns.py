"""The names of columns: which are known, and what was meant by one that nearly is."""

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final
from unicodedata import normalize

from healthmsg.cli.recipients.problems import Problems

ADDRESSES: Final = {
    "to": "",
    "aux_id": "aux/conversations/",
    "user_id": "users/",
    "groupchat_id": "groupchats/",
}
"""The columns that say who it is for, and the start of the address that each stands for."""
BODIES: Final = ("body", "message")
KNOWN: Final = (*ADDRESSES, "files", "key", *BODIES)
# Results can be recipients again.
_OF_RESULTS: Final = "message_id"
_SIMILAR: Final = 0.75


def fold(name: str) -> str:
    """Make names equal that a person takes for the same: `Aux ID ` and `aux_id`."""
    return "_".join(normalize("NFC", name).casefold().replace("_", " ").replace("-", " ").split())


def similar(name: str, names: Iterable[str]) -> str | None:
    """Give the one of these that was probably meant."""
    return next(iter(get_close_matches(name, list(names), n=1, cutoff=_SIMILAR)), None)


def check_columns(columns: Sequence[str], used: Iterable[str], line: int | None, problems: Problems) -> None:
    """Note what is wrong with the columns. `used` are those of the template.

    Without a column of addresses, the first line may be no header but a patient's: then nothing of it is
    repeated but what is nearly a known name.
    """
    named = [column for column in columns if column]
    if ADDRESSES.keys().isdisjoint(columns):
        problems.add(f"no column says who it is for: one of {', '.join(ADDRESSES)} is needed", line)
    else:
        for column, times in Counter(named).items():
            if times > 1:
                problems.add(f"the column {column} is there {times} times", line)
    # `tot` and `too` are words.
    missing = set(KNOWN) - {"to", *columns}
    for column in set(named) - {*KNOWN, *used, _OF_RESULTS}:
        if meant := similar(column, missing):
            problems.add(f"the column {column} is nearly called {meant}: give it that name, or another", line)
