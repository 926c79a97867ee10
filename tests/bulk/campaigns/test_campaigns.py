"""Campaigns are put into a journal and steered there; nothing is sent by that."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from healthmsg import (
    Campaigns,
    CampaignState,
    InvalidInputError,
    JournalReview,
    Outcome,
    Outgoing,
    exact_aux_id,
    open_campaigns,
    open_journal,
)
from healthmsg.bulk.journal import Entry, State
from healthmsg.bulk.journal import open_journal as open_sql_journal
from healthmsg.bulk.journal.campaigns import CampaignTables
from healthmsg.errors import CampaignError, ClaimLostError
from healthmsg.sandbox import Sandbox
from tests.bulk.campaigns.steps import Target, counts, texts
from tests.bulk.journal_runs import fresh_client, sent
from tests.bulk.sources import bodies, chats
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
FOUR = [f"conversations/c{number}" for number in range(4)]


async def states(target: Target, name: str) -> list[State]:
    async with open_sql_journal(target, is_reading=True) as journal:
        return [row.state async for row in journal.rows() if row.campaign == name]


async def claimed(target: Target, most: int = 9) -> list[str]:
    """Return what a worker would be given now, and take nothing."""
    async with open_sql_journal(target) as journal:
        return [claim.body for claim in await CampaignTables(journal).claim(most)]


# --- entering


async def test_what_is_added_waits_and_is_known_the_next_time(target: str) -> None:
    async with open_campaigns(target) as campaigns:
        first = await campaigns.add("recall", texts(FOUR), weight=3)
        again = await campaigns.add("recall", [*texts(FOUR), Outgoing(FOUR[0], "Meer")])
        info = await campaigns.get("recall")

    assert (first.entered, first.known, first.refused) == (4, 0, 0)
    assert (again.entered, again.known, again.messages) == (1, 4, 5)
    assert (info.state, info.weight, info.is_entered) == (CampaignState.RUNNING, 3, True)
    assert (info.counts.waiting, info.counts.messages) == (5, 5)
    assert info.problem == "no worker is running"


async def test_nothing_is_claimed_of_a_campaign_whose_adding_was_cut_off(file: Path) -> None:
    def cut_off() -> Iterator[Outgoing]:
        yield from texts(FOUR[:2])
        raise OSError("the list is gone")

    async with open_campaigns(file) as campaigns:
        with pytest.raises(OSError, match="the list is gone"):
            await campaigns.add("recall", cut_off())
        info = await campaigns.get("recall")
    assert (info.is_entered, info.counts.held, info.counts.waiting) == (False, 2, 0)
    assert info.problem is not None
    assert "not all of it is entered" in info.problem
    assert await claimed(file) == []

    async with open_campaigns(file) as campaigns:
        report = await campaigns.add("recall", texts(FOUR))

    assert (report.entered, report.known) == (2, 2)
    assert await claimed(file) == ["Bericht 0"] * 4


async def test_a_producer_that_is_run_twice_enters_each_message_once(file: Path) -> None:
    given = [Outgoing(FOUR[0], "Een", key="k"), Outgoing(FOUR[0], "Twee"), Outgoing(FOUR[0], "Twee")]
    async with open_journal(file) as journal:
        first = await journal.enter(given[:2], campaign="recall")
        second = await journal.enter(given, campaign="recall")
        other = await journal.enter(given, campaign="other")

    assert (first.entered, second.entered, second.known, other.entered) == (2, 1, 2, 3)
    assert (await counts(file, "recall")).waiting == 3


async def test_what_cannot_be_sent_is_refused_by_itself_and_its_text_is_in_no_error(file: Path) -> None:
    given = [Outgoing("nobody", "Geheim"), Outgoing(FOUR[0], ""), Outgoing(FOUR[1], "Goed")]
    async with open_campaigns(file) as campaigns:
        report = await campaigns.add("recall", given)

    assert (report.entered, report.refused) == (1, 2)
    assert [problem.index for problem in report.problems] == [0, 1]
    assert "Geheim" not in repr(report)


async def test_a_key_of_another_text_is_refused(file: Path) -> None:
    async with open_campaigns(file) as campaigns:
        await campaigns.add("recall", [Outgoing(FOUR[0], "Een", key="k")])
        report = await campaigns.add("recall", [Outgoing(FOUR[0], "Twee", key="k")])

    assert (report.entered, report.known, report.refused) == (0, 0, 1)


async def test_a_recipient_is_text_and_an_exact_id_is_marked_in_it(sandbox: Sandbox, file: Path) -> None:
    async with fresh_client(sandbox) as client, open_campaigns(file) as campaigns:
        given = [
            Outgoing(client.conversations("c1"), "Hoi"),
            Outgoing("aux/conversations/José", "Hoi"),
            Outgoing(exact_aux_id("aux/conversations/José"), "Hoi"),
        ]
        report = await campaigns.add("recall", given)

    assert (report.entered, [problem.index for problem in report.problems]) == (1, [0, 1])


@pytest.mark.parametrize("name", ["", " a", "a\nb", "x" * 101, 7])
async def test_a_name_can_be_printed(file: Path, name: str) -> None:
    async with open_campaigns(file) as campaigns:
        with pytest.raises(InvalidInputError):
            await campaigns.add(name, [])


@pytest.mark.parametrize("weight", [0, 101, 1.5, True])
async def test_a_weight_is_a_whole_number_from_1_to_100(file: Path, weight: int) -> None:
    async with open_campaigns(file) as campaigns:
        with pytest.raises(InvalidInputError):
            await campaigns.add("recall", [], weight=weight)


# --- steering


async def test_what_is_paused_is_not_claimed_and_holds_nothing_up(target: str) -> None:
    async with open_campaigns(target) as campaigns:
        await campaigns.add("first", texts(FOUR[:1], "Eerst"))
        await campaigns.add("second", texts(FOUR[:1], "Tweede"))
        info = await campaigns.pause("first")
        await campaigns.add("first", texts(FOUR[1:2], "Eerst"))
    assert (info.state, info.counts.held) == (CampaignState.PAUSED, 1)
    assert await claimed(target) == ["Tweede 0"]

    async with open_campaigns(target) as campaigns:
        assert (await campaigns.get("first")).counts.held == 2
        info = await campaigns.resume("first")

    assert (info.counts.waiting, info.counts.held) == (2, 0)
    # To its old place: before what was entered later for the same recipient.
    assert await claimed(target) == ["Eerst 0", "Eerst 0"]


async def test_what_is_cancelled_is_not_sent_for_good(target: str) -> None:
    async with open_campaigns(target) as campaigns:
        await campaigns.add("recall", texts(FOUR))
        await campaigns.add("other", texts(FOUR[:1], "Ander"))
        info = await campaigns.cancel("recall")
        assert await campaigns.cancel("recall") == info
        for refused in (
            campaigns.add("recall", texts(FOUR, "Meer")),
            campaigns.resume("recall"),
            campaigns.pause("recall"),
            campaigns.reweight("recall", 2),
        ):
            with pytest.raises(CampaignError):
                await refused
        failures = [one async for one in campaigns.failures("recall")]
    async with open_journal(target) as journal:
        with pytest.raises(CampaignError):
            await journal.enter(texts(FOUR, "Meer"), campaign="recall")

    assert (info.counts.not_sent, info.counts.messages, info.problem) == (4, 4, None)
    assert {one.error for one in failures} == {
        "CampaignCancelled: the campaign was cancelled before this message had begun."
    }
    assert await claimed(target) == ["Ander 0"]


async def test_there_is_no_campaign_of_another_name(file: Path) -> None:
    async with open_campaigns(file) as campaigns:
        for refused in (campaigns.get("x"), campaigns.cancel("x"), campaigns.pause("x")):
            with pytest.raises(CampaignError):
                await refused


async def test_a_message_is_not_begun_once_its_campaign_is_paused(target: str) -> None:
    """Also one that a worker has claimed: the journal itself refuses."""
    async with open_campaigns(target) as campaigns:
        await campaigns.add("recall", texts(FOUR))
    async with open_sql_journal(target) as journal:
        tables = CampaignTables(journal)
        (claim, *_) = await tables.claim(4)
        await tables.change("recall", state="paused")

        with pytest.raises(ClaimLostError):
            await journal.begin(claim, NOW, claim.chat)
        await journal.requeue(claim)
        await tables.settle("recall")

    assert await states(target, "recall") == [State.PARKED] * 4


async def test_one_that_was_under_way_when_it_was_cancelled_has_its_true_outcome(target: str) -> None:
    async with open_campaigns(target) as campaigns:
        await campaigns.add("recall", texts(FOUR))
    async with open_sql_journal(target) as journal:
        tables = CampaignTables(journal)
        arrived, lost, *_ = await tables.claim(4)
        for claim in (arrived, lost):
            await journal.begin(claim, NOW, claim.chat)
        await tables.change("recall", state="cancelled")
        await tables.settle("recall")
        assert await states(target, "recall") == [State.SENDING] * 2 + [State.NOT_SENT] * 2

        await journal.finish(arrived, Outcome.DELIVERED, message_id="m1")
        await journal.requeue(lost)  # proven not to have been delivered
        assert await tables.settle_behind()

    assert await states(target, "recall") == [State.DELIVERED] + [State.NOT_SENT] * 3


# --- beside runs


async def test_a_run_leaves_campaigns_alone_and_campaigns_leave_runs_alone(
    sandbox: Sandbox, target: str
) -> None:
    first, second = chats(sandbox, 2)
    async with open_campaigns(target) as campaigns:
        await campaigns.add("recall", texts([second], "Campagne"))
        await campaigns.add("cancelled", texts([second], "Nooit"))
        await campaigns.cancel("cancelled")
    async with fresh_client(sandbox) as client:
        results = await sent(client, texts([first], "Run"), journal=target)
        # Nor does one that sends all that the journal holds.
        results += await sent(client, None, journal=target, retry_failed=True)

    assert [result.outcome for result in results] == [Outcome.DELIVERED]
    assert (bodies(sandbox, first), bodies(sandbox, second)) == (["Run 0"], [])
    assert (await counts(target, "recall")).waiting == 1
    assert await states(target, "cancelled") == [State.NOT_SENT]


async def test_a_campaign_goes_on_behind_what_a_run_has_left_unsent(target: str) -> None:
    async with open_sql_journal(target) as journal:
        await journal.start_run()
        await journal.enter([Entry("k", FOUR[0], "Van een run")])
    async with open_campaigns(target) as campaigns:
        await campaigns.add("recall", texts(FOUR[:1]))
    assert await claimed(target) == []

    async with open_sql_journal(target) as journal:
        await journal.start_run()  # which was not given that message

    assert await claimed(target) == ["Bericht 0"]


async def test_what_a_person_says_was_not_sent_is_sent_again(file: Path) -> None:
    async with open_campaigns(file) as campaigns:
        await campaigns.add("recall", texts(FOUR[:1]))
    async with open_sql_journal(file) as journal:
        (claim,) = await CampaignTables(journal).claim(1)
        await journal.begin(claim, NOW, claim.chat)
        await journal.finish(claim, Outcome.UNKNOWN, error="why", is_final=True)
    async with open_campaigns(file) as campaigns:
        (found,) = [one async for one in campaigns.unknown("recall")]
        assert (await campaigns.get("recall")).counts.unknown == 1
    assert (found.error, found.campaign) == ("why", "recall")

    await JournalReview(file).decide(found.key, Outcome.NOT_SENT, by="An Visser")

    async with open_sql_journal(file) as journal:
        assert await CampaignTables(journal).settle_behind()
    assert await claimed(file) == ["Bericht 0"]


# --- deleting


async def test_the_messages_of_a_campaign_are_deleted_only_when_it_is_at_its_end(target: str) -> None:
    async with open_sql_journal(target) as journal:
        tables = CampaignTables(journal)
        campaigns = Campaigns(journal, tables)
        await campaigns.add("recall", texts(FOUR))
        delivered, *others = await tables.claim(4)
        await journal.begin(delivered, NOW, delivered.chat)
        await journal.finish(delivered, Outcome.DELIVERED, message_id="m1")
        assert await journal.purge(timedelta()) == 0
        assert (await campaigns.add("recall", texts(FOUR))).known == 4
        for claim in others:
            await journal.begin(claim, NOW, claim.chat)
            await journal.finish(claim, Outcome.NOT_SENT, error="refused")
        assert await journal.purge(timedelta()) == 4

        await campaigns.add("other", texts(FOUR), is_paused=True)
        assert await journal.purge(timedelta()) == 0
        await campaigns.cancel("other")
        assert await journal.purge(timedelta()) == 4


async def test_a_run_behind_a_campaign_that_nothing_sends_says_so_and_goes_on_once_it_is_paused(
    sandbox: Sandbox, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    (chat,) = chats(sandbox, 1)
    async with open_campaigns(database) as campaigns, fresh_client(sandbox) as client:
        await campaigns.add("recall", texts([chat], "Campagne"))
        run = client.send_many(texts([chat], "Run"), journal=database)
        reporting = asyncio.ensure_future(run.report())
        await until(lambda: run.paused_by is not None)
        assert isinstance(run.paused_by, CampaignError)
        assert "pause or cancel the campaign" in caplog.text

        await campaigns.pause("recall")
        report = await reporting

    assert (report.delivered, bodies(sandbox, chat)) == (1, ["Run 0"])
    assert run.paused_by is None


@pytest.mark.parametrize("is_given", [True, False])
async def test_with_a_file_a_run_behind_a_campaign_ends_since_no_worker_can_come(
    sandbox: Sandbox, file: Path, *, is_given: bool
) -> None:
    (chat,) = chats(sandbox, 1)
    async with open_campaigns(file) as campaigns:
        await campaigns.add("recall", texts([chat], "Campagne"))
    async with fresh_client(sandbox) as client:
        with pytest.raises(CampaignError, match="pause or cancel the campaign"):
            await sent(client, texts([chat], "Run"), journal=file)
        if not is_given:
            with pytest.raises(CampaignError, match="pause or cancel the campaign"):
                await sent(client, None, journal=file)
        async with open_campaigns(file) as campaigns:
            await campaigns.cancel("recall")
        results = await sent(client, texts([chat], "Run") if is_given else None, journal=file)

    assert [result.outcome for result in results] == [Outcome.DELIVERED]
    assert bodies(sandbox, chat) == ["Run 0"]
