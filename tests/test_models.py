import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import NOTHING, evolve, fields, fields_dict, has
from attrs.exceptions import FrozenInstanceError

from healthmsg import models
from healthmsg.models import (
    Attachment,
    CompanyInfo,
    ConversationInfo,
    GroupChatInfo,
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
    Verification,
    VerificationPayload,
)

CANARY = "canary-3f9"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

USER = User(
    "u1",
    type="user",
    first_name=f"first {CANARY}",
    last_name=f"last {CANARY}",
    email=f"{CANARY}@example.com",
    company_name=f"company {CANARY}",
    company_id="co1",
    position=f"position {CANARY}",
    avatar=f"https://a.example/{CANARY}.png",
    active=True,
    private_user=False,
    extra={"phone": CANARY},
)
MEMBER = Member("u2", first_name=CANARY, owner=True, admin=False, extra={CANARY: 1})
ATTACHMENT = Attachment("a1", name=f"{CANARY}.pdf", size=3, mime_type="image/png", extra={"x": CANARY})
OPTION = QuestionOption("yes", label=CANARY, style="green", extra={"x": CANARY})
ANSWER = QuestionAnswer("u1", options=(CANARY,), extra={"x": CANARY})
QUESTION = QuestionPayload(
    options=(OPTION,),
    multi_answer=False,
    style=CANARY,
    users=(USER,),
    answers=(ANSWER,),
    extra={"x": CANARY},
)
SETTINGS = GroupSettings(
    allow_contacts=True,
    auto_close_after=30,
    auto_expire_after=3600,
    hybrid_messaging=False,
    members_can_invite=True,
    extra={"x": CANARY},
)
VERIFICATION = Verification(CANARY, extra={"x": CANARY})
MODELS: list[Any] = [
    USER,
    MEMBER,
    ATTACHMENT,
    OPTION,
    ANSWER,
    QUESTION,
    SETTINGS,
    VERIFICATION,
    CompanyInfo("co1", name=CANARY, extra={"x": CANARY}),
    IdentityProvider("p1", name="iDIN", extra={"x": CANARY}),
    Payload("poll", extra={"x": CANARY}),
    UserVerifications((VERIFICATION,), extra={"x": CANARY}),
    VerificationPayload(attributes={CANARY: [CANARY]}, extra={"x": CANARY}),
    ConversationInfo(
        "c1",
        subject=CANARY,
        closed=False,
        user=USER,
        members=(USER,),
        aux_id=CANARY,
        unread=2,
        created_at=NOON,
        updated_at=NOON,
        extra={"x": CANARY},
    ),
    GroupChatInfo(
        "g1",
        subject=CANARY,
        closed=True,
        members=(MEMBER,),
        aux_id=CANARY,
        avatar=f"https://a.example/{CANARY}.png",
        settings=SETTINGS,
        dial_in_info={"x": [CANARY]},
        guest_access=[CANARY],
        unread=2,
        created_at=NOON,
        updated_at=NOON,
        extra={"x": CANARY},
    ),
    Message(
        "m1",
        body=CANARY,
        user=USER,
        user_id="u1",
        attachments=(ATTACHMENT,),
        mentions=(USER,),
        payload=QUESTION,
        created_at=NOON,
        liked_by=(USER,),
        extra={"x": CANARY},
    ),
    SentMessage("m2", extra={"x": CANARY}),
]
# All that `repr` may show: ids, numbers, moments, flags and kinds, which do not name people.
SHOWN = {
    *("id", "user_id", "company_id", "provider_id", "type", "size", "mime_type", "unread"),
    *("created_at", "updated_at", "active", "private_user", "closed", "owner", "admin"),
    *("settings", *(field.name for field in fields(GroupSettings))),
}
SHOWN_OF = {
    # Of a button, and of an organisation.
    QuestionOption: {"name", "style"},
    IdentityProvider: {"name"},
    # Of other models their ids only, and of a payload its type.
    ConversationInfo: {"user", "members"},
    GroupChatInfo: {"members"},
    Message: {"user", "attachments", "mentions", "liked_by", "payload"},
}

every_model = pytest.mark.parametrize(
    "model", [pytest.param(model, id=type(model).__name__) for model in MODELS]
)


def test_every_model_that_the_service_sends_is_looked_at() -> None:
    exported = [getattr(models, name) for name in models.__all__]
    sent = {model for model in exported if has(model) and "extra" in fields_dict(model)}

    assert {type(model) for model in MODELS} == sent
    for model in MODELS:
        defaults = [
            field.name for field in fields(type(model)) if getattr(model, field.name) == field.default
        ]
        assert type(model) is Member or defaults in ([], ["type"])


def test_the_exported_names_are_sorted() -> None:
    assert models.__all__ == sorted(models.__all__)


@every_model
def test_repr_shows_nothing_about_a_person(model: Any) -> None:
    shown = {field.name for field in fields(type(model)) if field.repr}

    assert CANARY not in repr(model)
    assert shown <= SHOWN | SHOWN_OF.get(type(model), set())


def test_repr_shows_the_ids_of_what_a_model_holds() -> None:
    message = Message("m1", user=USER, attachments=(ATTACHMENT,), mentions=(USER, MEMBER))

    assert "user='u1'" in repr(message)
    assert "attachments=['a1'], mentions=['u1', 'u2']" in repr(message)
    assert "user='u1'" in repr(ConversationInfo("c1", user=USER))
    assert "user=None" in repr(ConversationInfo("c1"))
    assert "members=['u2']" in repr(GroupChatInfo("g1", members=(MEMBER,)))


@pytest.mark.parametrize(
    ("message", "sender"),
    [
        (Message("m1", user=USER), "u1"),
        (Message("m1", user_id="u2"), "u2"),
        (Message("m1", user=USER, user_id="u2"), "u1"),
        (Message("m1"), None),
    ],
)
def test_a_message_says_who_sent_it_in_either_form(message: Message, sender: str | None) -> None:
    assert message.sender_id == sender


@pytest.mark.parametrize(
    ("chat", "title"),
    [
        (ConversationInfo("c1", user=User("u1", first_name="Zoë", last_name="Mulder")), "Zoë Mulder"),
        (ConversationInfo("c1", user=User("u1", last_name="Mulder")), "Mulder"),
        (ConversationInfo("c1", "Nazorg", user=User("u1", first_name="Zoë")), "Nazorg"),
        (ConversationInfo("c1", user=User("u1")), ""),
        (ConversationInfo("c1"), ""),
        (ConversationInfo("c1", members=(User("u1", first_name="Zoë"), User("u2", "An"))), "Zoë"),
        (ConversationInfo("c1", members=(User("u1", "user", "Zoë"), User("u2", "user", "An"))), "Zoë, An"),
        (GroupChatInfo("g1", "Wijkteam"), "Wijkteam"),
        (GroupChatInfo("g1"), ""),
    ],
)
def test_a_chat_has_a_title_to_show(chat: ConversationInfo | GroupChatInfo, title: str) -> None:
    assert chat.title == title


@pytest.mark.parametrize("payload", [Payload("poll"), QUESTION, VerificationPayload(attributes={"a": 1})])
def test_repr_of_a_payload_shows_its_type_alone(payload: Payload) -> None:
    assert repr(payload) == f"{type(payload).__name__}(type={payload.type!r})"


@every_model
def test_models_are_frozen(model: Any) -> None:
    for field in fields(type(model)):
        with pytest.raises(FrozenInstanceError):
            setattr(model, field.name, None)
    with pytest.raises((FrozenInstanceError, AttributeError)):
        model.something_else = 1


@every_model
def test_models_are_hashable_and_equal_whatever_their_extra_fields(model: Any) -> None:
    other = evolve(model, extra={"of": ["a", "newer version"]})

    assert other == model
    assert hash(other) == hash(model)
    assert {model: 1}[other] == 1


@pytest.mark.parametrize(
    "model",
    [
        GroupChatInfo("g1", dial_in_info={"numbers": [1]}, guest_access={"open": []}),
        VerificationPayload(attributes={"a": [{}]}),
        Message("m1", payload=VerificationPayload(attributes={"a": {}})),
    ],
)
def test_whatever_json_a_model_holds_it_is_hashable(model: Any) -> None:
    assert hash(model) == hash(copy.deepcopy(model))


@every_model
def test_every_known_field_counts_for_equality(model: Any) -> None:
    for field in fields(type(model)):
        if field.name != "extra":
            assert evolve(model, **{field.name: "another"}) != model, field.name


@every_model
@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],  # noqa: S301 - our own
)
def test_models_survive_pickle_and_copy(model: Any, duplicate: Callable[[Any], Any]) -> None:
    restored = duplicate(model)

    assert type(restored) is type(model)
    assert restored == model
    assert restored.extra == model.extra


@pytest.mark.parametrize("model", [type(model) for model in MODELS])
def test_nothing_but_an_id_is_needed_and_nothing_else_is_defaults(model: type[Any]) -> None:
    needed = [field.name for field in fields(model) if field.default is NOTHING]
    kind = {QuestionPayload: "question", VerificationPayload: "verification_request"}.get(model)
    bare, another = (model(*needed) for _ in range(2))

    assert needed in ([], ["id"], ["provider_id"])
    assert bare.extra == {}
    assert another.extra is not bare.extra
    defaults: dict[str, object] = {"extra": {}, "attributes": {}, "type": kind}
    for field in fields(model):
        if field.name not in needed:
            assert getattr(bare, field.name) in (None, (), defaults.get(field.name)), field.name


def test_a_member_is_a_user() -> None:
    assert isinstance(MEMBER, User)
    assert Member("u1") != User("u1")


def test_payloads_of_known_kinds_are_payloads() -> None:
    assert isinstance(QUESTION, Payload)
    assert isinstance(VerificationPayload(), Payload)
    assert Payload("question") != QuestionPayload()


def test_there_are_three_outcomes() -> None:
    assert [outcome.name for outcome in Outcome] == ["DELIVERED", "NOT_SENT", "UNKNOWN"]
