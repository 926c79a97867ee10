"""What the headers of every answer, good or bad, say about the API itself."""

import inspect
import logging
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from healthmsg.log import call_back, log

_NOTICE: Final = "%(call)s is going to disappear; the service says: %(sunset)s"
_LONGEST_NOTICE: Final = 300
_NO_NOTICE: Final = frozenset({"", "n/a"})
# `call_back` and what it calls.
_FRAMES_BETWEEN: Final = 2
# What can stand between the user's own code and this step.
_NOT_THE_USERS: Final = frozenset({"healthmsg", "tenacity", "asyncio"})


class Notices:
    """Remembers the API's version, and warns once of each call that is going to disappear."""

    def __init__(self) -> None:
        self.api_version: str | None = None
        """The `api-version` header [D] as last seen."""
        self._announced: set[str] = set()

    def look_at(self, call: str, headers: Mapping[str, str]) -> None:
        """Look at the headers of one answer."""
        version = headers.get("api-version")
        if version and version.isprintable():  # what is no UTF-8 could not be written anywhere
            self.api_version = version
        sunset = headers.get("sunset")  # [D]: `n/a` when there is nothing to say
        if sunset and sunset != "n/a" and sunset.strip().lower() not in _NO_NOTICE:
            self._announce(call, sunset.strip())

    def _announce(self, call: str, sunset: str) -> None:
        if call in self._announced:
            return
        self._announced.add(call)
        words = "".join(sign if sign.isprintable() else "?" for sign in sunset[:_LONGEST_NOTICE])
        fields = {"call": call, "sunset": words}
        log(logging.WARNING, _NOTICE, **fields)
        level = _level_of_the_users_frame()
        call_back("showing a warning", _warn, _NOTICE % fields, level + _FRAMES_BETWEEN)


def _warn(notice: str, level: int) -> None:
    with suppress(DeprecationWarning):  # where warnings are errors
        warnings.warn(notice, DeprecationWarning, stacklevel=level)


def _level_of_the_users_frame() -> int:
    """Give the `stacklevel`, for the caller, of the innermost frame that is the user's own."""
    frame, level = inspect.currentframe(), 0
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_USERS:
        frame, level = frame.f_back, level + 1
    return level
