"""The logger `healthmsg`: what is written there carries its figures as fields of the log record too."""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Final, NoReturn

logger: Final = logging.getLogger("healthmsg")

_LONGEST_NAME: Final = 80


def log(level: int, message: str, **fields: str | float | None) -> None:
    """Log a message, made of its fields by their names; formatters that write JSON see them one by one."""
    values = (fields,) if fields else ()
    try:
        try:
            logger.log(level, message, *values, extra=fields, stacklevel=2)
        except KeyError:  # the program's own log record factory sets a field of that name
            logger.log(level, message, *values, stacklevel=2)
    except BaseException as failure:  # noqa: BLE001 - a filter's: a message that was sent must not look as if it was not
        _raise_later(failure)


def class_name(value: object) -> str:
    """Return the name of an error's or a value's class for a log.

    A class that was made at run time may have any text for a name: only an identifier is one.
    """
    name = type(value).__name__
    if name.isidentifier() and len(name) <= _LONGEST_NAME:
        return name
    return "an error" if isinstance(value, BaseException) else "an object"


def call_back(name: str, function: Callable[..., object], *values: object) -> None:
    """Call a function of the program's. Whatever it raises, a message that was sent stays sent.

    It is logged by name, without a traceback, which may be private. A cancellation is none of ours, since
    nothing was awaited. What ends the program, Ctrl-C or `sys.exit`, is raised by the event loop once the
    present step is done: the call that has its answer gives it.
    """
    try:
        function(*values)
    except BaseException as failure:  # noqa: BLE001 - see above
        if not _raise_later(failure):
            log(logging.ERROR, f"{name} raised %(error)s", error=class_name(failure))


def log_to_stderr() -> None:
    """Write to the standard error what `HEALTHMSG_LOG` asks for: `debug` (each try of a call) or `info`.

    Only this package's logger is touched. Where the program has a handler that gets the records, its own or
    the root logger's, that one alone writes them, so that none is written twice.
    """
    level = os.environ.get("HEALTHMSG_LOG", "").strip().upper()
    if not level:
        return
    if level not in {"DEBUG", "INFO"}:
        log(logging.WARNING, "HEALTHMSG_LOG has no effect: it must be debug or info")
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda _: not _is_written_by_another(handler))
    logger.addHandler(handler)
    logger.setLevel(level)


def _is_written_by_another(handler: logging.Handler) -> bool:
    return any(other is not handler for other in logger.handlers) or (
        logger.propagate and bool(logging.root.handlers)
    )


def _raise_later(failure: BaseException) -> bool:
    """Have the event loop raise what ends the program; False if this does not."""
    if not isinstance(failure, KeyboardInterrupt | SystemExit):
        return False
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise failure from None
    loop.call_soon(_raise, failure)
    return True


def _raise(failure: BaseException) -> NoReturn:
    raise failure
