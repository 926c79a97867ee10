"""People who are invited, and verified."""

from typing import Any

import pytest

from healthmsg.sandbox import Sandbox
from tests.caller import Caller
from tests.sandbox.helpers import Talk

ZOE = {"email": "zoe@example.com", "first_name": "Zoë", "last_name": "Mulder"}


@pytest.mark.parametrize(
    ("kind", "private", "company"),
    [
        ("coworker", False, "Zorggroep De Linde"),
        ("contact", False, "Externe praktijk"),
        ("private", True, None),
    ],
)
async def test_the_invited_person_is_there_and_what_the_invite_says(
    call: Caller, kind: str, private: bool, company: str | None
) -> None:
    body = ZOE | {"send_email": False, "aux_id": "bed 7", "unknown": []}
    invited = await call("POST", f"users/invite/{kind}", json=body)
    assert (invited.status, set(invited.document)) == (201, {"id"})
    user = (await call("GET", "aux/users/bed%207")).document
    assert user == (await call("GET", f"users/{invited.document['id']}")).document
    assert (user["first_name"], user["email"]) == ("Zoë", "zoe@example.com")
    assert (user["private_user"], user["company_name"]) == (private, company)


async def test_a_text_starts_a_conversation(call: Caller) -> None:
    await call("POST", "users/invite/private", json=ZOE | {"aux_id": "with", "invite_text": "Welkom!"})
    await call("POST", "users/invite/private", json=ZOE | {"email": "b@c.d", "aux_id": "without"})
    assert (await call("GET", "aux/conversations/with/messages")).document[0]["body"] == "Welkom!"
    assert (await call("GET", "aux/conversations/without")).status == 404


async def test_whose_address_is_known_is_not_made_a_second_time(call: Caller, sandbox: Sandbox) -> None:
    first = await call("POST", "users/invite/private", json=ZOE)
    by_phone = ZOE | {"email": None, "phone_number": "+31 6 1234"}
    phone = await call("POST", "users/invite/private", json=by_phone)
    people = len(sandbox.store.people)
    again = await call(
        "POST", "users/invite/coworker", json=ZOE | {"email": "ZOE@example.com", "first_name": "Z"}
    )
    assert (again.status, again.document) == (201, first.document)
    phone_again = await call("POST", "users/invite/contact", json=by_phone)
    assert phone_again.document == phone.document != first.document
    both = await call("POST", "users/invite/private", json=ZOE | {"phone_number": "+31 6 1234"})
    assert both.document == first.document
    assert len(sandbox.store.people) == people
    new = await call("POST", "users/invite/private", json=by_phone | {"email": "n@b.c", "phone_number": "1"})
    assert (
        await call("POST", "users/invite/private", json=by_phone | {"phone_number": "1"})
    ).document != new.document
    assert (await call("GET", f"users/{first.document['id']}")).document["first_name"] == "Zoë"


async def test_an_aux_id_moves_to_the_invited_person(call: Caller, sandbox: Sandbox) -> None:
    before = sandbox.add_user("Bea", "Bos", aux_id="bed 7")
    invited = await call("POST", "users/invite/private", json=ZOE | {"aux_id": "bed 7"})
    assert (await call("GET", "aux/users/bed%207")).document["id"] == invited.document["id"] != before


@pytest.mark.parametrize(
    "changes",
    [
        {"email": None},
        {"email": ""},
        {"email": 5},
        {"phone_number": 31612345678},
        {"first_name": None},
        {"last_name": 7},
        {"invite_text": ""},
        {"invite_text": True},
        {"send_email": "yes"},
        {"aux_id": ""},
        {"aux_id": 7},
    ],
)
@pytest.mark.parametrize("is_strict", [True])
async def test_an_invite_that_cannot_be_is_refused(
    call: Caller, sandbox: Sandbox, changes: dict[str, Any]
) -> None:
    people = len(sandbox.store.people)
    assert (await call("POST", "users/invite/private", json=ZOE | changes)).status == 400
    assert len(sandbox.store.people) == people


async def test_one_cannot_start_a_conversation_with_oneself(call: Caller) -> None:
    me = (await call("GET", "me")).document
    body = ZOE | {"email": me["email"]}
    assert (await call("POST", "users/invite/coworker", json=body)).document == {"id": me["id"]}
    assert (await call("POST", "users/invite/coworker", json=body | {"invite_text": "x"})).status == 400


async def test_a_closed_conversation_takes_no_invitation(call: Caller, sandbox: Sandbox) -> None:
    user = (await call("POST", "users/invite/private", json=ZOE)).document["id"]
    chat = f"conversations/{sandbox.add_conversation(user=user)}"
    sandbox.close_chat(chat)
    answer = await call("POST", "users/invite/private", json=ZOE | {"invite_text": "Welkom!", "aux_id": "x"})
    assert (answer.status, answer.document["error"]) == (412, "chat_is_closed")
    assert sandbox.messages(chat) == ()
    assert (await call("GET", "aux/users/x")).status == 404


async def test_a_patient_has_no_coworkers_to_invite_or_import(call: Caller, sandbox: Sandbox) -> None:
    call.token = sandbox.issue_token(sandbox.add_user("Bea", "Bos"))
    people = len(sandbox.store.people)
    assert (await call("POST", "users/invite/coworker", json=ZOE)).status == 403
    assert (await call("POST", "company/import", json={"users": [ZOE]})).status == 403
    assert len(sandbox.store.people) == people
    assert (await call("POST", "users/invite/private", json=ZOE)).status == 201


async def test_imported_users_belong_to_the_company(call: Caller, sandbox: Sandbox) -> None:
    me = (await call("GET", "me")).document
    rows = [
        ZOE | {"username": "zoe", "saml_username": "z.mulder"},
        ZOE | {"email": "b@c.d"},
        ZOE,
        {"email": me["email"], "first_name": "x", "last_name": "y"},
    ]
    imported = await call("POST", "company/import", json={"send_email": False, "users": rows})
    assert imported.status == 201
    zoe, other, again, myself = imported.document
    assert (zoe["company_id"], zoe["private_user"]) == (me["company_id"], False)
    assert zoe == again != other
    assert myself == me
    assert zoe in (await call("GET", "company/users")).document


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"users": []},
        {"users": {}},
        {"users": [ZOE, "x"]},
        {"users": [ZOE, ZOE | {"email": None}]},
        {"users": [ZOE | {"username": 5}]},
        {"users": [ZOE | {"saml_username": ""}]},
        {"users": [ZOE], "send_email": 1},
    ],
)
async def test_an_import_that_cannot_be_is_refused_whole(
    call: Caller, sandbox: Sandbox, body: object
) -> None:
    people = len(sandbox.store.people)
    assert (await call("POST", "company/import", json=body)).status == 400
    assert len(sandbox.store.people) == people


async def test_who_is_verified_has_one_provider_less(talk: Talk, sandbox: Sandbox) -> None:
    providers = await talk.read("providers")
    assert [provider["name"] for provider in providers] == ["idin", "digid"]
    assert await talk.read("verifications") == {"user": []}
    first = providers[0]
    sent = await talk.ask_for(first["provider_id"])
    assert (sent.status, set(sent.document)) == (201, {"id"})
    assert await talk.payload(sent.document["id"]) == {
        "type": "verification_request",
        "attributes": {
            "user_id": talk.patient,
            "provider_id": first["provider_id"],
            "provider_name": "idin",
        },
    }
    sandbox.verify(talk.patient, sent.document["id"], accepted=False)
    assert await talk.read("providers") == providers
    for _ in range(2):
        sandbox.verify(talk.patient, sent.document["id"])
    assert await talk.read("providers") == providers[1:]
    assert await talk.read("verifications") == {"user": [first]}
    again = await talk.ask_for(first["provider_id"])
    assert (again.status, again.document["error"]) == (412, "provider_not_available")


async def test_a_request_works_by_aux_id_too(talk: Talk) -> None:
    provider = (await talk.read("providers"))[1]["provider_id"]
    sent = await talk.ask_for(provider, path="aux/conversations/bed%207")
    assert sent.status == 201
    assert (await talk.payload(sent.document["id"]))["attributes"]["provider_id"] == provider


@pytest.mark.parametrize("is_strict", [True])
async def test_a_request_that_cannot_be_is_refused(talk: Talk, sandbox: Sandbox) -> None:
    provider = (await talk.read("providers"))[0]["provider_id"]
    assert (await talk.ask_for("none")).status == 412
    assert (await talk.ask_for(5)).status == 400
    assert (await talk.ask_for(provider, [talk.patient])).status == 400
    assert (await talk.ask_for(provider, sandbox.add_user("Bea", "Bos"))).status == 404
    assert (await talk.ask_for(provider, path="conversations/none")).status == 404
    sandbox.close_chat(talk.path)
    assert (await talk.ask_for(provider)).status == 412
    assert sandbox.messages(talk.path) == ()


async def test_who_may_not_see_a_user_may_not_see_the_verifications(talk: Talk, sandbox: Sandbox) -> None:
    talk.call.token = sandbox.issue_token(sandbox.add_user("Bea", "Bos"))
    for below in ("providers", "verifications"):
        answer = await talk.call("GET", f"users/{talk.patient}/{below}")
        assert (answer.status, answer.document["error"]) == (404, "user_not_found")


async def test_one_patient_of_the_sample_data_is_verified(call: Caller) -> None:
    contacts = (await call("GET", "me/contacts?amount=100")).document
    found = [
        (await call("GET", f"users/{user['id']}/verifications")).document["user"] for user in contacts[:25]
    ]
    assert [names for names in found if names]
