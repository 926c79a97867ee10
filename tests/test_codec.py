import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from attrs import fields
from hypothesis import example, given, settings
from hypothesis import strategies as st

from healthmsg.codec import as_mapping, decode, encode
from healthmsg.errors import InvalidInputError, InvalidResponseError
from healthmsg.models import (
    Attachment,
    ConversationInfo,
    GroupChatInfo,
    Member,
    Message,
    Outcome,
    SentMessage,
    User,
)


def tuple_of(model: Any) -> Any:
    return tuple[model, ...]


CALL = "GET users/{user_id}"
CANARY = "canary-3f9"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MODELS: list[type[Any]] = [
    User,
    Member,
    ConversationInfo,
    GroupChatInfo,
    Message,
    Attachment,
    SentMessage,
]
SHAPES: list[Any] = [*MODELS, *map(tuple_of, MODELS)]
KNOWN_FIELDS = sorted({field.name for model in MODELS for field in fields(model)})

every_model = pytest.mark.parametrize("model", MODELS)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
shapes = st.sampled_from(SHAPES)

# Documents that look like the service's, with anything at all in the wrong place.
keys = st.sampled_from([*KNOWN_FIELDS, "\0extra", CANARY])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text().map(CANARY.__add__)
    | st.sampled_from(["2026-01-02T03:04:05", "2026-01-02T03:04:05Z+00:00"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=20,
)
objects = st.dictionaries(keys, values, max_size=8).map(lambda document: {"id": CANARY, **document})
documents = objects | st.lists(objects, max_size=4) | values


def read(shape: Any, document: object) -> Any:
    return decode(orjson.dumps(document), shape, CALL)


def refusal(shape: Any, body: bytes) -> InvalidResponseError:
    with pytest.raises(InvalidResponseError) as caught:
        decode(body, shape, CALL)
    assert_tells_nothing(caught.value)
    return caught.value


def assert_tells_nothing(error: InvalidResponseError) -> None:
    """Check that an error names the call and a path, and nothing that the answer held."""
    assert error.call == CALL
    assert CANARY not in f"{error} {error!r} {error.args} {vars(error)}"
    assert error.__cause__ is None
    assert error.__context__ is None
    steps = re.fullmatch(r"(?:\$((?:\.\w+|\[\d+\])*))?", error.path)
    assert steps, error.path
    assert set(re.findall(r"\.(\w+)", error.path)) <= set(KNOWN_FIELDS)


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        (User, "active", "false"),
        (User, "active", 0),
        (User, "active", 1),
        (User, "private_user", []),
        (User, "id", 123),
        (User, "id", None),
        (User, "id", True),
        (User, "first_name", 123),
        (User, "first_name", {}),
        (Member, "owner", "true"),
        (Attachment, "size", True),
        (Attachment, "size", 1.0),
        (Attachment, "size", "1"),
        (ConversationInfo, "unread", False),
        (ConversationInfo, "closed", "no"),
        (ConversationInfo, "members", {"id": "u1"}),
        (ConversationInfo, "members", "u1"),
        (ConversationInfo, "user", []),
        (GroupChatInfo, "members", ["u1"]),
        (GroupChatInfo, "settings", []),
        (GroupChatInfo, "dial_in_info", "x"),
        (Message, "payload", "question"),
        (Message, "attachments", ""),
        (Message, "created_at", 1767323045),
        (Message, "created_at", True),
        (Message, "created_at", f"{CANARY} yesterday"),
        (Message, "created_at", ""),
        (Message, "created_at", "Z+00:00"),
        (Message, "created_at", "2026-02-30T00:00:00Z"),
        (Message, "created_at", "2026-01-02T03:04:05Z+00:00Z+00:00"),
        (SentMessage, "id", 1.5),
    ],
)
def test_nothing_is_coerced_and_the_error_names_the_field(
    model: type[Any], field: str, value: object
) -> None:
    error = refusal(model, orjson.dumps({"id": "x", field: value}))

    assert error.path == f"$.{field}" or (error.path == f"$.{field}[0]" and isinstance(value, list))


@pytest.mark.parametrize(
    ("shape", "document", "path"),
    [
        (User, {}, "$.id"),
        (User, [], "$"),
        (Member, CANARY, "$"),
        (User, None, "$"),
        (tuple[User, ...], {"id": CANARY}, "$"),
        (tuple[User, ...], CANARY, "$"),
        (tuple[Member, ...], [{"id": "u1"}, CANARY], "$[1]"),
        (
            tuple[GroupChatInfo, ...],
            [{"id": "g", "members": [{"id": "u", "owner": CANARY}]}],
            "$[0].members[0].owner",
        ),
        (
            Message,
            {"id": "m", CANARY: CANARY, "user": {"id": "u", CANARY: 1, "email": [CANARY]}},
            "$.user.email",
        ),
        (Message, {"id": "m", "mentions": ["u1", {"id": 7}]}, "$.mentions[1].id"),
        (ConversationInfo, {"id": "c", "members": [{"id": "u"}, 7]}, "$.members[1]"),
    ],
)
def test_a_wrong_shape_is_named_by_path_and_never_by_value(shape: Any, document: object, path: str) -> None:
    assert refusal(shape, orjson.dumps(document)).path == path


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html>canary-3f9</html>",
        b'{"id": "canary-3f9"',
        b'{"id": "canary-3f9\xff"}',
        b'{"id": "canary-3f9\\ud800"}',
        b'{"id": NaN}',
        b"\xef\xbb\xbf[]",
        b"[" * 100_000,
        b'{"id":' * 100_000,
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    error = refusal(User, body)

    assert error.path == ""
    assert "it is not JSON" in str(error)


@pytest.mark.parametrize(
    ("shape", "document", "path"),
    [
        (User, CANARY, "$"),
        (tuple[User, ...], [CANARY], "$[0]"),
        (ConversationInfo, {"id": "c", "user": CANARY}, "$.user"),
        (ConversationInfo, {"id": "c", "members": [CANARY]}, "$.members[0]"),
        (Message, {"id": "m", "user": CANARY}, "$.user"),
    ],
)
def test_only_a_mention_may_be_an_id_alone(shape: Any, document: object, path: str) -> None:
    assert refusal(shape, orjson.dumps(document)).path == path


def test_an_answer_that_cannot_be_understood_had_no_effect() -> None:
    assert refusal(User, b"[]").outcome is Outcome.NOT_SENT


@every_model
def test_an_id_is_enough(model: type[Any]) -> None:
    assert read(model, {"id": "x"}) == model("x")


@every_model
def test_null_is_as_good_as_missing(model: type[Any]) -> None:
    names = [field.name for field in fields(model) if field.name not in {"id", "extra"}]

    assert read(model, {"id": "x", **dict.fromkeys(names)}) == model("x")


@every_model
def test_null_for_a_list_is_no_items(model: type[Any]) -> None:
    assert read(tuple_of(model), None) == ()
    assert read(tuple_of(model), []) == ()


def test_a_whole_message() -> None:
    message = read(
        Message,
        {
            "id": "m1",
            "body": "Hallo é 😀",
            "user": {"id": "u1", "first_name": "An", "active": True},
            "attachments": [{"id": "a1", "name": "x.pdf", "size": 3, "mime_type": "application/pdf"}],
            "mentions": [{"id": "u2"}],
            "payload": {"type": "question", "options": [{"name": "yes"}]},
            "created_at": "2026-01-02T03:04:05Z",
            "liked_by": [{"id": "u3"}],
        },
    )

    assert message == Message(
        "m1",
        body="Hallo é 😀",
        user=User("u1", first_name="An", active=True),
        attachments=(Attachment("a1", "x.pdf", 3, "application/pdf"),),
        mentions=(User("u2"),),
        payload={"type": "question", "options": [{"name": "yes"}]},
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        liked_by=(User("u3"),),
    )
    assert message.extra == {}


def test_members_of_a_group_are_members() -> None:
    chat = read(GroupChatInfo, {"id": "g1", "members": [{"id": "u1", "owner": True, "first_name": "An"}]})

    assert chat.members == (Member("u1", owner=True, first_name="An"),)


def test_a_mention_may_be_the_id_alone() -> None:
    message = read(Message, {"id": "m1", "mentions": ["@all", {"id": "u2", "new": 1}, "u3"]})

    assert message.mentions == (User("@all"), User("u2"), User("u3"))
    assert [user.extra for user in message.mentions] == [{}, {"new": 1}, {}]


@every_model
def test_unknown_keys_are_kept(model: type[Any]) -> None:
    unknown = {"new": [1, {"deep": None}], "extra": {"x": 1}, "\0extra": 2, "_id": 3, "ID": 4, "é": 5}

    value = read(model, {"id": "x", **unknown})

    assert value.extra == unknown
    assert value == model("x")


def test_unknown_keys_are_kept_at_every_level() -> None:
    message = read(
        Message,
        {
            "id": "m1",
            "extra": "outer",
            "user": {"id": "u1", "extra": {"extra": 1}},
            "attachments": [{"id": "a1", "mime": "image/png"}, {"id": "a2"}],
            "liked_by": [{"id": "u2", "since": "today"}],
        },
    )

    assert message.extra == {"extra": "outer"}
    assert message.user.extra == {"extra": {"extra": 1}}
    assert [attachment.extra for attachment in message.attachments] == [{"mime": "image/png"}, {}]
    assert message.liked_by[0].extra == {"since": "today"}


def test_two_values_never_share_their_extra() -> None:
    first, second = read(tuple[User, ...], [{"id": "u1"}, {"id": "u2"}])

    assert first.extra is not second.extra


@pytest.mark.parametrize(
    ("written", "offset"),
    [
        ("2026-01-02T03:04:05", 0),
        ("2026-01-02 03:04:05", 0),
        ("2026-01-02T03:04:05Z", 0),
        ("2026-01-02T03:04:05Z+00:00", 0),
        ("2026-01-02T03:04:05+00:00", 0),
        ("2026-01-02T03:04:05+02:00", 2),
        ("2026-01-02T03:04:05-0500", -5),
        ("20260102T030405Z", 0),
    ],
)
@pytest.mark.parametrize("fraction", ["", ".5", ".500", ".500000"])
def test_every_form_of_a_timestamp_becomes_an_aware_moment(written: str, offset: int, fraction: str) -> None:
    seconds = re.search(r"0?4:?05", written)
    assert seconds
    text = written[: seconds.end()] + fraction + written[seconds.end() :]

    moment = read(Message, {"id": "m1", "created_at": text}).created_at

    local = datetime(2026, 1, 2, 3, 4, 5, 500_000 if fraction else 0, tzinfo=UTC)
    assert moment == local - timedelta(hours=offset)
    assert moment.utcoffset() == timedelta(hours=offset)


@given(st.datetimes(), st.sampled_from(["", "Z", "Z+00:00", "+00:00", "-11:30", "+05:45"]))
def test_no_timestamp_is_ever_naive(moment: datetime, offset: str) -> None:
    chat = read(ConversationInfo, {"id": "c1", "updated_at": f"{moment.isoformat()}{offset}"})

    assert chat.updated_at.tzinfo is not None
    assert chat.updated_at.replace(tzinfo=None) == moment


@settings(max_examples=200)
@given(shape=shapes, document=documents)
@example(shape=User, document={"id": "x", "\0extra": {"id": 1}})
@example(shape=GroupChatInfo, document={"id": CANARY, "members": None, "extra": CANARY})
def test_any_json_gives_a_value_or_an_invalid_response(shape: Any, document: object) -> None:
    try:
        value = read(shape, document)
    except InvalidResponseError as error:
        assert_tells_nothing(error)
    else:
        assert isinstance(value, tuple if shape not in MODELS else shape)


@settings(max_examples=200)
@given(
    shape=shapes,
    body=st.binary()
    | documents.map(orjson.dumps).flatmap(lambda body: st.sampled_from([body[:-1], body * 2])),
)
def test_any_bytes_give_a_value_or_an_invalid_response(shape: Any, body: bytes) -> None:
    try:
        decode(body, shape, CALL)
    except InvalidResponseError as error:
        assert_tells_nothing(error)


@every_shape
@pytest.mark.parametrize("depth", [50, 500, 1000, 1100, 50_000])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        (b"[", b"]"),
        (b'{"id":', b"}"),
        (b'{"id":"x","new":', b"}"),
        (b'{"id":"x","payload":', b"}"),
        (b'{"id":"x","user":', b"}"),
        (b'[{"id":"x","members":', b"}]"),
    ],
)
def test_deep_nesting_gives_a_value_or_an_invalid_response(
    shape: Any, depth: int, start: bytes, end: bytes
) -> None:
    try:
        decode(start * depth + b"{}" + end * depth, shape, CALL)
    except InvalidResponseError as error:
        assert_tells_nothing(error)


@settings(max_examples=50)
@given(values)
def test_what_is_encoded_is_the_same_json_when_read(document: object) -> None:
    assert orjson.loads(encode(document)) == document


@pytest.mark.parametrize(
    "document",
    [
        f"{CANARY}\ud800",
        {"body": f"{CANARY}\udcff"},
        {f"{CANARY}\ud800": 1},
        [f"{CANARY}", b"bytes"],
        {7: CANARY},
        2**64,
        object(),
    ],
)
def test_what_json_in_utf8_cannot_express_is_refused_without_repeating_it(document: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        encode(document)

    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_cannot_express_is_refused_instead_of_becoming_null(number: float) -> None:
    with pytest.raises(InvalidInputError):
        encode({"seconds": number})


@pytest.mark.parametrize("value", [NOON, UUID(int=7), Outcome.UNKNOWN, "null", b"bytes", 2**64])
def test_a_null_nearby_does_not_change_what_can_be_written(value: object) -> None:
    assert can_be_written([value, None]) == can_be_written([value])


def can_be_written(document: object) -> bool:
    try:
        return bool(encode(document))
    except InvalidInputError:
        return False


@pytest.mark.parametrize(
    ("document", "mapping"), [({"a": 1}, {"a": 1}), ([1], {}), (None, {}), ("x", {}), (7, {})]
)
def test_as_mapping_gives_objects_and_nothing_else(document: object, mapping: dict[str, object]) -> None:
    assert as_mapping(document) == mapping
