"""JSON to models and back: the one cattrs converter.

Strict about primitives, since cattrs by itself turns `"false"` into `True` and 123 into `'123'`; unknown
keys are kept in `extra`, and so is a field of an assumed form [A] that has another one: it must not make a
whole page unreadable. No error carries a value, only the path of the field.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from types import NoneType
from typing import Any, Final, TypeGuard, TypeVar

import orjson
from attrs import AttrsInstance, fields, has, resolve_types
from cattrs import Converter, transform_error
from cattrs.cols import homogenous_tuple_structure_factory, is_sequence
from cattrs.gen import make_dict_structure_fn

from healthmsg.clock import aware_moment, without_odd_offset
from healthmsg.errors import InvalidInputError, InvalidResponseError
from healthmsg.json_text import NotJSONError, parse_json
from healthmsg.models.fields import JSONObject
from healthmsg.models.payloads import Payload, QuestionPayload, VerificationPayload
from healthmsg.models.users import User, UserOrId

T = TypeVar("T")
Model = TypeVar("Model", bound=AttrsInstance)

# A date, a time, and an offset in minutes: datetime.fromisoformat reads more, a date alone and weeks too.
_is_timestamp: Final = re.compile(r"[\d-]{8,10}[T ][\d:.,]+(?:Z|[+-]\d\d(?::?[0-5]\d)?)?", re.ASCII).fullmatch


class _MismatchError(TypeError):
    """A value is not of the type that was expected."""


def decode(body: bytes, shape: type[T], call: str) -> T:
    """Make a model, or a tuple of models, of an answer's body; see `parse_json` for what JSON may look like.

    Raises:
        InvalidResponseError: the body is no JSON, or not of that shape.
    """
    structure = _structure_hook(shape)  # type: ignore[arg-type] # types are hashable
    is_json, document = _parse(body)
    if not is_json:
        raise InvalidResponseError(call, "it is not JSON")
    try:
        model: T = structure(document, shape)
    except Exception:  # noqa: BLE001 - whatever a hook stumbled over, and it may carry a value
        problem, path = "it does not have the expected shape", _mismatch_path(document, shape)
    else:
        return model
    raise InvalidResponseError(call, problem, path=path)


def _parse(body: bytes) -> tuple[bool, object]:
    try:
        return True, parse_json(body)
    except NotJSONError:
        return False, None


def encode(document: object) -> bytes:
    """Write JSON, with models as objects: what is `None` in them is left out, and `extra` is put back.

    A field that is set wins over a key of its name in `extra`. Timestamps become ISO 8601.

    Raises:
        InvalidInputError: it holds something that JSON or UTF-8 cannot express.
    """
    try:
        encoded = orjson.dumps(document, _as_object)
        # orjson writes null for a number that JSON cannot express; its stricter sibling refuses.
        if b"null" in encoded:
            json.dumps(document, allow_nan=False, default=_as_object_or_text)
    except (TypeError, ValueError):
        pass
    else:
        return encoded
    raise InvalidInputError("the text or value cannot be written as JSON in UTF-8")


def _is_model(kind: type) -> TypeGuard[type[AttrsInstance]]:
    # No other class of ours: a Token must not be written by mistake.
    return has(kind) and kind.__module__.startswith("healthmsg.models.")


def _as_object(value: object) -> dict[str, object]:
    kind = type(value)
    if not _is_model(kind):
        raise _MismatchError
    known = {field.name: getattr(value, field.name) for field in fields(kind)}
    extra = known.pop("extra", {})
    document = {name: kept for name, kept in known.items() if kept is not None}
    # An empty list gives way: answers to a question that could not be read are in `extra`.
    return document | {key: kept for key, kept in extra.items() if document.get(key, ()) == ()}


def _as_object_or_text(value: object) -> object:
    return _as_object(value) if _is_model(type(value)) else str(value)


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
        converter.register_structure_hook(primitive, _exactly(primitive))
        converter.register_structure_hook(primitive | None, _exactly(primitive, NoneType))
    converter.register_structure_hook(datetime, _timestamp)
    converter.register_structure_hook_func(lambda shape: shape == JSONObject, _json_object)
    converter.register_structure_hook_func(lambda shape: shape is object, lambda value, _: value)
    converter.register_structure_hook_factory(is_sequence, _sequence_hook)
    converter.register_structure_hook_factory(has, _model_hook)
    converter.register_structure_hook_func(lambda shape: shape == UserOrId, _user_or_id(converter))
    converter.register_structure_hook_func(lambda shape: shape is Payload, _payload_hook(converter))
    return converter


def _exactly(*classes: type) -> Callable[[Any, Any], Any]:
    accepted = frozenset(classes)

    def structure(value: Any, _: Any) -> Any:
        if value.__class__ in accepted:
            return value
        raise _MismatchError

    return structure


def _timestamp(value: Any, _: Any) -> datetime:
    if value.__class__ is not str or not _is_timestamp(without_odd_offset(value)):
        raise _MismatchError
    return aware_moment(value)


def _json_object(value: Any, _: Any) -> JSONObject:
    if value is None:
        return {}
    if value.__class__ is not dict:
        raise _MismatchError
    return value


def _sequence_hook(shape: Any, converter: Converter) -> Callable[[Any, Any], tuple[object, ...]]:
    structure_items = homogenous_tuple_structure_factory(shape, converter)

    def structure(value: Any, shape: Any) -> tuple[object, ...]:
        if value is None or value == []:
            return ()
        if value.__class__ is not list:
            raise _MismatchError
        items: tuple[object, ...] = structure_items(value, shape)
        return items

    return structure


def _model_hook(model: type[Model], converter: Converter) -> Callable[[Any, Any], Model]:
    known = {field.name for field in fields(resolve_types(model)) if field.init} - {"extra"}
    build = make_dict_structure_fn(model, converter)
    assumed = {
        field.name: (converter.get_structure_hook(field.type), field.type)
        for field in fields(model)
        if field.metadata.get("assumed")
    }

    def structure(value: Any, shape: Any) -> Model:
        if value.__class__ is not dict:
            raise _MismatchError
        if not known.issuperset(value):
            value = value | {"extra": {key: kept for key, kept in value.items() if key not in known}}
        try:
            return build(value, shape)
        except Exception:
            strange = {
                name: value[name]
                for name, (hook, kind) in assumed.items()
                if name in value and not _can_be_read(value[name], hook, kind)
            }
            if not strange:
                raise
        rest = {key: kept for key, kept in value.items() if key not in strange}
        return build(rest | {"extra": strange | rest.get("extra", {})}, shape)

    return structure


def _can_be_read(value: object, hook: Callable[[Any, Any], Any], shape: Any) -> bool:
    try:
        hook(value, shape)
    except Exception:  # noqa: BLE001 - whatever the hook stumbled over
        return False
    return True


def _user_or_id(converter: Converter) -> Callable[[Any, Any], User]:
    by_object = converter.get_structure_hook(User)

    def structure(value: Any, _: Any) -> User:
        return User(value) if value.__class__ is str else by_object(value, User)

    return structure


def _payload_hook(converter: Converter) -> Callable[[Any, Any], Payload]:
    of_another_kind = _model_hook(Payload, converter)
    by_kind = {
        "question": converter.get_structure_hook(QuestionPayload),
        "verification_request": converter.get_structure_hook(VerificationPayload),
    }

    def structure(value: Any, shape: Any) -> Payload:
        kind = as_mapping(value).get("type")
        build = by_kind.get(kind, of_another_kind) if isinstance(kind, str) else of_another_kind
        payload: Payload = build(value, shape)
        return payload

    return structure


def as_mapping(document: object) -> Mapping[str, object]:
    """Give a JSON object as a mapping, and an empty one for anything else."""
    return document if isinstance(document, dict) else {}
