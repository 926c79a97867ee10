import copy
import pickle
from collections.abc import Callable
from urllib.parse import unquote

import pytest
from attrs.exceptions import FrozenInstanceError
from hypothesis import assume, given
from hypothesis import strategies as st

from healthmsg.errors import AmbiguousAuxIdError, InvalidIdError
from healthmsg.ids import ChatAddress, ChatKind, exact_aux_id

every_kind = pytest.mark.parametrize("kind", list(ChatKind))


@pytest.mark.parametrize(
    ("text", "kind", "chat_id", "path"),
    [
        ("conversations/c1", ChatKind.CONVERSATION, "c1", "conversations/c1"),
        ("groupchats/g1", ChatKind.GROUP_CHAT, "g1", "groupchats/g1"),
        (
            "aux/conversations/patient 7",
            ChatKind.AUX_CONVERSATION,
            "patient 7",
            "aux/conversations/patient%207",
        ),
        ("aux/groupchats/ward 3/e", ChatKind.AUX_GROUP_CHAT, "ward 3/e", "aux/groupchats/ward%203%2Fe"),
        ("conversations/../me", ChatKind.CONVERSATION, "../me", "conversations/..%2Fme"),
        ("conversations//", ChatKind.CONVERSATION, "/", "conversations/%2F"),
        ("groupchats/a%2Fb", ChatKind.GROUP_CHAT, "a%2Fb", "groupchats/a%252Fb"),
        ("groupchats/g1?x#y", ChatKind.GROUP_CHAT, "g1?x#y", "groupchats/g1%3Fx%23y"),
    ],
)
def test_an_address_is_read_literally_and_its_id_stays_one_segment(
    text: str, kind: ChatKind, chat_id: str, path: str
) -> None:
    address = ChatAddress.parse(text)

    assert (address.kind, address.id, address.path) == (kind, chat_id, path)


@every_kind
@given(chat_id=st.text().filter(lambda text: text not in {"", ".", ".."}))
def test_no_id_escapes_its_segment(kind: ChatKind, chat_id: str) -> None:
    assume(not chat_id.startswith(("users/", *(f"{one.path}/" for one in ChatKind))))
    address = ChatAddress.parse(f"{kind.value}/{exact_aux_id(chat_id)}") if not kind.is_auxiliary else None
    address = address or ChatAddress(kind, exact_aux_id(chat_id))
    start, _, segment = address.path.rpartition("/")

    assert start == kind.value
    assert unquote(segment) == chat_id


@pytest.mark.parametrize(
    "text",
    [
        "conversations/",
        "conversations/.",
        "aux/groupchats/..",
        "conversations",
        "foo/x",
        "aux/x",
        "aux/users/x",
        "/conversations/c1",
        "Conversations/c1",
        "conversations\\c1",
        "",
        None,
        7,
        b"conversations/c1",
        "groupchats/\ud800",
    ],
)
def test_what_is_no_address_is_refused(text: object) -> None:
    with pytest.raises(InvalidIdError):
        ChatAddress.parse(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("to", "explained"),
    [
        ("3f0c", "an id alone does not say what it is the id of"),
        ("foo/x", r"must be one of conversations/…, .*users/…"),
        (None, r"not a NoneType: client\.conversations"),
    ],
)
def test_the_refusal_says_how_to_write_an_address(to: object, explained: str) -> None:
    with pytest.raises(InvalidIdError, match=explained):
        ChatAddress.parse(to)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", ["conversations/", "groupchats/", "aux/conversations/", "users/"])
def test_an_address_is_not_taken_for_an_id(start: str) -> None:
    for kind in ChatKind:
        if not kind.is_auxiliary:
            with pytest.raises(InvalidIdError, match="is given alone"):
                ChatAddress(kind, f"{start}c1")
        else:  # where any text may be the integrator's own id
            assert ChatAddress(kind, f"{start}c1").id == f"{start}c1"


@pytest.mark.parametrize(
    "text", ["canary/x", "canary", "conversations/canary\udcff", "aux/groupchats/canary\u00e9"]
)
def test_a_refusal_does_not_repeat_the_address(text: str) -> None:
    with pytest.raises(InvalidIdError) as caught:
        ChatAddress.parse(text)

    assert "canary" not in str(caught.value)


@every_kind
@pytest.mark.parametrize("chat_id", ["", ".", "..", None, 7, b"c1"])
def test_an_id_that_cannot_be_one_is_refused(kind: ChatKind, chat_id: object) -> None:
    with pytest.raises(InvalidIdError):
        ChatAddress(kind, chat_id)  # type: ignore[arg-type]


@every_kind
def test_only_auxiliary_ids_must_be_unambiguous(kind: ChatKind) -> None:
    assert ChatAddress(kind, exact_aux_id("Jos\u00e9")).path == f"{kind.value}/Jos%C3%A9"
    if kind.is_auxiliary:
        with pytest.raises(AmbiguousAuxIdError):
            ChatAddress(kind, "Jos\u00e9")
    else:
        assert ChatAddress(kind, "Jos\u00e9").path == f"{kind.value}/Jos%C3%A9"


@pytest.mark.parametrize(
    ("kind", "auxiliary", "group", "template"),
    [
        (ChatKind.CONVERSATION, False, False, "conversations/{id}"),
        (ChatKind.GROUP_CHAT, False, True, "groupchats/{id}"),
        (ChatKind.AUX_CONVERSATION, True, False, "aux/conversations/{aux_id}"),
        (ChatKind.AUX_GROUP_CHAT, True, True, "aux/groupchats/{aux_id}"),
    ],
)
def test_the_four_kinds(kind: ChatKind, auxiliary: bool, group: bool, template: str) -> None:
    assert (kind.is_auxiliary, kind.is_group, kind.template) == (auxiliary, group, template)


def test_there_is_no_fifth_kind() -> None:
    assert len(ChatKind) == 4


@every_kind
def test_repr_shows_no_auxiliary_id(kind: ChatKind) -> None:
    assert ("canary" in repr(ChatAddress(kind, "canary"))) is not kind.is_auxiliary


@every_kind
@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda address: pickle.loads(pickle.dumps(address))],  # noqa: S301 - our own
)
def test_an_address_is_a_value(kind: ChatKind, duplicate: Callable[[ChatAddress], ChatAddress]) -> None:
    address = ChatAddress(kind, exact_aux_id("Jos\u00e9"))

    restored = duplicate(address)

    assert restored == address
    assert hash(restored) == hash(address)
    assert restored.path == address.path
    assert address != ChatAddress(kind, "c2")


def test_an_address_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        ChatAddress.parse("conversations/c1").path = "me"  # type: ignore[misc]
