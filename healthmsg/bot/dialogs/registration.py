"""Dialogs as their authors register them: a name, versions, and words that lead out."""

import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar, Union, get_args, get_origin

from attrs import field, frozen

from healthmsg.bot.dialogs.source import Finding, look_through
from healthmsg.bot.dialogs.values import can_be_kept
from healthmsg.errors import ConfigurationError
from healthmsg.log import log

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Code = Callable[..., Coroutine[Any, Any, R]]
"""An author's `async def`; its first parameter is a `Dialog`."""
Resolve = Callable[["RegisteredDialog[Any]", str, Any], object]
"""Returns what was provided for an argument: of which dialog, its name and its type; or a LookupError."""

STOP: Final = ("stop",)
_DIALOG: Final = ("healthmsg.bot.dialogs.dialog.Dialog", "healthmsg.bot.dialogs.asks.Asks")


class Register(Protocol):
    """A decorator that registers a dialog."""

    def __call__(self, function: Code[R]) -> "RegisteredDialog[R]":
        """Register it."""


@frozen
class Argument:
    """A parameter of a dialog beside its `Dialog`."""

    name: str
    annotation: Any
    """As it was written: text, where annotations are not evaluated. See `annotations`."""
    has_default: bool


@frozen(eq=False)
class DialogCode(Generic[R]):
    """The code of one version."""

    dialog: "RegisteredDialog[R]" = field(repr=False)
    function: Code[R] = field(repr=False)
    arguments: tuple[Argument, ...]

    def called(self, d: object, args: Sequence[object], resolve: Resolve | None) -> Coroutine[Any, Any, R]:
        """Return the coroutine. What *args* does not fill is provided by type.

        Raises:
            ConfigurationError: there are too many arguments, or nothing is provided for one.
        """
        if len(args) > len(self.arguments):
            raise ConfigurationError(
                f"{self.dialog.where}: the dialog takes {len(self.arguments)} arguments beside its Dialog,"
                f" and was started with {len(args)}."
            )
        provided = {}
        for argument in self.arguments[len(args) :]:
            found = self._resolved(argument, resolve)
            if found is not inspect.Parameter.empty:
                provided[argument.name] = found
        return self.function(d, *args, **provided)

    @property
    def is_newest(self) -> bool:
        """Whether new dialogs begin with it."""
        return self.dialog.code_of(self.dialog.newest) is self

    def cannot_be_filled(self, resolve: Resolve, *, is_bare: bool) -> Iterator[str]:
        """Yield what is wrong with arguments for which there can be nothing.

        Nothing is provided for it, and it cannot be handed over when the dialog is started: no object of its
        type can be kept, or, *is_bare*, what starts the dialog hands nothing over.
        """
        annotations = self.annotations()
        for argument in self.arguments:
            if not is_bare and can_be_kept(annotations.get(argument.name, Any)):
                continue
            try:
                self._resolved(argument, resolve)
            except ConfigurationError as error:
                yield str(error)

    def _resolved(self, argument: Argument, resolve: Resolve | None) -> object:
        if resolve is not None:
            try:
                return resolve(self.dialog, argument.name, self.annotations().get(argument.name, Any))
            except LookupError:
                pass
        if argument.has_default:
            return inspect.Parameter.empty
        raise ConfigurationError(
            f"{self.dialog.where}: nothing was provided for the argument {argument.name}. Provide it with"
            " bot.provide(...), or hand it over when the dialog is started."
        )

    def annotations(self) -> Mapping[str, Any]:
        """Return the types of the arguments; where one cannot be found, all as they were written."""
        try:
            return inspect.get_annotations(self.function, eval_str=True)
        except Exception:  # noqa: BLE001 - a name that is known to type checkers alone, most often
            return inspect.get_annotations(self.function)


class RegisteredDialog(Generic[R]):
    """A dialog that can be started, with the code of each of its versions."""

    __slots__ = (
        "_codes",
        "_is_looked_through",
        "back",
        "checkpoint",
        "findings",
        "name",
        "newest",
        "stop",
        "where",
    )

    def __init__(  # noqa: PLR0913 - what `register` takes
        self,
        function: Code[R],
        *,
        name: str | None = None,
        version: int = 1,
        stop: Iterable[str] = STOP,
        back: Iterable[str] = (),
        checkpoint: Iterable[str] = (),
    ) -> None:
        self.name: str = name or function.__name__
        self.where: str = _where(function)
        self.newest: int = version
        """The number of the version that new dialogs begin with."""
        self.stop: frozenset[str] = _words(stop)
        self.back: frozenset[str] = _words(back)
        self.checkpoint: frozenset[str] = _words(checkpoint)
        self.findings: list[Finding] = []
        """What in its source would differ at each replay."""
        self._codes: dict[int, DialogCode[R]] = {}
        self._is_looked_through = False
        self._add(version, function)

    def __repr__(self) -> str:
        return f"<dialog {self.name}, version {self.newest}>"

    @property
    def origin(self) -> str:
        """The file of its newest code."""
        return self._codes[self.newest].function.__code__.co_filename

    def version(self, number: int) -> Callable[[Code[R]], Code[R]]:
        """Keep older code for the dialogs that began with it.

        Raises:
            ConfigurationError: there is code for that version already, or it is newer than the newest.
        """

        def keep(function: Code[R]) -> Code[R]:
            if number in self._codes or number > self.newest:
                raise ConfigurationError(
                    f"{_where(function)}: version {number} of the dialog {self.name} is not older than"
                    f" version {self.newest}, or there is code for it already."
                )
            self._add(number, function)
            return function

        return keep

    def code_of(self, version: int) -> DialogCode[R]:
        """Return the code of a version; the newest code, where none was kept for it."""
        return self._codes.get(version) or self._codes[self.newest]

    def codes(self) -> Mapping[int, DialogCode[R]]:
        """Return the code of each version."""
        return self._codes

    def _add(self, version: int, function: Code[R]) -> None:
        if not inspect.iscoroutinefunction(function):
            raise ConfigurationError(f"{_where(function)}: a dialog is an `async def`")
        first, *others = inspect.signature(function).parameters.values() or (None,)
        if first is None or not _can_be_dialog(first, function):
            raise ConfigurationError(f"{_where(function)}: a dialog takes its Dialog first")
        arguments = tuple(
            Argument(one.name, one.annotation, one.default is not one.empty)
            for one in others
            if one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
        )
        self._codes[version] = DialogCode(self, function, arguments)
        self._report(function)

    def look_again(self) -> None:
        """Look through the code once more, when the functions that stand below it are known too."""
        if not self._is_looked_through:
            self._is_looked_through = True
            for code in self._codes.values():
                self._report(code.function)

    def _report(self, function: Code[R]) -> None:
        for one in look_through(function):
            if one in self.findings:
                continue
            self.findings.append(one)
            log(
                logging.WARNING,
                "%(file)s:%(line)s: in the dialog %(dialog)s, %(what)s: %(advice)s",
                dialog=self.name,
                file=one.file,
                line=one.line,
                what=one.what,
                advice=one.advice,
            )


def register(
    *,
    name: str | None = None,
    version: int = 1,
    stop: Iterable[str] = STOP,
    back: Iterable[str] = (),
    checkpoint: Iterable[str] = (),
) -> Register:
    """Register a dialog under a name; without one, the function's.

    *stop* and *back* are words that a user types at any question to end the dialog, or to take the last
    answer back; *checkpoint* words take all answers back since the last `d.mark()`. They are compared
    whole, and in any case.
    """

    def decorate(function: Code[R]) -> RegisteredDialog[R]:
        return RegisteredDialog(
            function, name=name, version=version, stop=stop, back=back, checkpoint=checkpoint
        )

    return decorate


def _can_be_dialog(first: inspect.Parameter, function: Code[Any]) -> bool:
    """Return whether a parameter may be a `Dialog`; it may if its annotation is not there, or known later."""
    if first.kind in {first.KEYWORD_ONLY, first.VAR_KEYWORD}:
        return False
    annotation = first.annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, function.__globals__)  # noqa: S307 - the author's own source, as typing does
        except Exception:  # noqa: BLE001 - a name that is known to type checkers alone, most often
            return True
    return annotation is first.empty or _may_be_dialog(annotation)


def _may_be_dialog(annotation: object) -> bool:
    if get_origin(annotation) in {Union, UnionType, Annotated}:
        return any(map(_may_be_dialog, get_args(annotation)))
    if not isinstance(annotation, type) or annotation in {Any, object}:
        return True
    if getattr(annotation, "_is_protocol", False):
        return True
    # By its name: the class stands on this module.
    return any(f"{one.__module__}.{one.__qualname__}" in _DIALOG for one in annotation.__mro__)


def _words(words: Iterable[str]) -> frozenset[str]:
    if isinstance(words, str):
        raise ConfigurationError("stop, back and checkpoint are sequences of words, such as ('stop',)")
    return frozenset(word.strip().casefold() for word in words)


def _where(function: Code[Any]) -> str:
    code = getattr(function, "__code__", None)
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else name
