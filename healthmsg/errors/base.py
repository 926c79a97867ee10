"""What all errors have in common."""

import dis
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum
from functools import wraps
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import FrameType
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
ErrorT = TypeVar("ErrorT", bound=BaseException)

_YIELD: Final = dis.opmap["YIELD_VALUE"]


class Outcome(Enum):
    """What became of a message, or of any call that changes something.

    There is no fourth possibility, and `UNKNOWN` is never reported as one of the other two.
    """

    DELIVERED = "delivered"
    """The service accepted it."""

    NOT_SENT = "not sent"
    """It certainly had no effect; sending it (again) is safe."""

    UNKNOWN = "unknown"
    """The line broke when it may already have been accepted; sending it again may send it twice."""


class HealthmsgError(Exception):
    """The base of all errors of this package. They survive pickle and copy."""

    def __reduce__(self) -> tuple[Callable[..., "HealthmsgError"], tuple[object, ...], dict[str, object]]:
        return _rebuild, (type(self), *self.args), self.__dict__.copy()


def _rebuild(error: type[HealthmsgError], *args: object) -> HealthmsgError:
    return error.__new__(error, *args)


def without_locals(error: ErrorT) -> ErrorT:
    """Return an error whose traceback shows where it came from, and no local variable of those frames.

    They hold tokens, secrets and texts, which error reporters send out with the traceback. Frames that are
    still running keep theirs: call this outside of those that hold any. So do frames that wait, since an
    error may have been raised before, for a call that caught it. An error's context is left alone, which may
    be any exception of the program's.
    """
    this: BaseException | None = error
    while isinstance(this, HealthmsgError):
        for frame, _ in traceback.walk_tb(this.__traceback__):
            if not _may_wait(frame):
                with suppress(RuntimeError):  # it is running
                    frame.clear()
        this = this.__cause__
    return error


def _may_wait(frame: FrameType) -> bool:
    """Return whether a frame stands where a coroutine or generator waits.

    Before Python 3.13, to clear a frame that waits ends the coroutine which it is of: its task would wait for
    ever.
    """
    code = frame.f_code
    can_wait = code.co_flags & (CO_COROUTINE | CO_GENERATOR | CO_ASYNC_GENERATOR)
    return bool(can_wait) and frame.f_lasti >= 0 and code.co_code[frame.f_lasti] == _YIELD


def hides_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Keep what a function was called with out of the tracebacks of our own errors that it raises."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except HealthmsgError as error:
            failure = without_locals(error)
        del args, kwargs
        raise failure

    return call


def hides_awaited_arguments(
    function: Callable[P, Coroutine[object, object, T]],
) -> Callable[P, Coroutine[object, object, T]]:
    """Do what `hides_arguments` does, for a coroutine function."""

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        running = function(*args, **kwargs)
        del args, kwargs
        try:
            return await running
        except HealthmsgError as error:
            failure = without_locals(error)
        raise failure

    return call
