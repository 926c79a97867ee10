import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve, fields
from attrs.exceptions import FrozenInstanceError

from healthmsg import models
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
MODELS: list[Any] = [
    USER,
    MEMBER,
    ATTACHMENT,
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
        settings={"x": CANARY},
        dial_in_info={"x": [CANARY]},
        guest_access=True,
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
        payload={"type": CANARY},
        created_at=NOON,
        liked_by=(USER,),
        extra={"x": CANARY},
    ),
    SentMessage("m2", extra={"x": CANARY}),
]
# All that `repr` may show: ids, numbers, moments, flags and kinds, which name nobody.
SHOWN = {
    *("id", "user_id", "company_id", "type", "size", "mime_type", "unread", "created_at", "updated_at"),
    *("active", "private_user", "closed", "guest_access", "owner", "admin"),
}

every_model = pytest.mark.parametrize(
    "model", [pytest.param(model, id=type(model).__name__) for model in MODELS]
)


def test_every_model_is_looked_at() -> None:
    assert {type(model).__name__ for model in MODELS} == set(models.__all__) - {"Outcome"}
    for model in MODELS:
        defaults = [
            field.name for field in fields(type(model)) if getattr(model, field.name) == field.default
        ]
        assert type(model) is Member or defaults == []


@every_model
def test_repr_shows_nothing_about_a_person(model: Any) -> None:
    assert CANARY not in repr(model)
    assert model.id in repr(model)
    assert {field.name for field in fields(type(model)) if field.repr} <= SHOWN


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
def test_an_id_is_enough_and_nothing_else_is_made_up(model: type[Any]) -> None:
    bare = model("x")

    assert bare.id == "x"
    assert all(
        getattr(bare, field.name) in (None, ()) for field in fields(model)[1:] if field.name != "extra"
    )
    assert bare.extra == {}
    assert model("y").extra is not bare.extra


def test_a_member_is_a_user() -> None:
    assert isinstance(MEMBER, User)
    assert Member("u1") != User("u1")


def test_there_are_three_outcomes() -> None:
    assert [outcome.name for outcome in Outcome] == ["DELIVERED", "NOT_SENT", "UNKNOWN"]
