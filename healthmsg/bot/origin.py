"""Where a function that an author wrote stands, for errors and logs."""

import functools
import inspect
from types import CodeType

from attrs import frozen


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
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_called(function))


def _called(function: object) -> object:
    """Return what runs when an object is called: of one that is no function, its class's method."""
    if inspect.isroutine(function) or isinstance(function, type | functools.partial):
        return function
    return getattr(type(function), "__call__", None)  # noqa: B004 - the method itself is wanted
