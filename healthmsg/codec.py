"""JSON to models and back: the one cattrs converter.

Strict about primitives, since cattrs by itself turns `"false"` into `True` and 123 into `'123'`; unknown
keys are kept in `extra`. No error carries a value, only the path of the field.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

import orjson
from attrs import AttrsInstance, fields, has, resolve_types
from cattrs import Converter, transform_error
from cattrs.cols import homogenous_tuple_structure_factory, is_sequence
from cattrs.gen import make_dict_structure_fn

from healthmsg.errors import InvalidInputError, InvalidResponseError
from healthmsg.models.fields import JSONObject
from healthmsg.models.users import User, UserOrId

T = TypeVar("T")


class _MismatchError(TypeError):
    """A value is not of the type that was expected."""


def decode(body: bytes, shape: type[T], call: str) -> T:
    """Make a model, or a tuple of models, of an answer's body.

    Raises:
        InvalidResponseError: the body is no JSON, or not of that shape.
    """
    try:
        document = orjson.loads(body)
        model: T = _structure_hook(shape)(document, shape)  # type: ignore[arg-type] # types are hashable
    except orjson.JSONDecodeError:
        problem, path = "it is not JSON", ""
    except Exception:  # noqa: BLE001 - whatever a hook stumbled over, and it may carry a value
        problem, path = "it does not have the expected shape", _mismatch_path(document, shape)
    else:
        return model
    raise InvalidResponseError(call, problem, path=path)


def encode(document: object) -> bytes:
    """Write JSON.

    Raises:
        InvalidInputError: it holds something that JSON or UTF-8 cannot express.
    """
    try:
        encoded = orjson.dumps(document)
        # orjson writes null for a number that JSON cannot express; its stricter sibling refuses.
        if b"null" in encoded:
            json.dumps(document, allow_nan=False, default=str)
    except (TypeError, ValueError):
        pass
    else:
        return encoded
    raise InvalidInputError("the text or value cannot be written as JSON in UTF-8")


def _mismatch_path(document: object, shape: Any) -> str:
    try:
        _converter(detailed=True).structure(document, shape)
    except Exception as error:  # noqa: BLE001 - only its path is used
        return transform_error(error, format_exception=lambda *_: "")[0].partition("@ ")[2]
    return ""


@cache
def _structure_hook(shape: Any) -> Callable[[Any, Any], Any]:
    return _converter(detailed=False).get_structure_hook(shape)


@cache
def _converter(*, detailed: bool) -> Converter:
    converter = Converter(detailed_validation=detailed)
    for primitive in (str, int, bool):
        exactly = _exactly(primitive)
        converter.register_structure_hook(primitive, exactly)
        converter.register_structure_hook(primitive | None, _optional(exactly))
    converter.register_structure_hook(datetime, _timestamp)
    converter.register_structure_hook(datetime | None, _optional(_timestamp))
    converter.register_structure_hook_func(lambda shape: shape == JSONObject, _json_object)
    converter.register_structure_hook(JSONObject | None, _optional(_json_object))
    converter.register_structure_hook_factory(is_sequence, _sequence_hook)
    converter.register_structure_hook_factory(has, _model_hook)
    converter.register_structure_hook_func(lambda shape: shape == UserOrId, _user_or_id(converter))
    return converter


def _exactly(primitive: type[T]) -> Callable[[Any, Any], T]:
    def structure(value: Any, _: Any) -> T:
        if value.__class__ is primitive:
            return value
        raise _MismatchError

    return structure


def _optional(hook: Callable[[Any, Any], T]) -> Callable[[Any, Any], T | None]:
    def structure(value: Any, shape: Any) -> T | None:
        return None if value is None else hook(value, shape)

    return structure


def _timestamp(value: Any, _: Any) -> datetime:
    """Read ISO 8601 with or without an offset, and the vendor's odd `Z+00:00`; no offset means UTC [A]."""
    if value.__class__ is not str:
        raise _MismatchError
    moment = datetime.fromisoformat(value.removesuffix("+00:00") if value.endswith("Z+00:00") else value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _json_object(value: Any, _: Any) -> JSONObject:
    if value.__class__ is not dict:
        raise _MismatchError
    return value


def _sequence_hook(shape: Any, converter: Converter) -> Callable[[Any, Any], tuple[object, ...]]:
    structure_items = homogenous_tuple_structure_factory(shape, converter)

    def structure(value: Any, shape: Any) -> tuple[object, ...]:
        if value is None:
            return ()
        if value.__class__ is not list:
            raise _MismatchError
        items: tuple[object, ...] = structure_items(value, shape)
        return items

    return structure


def _model_hook(model: type[AttrsInstance], converter: Converter) -> Callable[[Any, Any], object]:
    known = {field.name for field in fields(resolve_types(model)) if field.init} - {"extra"}
    build = make_dict_structure_fn(model, converter)

    def structure(value: Any, shape: Any) -> object:
        if value.__class__ is not dict:
            raise _MismatchError
        if not known.issuperset(value):
            value |= {"extra": {key: kept for key, kept in value.items() if key not in known}}
        return build(value, shape)

    return structure


def _user_or_id(converter: Converter) -> Callable[[Any, Any], User]:
    by_object = converter.get_structure_hook(User)

    def structure(value: Any, _: Any) -> User:
        return User(value) if value.__class__ is str else by_object(value, User)

    return structure


def as_mapping(document: object) -> Mapping[str, object]:
    """Give a JSON object as a mapping, and an empty one for anything else."""
    return document if isinstance(document, dict) else {}
