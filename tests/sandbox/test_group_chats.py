"""Group chats: made, changed, closed and removed, and who may do that."""

from io import BytesIO
from typing import Any

import pytest
from aiohttp import FormData
from attrs import frozen

from healthmsg.sandbox import Sandbox
from tests.caller import Caller

DEFAULTS = {
    "allow_contacts": True,
    "auto_close_after": 0,
    "auto_expire_after": 0,
    "hybrid_messaging": False,
    "members_can_invite": True,
}


@frozen
class Group:
    """A group of the main user (its owner), an admin, a member and a patient; a stranger is not in it."""

    call: Caller
    id: str
    owner: str
    admin: str
    member: str
    patient: str
    stranger: str

    @property
    def paths(self) -> tuple[str, str]:
        return f"groupchats/{self.id}", "aux/groupchats/ward%203%2Fe"

    async def by(self, who: str, method: str, below: str = "", **kwargs: Any) -> int:
        """Call as this user, and return the status."""
        token = self.call.sandbox.issue_token(getattr(self, who))
        headers = {"Authorization": f"Bearer {token}"}
        return (await self.call(method, f"{self.paths[0]}{below}", headers=headers, **kwargs)).status

    async def shown(self) -> dict[str, Any]:
        document: dict[str, Any] = (await self.call("GET", self.paths[0])).document
        return document

    async def roles(self) -> dict[str, str]:
        """Return each member's role, by id."""
        return {
            member["id"]: "owner" if member["owner"] else "admin" if member["admin"] else "member"
            for member in (await self.shown())["members"]
        }


@pytest.fixture
async def group(call: Caller, sandbox: Sandbox) -> Group:
    admin, member = sandbox.add_colleague("Ada", "Admin"), sandbox.add_colleague("Lidy", "Lid")
    patient, stranger = sandbox.add_user("Piet", "Patiënt"), sandbox.add_colleague("Vera", "Vreemd")
    chat = sandbox.add_group_chat("Team", members=[admin, member, patient], aux_id="ward 3/e")
    made = Group(call, chat, sandbox.user_id, admin, member, patient, stranger)
    assert await made.by("owner", "PUT", "/admins", json={"admins": [admin]}) == 200
    return made


def picture(*parts: tuple[str, bytes]) -> FormData:
    form = FormData(default_to_multipart=True)
    for name, content in parts:
        form.add_field(name, BytesIO(content), filename="team.png", content_type="image/png")
    return form


async def test_a_new_group_has_its_maker_as_owner_and_the_defaults(call: Caller, sandbox: Sandbox) -> None:
    joost = sandbox.add_colleague("Joost", "Bos")
    body = {"subject": "MDO", "members": [joost, sandbox.user_id, joost], "send_email": False, "unknown": 1}
    made = await call("POST", "groupchats", json=body)
    assert (made.status, set(made.document)) == (201, {"id"})
    shown = (await call("GET", f"groupchats/{made.document['id']}")).document
    roles = {member["id"]: (member["owner"], member["admin"]) for member in shown["members"]}
    assert roles == {sandbox.user_id: (True, True), joost: (False, False)}
    assert (shown["subject"], shown["closed"], shown["aux_id"], shown["avatar"]) == ("MDO", False, None, None)
    assert (shown["settings"], shown["dial_in_info"], shown["guest_access"]) == (DEFAULTS, {}, {})


async def test_a_new_group_can_have_settings_and_people_who_are_invited(
    call: Caller, sandbox: Sandbox
) -> None:
    invite = {
        "email": "zoe@example.com",
        "first_name": "Zoë",
        "last_name": "Mulder",
        "invite_type": "private_user",
        "aux_id": "bed 9",
    }
    talk = invite | {"email": "joost@example.com", "invite_type": "contact", "create_conversation": True}
    invites = [invite, talk | {"aux_id": "bed 10", "invite_text": "Welkom!"}]
    settings = {"members_can_invite": False, "auto_close_after": 30}
    body = {
        "subject": "MDO",
        "members": [],
        "invite_users": invites,
        "settings": settings,
        "aux_members": True,
    }
    made = await call("POST", "aux/groupchats", json=body | {"aux_id": "mdo/1"})
    shown = (await call("GET", "aux/groupchats/mdo%2F1")).document
    assert shown["id"] == made.document["id"]
    assert shown["settings"] == DEFAULTS | settings
    assert [member["private_user"] for member in shown["members"]] == [False, True, False]
    joined = [member["id"] for member in shown["members"][1:]]
    assert joined == [
        (await call("GET", f"aux/users/{aux_id}")).document["id"] for aux_id in ("bed%209", "bed%2010")
    ]
    assert (await call("GET", "aux/conversations/bed%209")).status == 404
    first = (await call("GET", "aux/conversations/bed%2010/messages")).document
    assert [message["body"] for message in first] == ["Welkom!"]


INVITE = {"email": "a@b.c", "first_name": "A", "last_name": "B", "invite_type": "contact"}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"subject": " "}, 400),
        ({"subject": None}, 400),
        ({"members": "u1"}, 400),
        ({"members": [True]}, 400),
        ({"members": ["unknown"]}, 404),
        ({"send_email": "false"}, 400),
        ({"settings": []}, 400),
        ({"settings": {"allow_contacts": 1}}, 400),
        ({"invite_users": {}}, 400),
        ({"invite_users": ["a@b.c"]}, 400),
        ({"invite_users": [INVITE | {"invite_type": "friend"}]}, 400),
        ({"invite_users": [INVITE | {"email": None}]}, 400),
        ({"invite_users": [INVITE | {"create_conversation": "yes"}]}, 400),
        ({"invite_users": [INVITE], "members": ["unknown"]}, 404),
        ({"aux_id": ""}, 400),
        ({"aux_id": None}, 400),
        ({"aux_members": 0}, 400),
    ],
)
async def test_a_group_that_cannot_be_is_refused_and_no_one_is_invited(
    call: Caller, sandbox: Sandbox, changes: dict[str, Any], status: int
) -> None:
    chats, people = list(sandbox.store.chats), list(sandbox.store.people)
    body = {"subject": "MDO", "members": [sandbox.user_id], "aux_id": "mdo"} | changes
    assert (await call("POST", "aux/groupchats", json=body)).status == status
    assert (list(sandbox.store.chats), list(sandbox.store.people)) == (chats, people)


async def test_a_group_may_begin_with_its_owner_alone(call: Caller, sandbox: Sandbox) -> None:
    for body in ({"subject": "MDO"}, {"subject": "MDO", "members": [], "invite_users": []}):
        created = await call("POST", "groupchats", json=body)

        assert created.status == 201
        members = (await call("GET", f"groupchats/{created.document['id']}/members")).document
        assert [member["id"] for member in members] == [sandbox.user_id]


async def test_several_groups_share_an_aux_id_and_the_last_is_found(call: Caller, sandbox: Sandbox) -> None:
    body = {"subject": "MDO", "members": [sandbox.add_user("Bea", "Bos")], "aux_id": "mdo"}
    first, last = [(await call("POST", "aux/groupchats", json=body)).document["id"] for _ in range(2)]
    assert (await call("GET", "aux/groupchats/mdo")).document["id"] == last
    assert (await call("GET", f"groupchats/{first}")).document["aux_id"] == "mdo"
    assert (await call("DELETE", "aux/groupchats/mdo", json={"remove": True})).status == 204
    assert (await call("GET", "aux/groupchats/mdo")).document["id"] == first


async def test_a_patient_can_be_neither_owner_nor_admin(group: Group) -> None:
    token = group.call.sandbox.issue_token(group.patient)
    made = await group.call(
        "POST",
        "groupchats",
        json={"subject": "x", "members": [group.owner]},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert (made.status, made.document["error"]) == (412, "private_user")
    assert await group.by("owner", "PUT", "/admins", json={"admins": [group.member, group.patient]}) == 412
    assert await group.by("owner", "PUT", "/owner", json={"user_id": group.patient}) == 412
    assert (await group.roles())[group.member] == "member"


@pytest.mark.parametrize("address", [0, 1])
async def test_everything_works_by_either_id(group: Group, sandbox: Sandbox, address: int) -> None:
    call, path = group.call, group.paths[address]
    changes: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", "", {"subject": "Nieuw"}),
        ("PUT", "/settings", {"auto_expire_after": 3600}),
        ("PUT", "/members", {"members": [group.stranger], "aux_members": False}),
        ("DELETE", "/members", {"members": [group.member]}),
        ("PUT", "/admins", {"admins": [group.stranger]}),
        ("DELETE", "/admins", {"admins": [group.admin]}),
        ("PUT", "/owner", {"user_id": group.stranger}),
    ]
    for method, below, body in changes:
        answer = await call(method, f"{path}{below}", json=body)
        assert (answer.status, answer.document) == (200, {}), (method, below)
    assert await group.roles() == {
        sandbox.user_id: "admin",
        group.admin: "member",
        group.patient: "member",
        group.stranger: "owner",
    }
    shown = await group.shown()
    assert (shown["subject"], shown["settings"]) == ("Nieuw", DEFAULTS | {"auto_expire_after": 3600})
    members = await call("GET", f"{path}/members")
    assert (members.status, members.document) == (200, shown["members"])


CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", "", {"subject": "Nieuw"}),
    ("PUT", "/settings", {"allow_contacts": False}),
    ("PUT", "/members", {"members": ["STRANGER"]}),
    ("DELETE", "/members", {"members": ["MEMBER"]}),
    ("PUT", "/owner", {"user_id": "ADMIN"}),
    ("PUT", "/admins", {"admins": ["MEMBER"]}),
    ("DELETE", "/admins", {"admins": ["ADMIN"]}),
    ("DELETE", "", {}),
]


def named(group: Group, body: dict[str, Any]) -> dict[str, Any]:
    ids = {"STRANGER": group.stranger, "MEMBER": group.member, "ADMIN": group.admin}
    return {
        name: [ids[user] for user in value] if isinstance(value, list) else ids.get(value, value)
        for name, value in body.items()
    }


@pytest.mark.parametrize(("method", "below", "body"), CHANGES)
async def test_only_the_owner_and_admins_change_a_group(
    group: Group, method: str, below: str, body: dict[str, Any]
) -> None:
    before = await group.shown()
    body = named(group, body)
    adds_or_leaves = below == "/members"
    for who, status in (
        ("stranger", 404),
        ("patient", 200 if adds_or_leaves and method == "PUT" else 403),
        ("member", 200 if adds_or_leaves else 403),
    ):
        assert await group.by(who, method, below, json=body) == status, who
    if not adds_or_leaves:
        assert await group.shown() == before
        assert await group.by("admin", method, below, json=body) == (403 if below == "/owner" else 200)


async def test_a_member_adds_others_only_where_the_settings_let_him(group: Group) -> None:
    body = {"members": [group.stranger]}
    assert await group.by("admin", "PUT", "/settings", json={"members_can_invite": False}) == 200
    assert await group.by("member", "PUT", "/members", json=body) == 403
    assert await group.by("admin", "PUT", "/members", json=body) == 200
    assert await group.by("stranger", "GET") == 200


async def test_a_member_leaves_but_takes_no_one_along(group: Group) -> None:
    assert (
        await group.by("patient", "DELETE", "/members", json={"members": [group.patient, group.member]})
        == 403
    )
    assert await group.by("patient", "DELETE", "/members", json={"members": [group.patient]}) == 200
    assert await group.by("patient", "GET") == 404
    assert group.patient not in await group.roles()


async def test_who_comes_back_is_no_admin_any_more(group: Group) -> None:
    body = {"members": [group.admin]}
    assert await group.by("admin", "DELETE", "/members", json=body) == 200
    assert await group.by("owner", "PUT", "/members", json=body) == 200
    assert (await group.roles())[group.admin] == "member"


async def test_the_owner_stays_until_he_hands_the_chat_over(group: Group) -> None:
    for who in ("owner", "admin"):
        assert await group.by(who, "DELETE", "/members", json={"members": [group.owner]}) == 412
        assert await group.by(who, "DELETE", "/admins", json={"admins": [group.owner]}) == 412
    assert await group.by("owner", "PUT", "/owner", json={"user_id": group.admin}) == 200
    roles = await group.roles()
    assert (roles[group.owner], roles[group.admin]) == ("admin", "owner")
    assert await group.by("owner", "DELETE", "/members", json={"members": [group.owner]}) == 200


async def test_who_is_made_owner_or_admin_must_be_a_member(group: Group) -> None:
    for below, body in (("/owner", {"user_id": group.stranger}), ("/admins", {"admins": [group.stranger]})):
        assert await group.by("owner", "PUT", below, json=body) == 404
    assert await group.by("owner", "DELETE", "/members", json={"members": [group.stranger]}) == 404
    assert await group.by("owner", "DELETE", "/admins", json={"admins": ["unknown"]}) == 404
    assert await group.by("owner", "DELETE", "/admins", json={"admins": [group.member]}) == 200


async def test_members_can_be_named_by_aux_id_on_the_aux_route_alone(group: Group, sandbox: Sandbox) -> None:
    patient = sandbox.add_user("Bea", "Bos", aux_id="bed 7")
    by_aux_id = {"members": ["bed 7"], "aux_members": True}
    plain, auxiliary = (f"{path}/members" for path in group.paths)
    assert (await group.call("PUT", plain, json=by_aux_id)).status == 404
    assert (await group.call("PUT", auxiliary, json=by_aux_id | {"aux_members": False})).status == 404
    assert (await group.call("PUT", auxiliary, json=by_aux_id)).status == 200
    assert patient in await group.roles()
    assert (await group.call("DELETE", auxiliary, json=by_aux_id)).status == 200
    assert patient not in await group.roles()


@pytest.mark.parametrize(
    ("method", "below", "body"),
    [
        ("PUT", "", {"subject": ""}),
        ("PUT", "", {"subject": 5}),
        ("PUT", "", ["subject"]),
        ("DELETE", "", {"remove": "true"}),
        ("DELETE", "", {"send_email": 0}),
        ("DELETE", "", None),
        ("PUT", "/settings", {}),
        ("PUT", "/settings", {"unknown": True}),
        ("PUT", "/settings", {"allow_contacts": None}),
        ("PUT", "/settings", {"allow_contacts": "true"}),
        ("PUT", "/settings", {"auto_close_after": True}),
        ("PUT", "/settings", {"auto_close_after": 1.0}),
        ("PUT", "/settings", {"auto_close_after": -1}),
        ("PUT", "/settings", {"auto_expire_after": 10**30}),
        ("PUT", "/settings", {"hybrid_messaging": True, "members_can_invite": 1}),
        ("PUT", "/members", {}),
        ("PUT", "/members", {"members": []}),
        ("PUT", "/members", {"members": [[]]}),
        ("DELETE", "/members", {"members": []}),
        ("PUT", "/owner", {"user_id": [5]}),
        ("PUT", "/admins", {"admins": []}),
        ("DELETE", "/admins", {"admins": {}}),
    ],
)
@pytest.mark.parametrize("is_strict", [True])
async def test_a_change_that_cannot_be_is_refused(
    group: Group, method: str, below: str, body: object
) -> None:
    before = await group.shown()
    assert await group.by("owner", method, below, json=body) == 400
    assert await group.by("owner", method, below, data=b"x") == 400
    assert await group.shown() == before


async def test_a_closed_group_can_be_read_and_removed_but_not_changed(group: Group) -> None:
    assert await group.by("admin", "DELETE", json={"send_email": True}) == 200
    closed = await group.shown()
    assert closed["closed"] is True
    for method, below, body in CHANGES:
        assert await group.by("owner", method, below, json=named(group, body)) == 412, (method, below)
    assert await group.by("owner", "POST", "/avatar", data=picture(("avatar", b"x"))) == 412
    assert await group.by("owner", "POST", "/attachments", data=picture(("files", b"x"))) == 412
    assert await group.by("owner", "POST", "/messages", json={"body": "x"}) == 412
    assert await group.shown() == closed
    assert await group.by("member", "GET", "/members") == 200
    assert await group.by("member", "GET", "/pdf") == 302
    assert await group.by("admin", "DELETE", json={"remove": True}) == 403
    assert await group.by("owner", "DELETE", json={"remove": True}) == 204


async def test_a_removed_group_is_gone_for_all(group: Group) -> None:
    assert await group.by("admin", "DELETE", json={"remove": True}) == 403
    removed = await group.call("DELETE", group.paths[1], json={"remove": True})
    assert (removed.status, removed.body) == (204, b"")
    for path in group.paths:
        assert (await group.call("GET", path)).status == 404
        assert (await group.call("DELETE", path, json={"remove": True})).status == 404
    assert await group.by("member", "GET", "/messages") == 404
    for kind in ("groupchats", "aux/groupchats"):
        assert group.id not in {chat["id"] for chat in (await group.call("GET", kind)).document}


async def test_an_avatar_is_shown_by_a_link_that_anybody_opens(group: Group, sandbox: Sandbox) -> None:
    answer = await group.call("POST", f"{group.paths[1]}/avatar", data=picture(("avatar", b"\x89PNG")))
    assert (answer.status, answer.document) == (200, {})
    link = (await group.shown())["avatar"]
    assert link.startswith(f"{sandbox.url}/files/")
    file = await group.call("GET", link)
    assert (file.status, file.body, file.headers["Content-Type"]) == (200, b"\x89PNG", "image/png")
    assert await group.by("member", "POST", "/avatar", data=picture(("avatar", b"x"))) == 403
    assert (await group.shown())["avatar"] == link


@pytest.mark.parametrize(
    "parts", [[], [("avatar", b"")], [("files", b"x")], [("avatar", b"x"), ("avatar", b"y")]]
)
async def test_an_avatar_is_one_file(group: Group, parts: list[tuple[str, bytes]]) -> None:
    assert await group.by("owner", "POST", "/avatar", data=picture(*parts)) == 400
    assert (await group.shown())["avatar"] is None


async def test_a_conversation_cannot_be_changed_as_a_group_can(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    assert (await call("PUT", f"conversations/{chat}", json={"subject": "x"})).status == 405
    assert (await call("DELETE", f"conversations/{chat}", json={})).status == 405
    assert (await call("GET", f"conversations/{chat}/members")).status == 404
