import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from attrs import NOTHING, asdict, fields, fields_dict, has
from cattrs import StructureHandlerNotFoundError

from healthmsg import Token, models
from healthmsg.codec import as_mapping, decode, encode
from healthmsg.errors import InvalidInputError, InvalidResponseError
from healthmsg.ids import exact_aux_id
from healthmsg.models import (
    Attachment,
    ConversationInfo,
    GroupChatInfo,
    GroupInvite,
    GroupSettings,
    IdentityProvider,
    Member,
    Message,
    Outcome,
    Payload,
    QuestionAnswer,
    QuestionOption,
    QuestionPayload,
    SentMessage,
    User,
    UserVerifications,
    VerificationPayload,
)


def tuple_of(model: Any) -> Any:
    return tuple[model, ...]


CALL = "GET users/{user_id}"
CANARY = "canary-3f9"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
EXPORTED = [getattr(models, name) for name in models.__all__]
MODELS: list[type[Any]] = [model for model in EXPORTED if has(model) and "extra" in fields_dict(model)]
SHAPES: list[Any] = [*MODELS, *map(tuple_of, MODELS)]
KNOWN_FIELDS = {field.name for model in MODELS for field in fields(model)} - {"extra"}
KINDS = {QuestionPayload: "question", VerificationPayload: "verification_request"}

every_model = pytest.mark.parametrize("model", MODELS)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def least(model: type[Any]) -> dict[str, object]:
    """Return the smallest document that a model can be made of."""
    return needed(model) | ({"type": KINDS[model]} if model in KINDS else {})


def needed(model: type[Any]) -> dict[str, object]:
    return {field.name: "x" for field in fields(model) if field.default is NOTHING}


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
    assert set(re.findall(r"\.(\w+)", error.path)) <= KNOWN_FIELDS


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
        (ConversationInfo, "closed", "no"),
        (ConversationInfo, "members", {"id": "u1"}),
        (ConversationInfo, "members", "u1"),
        (GroupChatInfo, "members", ["u1"]),
        (Message, "attachments", ""),
        (SentMessage, "id", 1.5),
    ],
)
def test_nothing_is_coerced_and_the_error_names_the_field(
    model: type[Any], field: str, value: object
) -> None:
    error = refusal(model, orjson.dumps({"id": "x", field: value}))

    assert error.path == f"$.{field}" or (error.path == f"$.{field}[0]" and isinstance(value, list))


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        (ConversationInfo, "unread", False),
        (ConversationInfo, "user", []),
        (GroupChatInfo, "settings", []),
        (GroupChatInfo, "avatar", {}),
        (Message, "payload", "question"),
        (Message, "payload", []),
        (Message, "created_at", 1767323045),
        (Message, "created_at", True),
        (Message, "created_at", f"{CANARY} yesterday"),
        (Message, "created_at", ""),
        (Message, "created_at", "Z+00:00"),
        (Message, "created_at", "2026-02-30T00:00:00Z"),
        (Message, "created_at", "2026-01-02T03:04:05Z+00:00Z+00:00"),
        (Message, "created_at", "2026-01-02"),
        (Message, "created_at", "2026-W01-5T03:04:05"),
        (Message, "created_at", "2026-002T03:04:05"),
        (Message, "created_at", "2026-01-02T03:04:05+24:00"),
        (Message, "created_at", "2026-01-02T03:04:05+05:60"),
        (Message, "created_at", "2026-01-02T03:04:05+01:00:30"),
        (Message, "created_at", "2026-01-02T25:04:05Z"),
        (Message, "created_at", "10000-01-02T03:04:05Z"),
        (Message, "created_at", "٢٠٢٦-01-02T03:04:05Z"),
        (GroupChatInfo, "settings", {"auto_close_after": "30"}),
        (Message, "liked_by", {"count": 2}),
        (Message, "payload", {"type": "question", "options": [{"label": 7}]}),
    ],
)
def test_a_field_of_an_assumed_form_that_has_another_one_is_kept_as_it_came(
    model: type[Any], field: str, value: object
) -> None:
    document = {"id": "x", field: value, "new": 1}

    found = read(model, document)

    assert found == model("x")
    assert found.extra == {field: value, "new": 1}
    assert orjson.loads(encode(found)) | document == orjson.loads(encode(found))


def test_a_field_that_is_not_assumed_is_strict_beside_one_that_is() -> None:
    document = {"id": "m", "created_at": 7, "body": 7}

    assert refusal(Message, orjson.dumps(document)).path == "$.body"


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
        (IdentityProvider, {"id": "p", "name": CANARY}, "$.provider_id"),
        (GroupSettings, {"auto_close_after": "30"}, "$.auto_close_after"),
        (UserVerifications, {"user": [{"name": CANARY}, {"name": 7}]}, "$.user[1].name"),
        (Payload, {CANARY: 1, "type": [CANARY]}, "$.type"),
        (Payload, {"type": "question", "options": {}}, "$.options"),
        (Payload, {"type": "question", "options": [{CANARY: 1, "label": 7}]}, "$.options[0].label"),
        (Payload, {"type": "question", "answers": CANARY, "users": [7]}, "$.users[0]"),
        (Payload, {"type": "verification_request", "attributes": [CANARY]}, "$.attributes"),
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
        b'{"id": "canary-3f9",}',
        b"{'id': 'canary-3f9\xff'}",
        b"\xef\xbb\xbf",
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
    assert read(model, least(model)) == model(**needed(model))


@every_model
def test_null_is_as_good_as_missing(model: type[Any]) -> None:
    names = [field.name for field in fields(model) if field.name not in {"extra", *least(model)}]

    assert read(model, {**dict.fromkeys(names), **least(model)}) == model(**needed(model))


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
            "payload": {
                "type": "question",
                "multi_answer": False,
                "style": "horizontal",
                "users": ["u2"],
                "options": [{"name": "yes", "label": "Ja", "style": "green"}],
                "answers": [{"user_id": "u2", "options": ["yes"]}],
            },
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
        payload=QuestionPayload(
            multi_answer=False,
            style="horizontal",
            users=(User("u2"),),
            options=(QuestionOption("yes", "Ja", "green"),),
            answers=(QuestionAnswer("u2", ("yes",)),),
        ),
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
    unknown |= dict.fromkeys(["self", "class", "_x", "__class__", "o", "res", "key", "", "$"], 6)

    value = read(model, least(model) | unknown)

    assert value.extra == unknown
    assert value == model(**needed(model))


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


@pytest.mark.parametrize(
    ("document", "payload"),
    [
        ({"type": "question"}, QuestionPayload()),
        ({"type": "verification_request"}, VerificationPayload()),
        (
            {"type": "verification_request", "attributes": {"provider_id": "p"}},
            VerificationPayload(attributes={"provider_id": "p"}),
        ),
        ({"type": "poll", "options": 7, "attributes": 7}, Payload("poll")),
        ({"type": "Question"}, Payload("Question")),
        ({"type": None, "x": 1}, Payload()),
        ({"options": []}, Payload()),
        ({}, Payload()),
        (None, None),
    ],
)
def test_the_type_says_what_a_payload_is(document: dict[str, object] | None, payload: Payload | None) -> None:
    message = read(Message, {"id": "m1", "payload": document})

    assert message == Message("m1", payload=payload)
    if document is not None and type(message.payload) is Payload:
        assert message.payload.extra == {key: kept for key, kept in document.items() if key != "type"}


@pytest.mark.parametrize(
    "answers", ["yes", {"u2": ["yes"]}, [["u2", "yes"]], [{"options": "yes"}], [{"x": 1, "options": [7]}, 7]]
)
def test_answers_of_another_shape_are_kept_as_they_came(answers: object) -> None:
    document = {"type": "question", "style": "vertical", "answers": answers, "closed": True}

    message = read(Message, {"id": "m1", "payload": document})

    assert message.payload == QuestionPayload(style="vertical")
    assert message.payload.extra == {"answers": answers, "closed": True}
    assert orjson.loads(encode(message))["payload"] | document == orjson.loads(encode(message))["payload"]
    assert read(Message, orjson.loads(encode(message))).payload.extra == message.payload.extra


@pytest.mark.parametrize("field", ["dial_in_info", "guest_access"])
@pytest.mark.parametrize("anything", [True, 0, "x", [], {"extra": [{"id": CANARY}]}, [1, None]])
def test_where_only_the_name_is_known_any_json_is_taken(field: str, anything: object) -> None:
    assert getattr(read(GroupChatInfo, {"id": "g1", field: anything}), field) == anything


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


@pytest.mark.parametrize("body", [b'{"id":"u1","id":"u2"}', b'{"id":7,"id":"u2"}'])
def test_the_last_of_two_equal_keys_counts(body: bytes) -> None:
    assert decode(body, User, CALL) == User("u2")


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63)])
def test_whole_numbers_of_64_bits_are_kept(number: int) -> None:
    assert read(Attachment, {"id": "a1", "size": number}).size == number


@pytest.mark.parametrize("number", [b"18446744073709551616", b"-" + b"9" * 30])
def test_a_larger_number_is_refused(number: bytes) -> None:
    refusal(Attachment, b'{"id":"canary-3f9","size":' + number + b"}")


@pytest.mark.parametrize("number", [b"9" * 4000, b"1e400", b"NaN", b"-Infinity"])
def test_what_is_no_number_is_left_out(number: bytes) -> None:
    assert decode(b'{"id":"a1","size":' + number + b"}", Attachment, CALL) == Attachment("a1")


def test_a_shape_that_cannot_be_decoded_is_not_blamed_on_the_service() -> None:
    with pytest.raises(StructureHandlerNotFoundError):
        decode(b"[]", list[Any] | dict[str, int], CALL)  # type: ignore[arg-type]


def test_models_are_written_as_objects_wherever_they_are() -> None:
    document = {
        "settings": GroupSettings(auto_close_after=0, allow_contacts=False, extra={"new": [None]}),
        "invite": [GroupInvite(email="a@b.nl", first_name="", last_name="B", invite_type="contact")],
        "users": (User("u1", extra={"seen_by": {"by": Member("u2", admin=True)}}),),
        "aux_id": exact_aux_id("José"),
        "at": NOON,
    }

    assert orjson.loads(encode(document)) == {
        "settings": {"allow_contacts": False, "auto_close_after": 0, "new": [None]},
        "invite": [
            {
                "email": "a@b.nl",
                "first_name": "",
                "last_name": "B",
                "invite_type": "contact",
                "create_conversation": False,
            }
        ],
        "users": [{"id": "u1", "seen_by": {"by": {"id": "u2", "admin": True}}}],
        "aux_id": "José",
        "at": "2026-01-02T12:00:00+00:00",
    }


def test_a_field_that_is_set_wins_over_its_name_in_extra() -> None:
    user = User("u1", active=False, extra={"id": "u2", "active": True, "email": "a@b", "extra": 1})

    assert orjson.loads(encode(user)) == {"id": "u1", "active": False, "email": "a@b", "extra": 1}


def test_a_whole_page_survives_being_written() -> None:
    page = (
        Message("m1", user=User("u1", email="a@b", extra={"x": 1}), created_at=NOON, extra={"y": [2]}),
        Message("m2", payload=QuestionPayload(options=(QuestionOption("a", extra={"z": None}),))),
        Message("m3", mentions=(User("@all"),), attachments=(Attachment("a", size=0),)),
        Message("m4", payload=Payload("poll", extra={"extra": {"id": "x"}})),
        Message("m5", payload=VerificationPayload(attributes={"name": None})),
    )

    again = decode(encode(page), tuple[Message, ...], CALL)

    assert again == page
    assert [asdict(message) for message in again] == [asdict(message) for message in page]


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
        User,
        {"token": Token(CANARY)},
        User(f"{CANARY}\ud800"),
        {"user": User("u1", extra={f"{CANARY}\ud800": 1})},
        [User("u1", extra={"age": object()})],
        User("u1", extra={7: CANARY}),  # type: ignore[dict-item]
        User("u1", extra=CANARY),  # type: ignore[arg-type]
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
    for document in (
        {"seconds": number},
        User("u1", extra={"seconds": number}),
        GroupChatInfo("g1", guest_access=number),
    ):
        with pytest.raises(InvalidInputError):
            encode(document)


@pytest.mark.parametrize("value", [NOON, UUID(int=7), Outcome.UNKNOWN, "null", b"bytes", 2**64, User("u1")])
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
