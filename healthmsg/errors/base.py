"""What all errors have in common."""

import traceback
from collections.abc import Callable
from typing import TypeVar

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
    still running keep theirs: call this outside of those that hold any. Causes and contexts are cleared too.
    """
    seen: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        this = rest.pop()
        if this is None or id(this) in seen:
            continue
        seen.add(id(this))
        traceback.clear_frames(this.__traceback__)
        rest += [this.__cause__, this.__context__]
        if isinstance(this, BaseExceptionGroup):
            rest += this.exceptions
    return error
