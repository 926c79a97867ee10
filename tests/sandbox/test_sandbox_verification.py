"""Proving who somebody is, and answering questions."""

from typing import Any

import pytest
from attrs import frozen

from healthmsg.sandbox import Sandbox
from tests.caller import Caller


@frozen
class Talk:
    """A conversation of the main user with a patient."""

    call: Caller
    path: str
    patient: str

    async def read(self, below: str) -> Any:
        return (await self.call("GET", f"users/{self.patient}/{below}")).document

    async def ask_for(self, provider_id: object, user_id: object = None, path: str | None = None) -> Any:
        body = {"user_id": user_id or self.patient, "provider_id": provider_id}
        return await self.call("POST", f"{path or self.path}/verification", json=body)

    async def payload(self, message_id: str) -> Any:
        return (await self.call("GET", f"{self.path}/messages/{message_id}")).document["payload"]


@pytest.fixture
def talk(call: Caller, sandbox: Sandbox) -> Talk:
    patient = sandbox.add_user("Piet", "Patiënt")
    return Talk(call, f"conversations/{sandbox.add_conversation(user=patient, aux_id='bed 7')}", patient)


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
    sandbox.answer_verification(sent.document["id"], accepted=False)
    assert await talk.read("providers") == providers
    for _ in range(2):
        sandbox.answer_verification(sent.document["id"])
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


async def test_somebody_in_the_sample_data_is_verified(call: Caller) -> None:
    contacts = (await call("GET", "me/contacts?amount=100")).document
    found = [
        (await call("GET", f"users/{user['id']}/verifications")).document["user"] for user in contacts[:25]
    ]
    assert [names for names in found if names]


async def ask(talk: Talk, path: str, **changes: Any) -> str:
    options = [{"name": name, "label": name} for name in ("yes", "no", "maybe")]
    body = {"body": "Komt u?", "question": {"options": options} | changes}
    sent = await talk.call("POST", f"{path}/messages", json=body)
    assert sent.status == 201
    message_id: str = sent.document["id"]
    return message_id


async def test_an_answer_is_in_the_payload_and_the_last_one_counts(talk: Talk, sandbox: Sandbox) -> None:
    message = await ask(talk, talk.path)
    sandbox.answer_question(message, ["yes"])
    sandbox.answer_question(message, ["no"])
    assert (await talk.payload(message))["answers"] == [{"user_id": talk.patient, "options": ["no"]}]


async def test_several_members_answer_with_several_options(talk: Talk, sandbox: Sandbox) -> None:
    one, other = sandbox.add_colleague("Ada", "Bos"), sandbox.add_colleague("Lidy", "Cox")
    group = f"groupchats/{sandbox.add_group_chat('Team', members=[one, other])}"
    message = await ask(talk, group, multi_answer=True, users=[other])
    sandbox.answer_question(message, ["yes", "maybe"])
    with pytest.raises(ValueError, match="not for that user"):
        sandbox.answer_question(message, ["yes"], one)
    to_all = await ask(talk, group)
    for user in (other, one):
        sandbox.answer_question(to_all, ["no"], user)
    shown = [(await talk.call("GET", f"{group}/messages/{id_}")).document for id_ in (message, to_all)]
    assert [document["payload"]["answers"] for document in shown] == [
        [{"user_id": other, "options": ["yes", "maybe"]}],
        [{"user_id": other, "options": ["no"]}, {"user_id": one, "options": ["no"]}],
    ]


async def test_an_answer_that_cannot_be_is_refused(talk: Talk, sandbox: Sandbox) -> None:
    message = await ask(talk, talk.path)
    plain = (await talk.call("POST", f"{talk.path}/messages", json={"body": "x"})).document["id"]
    for names in ([], ["other"], ["yes", "no"]):
        with pytest.raises(ValueError, match="option"):
            sandbox.answer_question(message, names)
    with pytest.raises(ValueError, match="no question"):
        sandbox.answer_question(plain, ["yes"])
    with pytest.raises(ValueError, match="not for that user"):
        sandbox.answer_question(message, ["yes"], sandbox.add_user("Bea", "Bos"))
    with pytest.raises(ValueError, match="no request"):
        sandbox.answer_verification(message)
    with pytest.raises(KeyError):
        sandbox.answer_question("none", ["yes"])
    with pytest.raises(KeyError):
        sandbox.answer_verification("none")
    assert (await talk.payload(message))["answers"] == []
