"""What routers come to when a bot starts: for each kind of event, which functions are asked, in order."""

import collections.abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from types import CodeType
from typing import Final

from attrs import define, field, fields_dict, frozen

from healthmsg.bot import filters
from healthmsg.bot.arguments import (
    Arguments,
    Call,
    CannotBeFilled,
    Getter,
    MayBeNone,
    Parameter,
    Provided,
    incoming_itself,
    parameters_of,
)
from healthmsg.bot.filters import Command
from healthmsg.bot.incoming import Answer, BotChat, IncomingMessage, NotVerified, PressedCommand, Verified
from healthmsg.bot.origin import Origin, code_of
from healthmsg.bot.retrying import Retry
from healthmsg.bot.router import ErrorRoute, Middleware, Route, Router
from healthmsg.bot.scope import Scope
from healthmsg.events import (
    KINDS,
    ChatEvent,
    Event,
    MessageCreated,
    QuestionAnswered,
    VerificationAccepted,
    VerificationRejected,
)
from healthmsg.models import User

Accepts = Callable[[object], bool]

_FILTERS: Final = filters.__file__

VIEWS: Final[Mapping[type[Event], type]] = {
    MessageCreated: IncomingMessage,
    QuestionAnswered: Answer,
    VerificationAccepted: Verified,
    VerificationRejected: NotVerified,
}
"""How handlers see an event, where that is not the event itself."""


@frozen(eq=False)
class ErrorTarget:
    """An error handler: what calls it, for each way in which handlers see an event."""

    error: type[Exception]
    retry: Retry
    origin: Origin
    calls: Mapping[type, Call] = field(repr=False)


@define(eq=False)
class Target:
    """A handler for one kind of event."""

    accepts: tuple[Accepts, ...] = field(repr=False)
    call: Call = field(repr=False)
    origin: Origin
    errors: Sequence[Sequence[ErrorTarget]] = field(default=(), repr=False)
    """Error handlers: those of its own router, then those of the one around it, and so on."""
    question: str | None = None
    options: type[Enum] | None = None
    commands: tuple[Command, ...] = field(default=(), repr=False)
    conditions: tuple[Accepts, ...] = field(default=(), repr=False)
    """The other conditions of a command."""
    is_bare: bool = False
    """Whether it takes its commands always, under no other condition."""
    is_meant: Accepts = field(init=False, repr=False)
    """Whether all of `accepts` hold: made once, since it is asked for each event."""

    def __attrs_post_init__(self) -> None:
        self.is_meant = _all_of(self.accepts)


@define(eq=False)
class Table:
    """The handlers for one kind of event, each list in its order."""

    commands: list[Target] = field(factory=list)
    handlers: list[Target] = field(factory=list)
    own: list[Target] = field(factory=list)
    """Those for what the bot's own user did."""
    fallbacks: list[Target] = field(factory=list)
    of_event: list[Target] = field(factory=list)
    """Those of `@router.event` alone."""


@define(eq=False)
class Compiler:
    """Makes targets of routers, and gathers what cannot be."""

    provided: Provided
    problems: list[str] = field(factory=list)
    tables: dict[type[Event], Table] = field(factory=dict)
    errors: list[list[ErrorTarget]] = field(factory=list)
    """All error handlers, by router, for what fails outside of a handler."""
    middlewares: list[Target] = field(factory=list)
    origins: dict[CodeType, Origin] = field(factory=dict)
    """What authors have written, by code."""

    def add(self, router: Router) -> None:
        """Add a router and all within it."""
        of_router = {one: self._errors_of(one) for one in router.tree()}
        self.errors += [found for found in of_router.values() if found]
        for one in router.tree():
            self.problems += [
                f"{pending.origin} was put on no handler; a handler is written with async def"
                for pending in one.pending
                if not pending.is_used
            ]
            self.middlewares += filter(None, map(self._middleware, one.middlewares))
        for route, chain in router.routes():
            self._add_route(route, [of_router[one] for one in chain if of_router[one]])

    def _middleware(self, middleware: Middleware) -> Target | None:
        of_event: dict[type, Getter] = {
            Event: lambda scope, _: scope.event,
            collections.abc.Callable: lambda _, call_next: call_next,  # type: ignore[dict-item] # CallNext's class
        }
        call = self._call(middleware, of_event)
        return call and Target((), call, middleware.origin)

    def _errors_of(self, router: Router) -> list[ErrorTarget]:
        return [found for one in router.errors if (found := self._error(one)) is not None]

    def _error(self, route: ErrorRoute) -> ErrorTarget | None:
        calls: dict[type, Call] = {}
        parameters = self._parameters(route)
        if parameters is None:
            return None
        problem = ""
        errors = {one: _error for one in route.error.__mro__ if issubclass(one, Exception)}
        for seen_as, of_event in _ALL.items():
            try:
                arguments = Arguments({**of_event, **errors}, self.provided)
                calls[seen_as] = arguments.call_of(route.handler, parameters)
            except CannotBeFilled as failure:
                problem = problem or str(failure)
        if not calls:
            self.problems.append(f"{route.origin}: {problem}")
        return ErrorTarget(route.error, route.retry, route.origin, calls)

    def _add_route(self, route: Route, errors: Sequence[Sequence[ErrorTarget]]) -> None:
        if route.kind is not Event:
            self._add_target(route, route.kind, errors)
            return
        # Of any event: those that have what the handler asks for.
        parameters = self._parameters(route)
        if parameters is None:
            return
        problems: list[str] = []
        for kind in (*KINDS.values(), Event):
            try:
                call = Arguments(of_kind(kind), self.provided).call_of(route.handler, parameters)
            except CannotBeFilled as failure:
                problems.append(str(failure))
                continue
            accepts = tuple(_of_event(one.accepts, kind) for one in route.filters)
            self._put(kind, route, Target(accepts, call, route.origin, errors))
        if len(problems) == len(KINDS) + 1:
            self.problems.append(f"{route.origin}: {problems[-1]}")

    def _add_target(self, route: Route, kind: type[Event], errors: Sequence[Sequence[ErrorTarget]]) -> None:
        commands = tuple(one for each in route.filters for one in each.commands)
        # A command may be pressed as well as written.
        of_event = _ALL[PressedCommand] if commands else of_kind(kind)
        call = self._call(route, of_event)
        if call is not None:
            accepts = tuple(one.accepts for one in route.filters)
            target = Target(
                accepts,
                call,
                route.origin,
                errors,
                route.question,
                route.options,
                commands=commands,
                conditions=tuple(one.accepts for one in route.filters if not one.commands),
                is_bare=bool(commands) and all(one.is_bare for one in route.filters),
            )
            self._put(kind, route, target)

    def _put(self, kind: type[Event], route: Route, target: Target) -> None:
        table = self.tables.setdefault(kind, Table())
        for one in route.filters:
            self._note(one.accepts, route.origin)
        if route.kind is Event:
            table.of_event.append(target)
        if route.is_fallback:
            table.fallbacks.append(target)
        else:
            if target.commands:
                self._refuse_hidden(target, table.commands)
            (table.commands if target.commands else table.handlers).append(target)
            if route.own:
                table.own.append(target)

    def _refuse_hidden(self, target: Target, before: Sequence[Target]) -> None:
        """Note a command that never gets to its handler, since another one takes it always."""
        names = {name for one in target.commands for name in one.names}
        for other in before:
            taken = names & {name for one in other.commands for name in one.names}
            if taken and other.is_bare:
                shown = ", ".join(sorted(taken))
                self.problems.append(f"{target.origin}: {other.origin} takes its command {shown}")

    def _parameters(self, route: Route | ErrorRoute | Middleware) -> tuple[Parameter, ...] | None:
        self._note(route.handler, route.origin)
        try:
            return parameters_of(route.handler, route.local_types)
        except CannotBeFilled as problem:
            self.problems.append(f"{route.origin}: {problem}")
        return None

    def _call(self, route: Route | Middleware, of_event: Mapping[type, Getter]) -> Call | None:
        parameters = self._parameters(route)
        if parameters is None:
            return None
        try:
            if isinstance(route, Route):
                _check_answer(route, parameters)
            return Arguments(of_event, self.provided).call_of(route.handler, parameters)
        except CannotBeFilled as problem:
            self.problems.append(f"{route.origin}: {problem}")
        return None

    def _note(self, function: object, origin: Origin) -> None:
        code = code_of(function)
        if code is not None and code.co_filename != _FILTERS:
            self.origins[code] = origin


def _check_answer(route: Route, parameters: Iterable[Parameter]) -> None:
    """Refuse an answer of other options than those that the handler is registered with."""
    expected = route.options or str
    for one in parameters:
        if one.wanted is Answer and one.arguments and one.arguments != (expected,):
            given = f"options={expected.__name__}" if route.options else "no options="
            raise CannotBeFilled(
                f"{one.shown} does not fit the decorator, which has {given}: it gets an"
                f" Answer[{expected.__name__}]"
            )


def _all_of(accepts: tuple[Accepts, ...]) -> Accepts:
    """Return one function for several conditions; for a single one, that itself."""
    if len(accepts) == 1:
        return accepts[0]

    def all_hold(incoming: object) -> bool:
        for one in accepts:  # noqa: SIM110 - a loop is twice as quick
            if not one(incoming):
                return False
        return True

    return all_hold


# --- what there is of each kind of event


def _event(scope: Scope, _: object) -> object:
    return scope.event


def _error(scope: Scope, _: object) -> object:
    return scope.error


def _attribute(name: str) -> Getter:
    return lambda _, incoming: getattr(incoming, name)


def _chat(scope: Scope, _: object) -> object:
    chat = getattr(scope.event, "chat", None)
    return chat and BotChat(chat, scope.services, scope)


def _user(scope: Scope, _: object) -> object:
    user_id = getattr(scope.event, "user_id", None)
    return user_id and User(user_id)


def _classes(kind: type[Event]) -> list[type]:
    return [one for one in kind.__mro__ if issubclass(one, Event)]


def _plainly(kind: type[Event]) -> dict[type, Getter]:
    """Return what there is of events that handlers see as they are."""
    found: dict[type, Getter] = dict.fromkeys(_classes(kind), _event)
    names = fields_dict(kind)
    if "chat" in names:
        found[BotChat] = _chat if issubclass(kind, ChatEvent) else MayBeNone(_chat)
    if "user_id" in names:
        found[User] = MayBeNone(_user)
    return found


def _seen_as(view: type, kind: type[Event]) -> dict[type, Getter]:
    """Return what there is of events that handlers see otherwise."""
    may_be_unknown = view in {Verified, NotVerified}
    user = _attribute("user")
    return {
        view: incoming_itself,
        **dict.fromkeys(_classes(kind), _event),
        BotChat: _attribute("chat"),
        User: MayBeNone(user) if may_be_unknown else user,
    }


_ALL: Final[Mapping[type, Mapping[type, Getter]]] = {
    **{kind: _plainly(kind) for kind in (*KINDS.values(), Event) if kind not in VIEWS},
    **{view: _seen_as(view, kind) for kind, view in VIEWS.items()},
    PressedCommand: _seen_as(IncomingMessage, ChatEvent),
}


def of_kind(kind: type[Event]) -> Mapping[type, Getter]:
    """Return what there is for the handlers of events of a kind."""
    return _ALL[VIEWS.get(kind, kind)]


def _of_event(accepts: Accepts, kind: type[Event]) -> Accepts:
    """Return a filter of the event for what handlers see of it."""
    return (lambda incoming: accepts(incoming.event)) if kind in VIEWS else accepts  # type: ignore[attr-defined] # every view has it
