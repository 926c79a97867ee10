import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import orjson
import pytest
from attrs import asdict, fields, fields_dict, has
from hypothesis import example, given, settings
from hypothesis import strategies as st

from healthmsg import models
from healthmsg.codec import decode, encode
from healthmsg.errors import InvalidResponseError
from healthmsg.json_text import JSONObject
from healthmsg.models import (
    ConversationInfo,
    GroupChatInfo,
    Message,
    Payload,
    QuestionPayload,
    User,
    VerificationPayload,
)

CALL = "GET {chat}/messages"
CANARY = "canary-3f9"
EXPORTED = [getattr(models, name) for name in models.__all__]
MODELS: list[type[Any]] = [model for model in EXPORTED if has(model) and "extra" in fields_dict(model)]
KNOWN_FIELDS = {field.name for model in MODELS for field in fields(model)} - {"extra"}
KINDS = {QuestionPayload: "question", VerificationPayload: "verification_request"}


def tuple_of(model: Any) -> Any:
    return tuple[model, ...]


every_model = pytest.mark.parametrize("model", MODELS)
few = settings(max_examples=15, deadline=None)
many = settings(max_examples=100, deadline=None)

# Every text tells where it came from.
texts = st.text(max_size=20).map(CANARY.__add__)
whole_numbers = st.integers(-(2**63), 2**64 - 1)
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(timezones=offsets | st.just(UTC))
unknown_keys = texts | st.sampled_from(["extra", "_x", "class", "self", "\0extra", "ID", ""])
jsons = st.recursive(
    st.none() | st.booleans() | whole_numbers | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(unknown_keys, inner, max_size=3),
    max_leaves=8,
)
unknown_fields = st.dictionaries(unknown_keys, jsons, max_size=3)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    bool: st.booleans(),
    int: whole_numbers,
    NoneType: st.none(),
    datetime: moments,
    object: jsons,
    JSONObject: unknown_fields,
}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    if kind is Payload:
        return st.one_of(models_of(Payload), *map(models_of, KINDS))
    if has(kind):
        return models_of(kind)
    if get_origin(kind) is UnionType:
        return st.one_of(*map(values_of, get_args(kind)))
    if get_origin(kind) is tuple:
        return st.lists(values_of(get_args(kind)[0]), max_size=3).map(tuple)
    return BY_TYPE[kind]


def models_of(model: type[Any]) -> st.SearchStrategy[Any]:
    by_field = {name: values_of(kind) for name, kind in get_type_hints(model).items()}
    if model in KINDS:
        by_field["type"] = st.just(KINDS[model])
    return st.builds(model, **by_field)


def test_every_model_is_looked_at() -> None:
    assert len(MODELS) >= 17


@pytest.mark.slow
@every_model
@few
@given(data=st.data())
def test_every_model_survives_being_written_and_read(model: type[Any], data: st.DataObject) -> None:
    value = data.draw(models_of(model))

    again = decode(encode(value), model, CALL)

    assert again == value
    assert hash(again) == hash(value)
    assert asdict(again) == asdict(value)


@pytest.mark.slow
@few
@given(st.lists(models_of(Message), max_size=3).map(tuple))
def test_a_page_survives_being_written_and_read(page: tuple[Message, ...]) -> None:
    again = decode(encode(page), tuple[Message, ...], CALL)

    assert [asdict(message) for message in again] == [asdict(message) for message in page]


@many
@given(unknown_fields)
def test_unknown_keys_survive_at_every_level(unknown: dict[str, object]) -> None:
    user = {"id": "u1", **unknown}
    question = {"type": "question", "options": [unknown], "answers": [unknown], "users": [user], **unknown}
    message = {
        "id": "m1",
        "user": user,
        "attachments": [{"id": "a1", **unknown}],
        "mentions": [user],
        "payload": question,
        "liked_by": [user],
        **unknown,
    }
    chat = {"id": "g1", "members": [user], "settings": unknown, "dial_in_info": unknown, **unknown}

    read_message = decode(orjson.dumps(message), Message, CALL)
    read_chat = decode(orjson.dumps(chat), GroupChatInfo, CALL)

    assert read_message.extra == read_chat.extra == unknown
    assert without_empty_lists(orjson.loads(encode(read_message))) == without_empty_lists(message)
    assert without_empty_lists(orjson.loads(encode(read_chat))) == without_empty_lists(chat)


def without_empty_lists(document: Any) -> Any:
    """Leave out what writing a model adds where the service sent nothing."""
    if isinstance(document, dict):
        inner = {key: without_empty_lists(value) for key, value in document.items()}
        return {key: value for key, value in inner.items() if value != []}
    return [without_empty_lists(value) for value in document] if isinstance(document, list) else document


@many
@given(st.datetimes(), st.sampled_from(["", "Z", "Z+00:00", "+00:00", "-11:30", "+0545", "+02"]))
def test_no_timestamp_is_ever_naive(moment: datetime, offset: str) -> None:
    body = orjson.dumps({"id": "c1", "updated_at": f"{moment.isoformat()}{offset}"})

    updated_at = decode(body, ConversationInfo, CALL).updated_at

    assert updated_at is not None
    assert updated_at.tzinfo is not None
    assert updated_at.replace(tzinfo=None) == moment


@many
@given(jsons)
def test_what_is_encoded_is_the_same_json_when_read(document: object) -> None:
    assert orjson.loads(encode(document)) == document


def assert_tells_nothing(error: BaseException) -> None:
    """Check that an error and all behind it name a call and a path, and nothing that the answer held."""
    assert CANARY not in f"{error} {error!r} {error.args} {vars(error)}"
    assert error.__cause__ is None
    assert error.__context__ is None
    path = str(getattr(error, "path", ""))
    assert re.fullmatch(r"(?:\$((?:\.\w+|\[\d+\])*))?", path), path
    assert set(re.findall(r"\.(\w+)", path)) <= KNOWN_FIELDS


def check_reading(body: bytes, model: type[Any], shape: Any) -> None:
    try:
        value = decode(body, shape, CALL)
    except InvalidResponseError as error:
        assert_tells_nothing(error)
    else:
        assert isinstance(value, model if shape is model else tuple)


shapes = st.sampled_from(MODELS).flatmap(
    lambda model: st.tuples(st.just(model), st.sampled_from([model, tuple_of(model)]))
)
keys = st.sampled_from([*sorted(KNOWN_FIELDS), "extra", "\0extra", CANARY])
wild = st.recursive(
    jsons | st.sampled_from([*KINDS.values(), "2026-01-02T03:04:05", "2026-01-02T03:04:05Z+00:00"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=20,
)
objects = st.dictionaries(keys, wild, max_size=8).map(lambda document: {"id": CANARY, **document})


@pytest.mark.slow
@many
@given(shape=shapes, document=objects | st.lists(objects, max_size=4) | wild)
@example(shape=(User, User), document={"id": "x", "\0extra": {"id": 1}})
@example(shape=(GroupChatInfo, GroupChatInfo), document={"id": CANARY, "members": None, "extra": CANARY})
def test_any_json_gives_a_value_or_an_invalid_response(shape: tuple[Any, Any], document: object) -> None:
    check_reading(orjson.dumps(document), *shape)


@pytest.mark.slow
@many
@given(shape=shapes, body=st.binary() | objects.map(orjson.dumps).map(lambda body: body[:-1]))
def test_any_bytes_give_a_value_or_an_invalid_response(shape: tuple[Any, Any], body: bytes) -> None:
    check_reading(body, *shape)


@pytest.mark.slow
@every_model
@few
@given(data=st.data())
def test_anything_in_a_wrong_place_gives_a_value_or_an_invalid_response(
    model: type[Any], data: st.DataObject
) -> None:
    document = orjson.loads(encode([data.draw(models_of(model))]))
    holder, key = data.draw(st.sampled_from(list(places(document))))
    holder[key] = data.draw(wild)

    check_reading(orjson.dumps(document), model, tuple_of(model))


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Return each place in a document, as the container and the key or index in it."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield document, key
        if isinstance(value, dict | list):
            yield from places(value)


@pytest.mark.parametrize(("field", "value"), [("body", [CANARY]), ("created_at", "2026-02-30T01:02:03Z")])
def test_nothing_private_is_shown_however_little_of_the_stack_is_left(field: str, value: object) -> None:
    body = orjson.dumps([{"id": CANARY, field: value}])
    check_reading(body, Message, tuple[Message, ...])

    def read_with_less_left(depth: int) -> None:
        if depth:
            read_with_less_left(depth - 1)
        else:
            check_reading(body, Message, tuple[Message, ...])

    reported: list[BaseException | None] = []
    for depth in range(sys.getrecursionlimit()):
        try:
            read_with_less_left(depth)
        except RecursionError as error:
            reported.append(error)

    assert reported
    while reported:
        if (behind := reported.pop()) is not None:
            assert CANARY not in f"{behind} {behind.args}"
            assert str(value) not in f"{behind} {behind.args}"
            reported += [behind.__context__, behind.__cause__]
