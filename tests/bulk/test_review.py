"""What stays unknown is settled by a person's word, and the next run goes on from that."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from healthmsg import ConfigurationError, InvalidInputError, JournalReview, Outcome, Outgoing
from healthmsg.bulk.journal import Entry, JournalMessage, State, open_journal
from healthmsg.errors import JournalInUseError, JournalNotFoundError
from healthmsg.sandbox import Sandbox
from tests.bulk.journal_runs import fresh_client, outcomes, sent
from tests.bulk.sources import bodies, chats

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
WHY = "DeliveryUnknownError: the line broke"


async def unknown_ones(target: Path | str, chat: str, *, is_final: bool = True) -> None:
    """Have one message unknown, another in doubt, and one waiting behind the latter."""
    async with open_journal(target) as journal:
        await journal.start_run()
        await journal.enter(
            [Entry("a", chat, "Een"), Entry("b", "aux/conversations/P7", "Twee"), Entry("c", chat, "Drie")]
        )
        for claim in await journal.claim(2):
            await journal.begin(claim, NOW, claim.chat)
            if claim.key == "a":
                await journal.finish(claim, Outcome.UNKNOWN, error=WHY, is_final=is_final)


async def row_of(target: Path | str, key: str) -> JournalMessage:
    async with open_journal(target, is_reading=True) as journal:
        (row,) = [row async for row in journal.rows() if row.key == key]
    return row


async def test_all_that_is_unknown_is_there_with_the_reason(target: str) -> None:
    await unknown_ones(target, "conversations/c1")

    first, second = [one async for one in JournalReview(target).unknown()]

    assert (first.key, first.to, first.body, first.error) == ("a", "conversations/c1", "Een", WHY)
    assert (first.started_at, first.sent_to, first.attempts) == (NOW, "conversations/c1", 1)
    assert (second.key, second.error) == ("b", None)
    assert (first.is_final, second.is_final) == (True, False)
    for private in ("P7", "Een", "Twee"):
        assert private not in repr((first, second))


async def test_delivered_by_a_persons_word_is_final(sandbox: Sandbox, target: str) -> None:
    (to,) = chats(sandbox, 1)
    await unknown_ones(target, to)

    await JournalReview(target).decide("a", Outcome.DELIVERED, by="An Visser", message_id="m7")

    row = await row_of(target, "a")
    assert (row.state, row.is_final, row.message_id, row.body) == (State.DELIVERED, True, "m7", None)
    assert row.decision is not None
    assert (row.decision.outcome, row.decision.by) == (Outcome.DELIVERED, "An Visser")
    assert abs(row.decision.at - datetime.now(UTC)) < timedelta(minutes=1)
    async with fresh_client(sandbox) as client:
        results = await sent(client, [Outgoing(to, "Een", key="a")], journal=target)
    assert outcomes(results)[:1] == [Outcome.DELIVERED]
    assert bodies(sandbox, to) == []


async def test_not_sent_by_a_persons_word_is_sent_by_the_next_run(sandbox: Sandbox, target: str) -> None:
    (to,) = chats(sandbox, 1)
    await unknown_ones(target, to)
    await JournalReview(target).decide("b", Outcome.DELIVERED, by="An")

    await JournalReview(target).decide("a", Outcome.NOT_SENT, by="An")

    assert (await row_of(target, "a")).state is State.PARKED
    async with fresh_client(sandbox) as client:
        results = await sent(client, None, journal=target)
    assert {result.key: result.outcome for result in results} == dict.fromkeys("ac", Outcome.DELIVERED)
    # In the order of the journal.
    assert bodies(sandbox, to) == ["Een", "Drie"]
    decision = (await row_of(target, "a")).decision
    assert decision is not None
    assert decision.outcome is Outcome.NOT_SENT


async def test_not_sent_is_sent_by_a_run_that_is_given_it(sandbox: Sandbox, file: Path) -> None:
    (to,) = chats(sandbox, 1)
    await unknown_ones(file, to)
    await JournalReview(file).decide("b", Outcome.DELIVERED, by="An")
    await JournalReview(file).decide("a", Outcome.NOT_SENT, by="An")

    async with fresh_client(sandbox) as client:
        results = await sent(client, [Outgoing(to, "Een", key="a")], journal=file)

    assert outcomes(results) == [Outcome.DELIVERED]


@pytest.mark.parametrize("outcome", [Outcome.DELIVERED, Outcome.NOT_SENT])
async def test_the_later_messages_of_its_chat_wait_no_longer(target: str, outcome: Outcome) -> None:
    await unknown_ones(target, "conversations/c1", is_final=False)
    async with open_journal(target) as journal:
        assert [claim.key for claim in await journal.claim(9)] == []

    await JournalReview(target).decide("a", outcome, by="An")

    async with open_journal(target) as journal:
        assert [claim.key for claim in await journal.claim(9)] == ["c"]


async def test_a_persons_word_proves_no_search(file: Path) -> None:
    await unknown_ones(file, "conversations/c1")
    await JournalReview(file).decide("a", Outcome.DELIVERED, by="An", message_id="m7")

    async with open_journal(file) as journal:
        assert await journal.newest_delivery() is None
        assert await journal.is_claimed_id("m7", "b")


async def test_the_id_of_what_was_decided_without_it_can_be_added_once(target: str) -> None:
    await unknown_ones(target, "conversations/c1")
    review = JournalReview(target)
    await review.decide("b", Outcome.DELIVERED, by="An", message_id="m8")
    await review.decide("a", Outcome.DELIVERED, by="An")
    with pytest.raises(InvalidInputError, match="another message with this message id"):
        await review.decide("a", Outcome.DELIVERED, by="Bo", message_id="m8")
    await review.decide("a", Outcome.DELIVERED, by="Bo", message_id="m7")

    row = await row_of(target, "a")
    assert (row.state, row.message_id, row.decision and row.decision.by) == (State.DELIVERED, "m7", "An")
    for outcome, message_id in (
        (Outcome.DELIVERED, "m9"),
        (Outcome.DELIVERED, None),
        (Outcome.NOT_SENT, None),
    ):
        with pytest.raises(InvalidInputError, match="nothing to decide"):
            await review.decide("a", outcome, by="Bo", message_id=message_id)


async def test_what_is_not_unknown_cannot_be_decided(target: str) -> None:
    await unknown_ones(target, "conversations/c1")
    review = JournalReview(target)
    await review.decide("a", Outcome.DELIVERED, by="An", message_id="m7")

    for key, outcome in (("a", Outcome.NOT_SENT), ("c", Outcome.DELIVERED), ("nobody", Outcome.NOT_SENT)):
        with pytest.raises(InvalidInputError, match="Nothing was changed"):
            await review.decide(key, outcome, by="An")
    with pytest.raises(InvalidInputError, match="another message with this message id"):
        await review.decide("b", Outcome.DELIVERED, by="An", message_id="m7")
    assert (await row_of(target, "a")).state is State.DELIVERED
    assert (await row_of(target, "b")).state is State.SENDING


@pytest.mark.parametrize(
    ("outcome", "by", "message_id"),
    [
        (Outcome.UNKNOWN, "An", None),
        (Outcome.DELIVERED, " ", None),
        (Outcome.DELIVERED, "A\0n", None),
        (Outcome.DELIVERED, "An", " "),
        (Outcome.NOT_SENT, "An", "m7"),
        ("delivered", "An", None),
    ],
)
async def test_what_settles_nothing_is_refused(
    file: Path, outcome: Outcome, by: str, message_id: str | None
) -> None:
    await unknown_ones(file, "conversations/c1")

    with pytest.raises(InvalidInputError):
        await JournalReview(file).decide("a", outcome, by=by, message_id=message_id)

    assert (await row_of(file, "a")).state is State.UNKNOWN


async def test_nothing_is_decided_beside_a_run_with_the_file(file: Path) -> None:
    await unknown_ones(file, "conversations/c1")

    async with open_journal(file):
        with pytest.raises(JournalInUseError):
            await JournalReview(file).decide("a", Outcome.DELIVERED, by="An")


async def test_nothing_is_decided_about_what_a_worker_has(database: str) -> None:
    await unknown_ones(database, "conversations/c1", is_final=False)

    async with open_journal(database) as worker:
        assert [claim.key for claim in await worker.claim_in_doubt()] == ["a", "b"]
        with pytest.raises(JournalInUseError, match="worker"):
            await JournalReview(database).decide("a", Outcome.NOT_SENT, by="An")
    await JournalReview(database).decide("a", Outcome.NOT_SENT, by="An")


async def test_without_a_journal_none_is_made(tmp_path: Path) -> None:
    review = JournalReview(tmp_path / "none.db")

    with pytest.raises(JournalNotFoundError):
        await review.decide("a", Outcome.DELIVERED, by="An")
    with pytest.raises(JournalNotFoundError):
        await anext(review.unknown())
    with pytest.raises(ConfigurationError):
        JournalReview("mysql://x")
    assert not (tmp_path / "none.db").exists()
