"""The journal in memory: which message is the next, whatever the addresses."""

import pytest

from healthmsg import Outcome, Outgoing
from healthmsg.bulk.journal.base import Claim, Journal
from healthmsg.bulk.journal.memory import MemoryJournal
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.delivery.aliases import Aliases
from healthmsg.errors import ClaimLostError


def with_messages(*chats: str) -> tuple[MemoryJournal, Aliases]:
    aliases = Aliases()
    journal = MemoryJournal(aliases)
    for index, chat in enumerate(chats):
        journal.enter(index, chat, Outgoing(chat, "x"))
    return journal, aliases


async def claimed(journal: MemoryJournal) -> list[Claim]:
    return await journal.claim(100)


def numbers(claims: list[Claim]) -> list[int | None]:
    return [claim.index for claim in claims]


async def test_messages_come_in_order_and_one_a_recipient() -> None:
    journal, _ = with_messages("conversations/a", "conversations/b", "users/a", "conversations/c")

    first = await claimed(journal)
    assert numbers(first) == [0, 1, 3]
    assert await claimed(journal) == []

    await journal.finish(first[0], Outcome.DELIVERED)
    assert numbers(await claimed(journal)) == [2]


async def test_what_is_queued_again_keeps_its_old_place() -> None:
    journal, _ = with_messages("conversations/a", "conversations/a", "conversations/b")
    first, other = await claimed(journal)

    await journal.requeue(other)
    await journal.requeue(first)

    assert numbers(await claimed(journal)) == [0, 2]


async def test_one_in_doubt_holds_up_its_chat() -> None:
    journal, _ = with_messages("conversations/a", "conversations/a")
    (first,) = await claimed(journal)

    await journal.finish(first, Outcome.UNKNOWN)
    assert await claimed(journal) == []

    await journal.finish(first, Outcome.UNKNOWN, is_final=True)
    assert numbers(await claimed(journal)) == [1]


async def test_what_turns_out_to_be_behind_another_address_waits_for_it() -> None:
    journal, aliases = with_messages("users/u", "conversations/c", "conversations/d")
    first, second, _ = await claimed(journal)
    aliases.learn_conversation(conversation="c", user="u")

    with pytest.raises(ClaimLostError):
        await journal.begin(second, journal.now(), "conversations/c")
    await journal.requeue(second)
    assert await claimed(journal) == []

    await journal.finish(first, Outcome.NOT_SENT, is_final=True)
    assert numbers(await claimed(journal)) == [1]


async def test_what_cannot_be_an_address_holds_up_nothing() -> None:
    journal, _ = with_messages("", "", "conversations/a")

    assert numbers(await claimed(journal)) == [0, 1, 2]


async def test_what_is_left_over_is_what_has_no_end() -> None:
    journal, _ = with_messages("conversations/a", "conversations/a", "conversations/b", "conversations/c")
    first, third, _ = await claimed(journal)
    await journal.finish(first, Outcome.DELIVERED)
    journal.abandon(third)

    assert numbers(journal.left_over()) == [1, 3]


def test_the_sql_journal_leaves_nothing_to_what_a_journal_in_memory_does() -> None:
    inherited = {name for name, value in vars(Journal).items() if not name.startswith("_")} - {
        *("is_partly_lost", "lease"),  # set when it is opened
    }

    assert inherited - set(vars(SqlJournal)) == set()
