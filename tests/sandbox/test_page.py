"""The page on which a person plays the other side: what it loads, shows and does, over a socket."""

import base64
import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientSession
from yarl import URL

from healthmsg.sandbox import Sandbox, SandboxFile, SlidingWindow
from healthmsg.sandbox import page as page_module
from healthmsg.sandbox.hub import typing
from healthmsg.sandbox.watch import Watch
from tests.caller import Answer, Caller
from tests.sandbox.gateway.wire import signed_in
from tests.sandbox.helpers import Talk

HOSTILE = "<img src=x onerror=alert(1)>"


class Page:
    """What the page's script does."""

    def __init__(self, call: Caller) -> None:
        self.call = call
        self.call.token = None

    async def look(self, **query: str) -> Any:
        answer = await self.call("GET", str(URL(f"{self.call.sandbox.url}/sandbox/view").with_query(query)))
        assert answer.status == 200
        return answer.document

    async def act(self, path: str, body: object, **headers: str) -> Answer:
        sent = {"Origin": self.call.sandbox.url} | headers
        return await self.call("POST", f"/sandbox/{path}", json=body, headers=sent)


@pytest.fixture
def page(talk: Talk) -> Page:
    return Page(Caller(talk.call.sandbox, talk.call.session))


async def ask(talk: Talk) -> str:
    options = [{"name": "yes", "label": HOSTILE, "style": "green"}, {"name": "no", "label": "Nee"}]
    body = {"body": "Komt u?", "question": {"options": options}}
    sent = await talk.call("POST", f"{talk.path}/messages", json=body)
    return str(sent.document["id"])


async def request_verification(talk: Talk) -> str:
    (provider, _) = await talk.read("providers")
    sent = await talk.ask_for(provider["provider_id"])
    return str(sent.document["id"])


# --- The file


@pytest.mark.parametrize("path", ["/", "/sandbox"])
async def test_one_is_led_to_it(page: Page, path: str) -> None:
    answer = await page.call("GET", path)
    assert (answer.status, answer.headers["Location"]) == (302, "/sandbox/")


async def test_it_is_one_file_whose_own_script_alone_may_run(page: Page) -> None:
    answer = await page.call("GET", "/sandbox/")

    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    text = answer.body.decode()
    policy = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))
    for kind in ("script", "style"):
        (inline,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) == {"data:,", "#text", "../docs"}
    assert not re.search(r"\bon[a-z]+\s*=\s*[\"']|\sstyle=", text)


async def test_it_makes_nothing_but_text_of_what_the_sandbox_holds(page: Page) -> None:
    script = (await page.call("GET", "/sandbox/")).body.decode().partition("<script>")[2]
    sinks = r"innerHTML *[+=]|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|DOMParser|srcdoc"
    assert re.findall(sinks, script) == []
    assert "textContent" in script


# --- What it shows


async def test_it_shows_the_chats_and_all_that_is_in_one(talk: Talk, page: Page, sandbox: Sandbox) -> None:
    question, request = await ask(talk), await request_verification(talk)
    sent = sandbox.say(talk.patient, talk.path, HOSTILE, files=[SandboxFile("<b>.png", b"png", "image/png")])
    sandbox.like(sent.id)
    sandbox.type(sandbox.user_id, talk.path)
    chat_id = talk.path.partition("/")[2]

    view = await page.look(chat=chat_id)

    assert view["chats"][0]["id"] == chat_id
    assert (view["chats"][0]["title"], view["chats"][0]["last"]) == (
        "Piet Patiënt",
        f"Piet Patiënt: {HOSTILE}",
    )
    chat = view["chat"]
    patient = {"id": talk.patient, "name": "Piet Patiënt", "is_patient": True}
    assert [member["id"] for member in chat["members"]] == [sandbox.user_id, talk.patient]
    assert [message["id"] for message in chat["messages"]] == [question, request, sent.id]
    asked, verification, said = chat["messages"]
    assert asked["payload"]["options"][0] == {"name": "yes", "label": HOSTILE, "style": "green"}
    assert asked["payload"]["users"] == [sandbox.user_id, talk.patient]
    assert asked["payload"]["answers"] == []
    assert verification["payload"]["user"] == patient
    assert (verification["payload"]["provider"], verification["payload"]["accepted"]) == ("idin", None)
    assert (said["text"], said["user"], said["liked_by"]) == (HOSTILE, patient, ["Marieke van den Berg"])
    assert [(file["name"], file["size"]) for file in said["files"]] == [("<b>.png", 3)]
    assert [one["id"] for one in chat["typing"]] == [sandbox.user_id]


async def test_the_chats_of_one_person_can_be_shown(page: Page, talk: Talk, sandbox: Sandbox) -> None:
    group = sandbox.add_group_chat("Team", members=[talk.patient])

    view = await page.look(user=talk.patient)

    titles = {chat["id"]: chat["title"] for chat in view["chats"]}
    assert titles == {group: "Team", talk.path.partition("/")[2]: "Marieke van den Berg"}
    assert view["of"] == 2
    assert (await page.look())["of"] > 2


async def test_it_lists_people_as_whom_one_can_act(page: Page, talk: Talk, sandbox: Sandbox) -> None:
    document = (await page.call("GET", "/sandbox/people")).document
    assert document["of"] == len(document["people"]) == len(sandbox.store.people)
    assert {"id": talk.patient, "name": "Piet Patiënt", "is_patient": True} in document["people"]


async def test_while_nothing_happens_only_the_version_is_sent(
    page: Page, talk: Talk, sandbox: Sandbox
) -> None:
    question, request = await ask(talk), await request_verification(talk)
    version = (await page.look())["version"]
    assert await page.look(after=version) == {"version": version}

    happenings: list[Callable[[], object]] = [
        lambda: sandbox.say(None, talk.path, "x"),
        lambda: sandbox.answer(None, question, "yes"),
        lambda: sandbox.verify(None, request),
        lambda: sandbox.type(None, talk.path),
        lambda: sandbox.type(None, talk.path, stopped=True),
        lambda: sandbox.like(question),
        lambda: sandbox.delete_message(question),
        lambda: sandbox.add_user("Bea", "Bos"),
    ]
    for happening in happenings:
        happening()
        view = await page.look(after=version)
        assert view["chats"]
        assert await page.look(after=view["version"]) == {"version": view["version"]}
        version = view["version"]
    async with Sandbox() as other:
        assert (await Page(Caller(other, page.call.session)).look())["version"] != version


async def test_what_it_shows_has_bounds(
    page: Page, talk: Talk, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "_MOST_CHATS", 3)
    monkeypatch.setattr(page_module, "_MOST_PEOPLE", 2)
    for number in range(105):
        sandbox.say(None, talk.path, str(number))
    sandbox.say(None, talk.path, "x" * 30_000)

    view = await page.look(chat=talk.path.partition("/")[2])

    assert (len(view["chats"]), view["of"]) == (3, len(sandbox.store.chats))
    assert view["chats"][0]["id"] == view["chat"]["id"]
    assert len(view["chats"][0]["last"]) < 200
    assert (len(view["chat"]["messages"]), view["chat"]["earlier"]) == (100, 6)
    last = view["chat"]["messages"][-1]
    assert (len(last["text"]), last["is_cut"]) == (20_000, True)
    people = (await page.call("GET", "/sandbox/people")).document
    assert (len(people["people"]), people["of"]) == (2, len(sandbox.store.people))


def test_a_person_counts_as_typing_until_that_ends_or_a_message_comes_or_time_passes(
    sandbox: Sandbox,
) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    watch = Watch(lambda: moment)
    sandbox.store.hub.listen(watch.hear)
    chat = sandbox.store.chats[sandbox.add_conversation()]
    patient = chat.other_side(sandbox.store.people[sandbox.user_id])

    sandbox.type(None, chat.id)
    assert list(watch.typing_in(chat)) == [(patient, timedelta(seconds=10))]
    sandbox.type(None, chat.id, stopped=True)
    assert list(watch.typing_in(chat)) == []
    sandbox.type(None, chat.id)
    sandbox.say(None, chat.id, "x")
    assert list(watch.typing_in(chat)) == []
    sandbox.type(None, chat.id)
    moment += timedelta(seconds=10)
    assert list(watch.typing_in(chat)) == []
    sandbox.store.hub.announce(typing(chat, chat.members[0]))
    assert [person for person, _ in watch.typing_in(chat)] == [chat.members[0]]


async def test_it_is_no_call_of_the_api(talk: Talk, session: ClientSession) -> None:
    async with Sandbox(rate_limit=SlidingWindow(limit=1)) as sandbox:
        page = Page(Caller(sandbox, session))
        for path in ("/", "/sandbox/", "/sandbox/view", "/sandbox/people"):
            answer = await page.call("GET", path)
            assert answer.status in {200, 302}
            assert "Access-Control-Allow-Origin" not in answer.headers
        assert sandbox.calls == []


# --- What it does


async def test_a_person_types_and_sends_a_text_with_a_file(talk: Talk, page: Page, sandbox: Sandbox) -> None:
    chat = talk.path.partition("/")[2]
    as_patient = {"user": talk.patient, "chat": chat}
    assert (await page.act("type", {**as_patient, "stopped": False})).status == 200
    assert [one["id"] for one in (await page.look(chat=chat))["chat"]["typing"]] == [talk.patient]
    file = {"name": "../a.png", "mime_type": "image/png", "content": base64.b64encode(b"png").decode()}

    sent = await page.act("say", {**as_patient, "text": HOSTILE, "files": [file]})

    assert sent.status == 200
    (message,) = sandbox.messages(chat)
    assert (message.id, message.body) == (sent.document["id"], HOSTILE)
    assert message.user is not None
    assert message.user.id == talk.patient
    (attachment,) = message.attachments
    assert (attachment.name, attachment.mime_type) == ("../a.png", "image/png")
    assert sandbox.file_content(attachment.id) == b"png"
    assert (await page.look(chat=chat))["chat"]["typing"] == []


async def test_a_client_hears_over_the_gateway_what_is_done_on_it_and_it_shows_who_types_there(
    talk: Talk, page: Page, sandbox: Sandbox, session: ClientSession
) -> None:
    chat = talk.path.partition("/")[2]
    async with signed_in(session, sandbox) as wire:
        await page.act("type", {"user": talk.patient, "chat": chat})
        sent = await page.act("say", {"user": talk.patient, "chat": chat, "text": "Dag"})
        (_, typed), (name, said) = await wire.settled()
        assert (typed["user_id"], name) == (talk.patient, "conversation_new_message")
        assert (said["message_id"], said["body"]) == (sent.document["id"], "Dag")

        await wire.send("typing", conversation_id=talk.patient)
        await wire.settled()
        assert [one["id"] for one in (await page.look(chat=chat))["chat"]["typing"]] == [sandbox.user_id]


async def test_a_person_presses_a_button_and_is_verified(talk: Talk, page: Page) -> None:
    question, request = await ask(talk), await request_verification(talk)

    pressed = await page.act("answer", {"user": talk.patient, "message": question, "options": ["yes"]})
    refused = await page.act("verify", {"user": talk.patient, "message": request, "accepted": False})

    assert (pressed.status, refused.status) == (200, 200)
    chat = talk.path.partition("/")[2]
    asked, verification = (await page.look(chat=chat))["chat"]["messages"]
    assert asked["payload"]["answers"] == [{"user_id": talk.patient, "options": ["yes"]}]
    assert asked["payload"]["names"] == ["Piet Patiënt"]
    assert verification["payload"]["accepted"] is False
    await page.act("verify", {"user": talk.patient, "message": request})
    assert (await page.look(chat=chat))["chat"]["messages"][1]["payload"]["accepted"] is True
    assert len((await talk.read("verifications"))["user"]) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("say", {"chat": "conversations/none", "text": "x"}, 404),
        ("say", {"user": "none", "text": "x"}, 404),
        ("say", {"text": ""}, 409),
        ("say", {"chat": "none", "text": "x"}, 409),
        ("say", {"text": 5}, 400),
        ("say", [], 400),
        ("say", {"files": [{"name": "a", "content": "no base64"}]}, 400),
        ("say", {"files": [{"name": "a", "content": "", "mime_type": "a\r\nb: c"}]}, 400),
        ("answer", {"message": "none", "options": ["yes"]}, 404),
        ("answer", {"message": "{question}", "options": ["other"]}, 409),
        ("answer", {"message": "{question}", "options": "yes"}, 400),
        ("verify", {"message": "{question}"}, 409),
        ("type", {"user": "{stranger}"}, 409),
        ("nothing", {}, 404),
    ],
)
async def test_what_cannot_be_done_is_refused_with_a_sentence(
    talk: Talk, page: Page, path: str, body: Any, status: int
) -> None:
    sandbox = page.call.sandbox
    known = {"{question}": await ask(talk), "{stranger}": sandbox.add_user("Bea", "Bos")}
    if isinstance(body, dict):
        body = {"chat": talk.path} | {
            name: known.get(value, value) if isinstance(value, str) else value for name, value in body.items()
        }

    answer = await page.act(path, body)

    assert answer.status == status
    assert answer.document["message"].endswith(".")
    assert len(sandbox.messages(talk.path)) == 1


async def test_too_large_a_message_is_refused(talk: Talk, page: Page, sandbox: Sandbox) -> None:
    headers = {"Origin": sandbox.url, "Content-Type": "application/json"}
    body = b'{"chat": "%s", "text": "%s"}' % (talk.path.encode(), b"x" * 1024 * 1024)
    answer = await page.call("POST", "/sandbox/say", data=BytesIO(body), headers=headers)
    assert answer.status == 413
    assert sandbox.messages(talk.path) == ()


async def test_half_a_surrogate_pair_is_sent_and_shown(talk: Talk, page: Page) -> None:
    chat = talk.path.partition("/")[2]
    headers = {"Origin": page.call.sandbox.url, "Content-Type": "application/json"}
    body = b'{"chat": "%s", "text": "a\\ud83d", "files": [{"name": "\\ud83d", "size": 1}]}' % chat.encode()
    sent = await page.call("POST", "/sandbox/say", data=body, headers=headers)

    assert sent.status == 200
    (message,) = (await page.look(chat=chat))["chat"]["messages"]
    assert message["text"].startswith("a")
    assert (await page.call("GET", f"/sandbox/files/{message['files'][0]['id']}")).status == 200


# --- Whose calls it takes


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "",
        "http://evil.example",
        "http://localhost:{port}",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1:1",
        "http://127.0.0.1",
        "http://127.0.0.1:{port}.evil.example",
        "http://127.0.0.1:{port}/",
    ],
)
@pytest.mark.parametrize("path", ["say", "answer", "verify", "type"])
async def test_another_page_cannot_act(
    talk: Talk, page: Page, sandbox: Sandbox, path: str, origin: str | None
) -> None:
    question = await ask(talk)
    body = {"chat": talk.path, "text": "x", "message": question, "options": ["yes"]}
    port = str(URL(sandbox.url).port)
    headers = {} if origin is None else {"Origin": origin.format(port=port)}

    answer = await page.call("POST", f"/sandbox/{path}", json=body, headers=headers)

    assert (answer.status, answer.document["error"]) == (403, "wrong_origin")
    assert len(sandbox.messages(talk.path)) == 1
    assert (await talk.payload(question))["answers"] == []


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
async def test_what_a_form_can_send_is_refused(
    talk: Talk, page: Page, sandbox: Sandbox, content_type: str
) -> None:
    headers = {"Origin": sandbox.url, "Content-Type": content_type}
    body = b'{"chat": "%s", "text": "x"}' % talk.path.encode()
    answer = await page.call("POST", "/sandbox/say", data=body, headers=headers)
    assert answer.status == 400
    assert sandbox.messages(talk.path) == ()


async def test_under_another_name_it_neither_shows_nor_does_anything(
    talk: Talk, page: Page, sandbox: Sandbox
) -> None:
    evil = f"evil.example:{URL(sandbox.url).port}"
    for path in ("/", "/sandbox/", "/sandbox/view", "/sandbox/people", "/sandbox/files/x"):
        assert (await page.call("GET", path, headers={"Host": evil})).status == 421
    body = {"chat": talk.path, "text": "x"}
    answer = await page.act("say", body, Host=evil, Origin=f"http://{evil}")
    assert answer.status == 421
    assert sandbox.messages(talk.path) == ()


async def test_by_another_name_on_loopback_it_works_too(talk: Talk, page: Page, sandbox: Sandbox) -> None:
    host = f"localhost:{URL(sandbox.url).port}"
    answer = await page.act("say", {"chat": talk.path, "text": "x"}, Host=host, Origin=f"http://{host}")
    assert answer.status == 200


async def test_no_other_origin_may_load_what_it_shows(page: Page) -> None:
    for path in ("/sandbox/", "/sandbox/view", "/sandbox/people"):
        headers = (await page.call("GET", path)).headers
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("content", [b"<script>alert(1)</script>", b"", 300_000])
async def test_a_file_is_saved_and_never_shown_as_what_it_says_it_is(
    talk: Talk, page: Page, sandbox: Sandbox, content: bytes | int
) -> None:
    name = 'a"\r\nX-Evil: 1.html'
    sent = sandbox.say(None, talk.path, files=[SandboxFile(name, content, "text/html")])

    answer = await page.call("GET", f"/sandbox/files/{sent.attachments[0].id}")

    assert answer.body == sandbox.file_content(sent.attachments[0].id)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename*=UTF-8''a%22%0D%0AX-Evil%3A%201.html"
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert (await page.call("GET", "/sandbox/files/none")).status == 404
