"""People, chats and messages."""

import json
from io import BytesIO
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthmsg import routes
from healthmsg.ids import ChatKind
from healthmsg.routes import Route
from healthmsg.sandbox import Sandbox
from healthmsg.sandbox.endpoints import TABLE
from healthmsg.sandbox.routing import Router
from tests.caller import Caller

ROUTER = Router(TABLE)


STRANGE_IDS = [
    "patient 7",
    "ward 3/e",
    "a?b#c",
    "100%",
    "%2F",
    "José 🙂",
    "..a",
    "a\\b;c=d&e+f",
    '<b>"',
    "\0\n",
]


async def whole_list(call: Caller, path: str, amount: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for page in range(1000):
        document = (await call("GET", f"{path}?page={page}&amount={amount}")).document
        if not document:
            return items
        assert len(document) <= amount
        items += document
    raise AssertionError("the list does not end")


@given(st.text(min_size=1))
def test_any_text_is_one_segment_of_a_path(aux_id: str) -> None:
    path = ("aux", "conversations", quote(aux_id, safe="!'()*"), "messages")
    endpoint = ROUTER.find("GET", path)
    assert endpoint is not None
    assert endpoint.kind is ChatKind.AUX_CONVERSATION
    assert endpoint.ids(path) == {"aux_id": aux_id}


@pytest.mark.parametrize("name", [name for name, value in vars(routes).items() if isinstance(value, Route)])
def test_the_sandbox_answers_every_route_that_the_sdk_knows(name: str) -> None:
    route: Route = getattr(routes, name)
    for kind in route.kinds or (None,):
        start, slash, below = route.template.partition("/")
        template = f"{kind.template if kind else start}{slash}{below}"
        endpoint = ROUTER.find(route.method, tuple(template.split("/")))
        assert endpoint is not None, f"no endpoint for {name}"
        assert (endpoint.template, endpoint.kind) == (template, kind)


def test_ids_are_the_same_in_every_run() -> None:
    one, other = Sandbox(), Sandbox()
    assert one.user_id == other.user_id
    assert list(one.store.chats) == list(other.store.chats)
    assert len(one.store.chats) > 15


async def test_me_is_the_user_of_the_token(call: Caller, sandbox: Sandbox) -> None:
    me = (await call("GET", "me")).document
    assert (me["id"], me["type"], me["private_user"]) == (sandbox.user_id, "user", False)
    assert me["company_name"]
    patient = sandbox.add_user("Renée", "Schouten")
    call.token = sandbox.issue_token(patient)
    me = (await call("GET", "me")).document
    assert (me["id"], me["first_name"], me["private_user"]) == (patient, "Renée", True)


async def test_contacts_company_and_users(call: Caller, sandbox: Sandbox) -> None:
    contacts = await whole_list(call, "me/contacts", 5)
    assert len(contacts) > 15
    assert sandbox.user_id not in {contact["id"] for contact in contacts}
    company = (await call("GET", "company")).document
    colleagues = (await call("GET", "company/users")).document
    assert {user["company_id"] for user in colleagues} == {company["id"]}
    assert len(colleagues) == 8
    some = contacts[0]
    assert (await call("GET", f"users/{some['id']}")).document == some
    missing = await call("GET", "users/unknown")
    assert (missing.status, missing.document["error"]) == (404, "user_not_found")


async def test_a_patient_sees_contacts_alone_and_has_no_company(call: Caller, sandbox: Sandbox) -> None:
    patient = sandbox.add_user("Bea", "Bos")
    stranger = sandbox.add_user("Cor", "Cox")
    sandbox.add_conversation(user=patient)
    call.token = sandbox.issue_token(patient)
    assert (await call("GET", f"users/{sandbox.user_id}")).status == 200
    assert (await call("GET", f"users/{stranger}")).status == 404
    assert (await call("GET", "company")).status == 404
    assert (await call("GET", "company/users")).document == []


@pytest.mark.parametrize("aux_id", STRANGE_IDS)
async def test_an_aux_id_is_one_segment_whatever_is_in_it(
    call: Caller, sandbox: Sandbox, aux_id: str
) -> None:
    chat = sandbox.add_conversation(aux_id=aux_id)
    group = sandbox.add_group_chat("Team", aux_id=aux_id)
    segment = quote(aux_id, safe="")
    sent = await call("POST", f"aux/conversations/{segment}/messages", json={"body": "Hallo"})
    assert sent.status == 201
    assert [message.id for message in sandbox.messages(f"conversations/{chat}")] == [sent.document["id"]]
    shown = (await call("GET", f"aux/conversations/{segment}")).document
    assert (shown["id"], shown["aux_id"]) == (chat, aux_id)
    assert (await call("GET", f"aux/users/{segment}")).document["id"] == shown["user"]["id"]
    assert (await call("GET", f"aux/groupchats/{segment}")).document["id"] == group


async def test_an_aux_id_moves_silently_to_the_user_who_got_it_last(call: Caller, sandbox: Sandbox) -> None:
    first = sandbox.add_conversation(aux_id="patient 99")
    second = sandbox.add_conversation(aux_id="patient 99")
    assert (await call("GET", "aux/conversations/patient%2099")).document["id"] == second
    assert (await call("GET", f"conversations/{first}")).document["aux_id"] is None


async def test_a_conversation_is_found_by_its_other_sides_id(call: Caller, sandbox: Sandbox) -> None:
    patient = sandbox.add_user("Bea", "Bos")
    chat = sandbox.add_conversation(user=patient)
    sent = (await call("POST", f"conversations/{patient}/messages", json={"body": "Hallo"})).document
    assert [message.id for message in sandbox.messages(f"conversations/{chat}")] == [sent["id"]]
    assert (await call("GET", f"conversations/{patient}")).document["id"] == chat
    listed = (await call("GET", f"conversations/{patient}/messages")).document
    assert [message["id"] for message in listed] == [sent["id"]]
    assert (await call("GET", f"groupchats/{patient}")).status == 404


async def test_the_first_message_to_a_users_id_starts_the_conversation(
    call: Caller, sandbox: Sandbox
) -> None:
    patient = sandbox.add_user("Bea", "Bos")
    path = f"conversations/{patient}/messages"
    assert (await call("GET", path)).status == 404
    assert (await call("POST", path, json={"body": "Hallo"})).status == 201
    chat = (await call("POST", "conversations", json={"user_id": patient})).document["id"]
    assert [message.body for message in sandbox.messages(f"conversations/{chat}")] == ["Hallo"]
    path = f"conversations/{sandbox.user_id}/messages"
    assert (await call("POST", path, json={"body": "Hallo"})).status == 404


@pytest.mark.parametrize("kind", [kind.value for kind in ChatKind])
async def test_each_kind_of_chat_is_listed_page_by_page(call: Caller, kind: str) -> None:
    chats = await whole_list(call, kind, 2)
    assert len(chats) >= 2
    assert len({chat["id"] for chat in chats}) == len(chats)
    for chat in chats:
        if kind.startswith("aux/"):
            assert chat["aux_id"]
        if kind.endswith("groupchats"):
            assert chat["subject"]
            assert [member["owner"] for member in chat["members"]].count(True) == 1
        else:
            assert chat["user"]["private_user"]
    base = kind.removeprefix("aux/")
    assert (await call("GET", f"{base}/{chats[0]['id']}")).document == chats[0]


async def test_many_conversations_can_be_added_and_all_are_listed(call: Caller, sandbox: Sandbox) -> None:
    before = len(await whole_list(call, "conversations", 100))
    added = [sandbox.add_conversation() for _ in range(150)]
    listed = [chat["id"] for chat in await whole_list(call, "conversations", 100)]
    assert listed[before:] == added


async def test_pages_have_twenty_items_unless_asked_and_a_hundred_at_most(
    call: Caller, sandbox: Sandbox
) -> None:
    chat = sandbox.add_conversation(messages=[str(n) for n in range(130)])
    path = f"conversations/{chat}/messages"
    first = (await call("GET", path)).document
    assert [message["body"] for message in first] == [str(n) for n in range(129, 109, -1)]
    assert len((await call("GET", f"{path}?amount=1000")).document) == 100
    assert len((await call("GET", f"{path}?amount=100&page=1")).document) == 30
    assert (await call("GET", f"{path}?amount=100&page=2")).document == []


@pytest.mark.parametrize(
    "query", ["page=-1", "page=x", "amount=0", "amount=1.5", "page=99999999999", "page="]
)
async def test_a_page_that_is_no_number_is_refused(call: Caller, query: str) -> None:
    assert (await call("GET", f"conversations?{query}")).status == 400


async def test_a_message_is_found_by_its_id_in_its_own_chat_alone(call: Caller, sandbox: Sandbox) -> None:
    chat, other = sandbox.add_conversation(), sandbox.add_conversation()
    sent = (await call("POST", f"conversations/{chat}/messages", json={"body": "Zoë, ça va? 🙂"})).document
    shown = (await call("GET", f"conversations/{chat}/messages/{sent['id']}")).document
    assert shown["body"] == "Zoë, ça va? 🙂"
    assert shown["user"]["id"] == sandbox.user_id
    assert (await call("GET", f"conversations/{other}/messages/{sent['id']}")).status == 404


async def test_a_message_lists_the_members_that_its_markup_mentions(call: Caller, sandbox: Sandbox) -> None:
    joost, stranger = sandbox.add_colleague("Joost", "Bos"), sandbox.add_user("Cor", "Cox")
    group, conversation = sandbox.add_group_chat("Team", members=[joost]), sandbox.add_conversation()
    markup = f"[mention=@all] [Mention={joost.upper()}] [mention={stranger}] [mention={joost}]"
    for path, body, mentioned in (
        (f"groupchats/{group}", markup, [{"id": joost}]),  # @all is in the text alone
        (f"groupchats/{group}", f"@all @{joost} info@all.example [mention=]", []),
        (f"conversations/{conversation}", markup, []),
    ):
        sent = await call("POST", f"{path}/messages", json={"body": body})
        shown = (await call("GET", f"{path}/messages/{sent.document['id']}")).document
        assert (shown["mentions"], shown["body"]) == (mentioned, body)


@pytest.mark.parametrize(
    "sent",
    [
        {"json": {}},
        {"json": {"body": ""}},
        {"json": {"body": " \n"}},
        {"json": {"body": 5}},
        {"json": ["body"]},
        {"json": {"body": "x", "question": {}}},
        {"json": {"body": "x", "question": {"options": [{"name": "x" * 33}]}}},
        {"json": {"body": "x", "question": {"options": ["x"]}}},
        {"data": b"{", "headers": {"Content-Type": "application/json"}},
        {"data": b"\xff", "headers": {"Content-Type": "application/json"}},
        {"data": {"body": "x"}},
    ],
)
@pytest.mark.parametrize("is_strict", [True])
async def test_a_message_that_cannot_be_is_refused(
    call: Caller, sandbox: Sandbox, sent: dict[str, Any]
) -> None:
    chat = sandbox.add_conversation()
    answer = await call("POST", f"conversations/{chat}/messages", **sent)
    assert (answer.status, answer.document["error"]) == (400, "bad_request")
    assert answer.document["message"]
    assert sandbox.messages(f"conversations/{chat}") == ()


async def test_a_body_that_is_too_large_is_refused(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    large = BytesIO(json.dumps({"body": "x" * 2_000_000}).encode())
    headers = {"Content-Type": "application/json"}
    answer = await call("POST", f"conversations/{chat}/messages", data=large, headers=headers)
    assert answer.status == 413


async def test_a_closed_chat_can_be_read_but_not_written(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_group_chat("Team", messages=["Hallo"])
    sandbox.close_chat(f"groupchats/{chat}")
    refused = await call("POST", f"groupchats/{chat}/messages", json={"body": "Nog iets"})
    assert (refused.status, refused.document["error"]) == (412, "chat_is_closed")
    assert (await call("GET", f"groupchats/{chat}")).document["closed"] is True
    assert len((await call("GET", f"groupchats/{chat}/messages")).document) == 1


async def test_who_is_not_in_a_chat_cannot_tell_that_it_exists(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation(aux_id="secret")
    call.token = sandbox.issue_token(sandbox.add_user("Bea", "Bos"))
    for path in (f"conversations/{chat}", f"conversations/{chat}/messages", "aux/conversations/secret"):
        theirs, missing_chat = await call("GET", path), await call("GET", "conversations/none")
        assert (theirs.status, theirs.document) == (404, missing_chat.document)
    refused = await call("POST", f"conversations/{chat}/messages", json={"body": "x"})
    assert refused.status == 404
    assert sandbox.messages(f"conversations/{chat}") == ()


async def test_a_group_chat_is_no_conversation(call: Caller, sandbox: Sandbox) -> None:
    group = sandbox.add_group_chat("Team")
    assert (await call("GET", f"conversations/{group}")).status == 404


async def test_starting_a_conversation_twice_gives_the_same_one(call: Caller, sandbox: Sandbox) -> None:
    patient = sandbox.add_user("Bea", "Bos")
    first = await call("POST", "conversations", json={"user_id": patient})
    second = await call("POST", "conversations", json={"user_id": patient})
    assert (first.status, second.status) == (201, 200)
    assert first.document == second.document
    for wrong, status in (({}, 400), ({"user_id": "unknown"}, 404), ({"user_id": sandbox.user_id}, 400)):
        assert (await call("POST", "conversations", json=wrong)).status == status


def test_asking_a_sandbox_for_what_it_does_not_have_fails_clearly() -> None:
    sandbox = Sandbox(sample_data=False)
    assert sandbox.store.chats == {}
    with pytest.raises(KeyError):
        sandbox.messages("conversations/none")
    with pytest.raises(KeyError):
        sandbox.issue_token("unknown")
    with pytest.raises(KeyError):
        sandbox.revoke_token("nothing")
    with pytest.raises(KeyError):
        sandbox.file_content("nothing")
