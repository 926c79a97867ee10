import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from healthmsg.bulk.journal import Entry, InputIndex, JournalFile, State, fingerprint_of, open_journal
from healthmsg.database.tables import Owner, set_owner
from healthmsg.errors import ClaimLostError, InvalidInputError, JournalError, JournalMismatchError, Outcome
from tests.bulk.journal.journals import NOW, begun, delivered, entry, holding, keys, only, states, status

API = "https://api.example/v1"


async def test_what_is_new_waits_and_what_is_known_is_reported(target: str) -> None:
    async with holding(target, entry("a"), entry("b")) as journal:
        await delivered(journal, "m1")
        first, second, third = await journal.enter([entry("a"), entry("b"), entry("c")])

    assert (first.state, first.message_id, first.attempts, first.is_new, first.is_final) == (
        *(State.DELIVERED, "m1", 1),
        *(False, True),
    )
    assert (second.state, second.is_new) == (State.WAITING, False)
    assert (third.state, third.is_new) == (State.WAITING, True)


async def test_everything_that_was_entered_comes_back(target: str) -> None:
    file = JournalFile("/scans/uitslag\udce9.pdf", "uitslag.pdf", 1234, "application/pdf")
    entered = Entry("a", "aux/conversations/patient 7", "Dag 👋\r\n", (file,), {"options": ["ja", "nee"]})
    async with holding(target, entered) as journal:
        claim = only(await journal.claim(1))

    assert (claim.key, claim.chat, claim.body, claim.files, claim.question) == (
        *(entered.key, entered.chat, entered.body),
        *(entered.files, entered.question),
    )


@pytest.mark.parametrize(
    "other",
    [
        Entry("a", "aux/conversations/b", "Dag"),
        Entry("a", "aux/conversations/a", "Doei"),
        Entry("a", "aux/conversations/a", "Dag", (JournalFile("p", "n", 1),)),
        Entry("a", "aux/conversations/a", "Dag", (), {"question": "?"}),
    ],
)
async def test_another_message_under_a_known_key_is_refused_and_the_others_are_not(
    target: str, other: Entry
) -> None:
    async with holding(target, Entry("a", "aux/conversations/a", "Dag")) as journal:
        refused, entered = await journal.enter([other, entry("b")])
        claims = await journal.claim(9)

    assert isinstance(refused.problem, JournalMismatchError)
    assert entered.problem is None
    assert [(claim.key, claim.body) for claim in claims] == [("a", "Dag"), ("b", "Beste mevrouw Jansen")]


async def test_files_are_looked_for_where_they_were_given_last(target: str) -> None:
    here, there = (
        Entry("a", "conversations/a", "Dag", (JournalFile(path, "brief.pdf", 9, "application/pdf", "00"),))
        for path in ("/1/brief.pdf", "/2/brief.pdf")
    )
    async with holding(target, here, entry("b")) as journal:
        (known,) = await journal.enter([there])
        first, second = await journal.claim(2)

    assert (known.problem, known.is_new) == (None, False)
    assert (first.files, second.files) == (there.files, ())


async def test_a_key_that_comes_twice_at_once_is_entered_once(target: str) -> None:
    async with open_journal(target) as journal:
        first, again, other = await journal.enter([entry("a"), entry("a"), entry("a", body="iets anders")])
        assert keys(await journal.claim(9)) == ["a"]

    assert (first.is_new, first.problem) == (True, None)
    assert (again.is_new, again.problem) == (False, None)
    assert isinstance(other.problem, JournalMismatchError)


@pytest.mark.parametrize(
    "unfit",
    [
        entry("k", body="a\0b"),
        entry("k", body="\ud800"),
        entry("k", chat="\0"),
        entry(""),
        entry("k\0"),
        entry("k" * 1001),
        Entry("k", "x" * 1001, "Dag"),
        Entry("k", "conversations/c1", "Dag", fingerprint=b"too short"),
    ],
)
async def test_what_cannot_be_stored_is_refused_alone(target: str, unfit: Entry) -> None:
    async with open_journal(target) as journal:
        refused, entered = await journal.enter([unfit, entry("b")])
        assert keys(await journal.claim(9)) == ["b"]

    assert isinstance(refused.problem, InvalidInputError)
    assert refused.state is None
    assert entered.is_new


async def test_messages_are_claimed_in_order_and_one_a_chat(target: str) -> None:
    entries = [entry("a1", "a"), entry("a2", "a"), entry("b1", "b"), entry("c1", "c"), entry("b2", "b")]
    async with holding(target, *entries) as journal:
        assert keys(await journal.claim(2)) == ["a1", "b1"]
        assert keys(await journal.claim(9)) == ["c1"]
        assert await journal.claim(9) == []


@pytest.mark.parametrize("outcome", [Outcome.DELIVERED, Outcome.NOT_SENT])
async def test_a_chat_goes_on_after_what_was_settled(target: str, outcome: Outcome) -> None:
    async with holding(target, entry("a1", "a"), entry("a2", "a"), entry("a3", "a")) as journal:
        claim = await begun(journal)
        assert await journal.claim(9) == []
        await journal.finish(claim, outcome, message_id="m1")
        assert keys(await journal.claim(9)) == ["a2"]
        assert await journal.claim(9) == []


async def test_a_chat_waits_for_what_is_in_doubt_unless_that_is_final(target: str) -> None:
    async with holding(target, entry("a1", "a"), entry("a2", "a")) as journal:
        claim = await begun(journal)
        await journal.finish(claim, Outcome.UNKNOWN, error="CallTimeoutError: no answer")
        assert await journal.claim(9) == []
        await journal.finish(claim, Outcome.UNKNOWN, error="nobody knows", is_final=True)
        assert keys(await journal.claim(9)) == ["a2"]

    async with open_journal(target) as journal:
        assert await journal.claim_in_doubt() == []
        found = await status(journal, entry("a1", "a"))
        assert (found.state, found.is_final, found.error) == (State.UNKNOWN, True, "nobody knows")


async def test_what_is_put_back_is_the_next_of_its_chat_again(target: str) -> None:
    async with holding(target, entry("a1", "a"), entry("a2", "a")) as journal:
        claim = only(await journal.claim(1))
        await journal.requeue(claim)
        again = await begun(journal)
        await journal.finish(again, Outcome.UNKNOWN)
        await journal.requeue(again)
        assert keys(await journal.claim(9)) == ["a1"]


async def test_an_attempt_is_in_doubt_for_the_next_run(target: str) -> None:
    async with holding(target, entry("a"), entry("b"), entry("c")) as journal:
        await begun(journal)
        await journal.finish(await begun(journal), Outcome.UNKNOWN)
        await journal.claim(1)
        assert await journal.claim_in_doubt() == []

    async with open_journal(target) as journal:
        first, second = await journal.claim_in_doubt()
        assert keys(await journal.claim(9)) == ["c"]

        assert (first.key, first.state, second.key, second.state) == ("a", State.SENDING, "b", State.UNKNOWN)
        assert (first.started_at, first.sent_to, first.attempts) == (NOW, first.chat, 1)
        assert first.body == "Beste mevrouw Jansen"
        assert await journal.claim_in_doubt() == []
        await journal.finish(first, Outcome.DELIVERED, message_id="m1")
        await journal.requeue(second)
        assert keys(await journal.claim(9)) == ["b"]


async def test_moments_are_stored_in_utc_whatever_their_zone(target: str) -> None:
    async with holding(target, entry("a")) as journal:
        amsterdam = timezone(timedelta(hours=1))
        await journal.begin(only(await journal.claim(1)), NOW.astimezone(amsterdam), "conversations/c9")

    async with open_journal(target) as journal:
        found = only(await journal.claim_in_doubt())
        assert (found.started_at, found.sent_to) == (NOW, "conversations/c9")
        with pytest.raises(InvalidInputError, match="zone"):
            await journal.begin(found, datetime.now(), found.chat)  # noqa: DTZ005 - refused


async def test_an_earlier_claim_is_void(target: str) -> None:
    async with holding(target, entry("a")) as journal:
        old = only(await journal.claim(1))
        await journal.requeue(old)
        with pytest.raises(ClaimLostError):
            await journal.begin(old, NOW, old.chat)
        new = await begun(journal)
        for late in (journal.finish(old, Outcome.NOT_SENT), journal.requeue(old)):
            with pytest.raises(ClaimLostError):
                await late
        await journal.finish(new, Outcome.DELIVERED, message_id="m1")
        with pytest.raises(ClaimLostError):
            await journal.finish(new, Outcome.NOT_SENT)
        assert (await status(journal, entry("a"))).message_id == "m1"


async def test_a_lost_claim_does_not_harm_what_is_noted_with_it(target: str) -> None:
    async with holding(target, entry("a"), entry("b")) as journal:
        first, second = await journal.claim(2)
        await journal.requeue(first)
        ended = await asyncio.gather(
            *(journal.begin(claim, NOW, claim.chat) for claim in (first, second)), return_exceptions=True
        )
        assert [type(one) for one in ended] == [ClaimLostError, type(None)]
        assert await states(journal) == {"a": State.WAITING, "b": State.SENDING}


@pytest.mark.parametrize("outcome", [Outcome.DELIVERED, Outcome.UNKNOWN])
async def test_what_was_never_begun_cannot_have_been_sent(target: str, outcome: Outcome) -> None:
    async with holding(target, entry("a")) as journal:
        with pytest.raises(ClaimLostError):
            await journal.finish(only(await journal.claim(1)), outcome, message_id="m1")
        assert await states(journal) == {"a": State.WAITING}


async def test_what_failed_waits_again_when_asked_and_keeps_its_place(target: str) -> None:
    entries = [entry("a1", "a"), entry("a2", "a"), entry("a3", "a")]
    async with holding(target, *entries) as journal:
        for error in ("one", "two"):
            await journal.finish(await begun(journal), Outcome.NOT_SENT, error=error)
        assert [one.error for one in await journal.enter(entries)] == ["one", "two", None]
        again = await journal.enter(entries, retry_failed=True)
        assert [(one.state, one.attempts, one.error) for one in again] == [
            *((State.WAITING, 1, None), (State.WAITING, 1, None), (State.WAITING, 0, None))
        ]
        for key in ("a1", "a2", "a3"):
            assert (await delivered(journal, key)).key == key


async def test_what_waits_again_does_not_overtake_what_is_being_sent(target: str) -> None:
    entries = [entry("a1", "a"), entry("a2", "a"), entry("a3", "a")]
    async with holding(target, *entries) as journal:
        await journal.finish(await begun(journal), Outcome.NOT_SENT)
        busy = await begun(journal)
        await journal.enter(entries, retry_failed=True)
        assert await journal.claim(9) == []
        await journal.finish(busy, Outcome.DELIVERED, message_id="m2")
        assert keys(await journal.claim(9)) == ["a1"]


async def test_another_text_under_the_key_of_one_that_failed_does_not_wait(target: str) -> None:
    async with holding(target, entry("a")) as journal:
        await journal.finish(await begun(journal), Outcome.NOT_SENT)
        (refused,) = await journal.enter([entry("a", body="iets anders")], retry_failed=True)
        assert isinstance(refused.problem, JournalMismatchError)
        assert await journal.claim(9) == []


async def test_what_was_said_is_forgotten_on_delivery_and_recognised_all_the_same(target: str) -> None:
    file = JournalFile("/scans/x.pdf", "x.pdf", 5, "application/pdf")
    said = Entry("a", "aux/conversations/a", "Dag", (file,), {"question": "?"})
    async with holding(target, said) as journal:
        await delivered(journal, "m1")
        (row,) = [row async for row in journal.rows()]
        sample = await journal.newest_delivery()

        assert (row.body, row.files, row.question) == (None, (), None)
        assert (await status(journal, said)).problem is None
        assert (await status(journal, entry("a", body="iets anders"))).problem is not None
        assert sample is not None
        assert sample.is_body("Dag")
        assert not sample.is_body("Dag ")


async def test_bodies_are_kept_on_demand(target: str) -> None:
    async with holding(f"{target}{'&' if '?' in target else '?'}keep_bodies=1", entry("a")) as journal:
        await delivered(journal, "m1")
        assert [row.body async for row in journal.rows()] == ["Beste mevrouw Jansen"]


async def test_what_was_not_sent_keeps_its_body(target: str) -> None:
    async with holding(target, entry("a")) as journal:
        await journal.finish(await begun(journal), Outcome.NOT_SENT)
        assert [row.body async for row in journal.rows()] == ["Beste mevrouw Jansen"]


async def test_an_id_is_claimed_by_another_message_of_the_chat(target: str) -> None:
    async with holding(target, entry("a")) as journal:
        await delivered(journal, "m1")
        assert await journal.is_claimed_id("m1", "b")
        assert not await journal.is_claimed_id("m1", "a")
        assert not await journal.is_claimed_id("m2", "b")


async def test_a_sample_is_of_the_chat_or_else_the_newest(target: str) -> None:
    async with holding(target, *(entry(f"{chat}{n}", chat) for n in (1, 2) for chat in "ab")) as journal:
        assert await journal.newest_delivery() is None
        for number in range(4):
            await delivered(journal, f"m{number}")
        of_chat = await journal.newest_delivery("aux/conversations/a")
        of_another = await journal.newest_delivery("aux/conversations/c")

    assert of_chat is not None
    assert of_another is not None
    assert (of_chat.message_id, of_another.message_id) == ("m2", "m3")


async def test_counts_and_rows_tell_all(target: str) -> None:
    async with holding(target, *(entry(f"k{number:04}") for number in range(1203))) as journal:
        await delivered(journal, "m1")
        await journal.finish(await begun(journal), Outcome.NOT_SENT, error="InvalidFileError: it is empty")
        counts = await journal.counts()
        rows = [row async for row in journal.rows()]
        failed = [row async for row in journal.rows(State.NOT_SENT)]

    assert [row.key for row in rows] == [f"k{number:04}" for number in range(1203)]
    assert [(row.key, row.error) for row in failed] == [("k0001", "InvalidFileError: it is empty")]
    assert counts == {
        State.WAITING: 1201,
        State.SENDING: 0,
        State.DELIVERED: 1,
        State.NOT_SENT: 1,
        State.UNKNOWN: 0,
        State.PARKED: 0,
    }
    assert rows[0].updated_at <= datetime.now(UTC)


async def test_a_purge_takes_what_is_settled_and_old(target: str) -> None:
    async with holding(target, *(entry(key) for key in "abcde")) as journal:
        await delivered(journal, "m1")
        await journal.finish(await begun(journal), Outcome.NOT_SENT)
        await journal.finish(await begun(journal), Outcome.UNKNOWN, is_final=True)
        await begun(journal)
        assert await journal.purge(timedelta(hours=1)) == 0
        assert await journal.purge(timedelta()) == 2
        assert await states(journal) == {"c": State.UNKNOWN, "d": State.SENDING, "e": State.WAITING}
        assert keys(await journal.claim(9)) == ["e"]


async def test_a_journal_is_of_one_account(target: str) -> None:
    async with open_journal(target) as journal:
        await journal.check_owner(API, "u1")
        await journal.set_owner("u1", API)
        await journal.set_owner("u1", API)

    async with open_journal(target) as journal:
        for compare in (journal.set_owner("u2", API), journal.check_owner(API, "u2")):
            with pytest.raises(JournalMismatchError) as caught:
                await compare
            assert "u1" not in str(caught.value)
        await journal.check_owner(API)


async def test_a_journal_is_of_one_environment_however_its_url_is_spelled(target: str) -> None:
    async with open_journal(target) as journal:
        await journal.set_owner("u1", API)
        await journal.set_owner("u1", "HTTPS://Api.Example.:443/v1/")
        for other in ("https://api.example/v2", "https://acc.example/v1", "https://api.example:444/v1"):
            for compare in (journal.set_owner("u1", other), journal.check_owner(other)):
                with pytest.raises(JournalMismatchError, match=r"https://api\.example/v1,"):
                    await compare

    async with open_journal(target, is_reading=True) as journal:
        with pytest.raises(JournalMismatchError, match="nothing was sent"):
            await journal.check_owner("https://acc.example/v1", "u1")


async def test_a_journal_that_knew_only_its_account_takes_the_first_url(target: str) -> None:
    async with open_journal(target) as journal:
        await journal.do(lambda connection: set_owner(connection, Owner(None, "u1")))
        await journal.set_owner("u1", API)
        with pytest.raises(JournalMismatchError):
            await journal.set_owner("u1", "https://acc.example/v1")


async def test_keys_are_the_same_in_the_next_run(target: str) -> None:
    made = []
    for _ in range(2):
        async with open_journal(target) as journal:
            said = fingerprint_of("conversations/c1", "Dag", (), None, salt=journal.salt)
            with InputIndex() as given:
                made.append(given.add([(0, None, said), (1, None, said)]))

    assert made[0] == made[1]
    assert made[0][0] != made[0][1]


async def test_a_closed_journal_says_so(target: str) -> None:
    async with open_journal(target) as journal:
        pass
    with pytest.raises(JournalError, match="closed"):
        await journal.claim(1)


@pytest.mark.usefixtures("nothing_is_left_behind")
async def test_nothing_runs_on_after_the_journal(target: str) -> None:
    async with holding(target, entry("a")) as journal:
        await delivered(journal, "m1")
