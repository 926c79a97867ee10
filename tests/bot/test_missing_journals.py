"""Answers to a campaign whose journal cannot be read or is away: they wait, are parked, and none is lost."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import define, evolve

from healthmsg.bot import Answer, Retry, Router
from healthmsg.bot.sending import KnownMessage, NotKnownYet
from healthmsg.bot.signals import ParkThis, RetryLater
from healthmsg.bot.testing import BotTest, Patient, StartBot
from healthmsg.errors import JournalError
from healthmsg.ids import ChatAddress
from tests.bot.flu_campaign import asked_by_a_campaign, router, said
from tests.bot.routing import AN, ME, answer
from tests.bot.routing import Bot as BotOnFakes


@asynccontextmanager
async def asked(
    healthmsg_bot: StartBot, journal: Path, handlers: Router = router
) -> AsyncIterator[tuple[BotTest, Patient]]:
    """Have a campaign ask a patient, and take its journal away."""
    bot_test, an = await asked_by_a_campaign(healthmsg_bot, journal, handlers=handlers)
    away = journal.with_name("away.db")
    journal.rename(away)  # noqa: ASYNC240 - at once
    yield bot_test, an
    away.rename(journal)


async def test_it_waits_and_is_handled_when_the_journal_is_back_in_time(
    healthmsg_bot: StartBot, tmp_path: Path
) -> None:
    async with asked(healthmsg_bot, tmp_path / "flu.db") as (bot_test, an):
        await an.presses("Ja")
        assert said(an) == []
    await bot_test.advance(minutes=1)
    assert said(an) == ["afspraak 0: ja"]
    assert not bot_test.parked


async def test_it_is_parked_with_the_journals_name_and_taken_up_again(
    healthmsg_bot: StartBot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with asked(healthmsg_bot, tmp_path / "flu.db") as (bot_test, an):
        await an.presses("Ja")
        await bot_test.advance(minutes=2)
        (parked,) = await bot_test.bot.parked()
        assert "the journal of the campaign 'flu'" in parked.reason
        await an.says("hallo")
        assert said(an) == ["dag"]
        await bot_test.kill_and_restart()
        assert "Answers that may be to its messages wait" in caplog.text
    assert await bot_test.bot.retry(None) == 1
    await bot_test.idle()
    assert said(an) == ["dag", "afspraak 0: ja"]


@pytest.mark.parametrize("is_taken_up", [False, True])
async def test_waiting_for_the_journal_is_no_try_of_the_handler(
    healthmsg_bot: StartBot, tmp_path: Path, is_taken_up: bool
) -> None:
    tried = list[int]()
    failing = Router()

    @failing.answered("flu")
    async def flu(answer: Answer[str]) -> None:
        tried.append(answer.event.attempt)
        if len(tried) <= 3:
            raise OSError
        await answer.reply("eindelijk")

    async with asked(healthmsg_bot, tmp_path / "flu.db", failing) as (bot_test, an):
        await an.presses("Ja")
        if is_taken_up:
            await bot_test.advance(minutes=2)
            assert await bot_test.bot.retry(None) == 1
        await bot_test.advance(seconds=30)
        assert not tried
    await bot_test.advance(minutes=2)
    assert tried == [1, 2, 3, 4]
    assert said(an) == ["eindelijk"]


@define(eq=False)
class WithoutJournal(BotOnFakes):
    """Does not know yet whether any message is a campaign's."""

    doubt: NotKnownYet = NotKnownYet("the journal is not there.", Retry(3, first=timedelta(seconds=5)))

    async def message_of(
        self,
        message_id: str,  # noqa: ARG002 - as the others have it
        chat: ChatAddress,  # noqa: ARG002 - as the others have it
        user_id: str | None = None,  # noqa: ARG002 - as the others have it
    ) -> KnownMessage | None:
        raise self.doubt


async def test_what_another_one_asked_or_the_bot_itself_answered_does_not_wait_for_it() -> None:
    bot = WithoutJournal()
    bot.router.include(router)
    bot.client.senders = {"q1": AN, "q2": ME}
    assert await bot.handle(answer("Ja", question="q1"))
    assert bot.said == ["een andere vraag"]
    assert not await bot.handle(evolve(answer("Ja", question="q2"), is_own=True))
    with pytest.raises(RetryLater) as again:
        await bot.handle(answer("Ja", question="q2"))
    assert again.value.after == timedelta(seconds=5)
    with pytest.raises(ParkThis, match="the journal is not there"):
        await bot.handle(evolve(answer("Ja", question="q2"), attempt=4))
    assert bot.said == ["een andere vraag"]


async def test_what_was_asked_at_another_time_does_not_wait() -> None:
    bot = WithoutJournal(doubt=NotKnownYet("in doubt", Retry(), lambda _: False))
    bot.router.include(router)
    bot.client.senders = {"q2": ME}
    assert await bot.handle(answer("Ja", question="q2"))
    assert bot.said == ["een andere vraag"]


async def test_a_thousand_that_wait_are_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    bot = WithoutJournal()
    bot.router.include(router)
    bot.client.senders = {"q2": ME}
    for _ in range(1000):
        with pytest.raises(RetryLater):
            await bot.handle(answer("Ja", question="q2"))
    (line,) = caplog.messages
    assert "the journal is not there" in line


# --- journals that are there and cannot be read


async def test_it_waits_for_a_journal_that_cannot_be_read_but_its_chat_not_for_ever(
    healthmsg_bot: StartBot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = tmp_path / "flu.db"
    async with asked(healthmsg_bot, journal) as (bot_test, an):
        journal.write_bytes(b"no database" * 100)
        journal.chmod(0o600)
        await an.presses("Ja")
        assert (await bot_test.bot.stats()).unreadable_journals == 1
        assert "answers wait" in caplog.text
        await bot_test.advance(minutes=10)
        assert not bot_test.parked
        await bot_test.advance(minutes=1)
        (parked,) = await bot_test.bot.parked()
        assert "The campaign 'flu'" in parked.reason
        assert len([one for one in caplog.messages if "answers wait" in one]) <= 8
        await an.says("hallo")
        assert said(an) == ["dag"]
    assert await bot_test.bot.retry(None) == 1
    await bot_test.idle()
    assert said(an) == ["dag", "afspraak 0: ja"]
    assert (await bot_test.bot.stats()).unreadable_journals == 0


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE patients (name TEXT)")


@pytest.mark.parametrize(
    "make", [lambda path: path.write_bytes(b"no database" * 100), of_another_program, Path.mkdir]
)
async def test_what_is_no_journal_is_refused_at_the_start(
    healthmsg_bot: StartBot, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    journal = tmp_path / "flu.db"
    make(journal)
    journal.chmod(0o700)
    with pytest.raises(JournalError, match="The campaign 'flu'"):
        await healthmsg_bot(router, lambda bot: bot.campaign("flu", journal=journal))
