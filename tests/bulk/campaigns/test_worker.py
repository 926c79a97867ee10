"""Workers send what campaigns have: each message once, in order, and not against what a campaign was told."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from healthmsg import (
    CampaignCounts,
    Campaigns,
    CampaignState,
    Client,
    InvalidInputError,
    Outgoing,
    ReauthorizationRequiredError,
    Worker,
    open_campaigns,
)
from healthmsg.bulk.journal import open_journal as open_sql_journal
from healthmsg.bulk.journal.campaigns import CampaignTables
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.errors import ClientUsageError, JournalError, JournalMismatchError, SendingGivenUpError
from healthmsg.sandbox import AnswerStatus, CutBefore, Sandbox
from tests.bulk.campaigns.steps import counts, texts, until_idle, working
from tests.bulk.journal_runs import fresh_client, lose
from tests.bulk.sources import bodies, chats, posts
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


async def add(target: Path | str, name: str, messages: Sequence[Outgoing], weight: int | None = None) -> None:
    async with open_campaigns(target) as campaigns:
        await campaigns.add(name, messages, weight=weight)


async def until_nothing_goes_on(campaigns: Campaigns, name: str) -> CampaignCounts:
    """Wait until all has come to its end, or to a stop since it is paused."""
    async with asyncio.timeout(10):
        while True:
            info = await campaigns.get(name)
            left = info.counts.open - (info.counts.held if info.state is CampaignState.PAUSED else 0)
            if not left:
                return info.counts
            await asyncio.sleep(0.05)


async def test_what_campaigns_have_is_sent_in_the_order_of_each_recipient(
    sandbox: Sandbox, target: str
) -> None:
    to = chats(sandbox, 5)
    await add(target, "first", texts(to, "Eerst", each=3))
    await add(target, "second", texts(to, "Tweede", each=3), weight=5)

    async with working(sandbox, target) as worker:
        await until_idle(worker, done=30)
        stats = worker.stats()

    assert (stats.delivered, stats.not_sent, stats.unknown, stats.attempts) == (30, 0, 0, 30)
    for chat in to:
        assert bodies(sandbox, chat) == [f"{word} {n}" for word in ("Eerst", "Tweede") for n in range(3)]
    assert (await counts(target, "first")).delivered == (await counts(target, "second")).delivered == 15


async def test_of_a_campaign_with_three_times_the_weight_three_times_as_many_are_sent(
    sandbox: Sandbox, file: Path
) -> None:
    one, three = chats(sandbox, 60), chats(sandbox, 60)
    await add(file, "one", texts(one))
    await add(file, "three", texts(three), weight=3)

    async with working(sandbox, file) as worker:
        await until(lambda: worker.stats().delivered >= 48)

    of_one = sum(len(bodies(sandbox, chat)) for chat in one)
    of_three = sum(len(bodies(sandbox, chat)) for chat in three)
    assert abs(of_three - 3 * of_one) <= 24


async def test_a_worker_takes_on_what_comes_later_and_leaves_what_is_paused(
    sandbox: Sandbox, database: str
) -> None:
    first, second = chats(sandbox, 2)
    async with open_campaigns(database) as campaigns, working(sandbox, database) as worker:
        await campaigns.add("paused", texts([first]), is_paused=True)
        await campaigns.add("recall", texts([second]))
        await until_idle(worker, done=1)
        assert (bodies(sandbox, first), bodies(sandbox, second)) == ([], ["Bericht 0"])
        assert (await campaigns.get("paused")).counts.held == 1

        await campaigns.resume("paused")
        await until_idle(worker, done=2)

    assert bodies(sandbox, first) == ["Bericht 0"]


async def test_pausing_and_cancelling_stop_two_workers_and_what_is_reported_is_what_happened(
    sandbox: Sandbox, database: str
) -> None:
    to = chats(sandbox, 200)
    async with open_campaigns(database) as campaigns:
        await campaigns.add("recall", texts(to, each=2))
        async with working(sandbox, database, calls=100), working(sandbox, database, calls=100):
            await until(lambda: posts(sandbox) >= 40)
            await campaigns.pause("recall")
            paused = await until_nothing_goes_on(campaigns, "recall")
            assert (paused.delivered, paused.held) == (posts(sandbox), 400 - posts(sandbox))

            await campaigns.resume("recall")
            await until(lambda: posts(sandbox) >= paused.delivered + 40)
            await campaigns.cancel("recall")
            cancelled = await until_nothing_goes_on(campaigns, "recall")

    assert (cancelled.delivered, cancelled.not_sent) == (posts(sandbox), 400 - posts(sandbox))
    assert all(
        bodies(sandbox, chat) == ["Bericht 0", "Bericht 1"][: len(bodies(sandbox, chat))] for chat in to
    )


async def test_what_a_worker_was_sending_when_it_was_killed_another_finds_out(
    sandbox: Sandbox, file: Path
) -> None:
    arrived, lost, not_begun = chats(sandbox, 3)
    async with fresh_client(sandbox) as client:
        await client.chat(arrived).send("Vooraf")
    await add(file, "recall", texts([arrived, lost, not_begun]))
    async with open_sql_journal(file) as journal:
        for claim in (await CampaignTables(journal).claim(3))[:2]:
            await journal.begin(claim, journal.now(), claim.chat)
    async with fresh_client(sandbox) as client:
        await client.chat(arrived).send("Bericht 0")

    async with working(sandbox, file) as worker:
        await until_idle(worker, done=3)

    assert bodies(sandbox, arrived) == ["Vooraf", "Bericht 0"]
    assert (bodies(sandbox, lost), bodies(sandbox, not_begun)) == (["Bericht 0"], ["Bericht 0"])
    assert (await counts(file, "recall")).delivered == 3


async def test_one_that_was_lost_under_way_is_not_sent_again_once_its_campaign_is_cancelled(
    sandbox: Sandbox, database: str
) -> None:
    known, lost = chats(sandbox, 2)
    lose(sandbox, CutBefore(), lost)
    async with open_campaigns(database) as campaigns, working(sandbox, database, settle=1.0) as worker:
        await campaigns.add("recall", texts([known, lost]))
        await until(lambda: worker.stats().in_doubt)
        await campaigns.cancel("recall")
        await until_idle(worker, done=1)
        found = await until_nothing_goes_on(campaigns, "recall")

    assert (found.delivered, found.not_sent) == (1, 1)
    assert bodies(sandbox, lost) == []


async def test_stopping_finishes_what_is_under_way_and_leaves_the_rest(sandbox: Sandbox, file: Path) -> None:
    to = chats(sandbox, 100)
    await add(file, "recall", texts(to))

    async with working(sandbox, file, calls=30) as worker:
        await until(lambda: posts(sandbox) >= 5)
    found = await counts(file, "recall")

    assert not worker.is_ready
    assert (found.under_way, found.delivered) == (0, posts(sandbox))
    assert found.waiting == 100 - posts(sandbox)
    assert (worker.stats().delivered, worker.stats().unknown) == (posts(sandbox), 0)


@pytest.mark.slow
async def test_a_worker_waits_for_a_service_that_is_away_and_says_so(sandbox: Sandbox, file: Path) -> None:
    (to,) = chats(sandbox, 1)
    await add(file, "recall", texts([to]))
    sandbox.faults.add(kind=AnswerStatus(503), times=1)

    async with fresh_client(sandbox) as client:
        worker = Worker(client, file)
        running = asyncio.ensure_future(worker.run())
        await until(lambda: worker.problem is not None)
        assert not worker.is_ready
        await until(lambda: worker.stats().delivered)
        assert (worker.problem, worker.is_ready) == (None, True)
        worker.stop()
        await running


async def test_a_worker_whose_token_is_not_accepted_ends(sandbox: Sandbox, file: Path) -> None:
    async with Client("t0ken", environment=sandbox.environment) as client:
        with pytest.raises((SendingGivenUpError, ReauthorizationRequiredError)):
            await Worker(client, file).run()


async def test_a_journal_of_another_account_is_refused(sandbox: Sandbox, file: Path) -> None:
    async with working(sandbox, file):
        pass
    token = sandbox.issue_token(user_id=sandbox.add_user("An", "Visser"))

    async with Client(token, environment=sandbox.environment) as client:
        with pytest.raises(JournalMismatchError):
            await Worker(client, file).run()


async def test_a_worker_runs_once_and_settles_in_some_time(sandbox: Sandbox, file: Path) -> None:
    async with working(sandbox, file) as worker:
        pass

    with pytest.raises(ClientUsageError):
        await worker.run()
    async with fresh_client(sandbox) as client:
        with pytest.raises(InvalidInputError):
            Worker(client, file, settle=-1)


async def test_closing_the_client_ends_its_worker(sandbox: Sandbox, file: Path) -> None:
    (to,) = chats(sandbox, 1)
    await add(file, "recall", texts([to]))
    async with fresh_client(sandbox) as client:
        worker = Worker(client, file)
        running = asyncio.ensure_future(worker.run())
        await until(lambda: worker.stats().delivered)

    await running


async def test_one_that_is_stopped_and_cannot_note_what_was_under_way_says_so(
    sandbox: Sandbox, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (to,) = chats(sandbox, 1)
    await add(file, "recall", texts([to]))

    async def fail(*_: object, **__: object) -> None:
        raise JournalError("the disk is gone")

    async with fresh_client(sandbox) as client:
        worker = Worker(client, file)
        running = asyncio.ensure_future(worker.run())
        sandbox.on_message = lambda _: worker.stop()
        monkeypatch.setattr(SqlJournal, "finish", fail)
        with pytest.raises(JournalError, match="the disk is gone"):
            await running

    assert (await counts(file, "recall")).under_way == 1
