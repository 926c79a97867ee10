"""Where the arguments of handlers come from: their annotations, looked through once, when the bot starts."""

import inspect
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Annotated, Any, Final, Union, get_args, get_origin

from attrs import define, field, frozen

from healthmsg.bot.origin import Origin
from healthmsg.bot.scope import Scope
from healthmsg.errors import ConfigurationError
from healthmsg.log import class_name

Getter = Callable[[Scope, object], object]
"""Returns an argument, of the scope and of the event as handlers see it."""
Call = Callable[[Scope, object], Awaitable[object]]
"""Calls a handler with its arguments."""
_MOST_NAMED: Final = 12
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_SAY_NOTHING: Final = (object, Any, types.UnionType)
_COLLECTS: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class CannotBeFilled(Exception):  # noqa: N818 - inside this package only, gathered into one error
    """An argument for which there is nothing. The message says what to do."""


@frozen
class Parameter:
    """What a handler asks for."""

    name: str
    wanted: type
    arguments: tuple[object, ...]
    """Those of a generic class: `Visit`, of `Answer[Visit]`."""
    is_optional: bool
    """Whether it may be `None`."""
    has_default: bool
    by_name: bool

    @property
    def shown(self) -> str:
        """The parameter as it is written."""
        inside = ", ".join(getattr(one, "__name__", str(one)) for one in self.arguments)
        return f"{self.name}: {self.wanted.__name__}{f'[{inside}]' if inside else ''}"


def parameters_of(
    function: Callable[..., object], local_types: Mapping[str, object] | None = None
) -> tuple[Parameter, ...]:
    """Return what a function asks for. `local_types` are those that its annotations may name as text.

    Raises:
        CannotBeFilled: an argument has no type, or one that is no class.
    """
    try:
        signature = inspect.signature(function)
    except (NameError, ValueError, TypeError) as error:
        problem = f"its arguments cannot be read ({class_name(error)})"
    else:
        return tuple(
            _parameter(one, function, local_types or {})
            for one in signature.parameters.values()
            if one.kind not in _COLLECTS
        )
    raise CannotBeFilled(problem)


def _parameter(
    parameter: inspect.Parameter, function: Callable[..., object], local_types: Mapping[str, object]
) -> Parameter:
    name, annotation = parameter.name, parameter.annotation
    if annotation is inspect.Parameter.empty:
        raise CannotBeFilled(
            f"{name!r} has no type, which says what it gets: such as {name}: IncomingMessage"
        )
    if isinstance(annotation, str):
        annotation = _evaluated(name, annotation, function, local_types)
    annotation, is_optional = _without_none(annotation)
    wanted = get_origin(annotation) or annotation
    if not isinstance(wanted, type) or wanted in _SAY_NOTHING:
        raise CannotBeFilled(
            f"the type of {name!r} does not say what it gets: name a class, as in {name}: IncomingMessage"
        )
    return Parameter(
        name,
        wanted,
        get_args(annotation),
        is_optional,
        parameter.default is not inspect.Parameter.empty,
        parameter.kind not in _POSITIONAL,
    )


def _without_none(annotation: object) -> tuple[object, bool]:
    """Return an annotation without `Annotated` and `None`, and whether it had `None`."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in {Union, types.UnionType}:
        inside = [one for one in get_args(annotation) if one is not types.NoneType]
        if len(inside) == 1:
            return _without_none(inside[0])[0], len(get_args(annotation)) > 1
    return annotation, False


def _evaluated(
    name: str, annotation: str, function: Callable[..., object], local_types: Mapping[str, object]
) -> object:
    """Return what an annotation means that is text, as with `from __future__ import annotations`."""
    inner = inspect.unwrap(function)
    while hasattr(inner, "func"):
        inner = inner.func
    inner = getattr(inner, "__func__", inner)
    if not hasattr(inner, "__code__"):
        inner = type(inner).__call__
    closure = inspect.getclosurevars(inner).nonlocals if inner.__closure__ else {}
    known = {**local_types, **closure}
    try:
        return eval(annotation, inner.__globals__, known)  # noqa: S307 - the author's own source, as typing does
    except Exception as error:  # noqa: BLE001 - whatever an expression raises
        problem = class_name(error)
    raise CannotBeFilled(
        f"the type of {name!r}, {annotation}, cannot be found ({problem}): import it at the top of the"
        " module, not under TYPE_CHECKING alone"
    )


# --- what is provided


@frozen(eq=False)
class Resource:
    """What is made for each event that needs it, entered before the handler and left after it."""

    type: type
    make: Callable[..., AbstractAsyncContextManager[object]] = field(repr=False)
    origin: Origin


@define(eq=False)
class Provided:
    """What handlers can ask for besides their event: values, and what is made for each event."""

    _values: dict[type, object] = field(factory=dict, repr=False)
    _makers: dict[type, Callable[[Scope], object]] = field(factory=dict, repr=False)
    _resources: dict[type, Resource] = field(factory=dict, repr=False)

    def add(self, value: object, as_type: type | None = None) -> None:
        """Provide a value under its class and those that this is a kind of, or under *as_type* alone.

        Per event: a function that `asynccontextmanager` has made, whose return type says what it makes, or a
        class with `__aenter__`. It may have arguments, which are filled as those of handlers are.

        Raises:
            ConfigurationError: there is one of this type already, or it does not say what it makes.
        """
        if isinstance(value, type):
            self._add_resource(_resource_of_class(value, as_type))
        elif inspect.isfunction(value) and inspect.isasyncgenfunction(inspect.unwrap(value)):
            self._add_resource(_resource_of_function(value, as_type))
        elif as_type is None and inspect.isroutine(value):
            raise ConfigurationError(
                f"what is provided must be a value, a class with __aenter__, or a function that"
                f" @asynccontextmanager has made: {Origin.of(value)} is none of these"
            )
        else:
            key = as_type or type(value)
            self._check_new(key)
            self._values[key] = value

    def add_maker(self, wanted: type, make: Callable[[Scope], object]) -> None:
        """Provide what is made of an event's scope, without being entered."""
        self._check_new(wanted)
        self._makers[wanted] = make

    def beside(self, values: Mapping[type, object]) -> "Provided":
        """Return the same with these values, of types that are not there."""
        return Provided({**values, **self._values}, self._makers, self._resources)

    def _add_resource(self, resource: Resource) -> None:
        self._check_new(resource.type)
        self._resources[resource.type] = resource

    def _check_new(self, key: type) -> None:
        if key in self.types:
            raise ConfigurationError(
                f"there is a {key.__name__} already: provide each type once, or say with a type of its own"
                " which is meant"
            )

    @property
    def types(self) -> Sequence[type]:
        """Under which types something is there."""
        return (*self._values, *self._makers, *self._resources)

    @property
    def resources(self) -> Sequence[Resource]:
        """What is made for each event."""
        return tuple(self._resources.values())

    def value_for(self, annotation: object) -> object:
        """Return what was provided for an annotation, outside of any event: an argument of a dialog.

        Raises:
            LookupError: there is nothing, several fit, or it is made for each event.
        """
        wanted = _without_none(annotation)[0]
        wanted = get_origin(wanted) or wanted
        try:
            found = self.find(wanted) if isinstance(wanted, type) and wanted not in _SAY_NOTHING else None
        except CannotBeFilled as error:
            problem = str(error)
        else:
            if isinstance(found, Constant):
                return found.value
            problem = "nothing is provided that is the same for all events"
        raise LookupError(problem)

    def find(self, wanted: type) -> Getter | Resource | None:
        """Return where an argument of a type comes from.

        Raises:
            CannotBeFilled: there are several.
        """
        key = wanted if wanted in self.types else self._kind_of(wanted)
        if key is None:
            return None
        if key in self._makers:
            make = self._makers[key]
            return lambda scope, _: make(scope)
        if key in self._resources:
            return self._resources[key]
        return Constant(self._values[key])

    def _kind_of(self, wanted: type) -> type | None:
        found = [key for key in self.types if _is_kind(self._values.get(key), key, wanted)]
        if len(found) > 1:
            names = ", ".join(sorted(key.__name__ for key in found))
            raise CannotBeFilled(
                f"there are several of type {wanted.__name__}: {names}. Provide the one that is meant under"
                f" {wanted.__name__}"
            )
        return found[0] if found else None


def _is_kind(value: object, key: type, wanted: type) -> bool:
    try:
        return issubclass(key, wanted) or (value is not None and isinstance(value, wanted))
    except TypeError:  # a protocol that is not @runtime_checkable
        return False


def _resource_of_class(made: type, as_type: type | None) -> Resource:
    if not hasattr(made, "__aenter__"):
        raise ConfigurationError(
            f"{made.__name__} is a class: provide an object of it, {made.__name__}(…), for all events, or"
            " give it __aenter__ and __aexit__ to have one made for each event"
        )
    return Resource(as_type or made, made, Origin(made.__name__, made.__module__, 0))


def _resource_of_function(function: Callable[..., Any], as_type: type | None) -> Resource:
    inner = inspect.unwrap(function)
    origin = Origin.of(inner)
    if as_type is None:
        try:
            annotation = inner.__annotations__.get("return")
            if isinstance(annotation, str):
                annotation = _evaluated("return", annotation, inner, {})
        except CannotBeFilled:
            annotation = None
        inside = get_args(annotation)
        as_type = get_origin(inside[0]) or inside[0] if inside else None
    if not isinstance(as_type, type):
        raise ConfigurationError(
            f"{origin} does not say what it makes: annotate it, as -> {AsyncIterator.__name__}[Session]"
        )
    return Resource(as_type, function, origin)


# --- calls


class Constant:
    """Returns an argument that is the same for all events."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value: object = value

    def __call__(self, _: Scope, __: object) -> object:
        """Return it."""
        return self.value


def incoming_itself(_: Scope, incoming: object) -> object:
    """Return the event as handlers see it."""
    return incoming


@frozen(eq=False)
class Arguments:
    """What is there for functions that get an event of one kind."""

    of_event: Mapping[type, Getter]
    provided: Provided

    def call_of(self, function: Callable[..., Awaitable[object]], parameters: Sequence[Parameter]) -> Call:
        """Return what calls a function with its arguments.

        Raises:
            CannotBeFilled: there is nothing for one of them.
        """
        sources = self._sources(parameters)
        resources: dict[type, tuple[Resource, _Sources]] = {}
        for source in _resources_in(sources):
            self._plan(source, resources, ())
        if resources:
            return _with_resources(function, sources, tuple(resources.values()))
        return _plain(function, sources)

    def _sources(self, parameters: Sequence[Parameter]) -> "_Sources":
        positional: list[Getter | Resource] = []
        by_name: dict[str, Getter | Resource] = {}
        for one in parameters:
            source = self._source(one)
            if source is None:
                continue
            if one.by_name or len(positional) < _index(parameters, one):
                by_name[one.name] = source
            else:
                positional.append(source)
        return _Sources(tuple(positional), by_name)

    def _source(self, parameter: Parameter) -> Getter | Resource | None:
        wanted = parameter.wanted
        found = self.of_event.get(wanted) or self.provided.find(wanted)
        if found is not None:
            if isinstance(found, MayBeNone) and not parameter.is_optional:
                return found.required(parameter)
            return found
        if parameter.has_default:
            return None
        if parameter.is_optional:
            return _none
        names = sorted({one.__name__ for one in (*self.of_event, *self.provided.types)})
        more = ", …" if len(names) > _MOST_NAMED else ""
        raise CannotBeFilled(
            f"there is nothing for {parameter.shown!r}. What can be had here:"
            f" {', '.join(names[:_MOST_NAMED])}{more}. To add it: bot.provide({wanted.__name__}(…))"
        )

    def _plan(
        self, resource: Resource, plan: "dict[type, tuple[Resource, _Sources]]", around: tuple[type, ...]
    ) -> None:
        """Add a resource to a plan, after those that it needs itself."""
        if resource.type in around:
            names = " needs ".join(one.__name__ for one in (*around, resource.type))
            raise CannotBeFilled(f"what it needs goes in circles: {names}")
        if resource.type in plan:
            return
        try:
            sources = self._sources(parameters_of(resource.make))
        except CannotBeFilled as error:
            problem = f"{resource.origin}, which makes its {resource.type.__name__}: {error}"
        else:
            for source in _resources_in(sources):
                self._plan(source, plan, (*around, resource.type))
            plan[resource.type] = resource, sources
            return
        raise CannotBeFilled(problem)


class MayBeNone:
    """Returns an argument that some events do not have, such as the user."""

    __slots__ = ("_get",)

    def __init__(self, get: Getter) -> None:
        self._get = get

    def __call__(self, scope: Scope, incoming: object) -> object:
        """Return it, or `None`."""
        return self._get(scope, incoming)

    def required(self, parameter: Parameter) -> Getter:
        """Return what refuses an event that does not have it."""
        get, shown = self._get, parameter.shown

        def required(scope: Scope, incoming: object) -> object:
            found = get(scope, incoming)
            if found is None:
                raise ConfigurationError(
                    f"this {scope.event.kind} does not have what its handler asks for as {shown!r}; say"
                    f" {shown} | None to handle such events too"
                )
            return found

        return required


@frozen(eq=False)
class _Sources:
    positional: tuple[Getter | Resource, ...]
    by_name: Mapping[str, Getter | Resource]


def _resources_in(sources: _Sources) -> Iterator[Resource]:
    for source in (*sources.positional, *sources.by_name.values()):
        if isinstance(source, Resource):
            yield source


def _index(parameters: Sequence[Parameter], wanted: Parameter) -> int:
    return next(number for number, one in enumerate(parameters) if one is wanted)


def _none(_: Scope, __: object) -> None:
    return None


def _plain(function: Callable[..., Awaitable[object]], sources: _Sources) -> Call:
    positional = tuple(one for one in sources.positional if not isinstance(one, Resource))
    by_name = {name: one for name, one in sources.by_name.items() if not isinstance(one, Resource)}
    if by_name:
        return lambda scope, incoming: function(
            *[get(scope, incoming) for get in positional],
            **{name: get(scope, incoming) for name, get in by_name.items()},
        )
    if positional == (incoming_itself,):
        return lambda _, incoming: function(incoming)
    if positional[:1] == (incoming_itself,) and all(isinstance(one, Constant) for one in positional[1:]):
        rest = tuple(one.value for one in positional if isinstance(one, Constant))
        return lambda _, incoming: function(incoming, *rest)
    return lambda scope, incoming: function(*[get(scope, incoming) for get in positional])


def _with_resources(
    function: Callable[..., Awaitable[object]],
    sources: _Sources,
    plan: Sequence[tuple[Resource, _Sources]],
) -> Call:
    async def call(scope: Scope, incoming: object) -> object:
        entered: dict[type, object] = {}

        def one(source: Getter | Resource) -> object:
            return entered[source.type] if isinstance(source, Resource) else source(scope, incoming)

        def filled(called: Callable[..., Any], its: _Sources) -> Any:
            return called(*map(one, its.positional), **{name: one(get) for name, get in its.by_name.items()})

        async with AsyncExitStack() as stack:
            for resource, needs in plan:
                entered[resource.type] = await stack.enter_async_context(filled(resource.make, needs))
            return await filled(function, sources)

    return call
