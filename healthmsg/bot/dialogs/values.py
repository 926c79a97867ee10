"""Values of a dialog as JSON, and back: what `d.once` returned or failed with, arguments, moments.

What is no plain JSON becomes `{"$": what, "v": how}`. A value is always read back from its JSON before the
dialog has it, the first time too: what a dialog changes in it afterwards is nowhere else, and a replay has
the same value as the first run.
"""

import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from hashlib import sha256
from importlib import import_module
from math import isfinite
from typing import Any, Final
from uuid import UUID

import attrs
import orjson

from healthmsg.bot.dialogs.exits import DialogExit
from healthmsg.bot.dialogs.questions.files import Files
from healthmsg.errors import DialogHeldError, NotKeptError, OnceFailedError
from healthmsg.log import class_name

_TAG: Final = "$"
_MOST_BITS: Final = 63
_DEEPEST: Final = 100

_WRITTEN: Final[Mapping[type, tuple[str, Callable[[Any], object]]]] = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    Decimal: ("decimal", str),
    UUID: ("uuid", str),
    bytes: ("bytes", lambda value: b64encode(value).decode()),
    complex: ("complex", lambda value: [value.real, value.imag]),
}
_READ: Final[Mapping[str, Callable[[Any], object]]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "decimal": Decimal,
    "uuid": UUID,
    "bytes": b64decode,
    "complex": lambda parts: complex(*parts),
    "int": int,
    "float": float,
    "tuple": lambda items: tuple(map(from_json, items)),
    "set": lambda items: set(map(from_json, items)),
    "frozenset": lambda items: frozenset(map(from_json, items)),
    "files": lambda parts: Files(*map(from_json, parts)),
    "dict": lambda pairs: {from_json(key): from_json(value) for key, value in pairs},
}


_KEPT: Final = (
    *(str, bool, int, float, type(None), *_WRITTEN, list, dict, tuple, set, frozenset, Enum, object),
)


def can_be_kept(annotation: object) -> bool:
    """Return whether a value of this type may be one that can be kept; True where that is not certain."""
    if not isinstance(annotation, type) or annotation in _KEPT or issubclass(annotation, Enum):
        return True
    if getattr(annotation, "_is_protocol", False) or is_dataclass(annotation):
        return True
    return attrs.has(annotation) or any(map(can_be_kept, _below(annotation)))


def _below(kind: type) -> Iterable[type]:
    return type.__subclasses__(kind)


def kept_value(value: object) -> str:
    """Return a value as the text of a step.

    Raises:
        NotKeptError: it cannot be kept.
    """
    failed = ""
    try:
        return orjson.dumps([to_json(value)]).decode()
    except orjson.JSONEncodeError:
        failed = class_name(value)
    raise NotKeptError(failed)


def value_of(text: str) -> object:
    """Return the value that a step's text holds, or raise the error that it holds."""
    document = orjson.loads(text)
    if type(document) is list:
        return from_json(document[0])
    raise error_from_json(document)


def fingerprint(values: tuple[object, ...]) -> str:
    """Return what tells whether arguments are the same as others; of what cannot be kept, its type."""
    return sha256(orjson.dumps([_told(value) for value in values])).hexdigest()[:16]


def copied(value: object) -> object:
    """Return a copy of a value that can be kept, and any other value itself."""
    if isinstance(value, str | int | float | None):
        return value
    try:
        return from_json(to_json(value))
    except NotKeptError:
        return value


def _told(value: object) -> object:
    try:
        return to_json([*value] if type(value) is Files and not value.texts else value)
    except NotKeptError:
        return f"{type(value).__module__}:{type(value).__qualname__}"


def to_json(value: object, depth: int = 0) -> object:
    """Return a value as JSON.

    Raises:
        NotKeptError: it cannot be kept.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if isinstance(value, int | float) and kind in {int, float}:
        return _number(value)
    if kind in _WRITTEN:
        tag, write = _WRITTEN[kind]
        return _tagged(tag, write(value))
    if depth > _DEEPEST:
        raise NotKeptError(f"{class_name(value)} that is nested so deeply")
    return _collected(value, depth + 1)


def _number(value: float) -> object:
    if isinstance(value, int):
        return value if value.bit_length() <= _MOST_BITS else _tagged("int", str(value))
    return value if isfinite(value) else _tagged("float", repr(value))


def _collected(value: Any, depth: int) -> object:  # noqa: PLR0911 - a case for each kind
    kind = type(value)
    if kind is list:
        return [to_json(item, depth) for item in value]
    if kind is dict:
        if all(type(key) is str for key in value) and _TAG not in value:
            return {key: to_json(item, depth) for key, item in value.items()}
        return _tagged("dict", [[to_json(key, depth), to_json(item, depth)] for key, item in value.items()])
    if kind is tuple:
        return _tagged("tuple", [to_json(item, depth) for item in value])
    if kind is Files:
        return _tagged("files", [to_json([*value], depth), [*value.texts]])
    if kind in {set, frozenset}:
        items = sorted((to_json(item, depth) for item in value), key=orjson.dumps)
        return _tagged(kind.__name__, items)
    if isinstance(value, Enum):
        return _tagged("enum", [_path(kind), value.name])
    if attrs.has(kind) or is_dataclass(kind):
        fields = {name: to_json(getattr(value, name), depth) for name, _ in _fields_of(kind)}
        return _tagged("object", [_path(kind), fields])
    raise NotKeptError(class_name(value))


def from_json(document: object) -> Any:
    """Return the value that `to_json` made JSON of."""
    if type(document) is list:
        return [from_json(item) for item in document]
    if type(document) is not dict:
        return document
    tag = document.get(_TAG)
    if tag is None:
        return {key: from_json(item) for key, item in document.items()}
    content = document["v"]
    if tag == "enum":
        return _class_of(content[0])[content[1]]
    if tag == "object":
        kind = _class_of(content[0])
        given = {argument: from_json(content[1][name]) for name, argument in _fields_of(kind)}
        return kind(**given)
    return _READ[tag](content)


def error_to_json(error: Exception) -> dict[str, object]:
    """Return an error as JSON; one that cannot be made again as an `OnceFailedError`."""
    kind = type(error)
    document: dict[str, object] = {"error": _path(kind), "args": [], "fields": {}}
    try:
        document["args"] = to_json([*error.args])
        document["fields"] = to_json(vars(error))
        orjson.dumps(document)
        error_from_json(document)
    except Exception:  # noqa: BLE001 - whatever the author's class does: it is not made again
        return {"error": _path(OnceFailedError), "args": [class_name(error)], "fields": {}}
    return document


def error_from_json(document: Mapping[str, Any]) -> Exception:
    """Return the error that `error_to_json` made JSON of."""
    kind = _class_of(document["error"])
    arguments = from_json(document["args"])
    if issubclass(kind, OnceFailedError | DialogHeldError):
        return OnceFailedError(*arguments)
    error = kind.__new__(kind, *arguments)
    if not isinstance(error, Exception):
        raise TypeError(document["error"])
    error.args = tuple(arguments)
    vars(error).update(from_json(document["fields"]))
    return error


def exit_to_json(error: type[DialogExit]) -> str:
    """Return the text of a step that ended with one of the dialog's own exceptions."""
    return orjson.dumps({"error": _path(error), "args": [], "fields": {}}).decode()


def _tagged(tag: str, value: object) -> dict[str, object]:
    return {_TAG: tag, "v": value}


def _path(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


@cache
def _fields_of(kind: type) -> tuple[tuple[str, str], ...]:
    """Return the fields of a class that it is made of, each with the name of its argument."""
    if attrs.has(kind):
        return tuple((one.name, one.alias or one.name) for one in attrs.fields(kind) if one.init)
    return tuple((one.name, one.name) for one in dataclass_fields(kind) if one.init)


def _class_of(path: str) -> Any:
    """Return a class by its place. It must stand in a module: one within a function cannot be found."""
    module, _, names = path.partition(":")
    found: Any = sys.modules.get(module) or import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    if not isinstance(found, type):
        raise TypeError(path)
    return found
