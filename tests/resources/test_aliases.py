"""Which addresses are known to lead to the same chat."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthmsg import Client, GroupInvite
from healthmsg.delivery import aliases as module
from healthmsg.delivery.aliases import Aliases
from healthmsg.ids import plain_address
from healthmsg.models import ConversationInfo, GroupChatInfo, User
from healthmsg.sandbox import Sandbox

U, C, A = "users/u", "conversations/c", "aux/conversations/patient 7"


def known(aliases: Aliases, *addresses: str) -> bool:
    """Tell whether all of them are known to be one, however that is asked."""
    groups = {frozenset(aliases.addresses_of(address)) for address in addresses}
    are_same = {aliases.are_same(addresses[0], address) for address in addresses}
    first = {aliases.addresses_of(address)[0] for address in addresses}
    assert (len(first) == 1) == (len(groups) == 1) == (are_same == {True})
    return len(groups) == 1


def test_a_user_and_the_conversation_at_that_id_are_one() -> None:
    aliases = Aliases()
    assert (
        aliases.addresses_of("users/u")[0] == aliases.addresses_of("conversations/u")[0] == "conversations/u"
    )
    assert aliases.are_same("users/u", "conversations/u") is True
    assert aliases.addresses_of("users/u") == ("conversations/u",)


def test_nothing_else_is_known_beforehand() -> None:
    aliases = Aliases()
    assert aliases.are_same(U, C) is None
    assert aliases.are_same(C, A) is None
    assert aliases.are_same(A, "aux/conversations/other") is None
    assert aliases.are_same("groupchats/g", "aux/groupchats/g") is None
    assert aliases.are_same("groupchats/g", "groupchats/h") is False
    assert aliases.are_same("groupchats/c", C) is False


def test_a_conversation_makes_its_addresses_one_whatever_comes_first() -> None:
    info = ConversationInfo("c", user=User("u"), aux_id="patient 7")
    aliases = Aliases()
    aliases.learn_info(info)
    assert known(aliases, U, C, A)
    assert aliases.addresses_of(A)[0] == "conversations/u"

    aliases = Aliases()
    aliases.learn_conversation(conversation="c", aux_id="patient 7")
    assert aliases.addresses_of(A)[0] == C
    aliases.learn_conversation(conversation="c", user="u")
    assert known(aliases, U, C, A)


@pytest.mark.parametrize(
    ("info", "asked", "me", "same"),
    [
        (ConversationInfo("c"), "aux/conversations/patient 7", None, [C, A]),
        (ConversationInfo("c"), "conversations/u", None, [C, U]),
        (ConversationInfo("c"), "conversations/c", None, [C]),
        (ConversationInfo("c", members=(User("me"), User("u"))), None, "me", [C, U]),
        (GroupChatInfo("g", aux_id="a"), None, None, ["groupchats/g", "aux/groupchats/a"]),
        (GroupChatInfo("g"), "aux/groupchats/a", None, ["groupchats/g", "aux/groupchats/a"]),
    ],
)
def test_what_was_asked_for_is_what_came(
    info: Any, asked: str | None, me: str | None, same: list[str]
) -> None:
    aliases = Aliases()
    aliases.learn_info(info, asked, me)
    assert known(aliases, *same)
    assert len(aliases.addresses_of(same[0])) == len(same)


def test_of_two_members_it_takes_ones_own_id_to_know_the_other() -> None:
    aliases = Aliases()
    aliases.learn_info(ConversationInfo("c", members=(User("me"), User("u"))))
    assert aliases.are_same(U, C) is None


def test_two_chats_differ_once_enough_is_known_of_one() -> None:
    aliases = Aliases()
    aliases.learn_conversation(conversation="c", user="u")
    assert aliases.are_same(C, "conversations/other") is False
    assert aliases.are_same("users/other", U) is False
    assert aliases.are_same(C, A) is None
    aliases.learn_user_of_aux_id("patient 7", "other")
    assert aliases.are_same(C, A) is False


def test_an_aux_id_that_moved_is_the_new_users_alone() -> None:
    aliases = Aliases()
    aliases.learn_info(ConversationInfo("c", user=User("u"), aux_id="patient 7"))
    aliases.learn_user_of_aux_id("patient 7", "other")
    assert known(aliases, "users/other", A)
    assert known(aliases, U, C)
    assert aliases.are_same(U, A) is False


def test_an_aux_id_seen_at_another_conversation_makes_no_two_patients_one() -> None:
    aliases = Aliases()
    aliases.learn_conversation(conversation="c", aux_id="patient 7")
    aliases.learn_conversation(conversation="other", aux_id="patient 7")
    assert known(aliases, "conversations/other", A)
    assert aliases.are_same(C, "conversations/other") is False


def test_an_aux_id_of_several_group_chats_leads_to_none() -> None:
    aliases = Aliases()
    aliases.learn_group_chat("g", "a")
    aliases.learn_group_chat("h", "a")
    aliases.learn_group_chat("g", "a")
    assert aliases.are_same("groupchats/g", "aux/groupchats/a") is None
    assert aliases.are_same("groupchats/h", "aux/groupchats/a") is None


def test_news_are_heard_once_and_whole() -> None:
    aliases, heard = Aliases(), list[Any]()
    aliases.listen(heard.append)
    for _ in range(2):
        aliases.learn_conversation(conversation="c", user="u")
        aliases.learn_user_of_aux_id("patient 7", "u")
    assert heard == [("conversations/u", C), ("conversations/u", C, A)]
    aliases.stop_listening(heard.append)
    aliases.learn_same(["conversations/x", "conversations/y"])
    assert len(heard) == 2


def test_the_chats_that_were_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_ADDRESSES", 6)
    aliases = Aliases()
    for number in range(3):
        aliases.learn_conversation(conversation=f"c{number}", user=f"u{number}")
    aliases.addresses_of("users/u0")
    aliases.learn_conversation(conversation="c3", user="u3")
    assert aliases.are_same("users/u0", "conversations/c0") is True
    assert aliases.are_same("users/u1", "conversations/c1") is None
    assert len(aliases._chat_of) == 6


ids = st.sampled_from("abc")
one_of_three = st.fixed_dictionaries(
    {name: st.one_of(st.none(), ids.map(name.__add__)) for name in ("conversation", "user", "aux_id")}
)


@given(st.lists(one_of_three))
def test_no_address_is_in_two_chats_and_no_chat_has_two_users(seen: list[dict[str, str | None]]) -> None:
    aliases = Aliases()
    for observation in seen:
        aliases.learn_conversation(**observation)
        addresses = [
            f"{start}/{observation[name]}"
            for name, start in (
                ("conversation", "conversations"),
                ("user", "users"),
                ("aux_id", "aux/conversations"),
            )
            if observation[name]
        ]
        if len(addresses) > 1:
            assert known(aliases, *addresses)  # what was seen last counts
    everything = [address for chat in aliases._chats.values() for address in chat[2]]
    assert len(everything) == len(set(everything)) == len(aliases._chat_of)
    for user, _, all_of_it in aliases._chats.values():
        assert sum(address.startswith("conversations/user") for address in all_of_it) <= 1
        assert user is None or plain_address(f"users/{user}") == all_of_it[0]


async def test_what_the_client_reads_starts_and_invites_is_learnt(client: Client, sandbox: Sandbox) -> None:
    user = sandbox.add_user("Bea", "Bos", aux_id="patient 7")
    aliases = client._api.aliases
    started = await client.conversations.start(user)
    assert known(aliases, f"users/{user}", started.address.text)
    await client.auxiliary.users.get("patient 7")
    assert known(aliases, f"users/{user}", A)
    invited = await client.users.invite(
        "private", email="k@example.nl", first_name="K", last_name="Kok", aux_id="patient 8"
    )
    assert known(aliases, f"users/{invited.id}", "aux/conversations/patient 8")
    group = await client.auxiliary.groupchats.create(aux_id="ward 3", subject="Team")
    assert known(aliases, group.address.text, "aux/groupchats/ward 3")
    shared = await client.auxiliary.groupchats.create(aux_id="ward 3", subject="Team", if_taken="share")
    assert aliases.are_same(shared.address.text, "aux/groupchats/ward 3") is None
    aliases.learn_user_of_aux_id("patient 9", "left")
    await client.groupchats.create(
        subject="Team",
        invite_users=[
            GroupInvite(
                email="l@example.nl",
                first_name="L",
                last_name="Los",
                invite_type="private_user",
                aux_id="patient 9",
            )
        ],
    )
    assert aliases.addresses_of("aux/conversations/patient 9") == ("aux/conversations/patient 9",)


@pytest.mark.parametrize("way", ["list", "aux list", "get", "aux get", "handle", "aux handle", "by user"])
async def test_every_way_to_read_a_conversation_tells_its_addresses(
    client: Client, sandbox: Sandbox, way: str
) -> None:
    user = sandbox.add_user("Bea", "Bos", aux_id="patient 7")
    chat = sandbox.add_conversation(user=user)
    match way:
        case "list":
            assert [one async for one in client.conversations.list()]
        case "aux list":
            assert [one async for one in client.auxiliary.conversations.list()]
        case "get":
            await client.conversations.get(chat)
        case "aux get":
            await client.auxiliary.conversations.get("patient 7")
        case "handle":
            await client.conversations(chat).get()
        case "aux handle":
            await client.auxiliary.conversations("patient 7").get()
        case _:
            await client.conversations(user).get()
    assert known(client._api.aliases, f"users/{user}", f"conversations/{chat}", A)


async def test_views_of_the_same_user_share_what_was_learnt_and_others_do_not(
    client: Client, sandbox: Sandbox
) -> None:
    aliases = client._api.aliases
    assert client.with_options(timeout=5)._api.aliases is aliases
    assert client.with_token(sandbox.issue_token())._api.aliases is not aliases
