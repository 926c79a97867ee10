"""The order of messages to addresses of which it turns out that they lead to one recipient."""

from datetime import timedelta

import pytest

from healthmsg.bulk.journal import Entry, open_journal
from healthmsg.errors import ClaimLostError, Outcome
from tests.bulk.journal.journals import NOW, begun, delivered, holding, keys, only

U, C, A = "users/u", "conversations/c", "aux/conversations/patient 7"


def entry(key: str, chat: str) -> Entry:
    return Entry(key, chat, f"text {key}")


async def test_a_user_and_the_conversation_at_that_id_have_one_order(target: str) -> None:
    async with holding(target, entry("a", U), entry("b", "conversations/u"), entry("c", C)) as journal:
        assert keys(await journal.claim(9)) == ["a", "c"]


async def test_what_is_known_on_entering_counts_for_what_comes_later(target: str) -> None:
    async with open_journal(target) as journal:
        await journal.enter([entry("a", C)], same_chats=[["conversations/u", C]])
        assert keys(await journal.claim(9)) == ["a"]
    async with holding(target, entry("b", U)) as journal:
        assert keys(await journal.claim(9)) == ["a"]


async def test_of_what_was_not_begun_the_first_is_the_next(target: str) -> None:
    async with holding(target, entry("a", U), entry("b", C), entry("c", A)) as journal:
        claims = await journal.claim(9)
        await journal.learn_same([[U, C, A]])
        for claim in claims:
            with pytest.raises(ClaimLostError):
                await journal.begin(claim, NOW, claim.chat)
        for key in "abc":
            assert (await delivered(journal, f"m-{key}")).key == key


async def test_what_was_begun_is_left_to_its_end_and_its_place_kept(target: str) -> None:
    entries = (entry("a1", U), entry("b1", C), entry("a2", U), entry("b2", C))
    async with holding(target, *entries) as journal:
        first, second = await begun(journal), await begun(journal)
        await journal.learn_same([[U, C]])
        assert await journal.claim(9) == []
        await journal.finish(second, Outcome.DELIVERED, message_id="m1")
        assert await journal.claim(9) == []
        await journal.finish(first, Outcome.DELIVERED, message_id="m2")
        assert (await delivered(journal, "m3")).key == "a2"
        assert (await delivered(journal, "m4")).key == "b2"
        assert not await journal.has_open()


async def test_what_was_not_sent_after_all_is_in_order_in_the_next_run(target: str) -> None:
    async with holding(target, entry("a", U), entry("b", C)) as journal:
        first, second = await begun(journal), await begun(journal)
        await journal.learn_same([[U, C]])
        await journal.requeue(second)
        await journal.requeue(first)
    async with open_journal(target) as journal:
        await journal.start_run(resumes=True)
        assert (await delivered(journal, "m1")).key == "a"
        assert (await delivered(journal, "m2")).key == "b"


async def test_what_was_left_to_its_end_is_an_earlier_text_to_its_patient_too(target: str) -> None:
    async with holding(target, entry("a", U), entry("b", C)) as journal:
        await begun(journal), await begun(journal)
        await journal.learn_same([[U, C]])

    async with open_journal(target) as journal:
        await journal.start_run()
        assert {one.key for one in await journal.earlier([U])} == {"a", "b"}
        assert await journal.earlier(["conversations/other"]) == []
        await journal.enter([entry("new", U)], superseded=["a", "b"])


async def test_a_purge_does_not_forget_whose_a_message_is_that_was_left_to_its_end(target: str) -> None:
    async with holding(target, entry("a", U), entry("b", C)) as journal:
        first, _ = await begun(journal), await begun(journal)
        await journal.learn_same([[U, C]])
        await journal.finish(first, Outcome.DELIVERED, message_id="m1")

    async with open_journal(target) as journal:
        await journal.purge(timedelta())
        await journal.start_run()
        assert [one.key for one in await journal.earlier([U])] == ["b"]


async def test_an_aux_id_that_moved_makes_no_two_patients_one(target: str) -> None:
    async with holding(target, entry("a", U), entry("b", A), entry("c", "users/other")) as journal:
        await journal.learn_same([[U, A]])
        await journal.learn_same([["users/other", A]])
        assert keys(await journal.claim(9)) == ["a", "b"]
        (same,) = await journal.same_chats([A])
        assert set(same) == {"conversations/other", A}


async def test_nothing_is_kept_of_chats_without_a_message(target: str) -> None:
    async with holding(target, entry("a", C)) as journal:
        await journal.learn_same([["conversations/x", "conversations/y"], [U, C]])
        assert await journal.same_chats(["conversations/x"]) == []
        await delivered(journal, "m")
        await journal.purge(timedelta(0))
        assert await journal.same_chats([U, C]) == []


@pytest.mark.slow
async def test_all_workers_order_by_what_one_has_learnt(database: str) -> None:
    async with (
        holding(database, entry("a", U), entry("b", C), entry("c", A)) as one,
        open_journal(database) as other,
    ):
        first = only(await one.claim(1))
        taken = await other.claim(9)
        await other.begin(taken[0], NOW, C)
        await one.learn_same([[U, C, A]])
        for journal, claim in ((one, first), (other, taken[1])):
            with pytest.raises(ClaimLostError):
                await journal.begin(claim, NOW, claim.chat)
        assert await one.claim(9) == await other.claim(9) == []
        await other.finish(taken[0], Outcome.DELIVERED, message_id="m")
        assert keys(await other.claim(9)) == ["a"]
        assert await one.claim(9) == []
