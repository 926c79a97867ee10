"""The whole SDK against the sandbox: each request and each answer is as the OpenAPI file says."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession, DummyCookieJar, web
from attrs import define, evolve, field
from yarl import URL

from healthmsg import (
    Chat,
    Client,
    DeliveryUnknownError,
    GroupChat,
    GroupInvite,
    GroupSettings,
    ImportUser,
    Option,
    RateLimit,
    Retries,
    UploadFile,
    User,
)
from healthmsg.errors import InternalServerError
from healthmsg.sandbox import Sandbox
from tests.openapi_contract import Contract

NASTY = "wijk 3/é?x=1 & 患者 100%"
HOUR = timedelta(hours=1)
OF_THE_CONNECTION = {"Host", "Content-Length", "Date", "Server"}


@define
class Checkpoint:
    """Stands before a sandbox, and holds whatever passes against the OpenAPI file."""

    sandbox: Sandbox
    session: ClientSession
    contract: Contract = field(factory=Contract)
    passed: set[tuple[str, str]] = field(factory=set)
    problems: list[str] = field(factory=list)

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        try:
            return await self._pass(request)
        except AssertionError as problem:
            self.problems.append(str(problem))
            return web.Response(status=500)

    async def _pass(self, request: web.BaseRequest) -> web.Response:
        body, method, path = await request.read(), request.method, request.rel_url.raw_path
        query = request.rel_url.raw_query_string
        self.contract.check_request(method, path, query, request.headers.get("Content-Type"), body)
        sent = {name: value for name, value in request.headers.items() if name not in OF_THE_CONNECTION}
        url = URL(f"{self.sandbox.url}{request.rel_url.raw_path_qs}", encoded=True)
        async with self.session.request(
            method, url, headers=sent, data=body or None, allow_redirects=False
        ) as answer:
            content = await answer.read()
        self.contract.check_response(method, path, answer.status, answer.headers, content)
        if answer.status < 400:
            self.passed.add((method, self.contract.operation(method, path)[0].removeprefix("/")))
        kept = {name: value for name, value in answer.headers.items() if name not in OF_THE_CONNECTION}
        return web.Response(status=answer.status, headers=kept, body=content)


@pytest.fixture
async def checkpoint() -> AsyncIterator[Checkpoint]:
    async with Sandbox(rate_limit=None) as sandbox, ClientSession(cookie_jar=DummyCookieJar()) as session:
        yield Checkpoint(sandbox, session)


@pytest.fixture
async def client(checkpoint: Checkpoint) -> AsyncIterator[Client]:
    runner = web.ServerRunner(web.Server(checkpoint, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    there = evolve(checkpoint.sandbox.environment, api_url=f"http://{host}:{port}/v1")
    token = checkpoint.sandbox.issue_token()
    unlimited = RateLimit(10_000, 0.01)
    async with Client(token, environment=there, rate_limit=unlimited, retries=Retries.none()) as client:
        yield client
    await runner.cleanup()
    assert checkpoint.problems == []


async def people(client: Client) -> list[User]:
    """Go through all that concerns people, and give some who can be members."""
    await client.me.get()
    contacts = [user async for user in client.me.contacts(page_size=7)]
    await client.company.get()
    colleagues = [user async for user in client.company.users()]
    imported = ImportUser(email="q@example.org", first_name="Q", last_name="Z", saml_username="q@saml")
    await client.company.import_users([imported], send_email=False)
    assert await client.users.is_coworker(colleagues[1])
    assert not await client.users.is_verified(contacts[0], "DigiD")
    await client.users.invite("coworker", email="c@example.org", first_name="C", last_name="W")
    await client.users.invite(
        "contact",
        phone_number="+31 6 12345678",
        first_name="Ö",
        last_name="",
        invite_text="Welkom",
        send_email=False,
    )
    await client.users.invite(
        "private",
        email="p@example.org",
        first_name="P",
        last_name="V",
        aux_id="patient 4711",
        if_taken="move",
    )
    await client.auxiliary.users.get("patient 4711")
    return [user for user in colleagues[1:] if user.id != (await client.me.get()).id]


async def talk(chat: Chat | GroupChat, member: User, client: Client, folder: Path) -> None:
    """Do all that one can do in any chat."""
    await chat.get()
    await chat.send("Hallo 👋\n@all")
    asked = await chat.ask("Komt u?", options=[Option("Ja!", style="green"), Option("Nee")], users=[member])
    await chat.message(asked)
    uploaded = await chat.upload(UploadFile(b"x", "a b é.txt"), UploadFile(b"\x00", "b.bin"), body="Hier")
    attachment = (await chat.message(uploaded)).attachments[0]
    assert await chat.download_bytes(attachment) == b"x"
    now = datetime.now(UTC)
    await chat.download_pdf(to=folder / "chat.pdf", start=now - HOUR, end=now + HOUR, overwrite=True)
    provider = (await client.users.providers(member))[0]
    await chat.request_verification(user_id=member, provider_id=provider.provider_id)
    async for message in chat.messages(page_size=3):
        await chat.complete_mentions(message)


async def change(group: GroupChat, member: User, *, by_aux_id: str | None) -> None:
    """Do all that one can do with a group chat."""
    await group.rename(NASTY)
    await group.configure(GroupSettings(allow_contacts=False, auto_close_after=0, auto_expire_after=60))
    if by_aux_id is None:
        await group.add_members([member])
    else:
        await group.add_members([by_aux_id], by_aux_id=True)
        await group.remove_members([by_aux_id], by_aux_id=True)
        await group.add_members([member])
    await group.add_admins([member])
    await group.remove_admins([member])
    assert member.id in {found.id for found in await group.members()}
    await group.set_avatar(UploadFile(b"png", "a.png"))
    await group.remove_members([member])
    await group.add_members([member])
    await group.set_owner(member)
    await group.close(send_email=False)


@pytest.mark.slow
async def test_every_operation_of_the_file_is_driven_and_nothing_but_what_it_says_passes(
    client: Client, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    first, second, third, *_ = await people(client)
    patient = await client.auxiliary.users.get("patient 4711")
    conversation = await client.conversations.start(patient)
    invite = GroupInvite(email="g@example.org", first_name="G", last_name="H", invite_type="contact")
    group = await client.groupchats.create(subject=NASTY, members=[first], invite_users=[invite])
    await client.auxiliary.groupchats.create(
        aux_id="team/3 ?", subject="Team", members=[first], settings=GroupSettings(hybrid_messaging=True)
    )
    aux_group = client.auxiliary.groupchats("team/3 ?")

    await talk(conversation, patient, client, tmp_path)
    await talk(client.auxiliary.conversations("patient 4711"), patient, client, tmp_path)
    for chat in (group, aux_group):
        await talk(chat, first, client, tmp_path)
    for namespace in (
        client.conversations,
        client.groupchats,
        client.auxiliary.conversations,
        client.auxiliary.groupchats,
    ):
        assert [chat async for chat in namespace.list()]
    await change(group, second, by_aux_id=None)
    await change(aux_group, third, by_aux_id="patient 4711")

    assert checkpoint.passed == {(method, template) for method, template, _ in checkpoint.contract.operations}


async def test_a_removed_group_chat_answers_without_a_body_as_the_file_says(client: Client) -> None:
    group = await client.groupchats.create(subject="Weg ermee")

    await group.remove(send_email=False)


async def test_what_the_file_does_not_know_does_not_pass(client: Client, checkpoint: Checkpoint) -> None:
    with pytest.raises(InternalServerError):
        await client.request("GET", "me", query={"colour": "red"})
    with pytest.raises(DeliveryUnknownError):
        await client.request("POST", "conversations", json={"user": "u1"})

    assert len(checkpoint.problems) == 2
    checkpoint.problems.clear()
