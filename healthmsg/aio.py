"""Starting tasks of our own, what can be used with `async` only, and signals."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

T = TypeVar("T")


def start(work: Coroutine[Any, Any, T], *, name: str | None = None) -> "asyncio.Task[T]":
    """Start a task that begins in the next tick.

    With `asyncio.eager_task_factory`, `create_task` would begin it, and might even end it, before its
    starter can note that it exists.
    """
    return asyncio.Task(work, loop=asyncio.get_running_loop(), name=name)


class AsyncOnly:
    """Says that `with` has to be `async with`, instead of Python's bare `TypeError`.

    Type checkers do not see these methods: for them, such code stays the mistake that it is.
    """

    _called: ClassVar[str] = ""
    """What it is called there; without it, the name of the class."""

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError(f"{_a(self)} is entered with `async with`, inside an `async def`")

        def __exit__(self, *_: object) -> None:
            """Complete what Python looks for before it calls `__enter__`."""


class AsyncIterationOnly:
    """Says the same of `for`, and what to do instead of awaiting the thing itself."""

    _called: ClassVar[str] = ""
    """What it is called there; without it, the name of the class."""
    _instead_of_await: ClassVar[str] = ""
    """What can be awaited, if anything."""

    if not TYPE_CHECKING:
        __enter__ = AsyncOnly.__enter__
        __exit__ = AsyncOnly.__exit__

        def __iter__(self) -> NoReturn:
            raise TypeError(f"{_a(self)} is read with `async for`, inside an `async def`")

        def __await__(self) -> NoReturn:
            instead = f", or {self._instead_of_await}" if self._instead_of_await else ""
            raise TypeError(f"{_a(self)} cannot be awaited: read it with `async for`{instead}")


def _a(thing: AsyncOnly | AsyncIterationOnly) -> str:
    name = thing._called or type(thing).__name__  # noqa: SLF001 - of this module's own class
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"


async def in_thread(work: Callable[..., T], *args: object) -> T:
    """Run something in a thread; when cancelled, wait for its end, since tidying up comes after it."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """Return what something returns; when cancelled, wait for its end, since tidying up comes after it."""
    running = start(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        raise


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the answers in the order of the calls. The first that fails ends the others, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failed:
        failure = failed.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise failure


@contextmanager
def on_signals(act: Callable[[int], object]) -> Iterator[None]:
    """Within, have this called for each SIGTERM and SIGINT: in the signal handler, where the loop may stand.

    Outside the main thread nothing is called.
    """
    before = {}

    def pass_on(number: int, _: FrameType | None) -> None:
        act(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        # Not the loop's own way: this one there is on Windows, too, and outside a main thread neither is.
        with suppress(ValueError):
            before[number] = signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
