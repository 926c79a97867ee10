"""Where a function that an author wrote stands, for errors and logs."""

import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Final, TypeVar, cast

from attrs import frozen

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])
_MARK: Final = "_healthmsg_is_async"


@frozen
class Origin:
    """The name, file and line of a handler, filter or the like; without a file, it is this package's."""

    name: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.name} ({self.file}:{self.line})" if self.file else self.name

    @classmethod
    def of(cls, function: object) -> "Origin":
        """Return where a function, method or callable object was written, as far as it can be seen."""
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        code = code_of(function)
        if isinstance(function, functools.partial) and code is not None:
            name = code.co_qualname
        name = name.rpartition("<locals>.")[2]
        return cls(name, code.co_filename, code.co_firstlineno) if code else cls(name, "an unknown file", 0)


def code_of(function: object) -> CodeType | None:
    """Return the code of a function, of what a decorator has wrapped, or of an object's call."""
    while isinstance(function, functools.partial):
        function = function.func
    if callable(function):
        function = inspect.unwrap(function)
    function = _called(function)
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None


def is_async(function: object) -> bool:
    """Return whether calling it makes a coroutine."""
    return (
        inspect.iscoroutinefunction(function)
        or inspect.iscoroutinefunction(_called(function))
        or getattr(function, _MARK, None) is True
    )


def as_async(function: FunctionT) -> FunctionT:
    """Mark a plain function that returns coroutines; before Python 3.12 only this package sees it."""
    setattr(function, _MARK, True)
    mark = getattr(inspect, "markcoroutinefunction", None)
    return function if mark is None else cast("FunctionT", mark(function))


def _called(function: object) -> object:
    """Return what runs when an object is called: of one that is no function, its class's method."""
    if inspect.isroutine(function) or isinstance(function, type | functools.partial):
        return function
    return getattr(type(function), "__call__", None)  # noqa: B004 - the method itself is wanted
