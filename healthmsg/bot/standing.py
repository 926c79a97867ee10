"""Where a task stands, for the log: in whose handler, and at which line."""

import sysconfig
from asyncio import Task
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from healthmsg.bot.origin import Origin

_OURS: Final = str(Path(__file__).parents[1])
_STDLIB: Final = sysconfig.get_paths()["stdlib"]


def standing(task: "Task[Any]", origins: Mapping[CodeType, Origin]) -> tuple[str, str]:
    """Return the handler that a task runs, and the innermost line of what is neither Python's nor ours."""
    frames = [*_frames(task.get_coro())]
    handler = next((str(origins[one.f_code]) for one in frames if one.f_code in origins), "a handler")
    others = [one for one in frames if not _is_within(one)]
    innermost = (others or frames)[-1:]
    place = "".join(f"{one.f_code.co_filename}:{one.f_lineno}" for one in innermost)
    return handler, place or "a place that is not known"


def _frames(awaited: object) -> Iterator[FrameType]:
    """Yield the frames of a coroutine and of what it waits for, the outermost first."""
    this: Any = awaited
    while this is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(this, f"{kind}_frame", None)
            if frame is not None:
                yield frame
                this = getattr(this, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
                break
        else:
            return


def _is_within(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(_OURS) or (file.startswith(_STDLIB) and "site-packages" not in file)
