"""The logger `healthmsg`: what is written there carries its figures as fields of the log record too."""

import logging
from typing import Final

from healthmsg.errors import CallError, StatusError
from healthmsg.pipeline.exchange import Request

logger: Final = logging.getLogger("healthmsg")


def log(level: int, message: str, **fields: str | float | None) -> None:
    """Log a message, made of its fields by their names; formatters that write JSON see them one by one."""
    try:
        logger.log(level, message, fields, extra=fields, stacklevel=2)
    except KeyError:  # the program's own log record factory sets a field of that name
        logger.log(level, message, fields, stacklevel=2)
    except Exception:  # noqa: BLE001, S110 - a filter's: a message that was sent must not look as if it was not
        pass


def log_retry(request: Request, error: BaseException | None, wait: float) -> None:
    """Log, at INFO, that a call is going to be tried again after `wait` seconds."""
    transaction_id = error.transaction_id if isinstance(error, CallError) else ""
    transaction = " (transaction %(transaction_id)s)" if transaction_id else ""
    log(
        logging.INFO,
        f"%(call)s failed with %(error)s{transaction} in attempt %(attempt)d; again in %(wait).3f s",
        call=request.call,
        status=error.status if isinstance(error, StatusError) else None,
        attempt=request.attempt,
        error=type(error).__name__,
        wait=wait,
        transaction_id=transaction_id,
    )


def log_pause(request: Request, status: int, wait: float) -> None:
    """Log, at WARNING, that after such an answer no call at all is made for `wait` seconds."""
    log(
        logging.WARNING,
        "%(call)s -> %(status)d, attempt %(attempt)d; no call leaves for %(wait).3f s",
        call=request.call,
        status=status,
        attempt=request.attempt,
        wait=wait,
    )
