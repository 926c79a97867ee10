"""Models, results and errors to JSON and back: the one cattrs converter.

Strict about primitives, since cattrs by itself turns `"false"` into `True` and 123 into `'123'`. How a model
is made of a JSON object is in `structuring.py`.
"""

import builtins
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, get_args

import orjson
from attrs import fields, has

from healthmsg import errors
from healthmsg.clock import aware_moment
from healthmsg.errors import HealthmsgError, InvalidInputError, InvalidResponseError, Outcome
from healthmsg.json_text import JSONObject, NotJSONError, parse_json
from healthmsg.quota import Quota
from healthmsg.structuring import (
    ID_ALONE,
    Hook,
    MismatchError,
    id_alone_hook,
    items_hook,
    model_hook,
    writer_of,
)

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")

# A date, a time, and an offset in minutes: datetime.fromisoformat reads more, a date alone and weeks too.
_is_timestamp: Final = re.compile(r"[\d-]{8,10}[T ][\d:.,]+(?:Z|[+-]\d\d(?::?[0-5]\d)?)?", re.ASCII).fullmatch
_SHORTEST_USUAL: Final = len("2026-01-02T03:04:05Z")
# The attributes of errors, of which `to_dict` writes all that JSON has.
_OF_ERRORS: Final[dict[type[HealthmsgError], dict[str, Any]]] = {
    errors.CallError: {
        "outcome": Outcome,
        "call": str,
        "problem": str,
        "attempts": int,
        "transaction_id": str,
    },
    errors.ConnectError: {"host": str | None, "port": int | None, "seconds": float},
    errors.StatusError: {
        "status": int,
        "quota": Quota | None,
        "server_message": str,
        "server_code": str,
        "server_info": str,
        "retry_after": float | None,
    },
    errors.InvalidResponseError: {"path": str},
    errors.DialogOpenError: {"is_held": bool},
    errors.ForeignAwaitError: {"awaited": str, "file": str, "line": int},
    errors.ProgramExitError: {"type_name": str, "file": str, "line": int},
    errors.StepNotAwaitedError: {"step": str, "file": str, "line": int},
    errors.StepOutsideDialogError: {"step": str, "file": str, "line": int},
    errors.OnceFailedError: {"type_name": str},
    errors.TokenRenewalError: {"retry_after": float | None},
    errors.DeliveryUnknownError: {
        "started_at": datetime,
        "status": int | None,
        "is_idempotent": bool,
        "reason": str,
        "similar": tuple[str, ...],
    },
    errors.AuxIdTakenError: {"holder": str},
    errors.InvalidFileError: {"problems": tuple[tuple[str, ...], ...]},
    errors.AuthorizationRefusedError: {"code": str, "description": str | None},
    errors.TokenRequestError: {"code": str | None, "status": int | None, "retry_after": float | None},
}
# Those that JSON does not have, and what they are in an error that was read.
_NOT_IN_JSON: Final[dict[type[HealthmsgError], dict[str, object]]] = {
    errors.DeliveryUnknownError: {"attempt": None},
    errors.ExportIncompleteError: {"failures": ()},
}


class Model:
    """What can be written as JSON and read back: into a queue, a file, another process."""

    __slots__ = ()

    def to_dict(self) -> dict[str, object]:
        """Return it as a dict of what JSON knows: text, numbers, booleans, lists and dicts, and nothing else.

        Keys are the names of the fields, as the service writes them; those that are `None` are left out.
        Moments are ISO 8601 text with their offset, enumerations their values, paths text. What `extra` has
        is put back among the keys. Unlike `repr`, it has all that is private.

        Raises:
            InvalidInputError: it holds something that JSON or UTF-8 cannot express.
        """
        document: dict[str, object] = orjson.loads(_written(self, _as_json))
        return document

    def _document(self) -> dict[str, object]:
        """Return what its JSON object is made of."""
        document = fields_of(self)
        if extra := getattr(self, "extra", None):
            # An empty list gives way: answers to a question that could not be read are in `extra`.
            document |= {key: kept for key, kept in extra.items() if document.get(key, ()) == ()}
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Self:
        """Make one of what `to_dict` returned, or the service sent. Nothing is coerced.

        Keys that are not known are kept in `extra` where there is one, and left out elsewhere.

        Raises:
            InvalidInputError: it is not of that form; it names the field.
        """
        try:
            return structured(dict(document) if isinstance(document, Mapping) else document, cls)
        except MismatchError as error:
            path = error.path
        raise InvalidInputError(f"from_dict: this is not a {cls.__name__}, at {path or '$'}")


def decode(body: bytes, shape: type[T], call: str) -> T:
    """Make a model, or a tuple of models, of an answer's body; see `parse_json` for what JSON may look like.

    Raises:
        InvalidResponseError: the body is not JSON, or not of that shape.
    """
    problem, path = "it does not have the expected shape", ""
    try:
        return structured(parse_json(body), shape)
    except NotJSONError:
        problem = "it is not JSON"
    except MismatchError as error:
        path = error.path
    except InvalidInputError:
        pass
    raise InvalidResponseError(call, problem, path=path)


def encode(document: object) -> bytes:
    """Write JSON, with models as objects: what is `None` in them is left out, and `extra` is put back.

    A field that is set wins over a key of its name in `extra`. Timestamps become ISO 8601.

    Raises:
        InvalidInputError: it holds something that JSON or UTF-8 cannot express.
    """
    return _written(document, _model_as_json)


def as_mapping(document: object) -> Mapping[str, object]:
    """Return a JSON object as a mapping, and an empty one for anything else."""
    return document if isinstance(document, dict) else {}


# --- writing


def _written(document: object, as_json: Callable[[Any], object]) -> bytes:
    try:
        encoded = orjson.dumps(document, as_json)
        # orjson writes null for a number that JSON cannot express; its stricter sibling refuses.
        if b"null" in encoded:
            json.dumps(document, allow_nan=False, default=_or_text(as_json))
    except (TypeError, ValueError):
        pass
    else:
        return encoded
    raise InvalidInputError("the text or value cannot be written as JSON in UTF-8")


def _or_text(as_json: Callable[[Any], object]) -> Callable[[Any], object]:
    """Return a function that takes for text what only orjson can write."""
    return lambda value: as_json(value) if isinstance(value, Model | Exception) else str(value)


def _as_json(value: object) -> object:
    if isinstance(value, Model):
        return _model_as_json(value)
    if isinstance(value, Exception):
        return _error_as_json(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Quota):
        return {attribute.name: getattr(value, attribute.name) for attribute in fields(Quota)}
    raise MismatchError


def _model_as_json(model: object) -> dict[str, object]:
    if not isinstance(model, Model):
        # `encode` calls this for everything: a Token must not be written by mistake.
        raise MismatchError
    return model._document()  # noqa: SLF001 - ours


def fields_of(model: Any) -> dict[str, object]:
    """Return a model's fields, each as JSON has it, without `extra` and what is `None`."""
    return _writer(type(model))(model)  # type: ignore[arg-type] # types are hashable


@cache
def _writer(kind: Any) -> Callable[[Any], dict[str, object]]:
    return writer_of(kind)


def _error_as_json(error: Exception) -> dict[str, object]:
    document: dict[str, object] = {"type": type(error).__name__}
    if isinstance(error, HealthmsgError):
        document["message"] = str(error)
        document |= {name: getattr(error, name) for name in _attributes_of(type(error), _OF_ERRORS)}
        if isinstance(error.__cause__, HealthmsgError):
            document["cause"] = error.__cause__
    # What another library's error says may be a secret.
    return document


# --- reading


def structured(document: object, shape: type[T]) -> T:
    """Make a model, or a tuple of models, of what JSON holds.

    Raises:
        MismatchError: it is not of that shape. No value is in the error, nor behind it.
        InvalidInputError: a class that checks what it is given refused it.
    """
    hook, path = _hook(shape), ""  # type: ignore[arg-type] # types are hashable
    try:
        return hook(document, shape)  # type: ignore[no-any-return] # what a hook makes is of its shape
    except MismatchError as error:
        path = f"${error.path}"
    except InvalidInputError:
        raise
    except Exception:  # noqa: BLE001, S110 - whatever a hook stumbled over, and it may carry a value
        pass
    raise MismatchError(path)


@cache
def _hook(shape: Any) -> Hook:
    return _converter().get_structure_hook(shape)


@cache
def _converter() -> "Converter":
    from cattrs import Converter  # noqa: PLC0415 - programs start faster
    from cattrs.cols import is_sequence  # noqa: PLC0415 - as above

    converter = Converter()
    for primitive in (str, int, bool):
        converter.register_structure_hook(primitive, _exactly(primitive))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(datetime, _timestamp)
    converter.register_structure_hook(Path, _path)
    converter.register_structure_hook_func(lambda shape: shape == JSONObject, _json_object)
    converter.register_structure_hook_func(lambda shape: shape is object, lambda value, _: value)
    converter.register_structure_hook_func(_is_class_of(Enum), _member)
    converter.register_structure_hook_func(_is_class_of(Exception), _error)
    converter.register_structure_hook_factory(is_sequence, items_hook)
    converter.register_structure_hook_factory(has, model_hook)
    converter.register_structure_hook_factory(lambda shape: ID_ALONE in get_args(shape), id_alone_hook)
    return converter


def _is_class_of(base: type) -> Callable[[Any], bool]:
    return lambda shape: isinstance(shape, type) and issubclass(shape, base)


def _exactly(kind: type) -> Hook:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is kind:
            return value
        raise MismatchError

    return structure


def _number(value: Any, _: Any) -> float:
    if type(value) in {int, float}:
        return float(value)
    raise MismatchError


def _timestamp(value: Any, _: Any) -> datetime:
    if type(value) is str:
        written = value[:-6] if value[-7:] == "Z+00:00" else value
        # The usual form needs no regular expression, which takes twice as long as all else here.
        is_usual = len(written) >= _SHORTEST_USUAL and written[7] == "-" and written[10] + written[-1] == "TZ"
        try:
            if is_usual:
                return datetime.fromisoformat(written)
            if _is_timestamp(written):
                return aware_moment(written)
        except ValueError:
            pass
    raise MismatchError


def _path(value: Any, _: Any) -> Path:
    if type(value) is str:
        return Path(value)
    raise MismatchError


def _json_object(value: Any, _: Any) -> JSONObject:
    if type(value) is dict:
        return value
    raise MismatchError


def _member(value: Any, kind: type[Enum]) -> Enum:
    for member in kind:
        if member.value == value:
            return member
    raise MismatchError


def _error(value: Any, shape: type[Exception]) -> Exception:
    """Make an error of the class that it had, or the base of all where this version has no such class."""
    if type(value) is not dict:
        raise MismatchError
    name, message, cause = value.get("type"), value.get("message"), value.get("cause")
    if type(name) is not str:
        raise MismatchError(".type")
    if type(message) not in {str, NoneType}:
        raise MismatchError(".message")
    kind = _class_named(name, errors, shape)
    if kind is None:
        foreign = _class_named(name, builtins, shape)
        with suppress(TypeError):  # some cannot be made without what they are about
            if foreign is not None:
                return foreign.__new__(foreign)
        kind, message = HealthmsgError, message or name
    error = kind.__new__(kind, *(() if message is None else (message,)))
    for attribute, form in _attributes_of(kind, _OF_ERRORS).items():
        vars(error)[attribute] = _below(f".{attribute}", value.get(attribute), form)
    vars(error).update(_attributes_of(kind, _NOT_IN_JSON))
    error.__cause__ = None if cause is None else _below(".cause", cause, Exception)
    return error


def _class_named(name: str, module: object, base: type[Exception]) -> type[Exception] | None:
    kind = getattr(module, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, base) else None


def _below(step: str, value: Any, form: Any) -> Any:
    try:
        return _hook(form)(value, form)
    except MismatchError as error:
        raise error.below(step)  # noqa: B904 - it is the same error


def _attributes_of(
    kind: type[Exception], tables: Mapping[type[HealthmsgError], dict[str, Any]]
) -> dict[str, Any]:
    """Return what a table says of a class of errors and of those that it is made of."""
    return {
        name: form
        for base, attributes in tables.items()
        if issubclass(kind, base)
        for name, form in attributes.items()
    }
