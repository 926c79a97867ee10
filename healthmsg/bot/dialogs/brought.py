"""Answers that a dialog is started with, by the keys of their questions."""

import logging
from collections.abc import Mapping
from typing import Final

from healthmsg.bot.dialogs.run import Run
from healthmsg.errors import InvalidInputError
from healthmsg.log import class_name, log

_NONE_TO_ANY: Final = (bytes, bytearray, memoryview, set, frozenset, complex)
_LONGEST_KEY: Final = 80
_MOST_KEYS: Final = 20


def checked_answers(answers: Mapping[str, object]) -> dict[str, object]:
    """Return answers of which each may be one to some question. `None` has its question asked.

    Raises:
        InvalidInputError: one can be an answer to none, or a key is no text. Keys are named, never values.
    """
    for key, value in answers.items():
        if not isinstance(key, str):
            raise InvalidInputError(
                "answers: each key must be text, the key of a question. Nothing was begun."
            )
        if not _may_be_one(value):
            raise InvalidInputError(
                f"answers: what is under {shown_key(key)!r} can be the answer to no question"
                f" ({class_name(value)}). Nothing was begun."
            )
    return dict(answers)


def _may_be_one(value: object) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return not isinstance(value, _NONE_TO_ANY) and not any(isinstance(part, _NONE_TO_ANY) for part in parts)


def report_unused(run: Run) -> None:
    """Name the keys of answers of which no question has come, when a dialog's code has ended."""
    unused = sorted(set(run.document.answers) - run.used)
    if unused:
        more = f" and {len(unused) - _MOST_KEYS} more" if len(unused) > _MOST_KEYS else ""
        log(
            logging.WARNING,
            "The dialog %(dialog)s has ended, and none of its questions had the key of these answers that"
            " were brought along: %(keys)s.",
            dialog=run.record.name,
            keys=", ".join(map(shown_key, unused[:_MOST_KEYS])) + more,
        )


def shown_key(key: str) -> str:
    """Return a key as it is logged, on one line and not too long."""
    plain = " ".join(key.split())
    return plain if len(plain) <= _LONGEST_KEY else f"{plain[:_LONGEST_KEY]}…"
