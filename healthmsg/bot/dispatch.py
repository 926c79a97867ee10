"""Which handler gets an event, and what becomes of the event when that fails."""

import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import CodeType
from typing import Final, cast

from healthmsg.bot.arguments import Arguments, Provided, parameters_of
from healthmsg.bot.campaigns import CampaignMessage
from healthmsg.bot.dialogs.orders import parked_for
from healthmsg.bot.failures import last_place_of, place_of
from healthmsg.bot.filters import Command
from healthmsg.bot.helping import Entry, Help, help_command
from healthmsg.bot.incoming import Answer, InChat, IncomingMessage, NotVerified, PressedCommand, Verified
from healthmsg.bot.options import members_by_name
from healthmsg.bot.origin import Origin
from healthmsg.bot.router import DEFAULT_RETRY, Router
from healthmsg.bot.scope import Scope
from healthmsg.bot.sending import KnownMessage, NotKnownYet
from healthmsg.bot.signals import ParkThis, RetryLater
from healthmsg.bot.store.effects import Effect
from healthmsg.bot.targets import Compiler, ErrorTarget, Table, Target, of_kind
from healthmsg.bot.within import CURRENT
from healthmsg.errors import (
    ClientClosedError,
    ClientUsageError,
    ConfigurationError,
    DeliveryUnknownError,
    DialogHeldError,
    DialogOpenError,
    ForbiddenError,
    JournalError,
    NotFoundError,
    ReauthorizationRequiredError,
    ReplyNotSentError,
    SendingStoppedError,
)
from healthmsg.events import (
    Event,
    MessageCreated,
    QuestionAnswered,
    VerificationAccepted,
    VerificationRejected,
)
from healthmsg.log import class_name, log
from healthmsg.models import Message

Instead = Callable[[Scope], Awaitable[None]]
_NOT_OF_THE_EVENT: Final = (
    ClientClosedError,
    ReauthorizationRequiredError,
    JournalError,
    SendingStoppedError,
)
"""Whatever event it is, it cannot be handled now: none is parked for that."""
_ANSWERS: Final = (
    "a handler returns nothing, and this one has returned True or False: {}. A filter is a plain function,"
    " without async."
)
_UNTIL_THEN: Final = timedelta(seconds=30)
_EMPTY: Final = Table()
_SAID_EVERY: Final = timedelta(minutes=1)
_TWO_CAMPAIGNS: Final = (
    "its question has the label {1!r} in the campaign {0!r}, and {1!r} is another campaign's name: handlers"
    " of that name get the other one's answers. Register one with @router.answered({0!r}), or give the"
    " campaign {1!r} another name in bot.campaign(…), and take this up again with `healthmsg bot retry`"
)
_IN_DOUBT: Final = (
    "it may be the answer to the question of a dialog, of which it is not known whether it arrived: if it is,"
    " settle that with `healthmsg journal decide STORE KEY delivered --message-id ID`, and take this up again"
)


class Dispatcher:
    """Hands events to the handlers of routers. Arguments, filters and orders are looked through once, here.

    `random` returns numbers from 0 to 1, for the waits before an event is handled again.

    Raises:
        ConfigurationError: something cannot work; it names all that, each with file and line.
    """

    def __init__(
        self,
        routers: Iterable[Router],
        provided: Provided | None = None,
        *,
        help: Help | None = Help(),  # noqa: A002, B008 - the plainest name; and it is frozen
        random: Callable[[], float] = random.random,
    ) -> None:
        compiler = Compiler(Provided() if provided is None else provided)
        for router in routers:
            compiler.add(router)
        if compiler.problems:
            listed = "\n".join(f"- {one}" for one in compiler.problems)
            raise ConfigurationError(f"This bot cannot start:\n{listed}")
        self._random = random
        self._tables = compiler.tables
        self._messages = compiler.tables.setdefault(MessageCreated, Table())
        self._errors = compiler.errors
        self._middlewares = compiler.middlewares
        self._warned: set[Origin] = set()
        """Handlers that return something."""
        self._said: dict[str, datetime] = {}
        """Why answers wait, and when that was logged."""
        self.origins: Mapping[CodeType, Origin] = compiler.origins
        """Where the functions of the routers were written, by their code."""
        if help is not None:
            self._add_help(help)
        self._words = frozenset(name for one in self.commands for name in one.names)

    def __repr__(self) -> str:
        return f"<Dispatcher commands={len(self.commands)}>"

    @property
    def commands(self) -> Sequence[Command]:
        """All commands, in their order."""
        return [one for target in self._messages.commands for one in target.commands]

    @property
    def longest_wait(self) -> timedelta:
        """For how long an event waits at most before it is handled again."""
        retries = [DEFAULT_RETRY, *(one.retry for some in self._errors for one in some)]
        return max(_UNTIL_THEN, *(retry.longest for retry in retries))

    def _add_help(self, help_: Help) -> None:
        entries = [
            Entry(one, target.conditions) for target in self._messages.commands for one in target.commands
        ]
        handler = help_command(help_, entries)
        if handler is not None:
            accepted = handler.filter()
            call = Arguments(of_kind(MessageCreated), Provided()).call_of(handler, parameters_of(handler))
            origin = Origin("the automatic help", "", 0)
            accepts = cast("Callable[[object], bool]", accepted.accepts)
            self._messages.commands.append(
                Target((accepts,), call, origin, self._errors, commands=accepted.commands)
            )

    async def handle(self, scope: Scope, instead: Instead | None = None) -> bool:
        """Hand an event to its handler. Return whether there was one.

        What is to be done *instead* fails as a handler does.

        Raises:
            RetryLater: it failed, and is to be handled again.
            ParkThis: it failed as often as it may; its error handler was called.
        """
        try:
            if instead is not None:
                scope.handled = True
                await instead(scope)
            elif self._middlewares:
                await _Next(self, scope, 0)(scope.event)
            else:
                await self._dispatch(scope)
        except (RetryLater, ParkThis):
            raise
        except Exception as error:  # noqa: BLE001 - an author's handler raises what it likes
            failure = error
        else:
            scope.forget()
            return scope.handled
        finally:
            scope.is_open = False
        try:
            outcome = await self._failed(scope, failure)
        finally:
            scope.forget()
        if outcome is None:
            return True
        raise outcome

    # --- whose it is

    async def _dispatch(self, scope: Scope) -> None:
        event = scope.event
        kind = type(event)
        if kind is MessageCreated:
            message = cast("MessageCreated", event)
            incoming = scope.incoming = IncomingMessage(scope, message, message.message)
            if message.is_own or message.user_id is None:
                target = self._of_no_other(scope, message)
            else:
                target = self._command(scope, incoming)
                if target is None:
                    dialogs = scope.services.dialogs
                    if dialogs is not None and dialogs.wants(event) and await dialogs.handle(scope):
                        scope.handled = True
                        return
                    target = _first(self._messages.handlers, scope, incoming)
                    target = target or _first(self._messages.fallbacks, scope, incoming)
        elif kind is QuestionAnswered:
            target = await self._of_answer(scope, cast("QuestionAnswered", event))
        else:
            target = await self._of_other(scope)
        if target is not None:
            scope.handled = True
            returned = await target.call(scope, scope.incoming)
            if isinstance(returned, bool):
                raise ConfigurationError(_ANSWERS.format(target.origin))
            if returned is not None:
                self._warn_of_return(target)

    def _warn_of_return(self, target: Target) -> None:
        """Say once of a handler that what it returns is not used: it may have been meant as a reply."""
        if target.origin not in self._warned:
            self._warned.add(target.origin)
            log(
                logging.WARNING,
                "the handler %(handler)s returns something, of which the bot does nothing: a reply is sent"
                " with `await message.reply(…)`",
                handler=str(target.origin),
            )

    def _command(self, scope: Scope, incoming: IncomingMessage) -> Target | None:
        """Return the handler of a command, which no dialog may have."""
        if incoming.folded.removeprefix("/") in self._words:
            return _first(self._messages.commands, scope, incoming)
        return None

    def _of_no_other(self, scope: Scope, event: MessageCreated) -> Target | None:
        """Return the handler of a message of the bot's own, or of one without a sender."""
        if event.is_own:
            return _first(self._messages.own, scope, scope.incoming)
        log(logging.WARNING, "a message without a sender: it is handed to @router.event alone")
        return _first(self._messages.of_event, scope, scope.incoming)

    async def _of_other(self, scope: Scope) -> Target | None:
        event = scope.event
        table = self._tables.get(type(event)) or self._tables.get(Event, _EMPTY)
        incoming = scope.incoming = _seen(scope, event)
        if event.is_own:
            return _first(table.own, scope, incoming)
        if await self._dialog_took(scope):
            return None
        target = _first(table.handlers, scope, incoming)
        if target is None:
            await _park_what_may_be_an_answer(scope)
        return target

    async def _dialog_took(self, scope: Scope) -> bool:
        dialogs = scope.services.dialogs
        if dialogs is not None and dialogs.wants(scope.event) and await dialogs.handle(scope):
            scope.handled = True
        return scope.handled

    async def _of_answer(self, scope: Scope, event: QuestionAnswered) -> Target | None:
        answer: Answer[str] = Answer(scope, event)
        scope.incoming = answer
        if not event.is_own and await self._dialog_took(scope):
            return None
        table = self._tables.get(QuestionAnswered, _EMPTY)
        targets = table.own if event.is_own else table.handlers
        if targets:
            answer._asked = await self._asked(scope, event)  # noqa: SLF001 - of this package
        target = _answered(targets, scope, answer)
        if target is not None or event.is_own:
            return target
        pressed = await self._pressed(scope, event)
        # The options may be another version's of the question: not what any of its handlers knows.
        if pressed is None and (unfit := _by_name(table.handlers, answer)) is not None:
            raise ParkThis(f"an answer that is none of the options of {unfit.origin}")
        if pressed is None:
            _park_what_two_campaigns_may_have_asked(table.handlers, answer)
            await _park_what_may_be_an_answer(scope)
        return pressed

    async def _asked(self, scope: Scope, event: QuestionAnswered) -> KnownMessage | None:
        """Return the question of an answer, if it is known.

        Raises:
            RetryLater: it is the bot's own user's, and may be that of a campaign.
            ParkThis: it still may be, after as long as that may take.
        """
        found, doubt = await _known(scope, event)
        if doubt is None or event.is_own:
            return found
        message = await _own_question(scope, event)
        if message is None or not doubt.may_be(message):
            return None
        # Not at random: those that wait for one thing are looked up together.
        wait = doubt.retry.wait(event.attempt + scope.waits, lambda: 1.0)
        if wait is None:
            raise ParkThis(doubt.reason)
        self._say_that_answers_wait(doubt.reason, scope.services.clock.now())
        raise RetryLater(wait, has_begun=False)

    def _say_that_answers_wait(self, reason: str, now: datetime) -> None:
        """Log why, but not for each of them: there may be thousands."""
        if reason not in self._said or abs(now - self._said[reason]) >= _SAID_EVERY:
            self._said[reason] = now
            log(logging.WARNING, "answers wait, each with its chat. Of such a one: %(reason)s", reason=reason)

    async def _pressed(self, scope: Scope, event: QuestionAnswered) -> Target | None:
        """Return the command that an option is named like, if the question is the bot's own."""
        if len(event.options) != 1 or event.options[0].lower() not in self._words:
            return None
        incoming = PressedCommand(scope, event)
        target = _first(self._messages.commands, scope, incoming)
        if target is None or not await _is_own_question(scope, event):
            return None
        scope.incoming = incoming
        return target

    # --- when it fails

    async def _failed(self, scope: Scope, failure: Exception) -> RetryLater | ParkThis | None:
        """Return what becomes of the event; `None`: it is done."""
        target = scope.target
        origin = target.origin if isinstance(target, Target) else None
        place, name = _place(failure, origin), class_name(failure)
        if isinstance(failure, DialogHeldError):
            return ParkThis(parked_for(scope.dialog, str(failure)))
        if isinstance(failure, _NOT_OF_THE_EVENT):
            log(
                logging.ERROR,
                "%(handler)s: %(error)s; the event waits",
                handler=_shown(origin, scope),
                error=name,
            )
            return RetryLater(_UNTIL_THEN)
        errors = (
            target.errors if isinstance(target, Target) else [[one for each in self._errors for one in each]]
        )
        chosen = _error_target(errors, failure, scope)
        if chosen is None and await _hears_that_one_is_open(scope, failure) and not scope.effects:
            return None  # else what the handler had asked for before would be dropped
        retry = DEFAULT_RETRY if chosen is None else chosen.retry
        # It will be the same the next time: such a reply is not sent again, and what would end the dialog
        # that is open waits behind this event, most often.
        is_final = isinstance(failure, DeliveryUnknownError | ReplyNotSentError) or (
            chosen is None and isinstance(failure, DialogOpenError)
        )
        wait = None if is_final else retry.wait(scope.event.attempt, self._random)
        _log_failure(scope, origin, name, place, wait)
        if wait is not None:
            return RetryLater(wait)
        effects = () if chosen is None else await _tell(chosen, scope, failure)
        return ParkThis(f"{_shown(origin, scope)} raised {name} at {place}", effects)


def _log_failure(scope: Scope, origin: Origin | None, name: str, place: str, wait: timedelta | None) -> None:
    log(
        logging.ERROR if wait is None else logging.WARNING,
        "%(handler)s raised %(error)s at %(place)s in start %(attempt)s of its event, which %(what)s",
        handler=_shown(origin, scope),
        error=name,
        place=place,
        attempt=scope.event.attempt,
        what="is parked" if wait is None else f"is handled again in {wait.total_seconds():.1f} s",
    )


async def _hears_that_one_is_open(scope: Scope, failure: Exception) -> bool:
    """Say to a user that no second dialog can begin, if that is what failed. Not where one is held."""
    dialogs = scope.services.dialogs
    if (
        not isinstance(failure, DialogOpenError)
        or failure.is_held
        or dialogs is None
        or not _is_of_user(scope)
    ):
        return False
    await dialogs.say_that_one_is_open(scope.for_error())
    return True


def _is_of_user(scope: Scope) -> bool:
    """Return whether a user did something who waits for an answer to it."""
    return isinstance(scope.event, MessageCreated | QuestionAnswered) and not scope.event.is_own


class _Next:
    """What a middleware calls to go on."""

    __slots__ = ("_dispatcher", "_index", "_is_used", "_scope")

    def __init__(self, dispatcher: Dispatcher, scope: Scope, index: int) -> None:
        self._dispatcher = dispatcher
        self._scope = scope
        self._index = index
        self._is_used = False

    async def __call__(self, event: Event) -> None:
        if self._is_used or event is not self._scope.event:
            raise ClientUsageError("call_next is awaited once, with the event that the middleware got")
        self._is_used = True
        middlewares = self._dispatcher._middlewares  # noqa: SLF001 - of this module
        if self._index == len(middlewares):
            await self._dispatcher._dispatch(self._scope)  # noqa: SLF001 - of this module
            return
        target = middlewares[self._index]
        await target.call(self._scope, _Next(self._dispatcher, self._scope, self._index + 1))


def _first(targets: Iterable[Target], scope: Scope, incoming: object) -> Target | None:
    target = None
    try:
        for target in targets:
            if target.is_meant(incoming):
                scope.target = target
                return target
    except Exception:
        scope.target = target  # whose filter it is
        raise
    scope.target = None
    return None


def _seen(scope: Scope, event: Event) -> object:
    if isinstance(event, VerificationAccepted):
        return Verified(scope, event)
    if isinstance(event, VerificationRejected):
        return NotVerified(scope, event)
    return event


# --- answers


def _answered(targets: Sequence[Target], scope: Scope, answer: Answer[str]) -> Target | None:
    for target in targets:
        options: tuple[object, ...] | None = answer.event.options
        if target.question is not None and not answer.is_to(target.question):
            continue
        if target.options is not None:
            options = _members(target, answer)
        if options is not None and _first([target], scope, answer) is not None:
            answer._options = options  # noqa: SLF001 - of this package
            return target
    return None


def _members(target: Target, answer: Answer[str]) -> tuple[object, ...] | None:
    known = {} if target.options is None else members_by_name(target.options)
    found = [known.get(name) for name in answer.event.options]
    return None if None in found or not found else tuple(found)


def _by_name(targets: Iterable[Target], answer: Answer[str]) -> Target | None:
    """Return a handler of the question that does not know what was chosen."""
    for target in targets:
        if target.question is not None and answer.is_to(target.question) and target.options is not None:
            return target if _members(target, answer) is None else None
    return None


async def _known(scope: Scope, answer: QuestionAnswered) -> tuple[KnownMessage | None, NotKnownYet | None]:
    """Return the question of an answer, and if there is none, why it may be known later."""
    doubt: NotKnownYet | None = None
    for source in scope.services.sent:
        try:
            found = await source.message_of(answer.message_id, answer.chat, answer.user_id)
        except NotKnownYet as one:
            doubt = one
        else:
            if found is not None:
                return found, None
    return None, doubt


async def _is_own_question(scope: Scope, event: QuestionAnswered) -> bool:
    found, _ = await _known(scope, event)
    return found is not None or await _own_question(scope, event) is not None


async def _own_question(scope: Scope, event: QuestionAnswered) -> Message | None:
    """Return the message with the question, if the bot's own user has sent it."""
    services = scope.services
    try:
        message = await services.client.chat(event.chat).message(event.message_id)
    except (NotFoundError, ForbiddenError):
        return None
    return message if message.sender_id == services.me else None


def _park_what_two_campaigns_may_have_asked(targets: Iterable[Target], answer: Answer[str]) -> None:
    """Leave to a person what a handler seems to be for that is another campaign's."""
    asked = answer._asked  # noqa: SLF001 - of this package
    if not isinstance(asked, CampaignMessage) or not asked.is_ambiguous:
        return
    if any(one.question == asked.label for one in targets):
        raise ParkThis(_TWO_CAMPAIGNS.format(asked.campaign, asked.label))


async def _park_what_may_be_an_answer(scope: Scope) -> None:
    """Leave to a person what nothing wanted, and what may be an answer that a dialog waits for."""
    dialogs = scope.services.dialogs
    if dialogs is not None and await dialogs.may_wait_for(scope.event):
        raise ParkThis(_IN_DOUBT)


# --- errors


def _error_target(
    errors: Iterable[Sequence[ErrorTarget]], failure: Exception, scope: Scope
) -> ErrorTarget | None:
    """Return the error handler that is meant: of the innermost router, and there with the closest class."""
    seen_as, classes = type(scope.incoming), type(failure).__mro__
    for of_router in errors:
        fitting = [one for one in of_router if one.error in classes and seen_as in one.calls]
        if fitting:
            return min(fitting, key=lambda one: classes.index(one.error))
    return None


async def _tell(chosen: ErrorTarget, scope: Scope, failure: Exception) -> Sequence[Effect]:
    """Call an error handler. If it fails too, that is logged; the event is parked all the same."""
    own = scope.for_error()
    own.error = failure
    own.incoming = _again(scope.incoming, own)
    CURRENT.set(own)
    try:
        await chosen.calls[type(own.incoming)](own, own.incoming)
    except (RetryLater, ParkThis):
        raise
    except Exception as error:  # noqa: BLE001 - an author's handler raises what it likes
        place, name = _place(error, chosen.origin), class_name(error)
    else:
        return own.effects
    finally:
        own.is_open = False
    log(
        logging.ERROR,
        "the error handler %(handler)s raised %(error)s at %(place)s",
        handler=str(chosen.origin),
        error=name,
        place=place,
    )
    return ()


def _again(incoming: object, scope: Scope) -> object:
    """Return what the handler got, with the replies of another scope."""
    return incoming.in_scope(scope) if isinstance(incoming, InChat) else incoming


def _place(failure: Exception, origin: Origin | None) -> str:
    """Return where an error was raised, in the author's file if it passed through there."""
    file, line = place_of(failure, origin.file if origin is not None else None) or last_place_of(failure)
    return f"{file}:{line}"


def _shown(origin: Origin | None, scope: Scope) -> str:
    if origin is not None:
        return str(origin)
    return f"the dialog {scope.taken_by}" if scope.taken_by else "a middleware"
