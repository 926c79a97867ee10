"""Questions with buttons, and their answers."""

from typing import Any

import pytest

from healthmsg.sandbox import Sandbox
from tests.caller import Caller
from tests.sandbox.helpers import Talk


async def test_a_question_comes_back_as_the_messages_payload(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    question = {
        "multi_answer": False,
        "style": "horizontal",
        "users": [],
        "options": [{"name": "yes", "label": "Ja", "style": "green"}],
    }
    sent = await call(
        "POST", f"conversations/{chat}/messages", json={"body": "Komt u?", "question": question}
    )
    assert sent.status == 201
    shown = (await call("GET", f"conversations/{chat}/messages/{sent.document['id']}")).document
    assert shown["payload"] == {"type": "question", **question, "answers": []}


async def test_what_a_question_leaves_out_has_a_default(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    question = {"options": [{"name": "yes", "label": "Ja"}], "unknown": {"a": [[[]]]}}
    sent = await call("POST", f"conversations/{chat}/messages", json={"body": "x", "question": question})
    shown = (await call("GET", f"conversations/{chat}/messages/{sent.document['id']}")).document
    assert shown["payload"] == {
        "type": "question",
        "multi_answer": False,
        "style": "horizontal",
        "users": [],
        "options": [{"name": "yes", "label": "Ja"}],
        "answers": [],
    }


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"style": "round"}, 400),
        ({"multi_answer": 1}, 400),
        ({"users": "u1"}, 400),
        ({"users": [5]}, 400),
        ({"users": ["unknown"]}, 404),
        ({"options": []}, 400),
        ({"options": [{"name": "ja nee", "label": "x"}]}, 400),
        ({"options": [{"name": "ja"}]}, 400),
        ({"options": [{"name": "ja", "label": "x"}, {"name": "ja", "label": "y"}]}, 400),
        ({"options": [{"name": "ja", "label": "x", "style": 5}]}, 400),
    ],
)
@pytest.mark.parametrize("is_strict", [True])
async def test_a_question_that_cannot_be_is_refused(
    call: Caller, sandbox: Sandbox, wrong: dict[str, Any], status: int
) -> None:
    chat = sandbox.add_conversation()
    question = {"options": [{"name": "yes", "label": "Ja"}]} | wrong
    answer = await call("POST", f"conversations/{chat}/messages", json={"body": "x", "question": question})
    assert answer.status == status
    assert sandbox.messages(f"conversations/{chat}") == ()


@pytest.mark.parametrize("is_strict", [True])
async def test_only_who_is_in_the_chat_can_be_asked(call: Caller, sandbox: Sandbox) -> None:
    asked, stranger = sandbox.add_user("Bea", "Bos"), sandbox.add_user("Cor", "Cox")
    chat = sandbox.add_conversation(user=asked)
    for user_id, status in ((asked, 201), (stranger, 404)):
        question = {"options": [{"name": "yes", "label": "Ja"}], "users": [user_id]}
        sent = await call("POST", f"conversations/{chat}/messages", json={"body": "x", "question": question})
        assert sent.status == status


async def ask(talk: Talk, path: str, **changes: Any) -> str:
    options = [{"name": name, "label": name} for name in ("yes", "no", "maybe")]
    body = {"body": "Komt u?", "question": {"options": options} | changes}
    sent = await talk.call("POST", f"{path}/messages", json=body)
    assert sent.status == 201
    message_id: str = sent.document["id"]
    return message_id


async def test_an_answer_is_in_the_payload_and_the_last_one_counts(talk: Talk, sandbox: Sandbox) -> None:
    message = await ask(talk, talk.path)
    sandbox.answer(None, message, "yes")
    sandbox.answer(talk.patient, message, "no")
    assert (await talk.payload(message))["answers"] == [{"user_id": talk.patient, "options": ["no"]}]


async def test_several_members_answer_with_several_options(talk: Talk, sandbox: Sandbox) -> None:
    one, other = sandbox.add_colleague("Ada", "Bos"), sandbox.add_colleague("Lidy", "Cox")
    group = f"groupchats/{sandbox.add_group_chat('Team', members=[one, other])}"
    message = await ask(talk, group, multi_answer=True, users=[other])
    sandbox.answer(None, message, ["yes", "maybe"])
    with pytest.raises(ValueError, match="not for that user"):
        sandbox.answer(one, message, "yes")
    to_all = await ask(talk, group)
    for user in (other, one):
        sandbox.answer(user, to_all, ["no"])
    shown = [(await talk.call("GET", f"{group}/messages/{id_}")).document for id_ in (message, to_all)]
    assert [document["payload"]["answers"] for document in shown] == [
        [{"user_id": other, "options": ["yes", "maybe"]}],
        [{"user_id": other, "options": ["no"]}, {"user_id": one, "options": ["no"]}],
    ]


async def test_an_answer_that_cannot_be_is_refused(talk: Talk, sandbox: Sandbox) -> None:
    message = await ask(talk, talk.path)
    plain = (await talk.call("POST", f"{talk.path}/messages", json={"body": "x"})).document["id"]
    for names in ([], "other", ["yes", "no"]):
        with pytest.raises(ValueError, match="option"):
            sandbox.answer(None, message, names)
    with pytest.raises(ValueError, match="no question"):
        sandbox.answer(None, plain, "yes")
    with pytest.raises(ValueError, match="not for that user"):
        sandbox.answer(sandbox.add_user("Bea", "Bos"), message, "yes")
    with pytest.raises(ValueError, match="no request"):
        sandbox.verify(None, message)
    with pytest.raises(KeyError):
        sandbox.answer(None, "none", "yes")
    with pytest.raises(KeyError):
        sandbox.verify(None, "none")
    assert (await talk.payload(message))["answers"] == []
