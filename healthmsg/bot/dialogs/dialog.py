"""What the author of a dialog works with."""

import random as random_numbers
import uuid as uuids
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar, overload

import orjson

from healthmsg.bot.dialogs import journal as kinds
from healthmsg.bot.dialogs.asks import Asks
from healthmsg.bot.dialogs.registration import RegisteredDialog
from healthmsg.bot.dialogs.steps import HandOver, Known, Once, Restart, Say, Sleep
from healthmsg.bot.options import options_of
from healthmsg.errors import InvalidInputError
from healthmsg.events import Event, event_from_dict
from healthmsg.files import FileToUpload
from healthmsg.ids import ChatAddress
from healthmsg.models import Option, Question, SentMessage

T = TypeVar("T")
R = TypeVar("R")


class Dialog(Asks):
    """One conversation with one user, as a coroutine sees it that may wait for days.

    The coroutine awaits nothing but what this has. After a restart it runs again from its beginning, and what
    was done before is not done again: each step returns what it returned then.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Dialog {self._run.record.name} {self._run.id}>"

    @property
    def id(self) -> str:
        """Its id, the same after a restart."""
        return self._run.id

    @property
    def chat(self) -> ChatAddress:
        """The chat it is held in."""
        return self._run.address

    @property
    def user_id(self) -> str:
        """The user it is held with."""
        return self._run.record.user

    @property
    def started_by(self) -> Event:
        """The event that it was started for."""
        return event_from_dict(orjson.loads(self._run.document.event))

    # --- doing

    def say(
        self,
        body: str,
        *,
        options: Iterable[Option] | type[Enum] = (),
        files: Sequence[FileToUpload] = (),
        key: str | None = None,
    ) -> Awaitable[SentMessage | None]:
        """Send a message, once.

        The dialog does not wait for its *options*: they are buttons for commands, such as one that starts
        the dialog again. Return `None` where it is not known whether it arrived: it is never sent again.
        """
        buttons = options_of(options)
        return Say(self._run, body, files, key, Question(buttons) if buttons else None)

    @overload
    def once(
        self, function: Callable[..., Coroutine[Any, Any, T]], *args: object, key: str | None = None
    ) -> Awaitable[T]: ...
    @overload
    def once(self, function: Callable[..., T], *args: object, key: str | None = None) -> Awaitable[T]: ...
    def once(self, function: Callable[..., Any], *args: object, key: str | None = None) -> Awaitable[Any]:
        """Run a function outside the dialog, and keep what it returns or raises: it is not run again.

        Unless the process dies before its result is kept; make what it does idempotent. An `async def` runs
        in a task, any other function in a thread. It gets copies of its arguments. *key*, or else the name of
        the function, is what it is known by after the code was changed.

        Raises:
            OnceFailedError: in place of an error that cannot be made again after a restart.
            NotKeptError: it has run, and returned what cannot be kept.
        """
        return Once(self._run, function, args, key)

    def sleep(self, how_long: timedelta, *, key: str | None = None) -> Awaitable[None]:
        """Wait. Meanwhile messages go to the bot's handlers, but for stop words.

        Raises:
            Stopped: the user typed a stop word.
        """
        return Sleep(self._run, how_long, key)

    def now(self) -> Awaitable[datetime]:
        """Return the time of day, in UTC: the same one after a restart."""
        return Known(self._run, "now", "", self._run.tools.clock.now)

    def random(self) -> Awaitable[float]:
        """Return a number from 0 up to 1: the same one after a restart. It is not for secrets."""
        return Known(self._run, "random", "", random_numbers.random)

    def uuid(self) -> Awaitable[uuids.UUID]:
        """Return a random UUID: the same one after a restart."""
        return Known(self._run, "uuid", "", uuids.uuid4)

    # --- its course

    def mark(self) -> Awaitable[None]:
        """Mark this place: a checkpoint word goes back to the last mark."""
        return Known(self._run, kinds.MARK, "", _nothing)

    def hand_over(self, reason: str, *, resume: Sequence[str] = ()) -> Awaitable[None]:
        """Leave the chat to a person: the bot says nothing more to this user in it.

        Only the commands named in *resume* are handled. When a person gives the chat back with
        `dialogs.take_back(…)`, the dialog goes on from here. *reason* is for that person.
        """
        return HandOver(self._run, reason, resume)

    async def run(
        self,
        other: RegisteredDialog[R] | Callable[..., Coroutine[Any, Any, R]],
        *args: object,
    ) -> R:
        """Run another dialog as a part of this one, and return what it returns.

        The stop and back words are this one's. Of a registered dialog, the version it began with is kept.
        """
        if not isinstance(other, RegisteredDialog):
            return await other(self, *args)
        version = await Known(self._run, "run", other.name, lambda: other.newest)
        return await other.code_of(version).called(self, args, self._run.tools.resolve)

    def restart(self, with_: Sequence[object] = ()) -> Awaitable[Any]:
        """Begin again with other arguments, and forget the steps. It never returns.

        A dialog that goes on for ever needs it: there can be 1,000 steps.
        """
        if isinstance(with_, str):
            raise InvalidInputError(
                "restart: with_ is a sequence of arguments, not text. Nothing was changed."
            )
        return Restart(self._run, tuple(with_))


def _nothing() -> None:
    return None
