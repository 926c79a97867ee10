import re
from string import Formatter

import pytest

from healthmsg import routes
from healthmsg.errors import AmbiguousAuxIdError, InvalidIdError
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.routes import (
    GET_AUX_USER,
    GET_CHAT,
    GET_ME,
    GET_MESSAGE,
    GET_USER,
    LIST_MEMBERS,
    LIST_MESSAGES,
    Idempotency,
    Known,
    Route,
)

# The endpoints of the contract, and how well each is known.
CONTRACT = {
    "GET me": "V",
    "GET me/contacts": "V",
    "GET company": "A",
    "GET company/users": "A",
    "POST company/import": "V",
    "GET users/{}": "V",
    "GET aux/users/{}": "V",
    "GET users/{}/providers": "V",
    "GET users/{}/verifications": "V",
    "POST users/invite/coworker": "V",
    "POST users/invite/contact": "V",
    "POST users/invite/private": "V",
    "GET conversations": "A",
    "GET groupchats": "A",
    "GET aux/conversations": "A",
    "GET aux/groupchats": "A",
    "POST conversations": "A",
    "GET {chat}": "V",
    "GET {chat}/messages": "A",
    "GET {chat}/messages/{}": "V",
    "POST {chat}/messages": "V",
    "POST {chat}/attachments": "V",
    "GET {chat}/attachments/{}": "V",
    "GET {chat}/pdf": "V",
    "POST {chat}/verification": "V",
    "POST groupchats": "V",
    "POST aux/groupchats": "V",
    "PUT {group_chat}": "V",
    "DELETE {group_chat}": "V",
    "PUT {group_chat}/settings": "V",
    "GET {group_chat}/members": "V",
    "PUT {group_chat}/members": "V",
    "DELETE {group_chat}/members": "V",
    "PUT {group_chat}/owner": "V",
    "PUT {group_chat}/admins": "V",
    "DELETE {group_chat}/admins": "V",
    "POST {group_chat}/avatar": "V",
}

ROUTES = {name: value for name, value in vars(routes).items() if isinstance(value, Route)}
HOSTILE = "canary/../x?y#z"

every_route = pytest.mark.parametrize(
    "route", [pytest.param(route, id=name) for name, route in ROUTES.items()]
)
every_route_and_kind = pytest.mark.parametrize(
    ("route", "kind"),
    [
        pytest.param(route, kind, id=f"{name}-{kind.name if kind else ''}")
        for name, route in ROUTES.items()
        for kind in route.kinds or (None,)
    ],
)


def as_in_the_contract(route: Route) -> str:
    template = re.sub(r"{(?!chat}|group_chat})\w+}", "{}", route.template)
    return f"{route.method} {template}"


def placeholders(route: Route) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(route.template) if name}


def test_the_routes_are_found() -> None:
    assert len(ROUTES) == len(CONTRACT)


@every_route
def test_every_route_is_in_the_contract_and_marked_as_there(route: Route) -> None:
    assert isinstance(route.known, Known)
    assert CONTRACT[as_in_the_contract(route)] == route.known.name


# The calls that change something without being a POST. Each was decided upon by itself.
MAY_RUN_TWICE = {
    "PUT {group_chat}": True,
    "PUT {group_chat}/settings": True,
    "PUT {group_chat}/members": True,
    "PUT {group_chat}/admins": True,
    "PUT {group_chat}/owner": False,
    "DELETE {group_chat}": False,
    "DELETE {group_chat}/members": False,
    "DELETE {group_chat}/admins": False,
}


@every_route
def test_every_route_says_whether_it_may_run_twice(route: Route) -> None:
    if route.method in {"GET", "POST"}:
        assert route.idempotency is (
            Idempotency.SAFE if route.method == "GET" else Idempotency.NOT_IDEMPOTENT
        )
    else:
        may_run_twice = MAY_RUN_TWICE[as_in_the_contract(route)]
        assert route.idempotency is (Idempotency.IDEMPOTENT if may_run_twice else Idempotency.NOT_IDEMPOTENT)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_of_a_call_that_is_not_known_only_reading_may_be_repeated(method: str) -> None:
    assert Idempotency.of_method(method) is (
        Idempotency.SAFE if method in {"GET", "HEAD"} else Idempotency.NOT_IDEMPOTENT
    )


def test_every_endpoint_is_there_once() -> None:
    assert len({(route.method, route.template) for route in ROUTES.values()}) == len(ROUTES)
    assert len(set(map(as_in_the_contract, ROUTES.values()))) == len(ROUTES)


@every_route
def test_chat_stands_at_the_start_or_nowhere(route: Route) -> None:
    assert "chat}" not in route.template.removeprefix("{chat}").removeprefix("{group_chat}")
    assert not route.template.startswith("/")


@every_route_and_kind
def test_ids_fill_one_segment_each_and_never_show_in_the_call(route: Route, kind: ChatKind | None) -> None:
    chat = ChatAddress(kind, HOSTILE) if kind else None
    ids: dict[str, object] = dict.fromkeys(placeholders(route) - {"chat", "group_chat"}, HOSTILE)
    open_path = re.sub(r"{(group_)?chat}", kind.template if kind else "", route.template)

    path = route.path(chat, **ids)

    assert path == re.sub(r"{\w+}", "canary%2F..%2Fx%3Fy%23z", open_path)
    assert route.call(chat) == f"{route.method} {open_path}"


def test_what_concerns_groups_exists_for_the_two_kinds_of_group_only() -> None:
    assert LIST_MEMBERS.kinds == (ChatKind.GROUP_CHAT, ChatKind.AUX_GROUP_CHAT)
    assert GET_CHAT.kinds == tuple(ChatKind)
    assert GET_ME.kinds == ()


def test_paths_and_calls_as_one_expects_them() -> None:
    chat = ChatAddress(ChatKind.AUX_GROUP_CHAT, "ward 3/e")

    assert GET_ME.path() == "me"
    assert GET_ME.call() == "GET me"
    assert GET_USER.path(user_id="u 1") == "users/u%201"
    assert GET_USER.call() == "GET users/{user_id}"
    assert GET_CHAT.path(chat) == "aux/groupchats/ward%203%2Fe"
    assert LIST_MESSAGES.call(chat) == "GET aux/groupchats/{aux_id}/messages"
    assert GET_MESSAGE.path(chat, message_id="m/1") == "aux/groupchats/ward%203%2Fe/messages/m%2F1"


@pytest.mark.parametrize("user_id", ["", ".", "..", None, 7, b"u1", "\ud800"])
def test_an_id_that_cannot_be_one_is_refused_by_name(user_id: object) -> None:
    with pytest.raises(InvalidIdError, match=r"^user_id "):
        GET_USER.path(user_id=user_id)


@pytest.mark.parametrize("braces", ["{user_id}", "{}", "{0.__class__}", "{"])
def test_braces_in_an_id_are_nothing_special(braces: str) -> None:
    path = GET_MESSAGE.path(ChatAddress(ChatKind.CONVERSATION, braces), message_id=braces)

    encoded = braces.replace("{", "%7B").replace("}", "%7D")
    assert path == f"conversations/{encoded}/messages/{encoded}"


def test_a_diacritic_in_an_auxiliary_id_is_refused_wherever_it_stands() -> None:
    with pytest.raises(AmbiguousAuxIdError):
        GET_AUX_USER.path(aux_id="José")
    assert GET_USER.path(user_id="José") == "users/Jos%C3%A9"
