"""What decides whether a handler is meant: plain functions, made once and combined with `&`, `|` and `~`."""

import asyncio
import functools
import inspect
import logging
import re
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from healthmsg.bot.incoming import InChat, IncomingMessage, fold
from healthmsg.bot.origin import Origin, is_async
from healthmsg.errors import ConfigurationError, InvalidInputError
from healthmsg.ids import ChatAddress
from healthmsg.log import log
from healthmsg.models import Option, User
from healthmsg.validation import check_text

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Filter(Generic[T_contra]):
    """A condition. `Filter(function)` makes one of any plain function that returns whether it holds.

    Those of messages and those of anything in a chat go together: `in_group & text("ja")`; for a function of
    your own beside one of the latter, type checkers need `Filter(function)`.

    Filters are called in the event loop, for each event: they must be quick, wait for nothing, and change
    nothing.

    Raises:
        ConfigurationError: the function is `async`.
    """

    __slots__ = ("accepts", "commands", "is_bare", "parts")

    def __init__(
        self,
        accepts: Callable[[T_contra], bool],
        *,
        parts: "tuple[Filter[T_contra], ...]" = (),
        commands: "tuple[Command, ...]" = (),
        is_bare: bool = False,
    ) -> None:
        if not callable(accepts) or is_async(accepts):
            raise ConfigurationError(
                f"a filter must be a plain function, without async: {Origin.of(accepts)}. What has to be"
                " waited for belongs into the handler."
            )
        is_own = getattr(getattr(accepts, "__code__", None), "co_filename", None) == __file__
        self.accepts: Callable[[T_contra], bool] = accepts if is_own else _answering(accepts)
        self.parts: tuple[Filter[T_contra], ...] = parts
        """What has to hold together, if it was made with `&`."""
        self.commands: tuple[Command, ...] = commands
        """The commands without which it never holds."""
        self.is_bare: bool = is_bare
        """Whether it is these commands, and no other condition."""

    def __call__(self, incoming: T_contra) -> bool:
        """Return whether it holds."""
        return self.accepts(incoming)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __and__(self: "Filter[T]", other: Callable[[T], bool]) -> "Filter[T]":
        return _all_of(self, as_filter(other))

    def __rand__(self: "Filter[T]", other: Callable[[T], bool]) -> "Filter[T]":
        return _all_of(as_filter(other), self)

    def __or__(self: "Filter[T]", other: Callable[[T], bool]) -> "Filter[T]":
        return _any_of(self, as_filter(other))

    def __ror__(self: "Filter[T]", other: Callable[[T], bool]) -> "Filter[T]":
        return _any_of(as_filter(other), self)

    def __invert__(self) -> "Filter[T_contra]":
        accepts = self.accepts
        return Filter(lambda incoming: not accepts(incoming))


def _answering(accepts: Callable[[T], object]) -> Callable[[T], bool]:
    """Return a filter that refuses what is no answer: an awaitable would always hold."""

    @functools.wraps(accepts)  # so that it is known where it was written
    def answer(incoming: T) -> bool:
        found = accepts(incoming)
        if found is True or found is False:
            return found
        if inspect.isawaitable(found):
            if inspect.iscoroutine(found):
                found.close()
            elif isinstance(found, asyncio.Future):
                found.cancel()
            origin = str(Origin.of(accepts))
            log(logging.ERROR, "the filter %(filter)s answers with something to be awaited", filter=origin)
            raise ConfigurationError(
                f"a filter must answer at once, without async: {Origin.of(accepts)}. What has to be waited"
                " for belongs into the handler."
            )
        return bool(found)

    return answer


def as_filter(condition: Callable[[T], bool]) -> Filter[T]:
    """Return a filter of any function."""
    return condition if isinstance(condition, Filter) else Filter(condition)


def _all_of(one: Filter[T], other: Filter[T]) -> Filter[T]:
    first, second = one.accepts, other.accepts
    return Filter(
        lambda incoming: first(incoming) and second(incoming),
        parts=(*(one.parts or (one,)), *(other.parts or (other,))),
        commands=(*one.commands, *other.commands),
    )


def _any_of(one: Filter[T], other: Filter[T]) -> Filter[T]:
    first, second = one.accepts, other.accepts
    # With something beside the commands, what an open dialog asked for could be taken for one.
    commands = (*one.commands, *other.commands) if one.commands and other.commands else ()
    is_bare = one.is_bare and other.is_bare
    return Filter(lambda incoming: first(incoming) or second(incoming), commands=commands, is_bare=is_bare)


# --- messages


def text(
    *texts: str, prefix: str | tuple[str, ...] | None = None, regex: str | re.Pattern[str] | None = None
) -> Filter[IncomingMessage]:
    """Return a filter of what a message says: one of some texts, or how it begins, or a pattern.

    Upper and lower case are the same, blanks around do not count, nor does a mention of the bot at the start.
    `regex` has to match the whole text; a compiled one has the flags that it was compiled with.

    Raises:
        InvalidInputError: nothing is asked for, or a text is blank or a pattern none.
    """
    if not texts and prefix is None and regex is None:
        raise InvalidInputError('text() needs what to look for: text("ja"), prefix="…" or regex="…"')
    wanted = frozenset(fold(check_text(one, "a filter's text")) for one in texts)
    prefixes = (prefix,) if isinstance(prefix, str) else prefix or ()
    starts = tuple(fold(check_text(one, "prefix")) for one in prefixes)
    matches = None if regex is None else _pattern(regex).fullmatch
    if not starts and matches is None:
        return Filter(lambda message: message.folded in wanted)

    def accepts(message: IncomingMessage) -> bool:
        folded = message.folded
        return (
            folded in wanted
            or (bool(starts) and folded.startswith(starts))
            or (matches is not None and matches(message.text) is not None)
        )

    return Filter(accepts)


def _pattern(regex: str | re.Pattern[str]) -> re.Pattern[str]:
    try:
        return re.compile(regex, re.IGNORECASE) if isinstance(regex, str) else regex
    except re.error as error:
        problem = f"regex is no pattern: {error}"
    raise InvalidInputError(problem)


class Command(Filter[IncomingMessage]):
    """What `command` makes."""

    __slots__ = ("button", "help", "names", "words")

    def __init__(self, words: tuple[str, ...], help: str | None, button: Option | None) -> None:  # noqa: A002 - as in `command`
        self.words: tuple[str, ...] = words
        self.help: str | None = help
        self.button: Option | None = button
        """What stands for the command in a help message."""
        # An answer names the button, which has no blanks and signs.
        names = frozenset((*map(fold, words), *(Option(word).name for word in words)))
        self.names: frozenset[str] = names | {button.name} if button else names
        accepted = self.names
        super().__init__(
            lambda message: message.folded.removeprefix("/") in accepted, commands=(self,), is_bare=True
        )


def command(
    *words: str,
    help: str | None = None,  # noqa: A002 - the plainest name
    label: str | None = None,
    style: str | None = None,
) -> Filter[IncomingMessage]:
    """Return a filter of a command, such as `command("afspraak", "appointment")`: one of the words, whole.

    Case and blanks around do not count, a `/` may stand before it, and a mention of the bot. A button of the
    bot's own whose option has such a name is the command too. Commands go before dialogs, which stay open.

    With `help` it is in the list of the automatic `help` command; with `label`, as a button there, of which
    `style` is the colour.

    Raises:
        InvalidInputError: there is no word, or one is blank.
    """
    if not words:
        raise InvalidInputError('command() needs a word: command("afspraak", "appointment")')
    known = tuple(check_text(word, "a command's word").strip().removeprefix("/") for word in words)
    button = None if label is None else Option(label, name=Option(known[0]).name, style=style)
    return Command(known, help, button)


mentioned: Final[Filter[IncomingMessage]] = Filter(lambda message: message.is_to_bot)
"""The bot itself is mentioned; `@all` does not count."""
has_files: Final[Filter[IncomingMessage]] = Filter(lambda message: bool(message.attachments))
"""The message has at least one file."""


# --- anything in a chat, or of a user


def _is_group(incoming: object) -> bool | None:
    event = incoming.event if isinstance(incoming, InChat) else incoming
    chat: ChatAddress | None = getattr(event, "chat", None)
    return None if chat is None else chat.kind.is_group


in_conversation: Final[Filter[object]] = Filter(lambda incoming: _is_group(incoming) is False)
"""It happens in a conversation of two."""
in_group: Final[Filter[object]] = Filter(lambda incoming: _is_group(incoming) is True)
"""It happens in a group chat."""


def from_user(*users: str | User) -> Filter[object]:
    """Return a filter of what certain users do, by their ids.

    Raises:
        InvalidInputError: there is no user.
    """
    ids = frozenset(check_text(user.id if isinstance(user, User) else user, "a user's id") for user in users)
    if not ids:
        raise InvalidInputError("from_user() needs at least one user")
    return Filter(lambda incoming: getattr(incoming, "user_id", None) in ids)
