"""Tests play the other side: people who write, answer, are verified and type."""

import pytest
from aiohttp import ClientSession

from healthmsg import User
from healthmsg.ids import ChatAddress
from healthmsg.sandbox import Sandbox, SandboxFile
from healthmsg.sandbox.hub import Announcement
from tests.caller import Caller
from tests.sandbox.gateway.wire import signed_in
from tests.sandbox.helpers import Talk


@pytest.fixture
def announced(sandbox: Sandbox) -> list[Announcement]:
    announced: list[Announcement] = []
    sandbox.store.hub.listen(announced.append)
    return announced


async def test_a_patient_says_something_and_it_is_read_over_the_api(
    talk: Talk, sandbox: Sandbox, announced: list[Announcement]
) -> None:
    files = [SandboxFile("wond.png", b"png", "image/png"), SandboxFile("groot.bin", 5000)]
    sent = sandbox.say(talk.patient, talk.path, "Zo ziet het eruit.", files=files)

    shown = (await talk.call("GET", f"{talk.path}/messages/{sent.id}")).document
    assert (shown["body"], shown["user"]["id"]) == ("Zo ziet het eruit.", talk.patient)
    kept = [(file["name"], file["size"], file["mime_type"]) for file in shown["attachments"]]
    assert kept == [("wond.png", 3, "image/png"), ("groot.bin", 5000, "application/octet-stream")]
    assert [file.id for file in sent.attachments] == [file["id"] for file in shown["attachments"]]
    (heard,) = announced
    assert heard.name == "conversation_new_message"


async def test_people_and_chats_are_named_by_ids_models_or_addresses(talk: Talk, sandbox: Sandbox) -> None:
    chat_id = talk.path.partition("/")[2]
    chats: list[ChatAddress | str] = [
        talk.path,
        chat_id,
        ChatAddress.parse(talk.path),
        "aux/conversations/bed 7",
        f"conversations/{talk.patient}",
    ]
    for chat in chats:
        for user in (talk.patient, User(talk.patient), None):
            sandbox.say(user, chat, "x")
    sandbox.say(sandbox.user_id, chat_id, "y")

    senders = [message.user.id for message in sandbox.messages(chat_id) if message.user]
    assert senders == [talk.patient] * 15 + [sandbox.user_id]


async def test_a_message_itself_can_be_answered(talk: Talk, sandbox: Sandbox) -> None:
    question = {"options": [{"name": "yes", "label": "Ja"}]}
    await talk.call("POST", f"{talk.path}/messages", json={"body": "?", "question": question})
    (provider, _) = await talk.read("providers")
    await talk.ask_for(provider["provider_id"])
    asked, request = sandbox.messages(talk.path)

    sandbox.answer(User(talk.patient), asked, "yes")
    sandbox.verify(User(talk.patient), request)

    assert (await talk.payload(asked.id))["answers"] == [{"user_id": talk.patient, "options": ["yes"]}]
    assert await talk.read("verifications") == {"user": [provider]}


async def test_typing_is_announced_to_the_others_only(
    talk: Talk, sandbox: Sandbox, announced: list[Announcement]
) -> None:
    sandbox.type(talk.patient, talk.path)
    sandbox.type(None, talk.path, stopped=True)

    assert [heard.name for heard in announced] == ["typing", "stop_typing"]
    me = sandbox.store.people[sandbox.user_id]
    for heard in announced:
        assert heard.people == (me,)
        assert heard.data_for(me)["user_id"] == talk.patient


async def test_what_cannot_be_said_is_refused_and_nothing_happens(
    talk: Talk, sandbox: Sandbox, announced: list[Announcement]
) -> None:
    stranger = sandbox.add_user("Bea", "Bos")
    with pytest.raises(ValueError, match="not in that chat"):
        sandbox.say(stranger, talk.path, "x")
    with pytest.raises(ValueError, match="not in that chat"):
        sandbox.type(stranger, talk.path)
    with pytest.raises(ValueError, match="a text or a file"):
        sandbox.say(talk.patient, talk.path)
    for user, chat in (("none", talk.path), (talk.patient, "conversations/none")):
        with pytest.raises(KeyError):
            sandbox.say(user, chat, "x")
        with pytest.raises(KeyError):
            sandbox.type(user, chat)
    with pytest.raises(ValueError, match="a chat's address"):
        sandbox.say(talk.patient, "none", "x")

    assert sandbox.messages(talk.path) == ()
    assert announced == []


async def test_a_request_for_verification_is_for_one_person(talk: Talk, sandbox: Sandbox) -> None:
    (provider, _) = await talk.read("providers")
    request = (await talk.ask_for(provider["provider_id"])).document["id"]
    with pytest.raises(ValueError, match="not for that user"):
        sandbox.verify(sandbox.user_id, request)
    with pytest.raises(KeyError):
        sandbox.verify("none", request)
    assert await talk.read("verifications") == {"user": []}


async def test_in_a_closed_chat_people_can_do_nothing(
    talk: Talk, sandbox: Sandbox, call: Caller, announced: list[Announcement]
) -> None:
    question = {"options": [{"name": "yes", "label": "Ja"}]}
    sent = await call("POST", f"{talk.path}/messages", json={"body": "?", "question": question})
    (provider, _) = await talk.read("providers")
    request = await talk.ask_for(provider["provider_id"])
    sandbox.close_chat(talk.path)
    announced.clear()

    with pytest.raises(ValueError, match="closed"):
        sandbox.say(None, talk.path, "x")
    with pytest.raises(ValueError, match="closed"):
        sandbox.answer(None, sent.document["id"], "yes")
    with pytest.raises(ValueError, match="closed"):
        sandbox.verify(None, request.document["id"])
    with pytest.raises(ValueError, match="closed"):
        sandbox.type(None, talk.path)
    assert announced == []
    assert len(sandbox.messages(talk.path)) == 2


def test_a_file_to_send_shows_nothing_of_itself() -> None:
    assert "uitslag" not in repr(SandboxFile("uitslag.pdf", b"uitslag"))


async def test_a_client_hears_over_the_gateway_what_the_other_side_does(
    talk: Talk, sandbox: Sandbox, session: ClientSession
) -> None:
    question = {"options": [{"name": "yes", "label": "Ja"}]}
    asked = await talk.call("POST", f"{talk.path}/messages", json={"body": "?", "question": question})
    (provider, _) = await talk.read("providers")
    request = await talk.ask_for(provider["provider_id"])
    in_chat = {"conversation_id": talk.path.partition("/")[2], "user_id": talk.patient}
    async with signed_in(session, sandbox) as wire:
        sandbox.type(talk.patient, talk.path)
        sandbox.type(talk.patient, talk.path, stopped=True)
        sent = sandbox.say(talk.patient, talk.path, "Dag", files=[SandboxFile("a.png", b"png", "image/png")])
        sandbox.answer(talk.patient, asked.document["id"], "yes")
        sandbox.verify(talk.patient, request.document["id"], accepted=False)
        heard = await wire.settled()

    attachment = {"id": sent.attachments[0].id, "name": "a.png", "size": 3, "mime": "image/png"}
    said = {"message_id": sent.id, "body": "Dag", "attachments": [attachment], "mentions": []}
    assert heard == [
        ("typing", in_chat),
        ("stop_typing", in_chat),
        ("conversation_new_message", in_chat | said),
        (
            "conversation_question_answer",
            in_chat | {"message_id": asked.document["id"], "options": ["yes"]},
        ),
        ("conversation_verification_rejected", in_chat | {"message_id": request.document["id"]}),
    ]
