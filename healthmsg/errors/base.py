"""What all errors have in common."""

import traceback
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
ErrorT = TypeVar("ErrorT", bound=BaseException)


class HealthmsgError(Exception):
    """The base of all errors of this package. They survive pickle and copy."""

    def __reduce__(self) -> tuple[Callable[..., "HealthmsgError"], tuple[object, ...], dict[str, object]]:
        return _rebuild, (type(self), *self.args), self.__dict__.copy()


def _rebuild(error: type[HealthmsgError], *args: object) -> HealthmsgError:
    return error.__new__(error, *args)


def without_locals(error: ErrorT) -> ErrorT:
    """Return an error whose traceback shows where it came from, and no local variable of those frames.

    They hold tokens, secrets and texts, which error reporters send out with the traceback. Frames that are
    still running keep theirs: call this outside of those that hold any. Only for an error that was raised in
    the call at hand: before Python 3.13, to clear a frame that waits would end the coroutine which it is of.
    So an error's context is left alone, which may be any exception of the program's.
    """
    this: BaseException | None = error
    while isinstance(this, HealthmsgError):
        traceback.clear_frames(this.__traceback__)
        this = this.__cause__
    return error


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
