"""The chat handles: the same for all four kinds of chat."""

from typing import Any

import pytest
from attrs import frozen

from healthmsg import (
    Attachment,
    CallError,
    Client,
    ConnectError,
    DeliveryUnknownError,
    Environment,
    InvalidInputError,
    Message,
    NotFoundError,
    Outcome,
    RateLimit,
    SentMessage,
    UploadFile,
    User,
)
from healthmsg.errors import EmptyMessageError, InvalidIdError, InvalidResponseError, PreconditionFailedError
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.resources.chat import BaseChat
from healthmsg.resources.group_chat import handle
from healthmsg.sandbox import (
    AnswerStatus,
    CutAfter,
    CutBefore,
    CutBody,
    Delay,
    Fault,
    Garbage,
    Sandbox,
    WrongShape,
)
from tests.foreign_host import ForeignHost

ALL_KINDS = pytest.mark.parametrize("kind", ChatKind, ids=lambda kind: kind.value)
BODY = 'Beste Zoë,\n\tuw "afspraak" \\ is bevestigd 🙏 \u2028'
ADDRESSES = ["conversations/c1", "groupchats/c1", "aux/conversations/c1", "aux/groupchats/c1"]
PDF = UploadFile(b"%PDF", "uitslag.pdf")


@frozen
class Place:
    """A chat as the client addresses it, and as the sandbox knows it."""

    chat: BaseChat
    sandbox: Sandbox

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.sandbox.messages(self.chat.address)

    @property
    def bodies(self) -> list[str | None]:
        return [message.body for message in self.messages]

    @property
    def posts(self) -> int:
        return sum(call.method == "POST" for call in self.sandbox.calls)

    def fault(self, kind: Fault, **more: Any) -> None:
        self.sandbox.faults.add(kind=kind, method="POST", **more)


def to(client: Client, address: str) -> Any:
    kinds: dict[str, Any] = {
        "conversations": client.conversations,
        "groupchats": client.groupchats,
        "aux/conversations": client.auxiliary.conversations,
        "aux/groupchats": client.auxiliary.groupchats,
    }
    path, _, chat_id = address.rpartition("/")
    return kinds[path](chat_id)


def place(client: Client, sandbox: Sandbox, kind: ChatKind) -> Place:
    if kind.is_group:
        chat_id = sandbox.add_group_chat("Overleg", aux_id="kamer 7")
    else:
        chat_id = sandbox.add_conversation(aux_id="kamer 7")
    return Place(to(client, f"{kind.value}/{'kamer 7' if kind.is_auxiliary else chat_id}"), sandbox)


@pytest.fixture
def here(client: Client, sandbox: Sandbox) -> Place:
    return place(client, sandbox, ChatKind.CONVERSATION)


# --- the handle


def test_a_handle_makes_no_request_and_knows_only_the_address(client: Client, sandbox: Sandbox) -> None:
    for address in ADDRESSES:
        chat = to(client, address)
        assert chat.id == "c1"
        assert chat.address == ChatAddress.parse(address)
        assert chat == handle(client._api, chat.address)
        assert type(chat) is type(handle(client._api, chat.address))
    assert not sandbox.calls


async def test_handles_are_equal_by_address_user_and_client(client: Client) -> None:
    async with Client("other", environment=Environment("x", "http://127.0.0.1:1")) as other:
        users = (client, client.with_token("another-user"), other)
        handles = [to(user, address) for user in users for address in ADDRESSES]

        assert len({*handles, *(to(user, address) for user in users for address in ADDRESSES)}) == 12
        assert to(client, ADDRESSES[0]) != to(users[1], ADDRESSES[0])
    assert to(client, "conversations/c1") != "conversations/c1"
    assert to(client, "conversations/c1") != to(client, "conversations/c2")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("conversations/c1", "conversations/c1"),
        ("groupchats/g1", "groupchats/g1"),
        ("aux/conversations/s3cret", "aux/conversations/{aux_id}"),
        ("aux/groupchats/s3cret", "aux/groupchats/{aux_id}"),
    ],
)
def test_the_repr_of_a_handle_shows_the_id_unless_it_may_name_a_patient(
    client: Client, address: str, shown: str
) -> None:
    chat = to(client, address)

    assert repr(chat) == f"<{type(chat).__name__} {shown}>"
    assert repr(chat.address) == f"<ChatAddress {shown}>"


# --- what goes over the wire


@pytest.mark.parametrize("address", ADDRESSES)
async def test_a_message_is_exactly_this_json(host: ForeignHost, address: str) -> None:
    host.answer(f"/{address}/messages", b'{"id": "m1", "mood": "fine"}', status=201)

    async with host.client() as client:
        sent = await to(client, address).send('Zoë "7" \\ 🙏')

    (seen,) = host.seen
    assert (seen.method, seen.path) == ("POST", f"/{address}/messages")
    assert seen.body == '{"body":"Zoë \\"7\\" \\\\ 🙏"}'.encode()
    assert seen.headers["Content-Type"] == "application/json"
    assert seen.headers["Authorization"] == "Bearer t0ken"
    assert seen.headers["Accept"] == "application/json"
    assert "Cookie" not in seen.headers
    assert sent == SentMessage("m1")
    assert sent.extra == {"mood": "fine"}


@pytest.mark.parametrize("address", ADDRESSES)
async def test_an_upload_is_exactly_these_parts(host: ForeignHost, address: str) -> None:
    host.answer(f"/{address}/attachments", b'{"id": "m1"}', status=201)

    async with host.client() as client:
        scan = UploadFile(b"\x89PNG\r\n--", 'scan "é".bin', "image/x")
        sent = await to(client, address).upload(PDF, scan, body="Bijlagen é")

    (seen,) = host.seen
    assert (seen.method, seen.path, sent.id) == ("POST", f"/{address}/attachments", "m1")
    kind, _, boundary = seen.headers["Content-Type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    assert int(seen.headers["Content-Length"]) == len(seen.body)
    parts = [part.split(b"\r\n\r\n", 1) for part in seen.body.split(f"--{boundary}".encode())]
    assert [sorted(head.strip().decode().split("\r\n")) for head, _ in parts[1:-1]] == [
        ['Content-Disposition: form-data; name="message"'],
        [
            'Content-Disposition: form-data; name="files"; filename="uitslag.pdf"',
            "Content-Type: application/pdf",
        ],
        [
            'Content-Disposition: form-data; name="files"; filename="scan %22é%22.bin"',
            "Content-Type: image/x",
        ],
    ]
    contents = [content.removesuffix(b"\r\n") for _, content in parts[1:-1]]
    assert contents == ["Bijlagen é".encode(), b"%PDF", b"\x89PNG\r\n--"]
    assert parts[-1] == [b"--\r\n"]


# --- for all four kinds, over the sandbox


@ALL_KINDS
async def test_messages_are_sent_and_read_back(client: Client, sandbox: Sandbox, kind: ChatKind) -> None:
    here = place(client, sandbox, kind)

    sent = [await here.chat.send(body) for body in ("een", BODY, "drie")]
    uploaded = await here.chat.upload(PDF, body="vier")

    read = [message async for message in here.chat.messages(page_size=3)]
    assert [message.id for message in read] == [uploaded.id, *(one.id for one in reversed(sent))]
    assert [message.body for message in read] == ["vier", "drie", BODY, "een"]
    assert [file.name for file in read[0].attachments] == ["uitslag.pdf"]
    assert await here.chat.message(sent[1].id) == await here.chat.message(read[2]) == read[2]
    assert read == list(reversed(here.messages))
    assert here.posts == 4


@ALL_KINDS
async def test_a_closed_chat_takes_nothing(client: Client, sandbox: Sandbox, kind: ChatKind) -> None:
    here = place(client, sandbox, kind)
    sandbox.close_chat(here.chat.address)

    for attempt in (here.chat.send("Hallo"), here.chat.upload(PDF)):
        with pytest.raises(PreconditionFailedError) as caught:
            await attempt
        assert caught.value.outcome is Outcome.NOT_SENT
        assert caught.value.server_code == "chat_is_closed"
    assert here.messages == ()


# --- what is refused before anything is sent


@pytest.mark.parametrize("body", ["", "   ", "\n\t \u00a0\u2003"])
async def test_a_message_with_nothing_to_read_is_refused(here: Place, body: str) -> None:
    with pytest.raises(EmptyMessageError):
        await here.chat.send(body)

    assert not here.sandbox.calls


@pytest.mark.parametrize("message", ["", "Hallo"])
async def test_an_upload_of_no_files_is_refused(here: Place, message: str) -> None:
    with pytest.raises(EmptyMessageError):
        await here.chat.upload(body=message)

    assert not here.sandbox.calls


@pytest.mark.parametrize("body", [None, 7, b"Hallo", ["Hallo"], "half \ud83d", PDF])
async def test_a_text_that_is_none_is_refused_without_repeating_it(here: Place, body: Any) -> None:
    for attempt in (here.chat.send(body), here.chat.upload(PDF, body=body)):
        with pytest.raises(InvalidInputError) as caught:
            await attempt
        assert "half" not in str(caught.value)
        assert caught.value.__context__ is None

    assert not here.sandbox.calls


@pytest.mark.parametrize("wrong", [None, 7, "", ".", "..", User("u1"), Attachment("a1")])
async def test_a_message_that_cannot_be_one_is_refused(here: Place, wrong: Any) -> None:
    with pytest.raises(InvalidIdError):
        await here.chat.message(wrong)

    assert not here.sandbox.calls


async def test_a_message_that_is_not_there_is_not_found(here: Place) -> None:
    with pytest.raises(NotFoundError) as caught:
        await here.chat.message("n0ne/../m")

    assert "n0ne" not in str(caught.value)
    assert here.sandbox.calls[-1].path.endswith("/messages/n0ne%2F..%2Fm")


# --- what may have been delivered


@pytest.mark.parametrize(
    "kind", [Garbage(), Garbage(b""), WrongShape(), CutBody(), CutAfter()], ids=lambda kind: repr(kind)[:16]
)
@pytest.mark.parametrize("upload", [False, True])
async def test_a_message_whose_answer_is_lost_is_there_once_and_not_sent_again(
    *, here: Place, kind: Fault, upload: bool
) -> None:
    here.fault(kind)

    with pytest.raises(DeliveryUnknownError) as caught:
        await (here.chat.upload(PDF, body=BODY) if upload else here.chat.send(BODY))

    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.started_at.tzinfo is not None
    assert here.bodies == [BODY]
    assert here.posts == 1


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"id": 7}', b'{"id": null}', b"null", b'"m1"'])
@pytest.mark.parametrize("status", [200, 201, 202])
async def test_an_acceptance_without_an_id_is_unknown_and_says_so(
    here: Place, status: int, answer: bytes
) -> None:
    here.fault(AnswerStatus(status, answer))

    with pytest.raises(DeliveryUnknownError) as caught:
        await here.chat.send("Hallo")

    assert caught.value.status == status
    assert here.posts == 1


async def test_a_call_that_was_repeated_says_how_often_also_when_its_answer_is_garbage(here: Place) -> None:
    here.fault(AnswerStatus(429, headers={"Retry-After": "0"}))
    here.fault(Garbage())

    with pytest.raises(DeliveryUnknownError) as caught:
        await here.chat.send("Hallo")

    assert (caught.value.attempts, here.posts) == (2, 2)


@pytest.mark.parametrize("kind", [CutBefore(), *map(AnswerStatus, (500, 502, 503, 504))])
async def test_what_may_be_delivered_is_not_sent_again(here: Place, kind: Fault) -> None:
    here.fault(kind)

    with pytest.raises(DeliveryUnknownError) as caught:
        await here.chat.send("Hallo")

    assert caught.value.status == getattr(kind, "status", None)
    assert (here.bodies, here.posts) == ([], 1)


@pytest.mark.looptime
@pytest.mark.parametrize(("after", "delivered"), [(False, 0), (True, 1)])
async def test_a_time_out_is_unknown_and_not_sent_again(*, here: Place, after: bool, delivered: int) -> None:
    here.fault(Delay(90, after=after))

    with pytest.raises(DeliveryUnknownError):
        await here.chat.send("Hallo")

    assert (len(here.messages), here.posts) == (delivered, 1)


# --- what certainly was not


@pytest.mark.looptime
async def test_a_429_is_waited_out_and_the_message_delivered_once(here: Place) -> None:
    here.fault(AnswerStatus(429, headers={"Retry-After": "7"}), times=2)

    await here.chat.send("Hallo")

    first, second, third = (call.arrived for call in here.sandbox.calls)
    assert second - first >= 7
    assert third - second >= 7
    assert here.bodies == ["Hallo"]


@pytest.mark.looptime
async def test_a_port_that_refuses_is_tried_again_and_then_given_up(unused_tcp_port: int) -> None:
    nowhere = Environment("nowhere", f"http://127.0.0.1:{unused_tcp_port}")
    async with Client("t", environment=nowhere) as client:
        with pytest.raises(ConnectError) as caught:
            await client.conversations("c1").send("Hallo")

    assert caught.value.outcome is Outcome.NOT_SENT
    assert caught.value.attempts == 8


@pytest.mark.looptime
@pytest.mark.usefixtures("ticking_clock")
async def test_a_limit_that_stays_is_given_up_with_nothing_sent(sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    sandbox.faults.add(kind=AnswerStatus(429, headers={"Retry-After": "0"}), method="POST", times=None)
    limit = RateLimit(calls=1000)
    async with Client(sandbox.issue_token(), environment=sandbox.environment, rate_limit=limit) as client:
        with pytest.raises(CallError) as caught:
            await client.conversations(chat).send("Hallo")

    assert (caught.value.outcome, caught.value.attempts) == (Outcome.NOT_SENT, 8)
    assert sandbox.messages(f"conversations/{chat}") == ()


async def test_a_reading_call_that_is_garbled_is_an_error_and_changes_nothing(here: Place) -> None:
    here.sandbox.faults.add(kind=AnswerStatus(503, headers={"Retry-After": "0"}), method="GET")
    here.sandbox.faults.add(kind=WrongShape(), method="GET")

    with pytest.raises(InvalidResponseError) as caught:
        await here.chat.messages().first_page()

    assert (caught.value.outcome, caught.value.attempts) == (Outcome.NOT_SENT, 2)
