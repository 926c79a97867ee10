"""The vendor's wire: each request that its software makes is answered with success, in the form that it has.

The rows are those of the contract that are marked [V]; the requests are made as that software makes them,
with no part of the SDK.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import RawTestServer
from attrs import field, frozen
from yarl import URL

from healthmsg import routes
from healthmsg.routes import Known, Route
from healthmsg.sandbox import Sandbox, SandboxFile
from healthmsg.sandbox.endpoints import TABLE
from healthmsg.sandbox.routing import Router

AUX_USER, AUX_GROUP = "bed 7/e", "wijk noord/é"
JSON_TYPE = "application/json; charset=UTF-8"
PERIOD = (
    "headers=false&start_date=2026-01-02T03%3A04%3A05Z%2B00%3A00&end_date=2099-01-02T03%3A04%3A05Z%2B00%3A00"
)
OK: Final = {200, 201, 204}
ID, LINK, LIST = {"id": str}, {"link": str}, list


@frozen
class Row:
    """One request; names in braces are replaced by what the sandbox has."""

    method: str
    path: str
    body: Any = None
    answer: Any = field(default=None, kw_only=True)
    """The fields of the answer and their types, or `list`; `None`: any."""
    files: str | None = field(default=None, kw_only=True)
    """The name of the form's parts with files."""
    refused: int | None = field(default=None, kw_only=True)
    """What a strict sandbox answers, if it refuses it."""

    def __str__(self) -> str:
        return f"{self.method} {self.path} {json.dumps(self.body)[:60]}"


def question(**changes: Any) -> dict[str, Any]:
    options = [{"name": "yes", "label": "Ja", "style": "green"}, {"name": "no", "label": "Nee"}]
    asked = {"multi_answer": False, "style": "horizontal", "users": ["{patient}"], "options": options}
    return {"body": "Komt u?", "question": asked | changes}


def named(name: str) -> dict[str, Any]:
    return question(options=[{"name": name, "label": "Start", "style": "theme"}])


def invite(**changes: Any) -> dict[str, Any]:
    return {"email": "zoe@huis.example", "first_name": "Zoë", "last_name": "Bos"} | changes


ADDRESSES = ("conversations/{conversation}", "conversations/{patient}", "aux/conversations/{aux_user}")
GROUPS = ("groupchats/{group}", "aux/groupchats/{aux_group}")
PEOPLE = (
    Row("GET", "me", answer=ID),
    Row("GET", "me/contacts?page=0&amount=20", answer=LIST),
    Row("GET", "users/{patient}", answer=ID),
    Row("GET", "aux/users/{aux_user}", answer=ID),
    Row("GET", "users/{patient}/providers", answer=LIST),
    Row("GET", "users/{patient}/verifications", answer={"user": list}),
    Row("POST", "company/import", {"send_email": False, "users": [invite(username="z", saml_username="zs")]}),
    Row("POST", "company/import", {"send_email": True, "users": [{"email": "a@b.example"}]}, refused=400),
    *(
        row
        for kind in ("coworker", "contact", "private")
        for path in [f"users/invite/{kind}"]
        for row in (
            Row("POST", path, invite(send_email=True), answer=ID),
            Row("POST", path, invite(send_email=False, invite_text="Welkom", aux_id="bed 8"), answer=ID),
            Row(
                "POST",
                path,
                {"phone_number": "+31612345678", "first_name": "Zoë", "last_name": ""},
                answer=ID,
            ),
            Row("POST", path, {"email": "zoe@huis.example", "send_email": True}, answer=ID, refused=400),
        )
    ),
)
CHATS = tuple(
    row
    for chat in (*ADDRESSES, *GROUPS)
    for row in (
        Row("GET", chat, answer=ID),
        Row("GET", f"{chat}/messages/{{message:{chat}}}", answer=ID),
        Row("POST", f"{chat}/messages", {"body": "Dag [mention={patient}] en [mention=@all]"}, answer=ID),
        Row("POST", f"{chat}/messages", question(), answer=ID),
        Row("POST", f"{chat}/messages", question(users=[], multi_answer=True, style="vertical"), answer=ID),
        Row("POST", f"{chat}/attachments", {"message": "Zie é"}, files="files", answer=ID),
        Row("POST", f"{chat}/attachments", {"message": ""}, files="files", answer=ID),
        Row("GET", f"{chat}/attachments/{{attachment:{chat}}}?headers=false", answer=LINK),
        Row("GET", f"{chat}/pdf?headers=false", answer=LINK),
        Row("GET", f"{chat}/pdf?{PERIOD}", answer=LINK),
        Row("POST", f"{chat}/verification", {"user_id": "{patient}", "provider_id": "{idin}"}, answer=ID),
    )
)
# What bots' authors write, unchecked.
ODD = (
    *(
        Row("POST", "groupchats/{group}/messages", body, answer=ID, refused=status)
        for body, status in (
            (named("start form"), 400),
            (named("ja-nee"), 400),
            (named("a" * 40), 400),
            (named(""), 400),
            (named("één?"), 400),
            (question(options=[{"name": "ja", "label": "1"}, {"name": "ja", "label": "2"}]), 400),
            (question(style="round"), 400),
            (question(users=["{stranger}"]), 404),
            (question(users=["0f2f4a53-7f3c-4d6e-9a10-5f0a4c1f7a99"]), 404),
            (question() | {"body": ""}, 400),
            ({"body": ""}, 400),
            ({"body": "half \ud83d"}, 400),
        )
    ),
    Row(
        "POST",
        "groupchats/{group}/verification",
        {"user_id": "{stranger}", "provider_id": "{idin}"},
        answer=ID,
        refused=404,
    ),
)
# The first message to a user begins the conversation.
FIRST = (
    Row("POST", "conversations/{stranger}/messages", {"body": "Dag"}, answer=ID),
    Row("POST", "conversations/{stranger}/messages", question(users=["{stranger}"]), answer=ID),
    Row("POST", "conversations/{stranger}/attachments", {"message": ""}, files="files", answer=ID),
    Row(
        "POST",
        "conversations/{stranger}/verification",
        {"user_id": "{stranger}", "provider_id": "{idin}"},
        answer=ID,
    ),
)
SETTINGS = {
    "allow_contacts": True,
    "auto_close_after": 7,
    "auto_expire_after": 600,
    "hybrid_messaging": False,
    "members_can_invite": True,
}
NEW_GROUP = {"invite_users": [], "members": ["{patient}"], "subject": "MDO", "send_email": True}
GROUP_INVITE = invite(
    invite_type="private_user", create_conversation=True, invite_text="Welkom", aux_id="bed 9"
)
NAMELESS = {"email": "n@huis.example", "invite_type": "contact", "create_conversation": False}
NEW_GROUPS = (
    Row("POST", "groupchats", NEW_GROUP, answer=ID),
    Row("POST", "groupchats", NEW_GROUP | {"settings": {}}, answer=ID),
    Row("POST", "groupchats", NEW_GROUP | {"settings": SETTINGS, "invite_users": [GROUP_INVITE]}, answer=ID),
    Row("POST", "groupchats", NEW_GROUP | {"invite_users": [NAMELESS]}, answer=ID, refused=400),
    Row("POST", "aux/groupchats", NEW_GROUP | {"aux_id": "nieuw/é", "aux_members": False}, answer=ID),
    Row(
        "POST",
        "aux/groupchats",
        NEW_GROUP | {"aux_id": AUX_GROUP, "aux_members": True, "invite_users": [GROUP_INVITE]},
        answer=ID,
    ),
)
IN_GROUPS = tuple(
    row
    for chat in GROUPS
    for aux in [{"aux_members": False} if chat.startswith("aux") else {}]
    for row in (
        Row("PUT", chat, {"subject": "MDO dinsdag"}),
        Row("DELETE", chat, {"send_email": True}),
        Row("DELETE", chat, {"send_email": False, "remove": True}),
        Row("PUT", f"{chat}/settings", SETTINGS),
        Row("PUT", f"{chat}/settings", {"auto_close_after": 0}),
        Row("PUT", f"{chat}/settings", {}, refused=400),
        Row("GET", f"{chat}/members", answer=LIST),
        Row("PUT", f"{chat}/members", {"members": ["{stranger}", "{colleague}"]} | aux),
        Row("PUT", f"{chat}/members", {"members": []} | aux, refused=400),
        Row("DELETE", f"{chat}/members", {"members": ["{patient}"]} | aux),
        Row("PUT", f"{chat}/owner", {"user_id": "{colleague}"}),
        Row("PUT", f"{chat}/admins", {"admins": ["{colleague}"]}),
        Row("DELETE", f"{chat}/admins", {"admins": ["{colleague}"]}),
        Row("POST", f"{chat}/avatar", files="avatar"),
    )
)
HOOK = {"event_name": "groupchat_new_message", "method": "POST", "url": "https://bot.example/hook"}
# Not in the SDK.
HOOKS = (Row("POST", "groupchats/{group}/hooks", HOOK, answer=ID),)
ROWS = (*PEOPLE, *CHATS, *ODD, *FIRST, *NEW_GROUPS, *IN_GROUPS)


class Bot:
    """Makes requests as the vendor's software does."""

    def __init__(self, sandbox: Sandbox, session: ClientSession) -> None:
        self.sandbox = sandbox
        self.session = session
        self.token = sandbox.issue_token()
        patient = sandbox.add_user("Bea", "Bos", aux_id=AUX_USER)
        colleague = sandbox.add_colleague("Joost", "Bakker")
        conversation = sandbox.add_conversation(user=patient)
        group = sandbox.add_group_chat("MDO", members=[patient, colleague], aux_id=AUX_GROUP)
        self.known = {
            "patient": patient,
            "stranger": sandbox.add_user("Cor", "Cox"),
            "colleague": colleague,
            "conversation": conversation,
            "group": group,
            "idin": "0f2f4a53-7f3c-4d6e-9a10-5f0a4c1f7a01",
            "aux_user": "bed%207%2Fe",
            "aux_group": "wijk%20noord%2F%C3%A9",
        }
        for chat, addresses in (
            (f"conversations/{conversation}", ADDRESSES),
            (f"groupchats/{group}", GROUPS),
        ):
            file = SandboxFile("a.png", b"png", "image/png")
            attachment = sandbox.say(None, chat, files=[file]).attachments[0].id
            for address in addresses:
                self.known[f"attachment:{address}"] = attachment
                self.known[f"message:{address}"] = sandbox.messages(chat)[-1].id

    def filled(self, text: str) -> str:
        # Names that hold an address come first, since that has names in braces itself.
        for name, value in sorted(self.known.items(), key=lambda item: -len(item[0])):
            text = text.replace("{" + name + "}", value)
        return text

    async def make(self, row: Row) -> tuple[int, Any, Mapping[str, str]]:
        headers = {"Content-Type": JSON_TYPE, "Authorization": f"Bearer {self.token}"}
        data = None if row.body is None else self.filled(json.dumps(row.body)).encode()
        if row.files is not None:
            headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
            data = form(row.body or {}, row.files)
        url = URL(f"{self.sandbox.environment.api_url}/{self.filled(row.path)}", encoded=True)
        async with self.session.request(
            row.method, url, data=data, headers=headers, allow_redirects=False
        ) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if body else None, answer.headers


BOUNDARY = "--------------------------515890814546601021194782"


def form(fields: Mapping[str, str], files: str) -> bytes:
    """Write a form as node's form-data does: text without a type."""
    written = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    )
    disposition = f'Content-Disposition: form-data; name="{files}"; filename="wond.png"'
    file = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: image/png\r\n\r\n"
    return written.encode() + file.encode() + b"\x89PNG\r\n\xff" + f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture
def bot(sandbox: Sandbox, session: ClientSession) -> Bot:
    return Bot(sandbox, session)


@pytest.mark.parametrize("row", [*ROWS, *HOOKS], ids=str)
async def test_every_request_of_the_vendors_software_succeeds(bot: Bot, row: Row) -> None:
    status, document, _ = await bot.make(row)

    assert status in ({302} if row.answer is LINK else OK), document
    if isinstance(row.answer, dict):
        assert {name: type(document[name]) for name in row.answer} == row.answer
    elif row.answer is LIST:
        assert isinstance(document, list)


@pytest.mark.parametrize("is_strict", [True])
@pytest.mark.parametrize("row", [row for row in ROWS if row.refused], ids=str)
async def test_a_strict_sandbox_refuses_what_looks_wrong(bot: Bot, row: Row) -> None:
    assert (await bot.make(row))[0] == row.refused


@pytest.mark.parametrize("is_strict", [True])
async def test_a_strict_sandbox_takes_all_else(bot: Bot) -> None:
    for row in (*PEOPLE, *CHATS[:11], *FIRST[:1]):
        if row.refused is None:
            assert (await bot.make(row))[0] in {*OK, 302}, row


async def test_the_table_has_every_route_that_is_known_from_the_vendors_software(bot: Bot) -> None:
    router, called = Router(TABLE), set()
    for row in ROWS:
        endpoint = router.find(row.method, tuple(bot.filled(row.path).partition("?")[0].split("/")))
        assert endpoint is not None, row
        called.add(f"{endpoint.method} {endpoint.template}")

    all_routes = [route for route in vars(routes).values() if isinstance(route, Route)]
    known = {call for route in all_routes if route.known is Known.V for call in calls_of(route)}
    assert len(known) > 50
    assert called == known


def calls_of(route: Route) -> Iterator[str]:
    below = re.sub(r"^{\w+}", "", route.template)
    for kind in route.kinds:
        yield f"{route.method} {kind.template}{below}"
    if not route.kinds:
        yield f"{route.method} {route.template}"


async def test_a_file_is_downloaded_as_the_vendors_software_does_it(bot: Bot) -> None:
    row = Row("GET", "conversations/{patient}/attachments/{attachment:conversations/{patient}}?headers=false")
    _, document, headers = await bot.make(row)

    # The whole of Set-Cookie goes back, and the token along with it.
    sent = {"Cookie": headers["Set-Cookie"], "Accept": "image/png", "Authorization": f"Bearer {bot.token}"}
    async with bot.session.get(document["link"], headers=sent) as answer:
        assert (answer.status, await answer.read()) == (200, b"png")


async def test_a_conversation_by_user_id_begins_with_its_first_message(bot: Bot) -> None:
    chat = "conversations/{stranger}"
    for before in (Row("GET", chat), Row("GET", f"{chat}/messages"), Row("POST", f"{chat}/messages", {})):
        assert (await bot.make(before))[0] in {400, 404}
    assert (await bot.make(Row("POST", f"{chat}/attachments", {"message": "x"})))[0] == 400
    assert (await bot.make(Row("GET", chat)))[0] == 404

    sent = (await bot.make(Row("POST", f"{chat}/messages", {"body": "Dag"})))[1]

    assert (await bot.make(Row("GET", f"{chat}/messages")))[1][0]["id"] == sent["id"]
    by_id = (await bot.make(Row("GET", chat)))[1]["id"]
    assert [message.id for message in bot.sandbox.messages(f"conversations/{by_id}")] == [sent["id"]]


async def test_what_a_group_says_of_calls_and_guests_are_objects(bot: Bot) -> None:
    document = (await bot.make(Row("GET", "groupchats/{group}")))[1]

    assert (document["dial_in_info"], document["guest_access"]) == ({}, {})


async def test_providers_have_names_in_lower_case(bot: Bot) -> None:
    document = (await bot.make(Row("GET", "users/{patient}/providers")))[1]

    assert [provider["name"] for provider in document] == ["idin", "digid"]


async def test_a_hook_announces_a_new_message_without_its_text(bot: Bot) -> None:
    announced: asyncio.Queue[Any] = asyncio.Queue()

    async def hear(request: web.BaseRequest) -> web.Response:
        announced.put_nowait(await request.json())
        return web.Response()

    async with RawTestServer(hear) as server:
        url = f"http://127.0.0.1:{server.port}/hook"
        assert (await bot.make(Row("POST", "groupchats/{group}/hooks", HOOK | {"url": url})))[0] == 201
        sent = (await bot.make(Row("POST", "groupchats/{group}/messages", {"body": "Dag"})))[1]

        assert await asyncio.wait_for(announced.get(), 5) == {
            "user_id": bot.sandbox.user_id,
            "groupchat_id": bot.known["group"],
            "message_id": sent["id"],
        }


@pytest.mark.parametrize(
    "wrong", [{"event_name": "other"}, {"method": "GET"}, {"url": "file:///etc/passwd"}, {"url": None}]
)
async def test_a_hook_that_cannot_be_is_refused(bot: Bot, wrong: dict[str, Any]) -> None:
    assert (await bot.make(Row("POST", "groupchats/{group}/hooks", HOOK | wrong)))[0] == 400


@pytest.mark.usefixtures("nothing_is_left_behind")
async def test_a_hook_that_does_not_answer_harms_nothing(bot: Bot) -> None:
    for url in ("http://localhost:9/hook", "http://[", "https://bot.example"):
        await bot.make(Row("POST", "groupchats/{group}/hooks", HOOK | {"url": url}))

    assert (await bot.make(Row("POST", "groupchats/{group}/messages", {"body": "Dag"})))[0] == 201
