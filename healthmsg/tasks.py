"""Starting tasks of our own."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def start(work: Coroutine[Any, Any, T], *, name: str | None = None) -> "asyncio.Task[T]":
    """Start a task that begins in the next tick.

    With `asyncio.eager_task_factory`, `create_task` would begin it, and might even end it, before whoever
    starts it can note that it exists.
    """
    return asyncio.Task(work, loop=asyncio.get_running_loop(), name=name)
