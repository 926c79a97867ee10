"""The log of a bot that runs: a line for each event. No texts and no names, but those of handlers."""

import logging
from datetime import datetime
from typing import Final

from healthmsg.bot.surface import Handled
from healthmsg.cli.terminal import printable
from healthmsg.log import logger

_MILLISECONDS: Final = 1000.0
_SECOND: Final = 1.0
_WORDS: Final = {"done": "done", "ignored": "no handler", "again": "AGAIN", "parked": "PARKED"}


def line_of(handled: Handled) -> str:
    """Return when, where, what, by which handler, how long, and how it ended."""
    chat = "-" if handled.chat is None else handled.chat.shown
    ended = _WORDS[handled.ended]
    if handled.reason:
        ended = f"{ended}: {handled.reason}"
    if handled.attempt > 1:
        ended = f"{ended} (attempt {handled.attempt})"
    parts = (
        clock_time(handled.at),
        chat,
        handled.kind,
        handled.handler or "-",
        _duration(handled.seconds),
        ended,
    )
    return printable("  ".join(parts))


def clock_time(moment: datetime) -> str:
    """Return the time of day, by this machine's zone."""
    return f"{moment.astimezone():%H:%M:%S}"


def _duration(seconds: float) -> str:
    if seconds < _SECOND:
        return f"{seconds * _MILLISECONDS:.0f} ms"
    return f"{seconds:.1f} s"


def show_warnings(level: int = logging.INFO) -> None:
    """Have what this package logs written to the standard error, unless the program has its own way."""
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)s: %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(level)
