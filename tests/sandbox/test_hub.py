"""What happens in the sandbox is announced, once, to all that it concerns."""

from typing import Any

import pytest
from aiohttp import FormData
from attrs import frozen

from healthmsg.sandbox import Sandbox
from healthmsg.sandbox.hub import Announcement
from tests.caller import Caller
from tests.sandbox.helpers import Talk


@frozen
class Heard:
    """What a listener was called with: the name, the data that a person sees, and for which people it is."""

    name: str
    people: set[str]
    data: dict[str, Any]


class Ears:
    """A listener of a sandbox's hub."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.heard: list[Heard] = []
        self.viewer = sandbox.store.people[sandbox.user_id]
        self.stop = sandbox.store.hub.listen(self._hear)

    def _hear(self, announcement: Announcement) -> None:
        people = {person.id for person in announcement.people}
        self.heard.append(Heard(announcement.name, people, announcement.data_for(self.viewer)))

    def take(self) -> list[Heard]:
        heard, self.heard = self.heard, []
        return heard


@pytest.fixture
def ears(sandbox: Sandbox) -> Ears:
    return Ears(sandbox)


async def test_a_started_conversation_is_announced_once_and_to_both(
    call: Caller, sandbox: Sandbox, ears: Ears
) -> None:
    patient = sandbox.add_user("Bea", "Bos")
    chat = (await call("POST", "conversations", json={"user_id": patient})).document["id"]
    await call("POST", "conversations", json={"user_id": patient})

    data = {"conversation_id": chat, "user_id": patient}
    assert ears.take() == [Heard("new_conversation", {sandbox.user_id, patient}, data)]


async def test_a_message_is_announced_to_its_sender_too_with_its_files_and_mentions(
    talk: Talk, sandbox: Sandbox, ears: Ears
) -> None:
    body = f"Dag [mention={talk.patient}]"
    sent = await talk.call("POST", f"{talk.path}/messages", json={"body": body})
    form = FormData(default_to_multipart=True)
    form.add_field("files", b"123", filename="a.png", content_type="image/png")
    uploaded = await talk.call("POST", f"{talk.path}/attachments", data=form)

    both = {sandbox.user_id, talk.patient}
    first, second = ears.take()
    assert (first.name, first.people) == ("conversation_new_message", both)
    assert first.data == {
        "conversation_id": talk.path.partition("/")[2],
        "message_id": sent.document["id"],
        "user_id": sandbox.user_id,
        "body": body,
        "attachments": [],
        "mentions": [sandbox.store.people[talk.patient].to_json()],
    }
    assert second.data["message_id"] == uploaded.document["id"]
    (attachment,) = second.data["attachments"]
    assert set(attachment) == {"id", "name", "size", "mime"}
    assert (attachment["name"], attachment["size"], attachment["mime"]) == ("a.png", 3, "image/png")


async def test_a_message_to_a_user_id_announces_the_conversation_that_it_starts(
    call: Caller, sandbox: Sandbox, ears: Ears
) -> None:
    patient = sandbox.add_user("Bea", "Bos")
    await call("POST", f"conversations/{patient}/messages", json={"body": "Dag"})

    assert [heard.name for heard in ears.take()] == ["new_conversation", "conversation_new_message"]


async def test_the_life_of_a_group_chat_is_announced(call: Caller, sandbox: Sandbox, ears: Ears) -> None:
    me, joost, bea = sandbox.user_id, sandbox.add_colleague("Joost", "Bos"), sandbox.add_user("Bea", "Bos")
    group = (await call("POST", "groupchats", json={"subject": "MDO", "members": [joost]})).document["id"]
    await call("PUT", f"groupchats/{group}/members", json={"members": [joost, bea]})
    await call("PUT", f"groupchats/{group}/members", json={"members": [joost, bea]})
    await call("DELETE", f"groupchats/{group}/members", json={"members": [joost]})
    await call("DELETE", f"groupchats/{group}", json={"send_email": False})
    await call("DELETE", f"groupchats/{group}", json={"remove": True})

    def users(user_id: str) -> dict[str, Any]:
        return {"groupchat_id": group, "user_id": me, "users": [sandbox.store.people[user_id].to_json()]}

    chat_id = {"groupchat_id": group}
    assert ears.take() == [
        Heard("new_groupchat", {me, joost}, chat_id),
        Heard("new_groupchat", {bea}, chat_id),
        Heard("groupchat_members_added", {me, joost, bea}, users(bea)),
        Heard("groupchat_members_removed", {me, joost, bea}, users(joost)),
        Heard("groupchat_closed", {me, bea}, chat_id),
        Heard("groupchat_removed", {me, bea}, chat_id),
    ]


@pytest.mark.parametrize("is_group", [False, True])
async def test_what_happens_to_a_message_is_announced(
    talk: Talk, sandbox: Sandbox, ears: Ears, is_group: bool
) -> None:
    members = [sandbox.user_id, talk.patient]
    path = f"groupchats/{sandbox.add_group_chat('Team', members=members)}" if is_group else talk.path
    options = [{"name": "start form", "label": "Start"}, {"name": "no", "label": "Nee"}]
    question = {"options": options, "multi_answer": True}
    asked = await talk.call("POST", f"{path}/messages", json={"body": "?", "question": question})
    (provider,) = [p for p in await talk.read("providers") if p["name"] == "idin"]
    request = await talk.ask_for(provider["provider_id"], path=path)
    ears.take()

    message_id = asked.document["id"]
    sandbox.answer(talk.patient, message_id, "start form")
    sandbox.verify(talk.patient, request.document["id"], accepted=False)
    sandbox.verify(None, request.document["id"])
    sandbox.like(message_id, talk.patient)
    sandbox.like(message_id, talk.patient)
    shown = (await talk.call("GET", f"{path}/messages/{message_id}")).document
    sandbox.delete_message(message_id)

    assert [user["id"] for user in shown["liked_by"]] == [talk.patient]
    assert (await talk.call("GET", f"{path}/messages/{message_id}")).status == 404
    prefix, chat_id = ("groupchat", "groupchat_id") if is_group else ("conversation", "conversation_id")
    in_chat = {chat_id: path.partition("/")[2], "user_id": talk.patient}
    verified = in_chat | {"message_id": request.document["id"]}
    of_message = in_chat | {"message_id": message_id}
    everyone = set(members)
    assert ears.take() == [
        Heard(f"{prefix}_question_answer", everyone, of_message | {"options": ["start form"]}),
        Heard(f"{prefix}_verification_rejected", everyone, verified),
        Heard(f"{prefix}_verification_accepted", everyone, verified),
        Heard(f"{prefix}_message_liked", everyone, of_message),
        Heard(f"{prefix}_message_deleted", everyone, of_message | {"user_id": sandbox.user_id}),
    ]


async def test_a_chat_that_a_test_closes_is_announced_once(sandbox: Sandbox, ears: Ears) -> None:
    group = f"groupchats/{sandbox.add_group_chat('Team')}"
    ears.take()
    sandbox.close_chat(group)
    sandbox.close_chat(group)
    assert [heard.name for heard in ears.take()] == ["groupchat_closed"]


async def test_a_listener_that_stops_hears_no_more(sandbox: Sandbox, ears: Ears) -> None:
    ears.stop()
    ears.stop()
    sandbox.add_conversation(messages=["Dag"])
    assert ears.take() == []
