"""Group chats and conversations: created, changed and ended, over the sandbox."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from healthmsg import (
    Client,
    ForbiddenError,
    GroupChatInfo,
    GroupInvite,
    GroupSettings,
    ImportUser,
    Member,
    NotFoundError,
    Outcome,
    UploadFile,
    User,
)
from healthmsg.errors import InvalidFileError, PreconditionFailedError
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.resources.chat import Chat
from healthmsg.resources.group_chat import GroupChat
from healthmsg.sandbox import Sandbox
from tests.foreign_host import ForeignHost

AUX_ID = "afdeling 4/b"


@frozen
class Group:
    """A group chat as the client addresses it, with two colleagues of the user in it."""

    chat: GroupChat
    colleagues: tuple[User, ...]
    sandbox: Sandbox

    async def members(self) -> dict[str, Member]:
        return {member.id: member for member in await self.chat.members()}

    async def info(self) -> GroupChatInfo:
        return await self.chat.get()


async def colleagues(client: Client, *names: str) -> tuple[User, ...]:
    people = [ImportUser(email=f"{name}@x.example", first_name=name, last_name="X") for name in names]
    return await client.company.import_users(people, send_email=False)


@pytest.fixture(params=[ChatKind.GROUP_CHAT, ChatKind.AUX_GROUP_CHAT], ids=lambda kind: kind.value)
async def group(client: Client, sandbox: Sandbox, request: pytest.FixtureRequest) -> Group:
    people = await colleagues(client, "Bea", "Cas")
    chat_id = sandbox.add_group_chat("Overleg", members=[user.id for user in people], aux_id=AUX_ID)
    is_auxiliary = request.param is ChatKind.AUX_GROUP_CHAT
    chat = client.auxiliary.groupchats(AUX_ID) if is_auxiliary else client.groupchats(chat_id)
    return Group(chat, people, sandbox)


# --- creating


async def test_a_conversation_that_was_started_can_be_gone_on_with(client: Client, sandbox: Sandbox) -> None:
    user = await client.users.get(sandbox.add_user("Bea", "Bos"))

    chat = await client.conversations.start(user)
    await chat.send("Hallo")

    assert type(chat) is Chat
    assert chat.address.kind is ChatKind.CONVERSATION
    assert [message.body for message in sandbox.messages(chat.address)] == ["Hallo"]
    assert (await chat.get()).user == user


@pytest.mark.parametrize("auxiliary", [False, True])
async def test_a_group_chat_that_was_created_can_be_gone_on_with_by_its_own_id(
    *, client: Client, sandbox: Sandbox, auxiliary: bool
) -> None:
    (bea,) = await colleagues(client, "Bea")
    invite = GroupInvite(
        email="ann@x.example",
        first_name="Ann",
        last_name="X",
        invite_type="private_user",
        aux_id="patient 41",
    )
    chats: Any = client.auxiliary.groupchats if auxiliary else client.groupchats
    own = {"aux_id": AUX_ID} if auxiliary else {}

    chat = await chats.create(
        subject="Overleg é",
        members=[bea],
        invite_users=[invite],
        settings=GroupSettings(members_can_invite=False, auto_close_after=0),
        **own,
    )

    assert type(chat) is GroupChat
    assert chat.address.kind is ChatKind.GROUP_CHAT
    info = await chat.get()
    assert (info.id, info.subject) == (chat.id, "Overleg é")
    assert info.aux_id == (AUX_ID if auxiliary else None)
    assert info.settings is not None
    assert info.settings.members_can_invite is False
    names = {member.first_name for member in await chat.members()}
    assert names >= {"Bea", "Ann"}
    assert (await client.auxiliary.users.get("patient 41")).first_name == "Ann"
    if auxiliary:
        assert await client.auxiliary.groupchats.get(AUX_ID) == info


async def test_the_handle_of_what_was_created_is_taken_from_the_answer(host: ForeignHost) -> None:
    async with host.client() as client:
        creations: dict[str, tuple[ChatKind, Callable[[], Any]]] = {
            "/conversations": (ChatKind.CONVERSATION, lambda: client.conversations.start("u1")),
            "/groupchats": (ChatKind.GROUP_CHAT, lambda: client.groupchats.create(subject="x")),
            "/aux/groupchats": (
                ChatKind.GROUP_CHAT,
                lambda: client.auxiliary.groupchats.create(aux_id="p1", subject="x"),
            ),
        }
        for path, (kind, create) in creations.items():
            host.answer(path, b'{"id": "n/1", "more": true}', status=201)
            assert (await create()).address == ChatAddress(kind, "n/1")


# --- who takes part


async def test_members_say_who_is_owner_and_who_is_admin(group: Group) -> None:
    members = await group.members()

    assert {type(member) for member in members.values()} == {Member}
    assert members[group.sandbox.user_id].owner is True
    assert members[group.colleagues[0].id].owner is members[group.colleagues[0].id].admin is False


async def test_members_come_and_go(client: Client, group: Group) -> None:
    bea, cas = group.colleagues
    (dirk,) = await colleagues(client, "Dirk")

    await group.chat.add_members([dirk, dirk.id, bea])
    assert set(await group.members()) == {group.sandbox.user_id, bea.id, cas.id, dirk.id}

    await group.chat.remove_members(iter((bea, dirk.id)))
    assert set(await group.members()) == {group.sandbox.user_id, cas.id}


async def test_members_of_an_auxiliary_chat_come_and_go_by_auxiliary_id(
    client: Client, sandbox: Sandbox
) -> None:
    sandbox.add_group_chat("Overleg", aux_id=AUX_ID)
    patient = sandbox.add_user("Ann", "de Wit", aux_id="patient 41/b")
    chat = client.auxiliary.groupchats(AUX_ID)

    await chat.add_members(["patient 41/b"], by_aux_id=True)
    assert patient in {member.id for member in await chat.members()}

    await chat.remove_members(["patient 41/b"], by_aux_id=True)
    assert patient not in {member.id for member in await chat.members()}


async def test_admins_come_and_go_and_the_owner_can_hand_over(group: Group) -> None:
    bea, cas = group.colleagues

    await group.chat.add_admins([bea, cas.id])
    members = await group.members()
    assert members[bea.id].admin is members[cas.id].admin is True

    await group.chat.remove_admins({cas.id})
    assert (await group.members())[cas.id].admin is False

    await group.chat.set_owner(bea)
    assert (await group.members())[bea.id].owner is True
    with pytest.raises(ForbiddenError):
        await group.chat.remove(send_email=False)


async def test_everybody_of_a_group_is_mentioned_by_all(group: Group) -> None:
    everybody = await group.chat.complete_mentions([User("@all")], exclude=[group.sandbox.user_id])

    assert {user.id for user in everybody} == {user.id for user in group.colleagues}
    assert all(user.first_name and user.last_name for user in everybody)


# --- what it is like


async def test_a_group_chat_is_renamed(group: Group) -> None:
    await group.chat.rename("Overdracht é 🙏")

    assert (await group.info()).subject == "Overdracht é 🙏"


async def test_only_the_settings_that_are_set_change(group: Group) -> None:
    before = (await group.info()).settings
    assert before is not None
    await group.chat.configure(GroupSettings(auto_expire_after=3600, members_can_invite=False))
    await group.chat.configure(GroupSettings(auto_expire_after=0))

    after = (await group.info()).settings
    assert after is not None
    assert (after.auto_expire_after, after.members_can_invite) == (0, False)
    assert (after.allow_contacts, after.hybrid_messaging) == (before.allow_contacts, before.hybrid_messaging)


@pytest.mark.parametrize("from_path", [False, True])
async def test_a_group_chat_gets_a_picture(*, group: Group, tmp_path: Path, from_path: bool) -> None:
    path = tmp_path / "é.png"
    path.write_bytes(b"\x89PNG")

    await group.chat.set_avatar(path if from_path else UploadFile(b"\x89PNG", "a.png"))

    assert (await group.info()).avatar


async def test_a_picture_that_is_changed_before_it_is_sent_is_refused(group: Group, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG")
    setting = group.chat.set_avatar(path)
    path.write_bytes(b"\x89GIF")

    with pytest.raises(InvalidFileError, match="changed or replaced"):
        await setting

    assert not (await group.info()).avatar


# --- the end


@pytest.mark.parametrize("send_email", [False, True])
async def test_a_closed_group_chat_is_read_and_no_longer_written_in(
    *, group: Group, send_email: bool
) -> None:
    await group.chat.send("Hallo")

    await group.chat.close(send_email=send_email)

    assert (await group.info()).closed is True
    assert [message.body for message in await group.chat.messages().first_page()] == ["Hallo"]
    for change in (group.chat.send("x"), group.chat.rename("x"), group.chat.add_members(["u1"])):
        with pytest.raises(PreconditionFailedError) as caught:
            await change
        assert caught.value.outcome is Outcome.NOT_SENT


async def test_a_removed_group_chat_is_gone(group: Group) -> None:
    await group.chat.remove(send_email=False)

    with pytest.raises(NotFoundError):
        await group.chat.get()
