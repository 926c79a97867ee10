"""Answers to a campaign's question without a message id in its journal: none is lost, and no other waits."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from healthmsg import Outcome, Outgoing
from healthmsg.bot.testing import BotTest, Patient, StartBot
from healthmsg.bulk.journal import open_journal
from healthmsg.models import Option, Question
from tests.bot.flu_campaign import asked_by_a_campaign, said
from tests.bot.test_campaigns import VISIT
from tests.bulk.journal_runs import fresh_client, sent

OTHER = Question((Option("Prima"),))


@asynccontextmanager
async def asked(healthmsg_bot: StartBot, journal: Path) -> AsyncIterator[tuple[BotTest, Patient]]:
    """Have a campaign ask a patient, and its sender die before it noted the message's id."""
    bot_test, an = await asked_by_a_campaign(healthmsg_bot, journal, "?keep_bodies=1")
    forget_the_id(journal, ahead=bot_test.clock.now() - datetime.now(UTC))
    yield bot_test, an


def forget_the_id(journal: Path, ahead: timedelta) -> None:
    """Leave a journal as a sender does that dies before it notes a message's id."""
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute(
            "UPDATE healthmsg_messages SET state = 'sending', is_final = 0, is_next = 1, message_id = NULL,"
            " updated_at = '2026-01-01 00:00:00.000000', date_ahead = ?",
            (ahead // timedelta(milliseconds=1),),
        )


async def begin_the_sender_again(bot_test: BotTest, journal: Path) -> None:
    async with fresh_client(bot_test.sandbox) as client:
        await sent(client, None, journal=journal)


async def test_it_waits_and_is_handled_when_the_sender_has_found_the_message(
    healthmsg_bot: StartBot, file: Path
) -> None:
    async with asked(healthmsg_bot, file) as (bot_test, an):
        await an.presses("Ja")
        assert said(an) == []
        await begin_the_sender_again(bot_test, file)
        await bot_test.advance(seconds=5)
        assert said(an) == ["afspraak 0: ja"]
        assert not bot_test.parked


async def test_it_is_parked_with_what_to_do_and_taken_up_again(healthmsg_bot: StartBot, file: Path) -> None:
    async with asked(healthmsg_bot, file) as (bot_test, an):
        await an.presses("Ja")
        await bot_test.advance(minutes=2)
        assert not bot_test.parked
        await bot_test.advance(minutes=1)
        (parked,) = await bot_test.bot.parked()
        assert "the campaign 'flu'" in parked.reason
        assert "journal decide" in parked.reason
        await an.says("hallo")
        assert said(an) == ["dag"]
        async with open_journal(file) as journal:
            (question,) = bot_test.sandbox.messages(an.address)[:1]
            await journal.decide(
                "afspraak 0", Outcome.DELIVERED, by="Jansen", at=journal.now(), message_id=question.id
            )
        assert await bot_test.bot.retry(None) == 1
        await bot_test.idle()
        assert said(an) == ["dag", "afspraak 0: ja"]


async def test_an_answer_to_another_programs_question_waits_for_none_of_it(
    healthmsg_bot: StartBot, file: Path
) -> None:
    async with asked(healthmsg_bot, file) as (bot_test, an):
        bo = bot_test.patient("Bo")
        await sent(bot_test.client, [Outgoing(bo.address, "Goed zo?", question=OTHER)])
        await bo.presses("Prima")
        assert said(bo) == ["een andere vraag"]
        # Nor in that chat itself, when the question has other buttons, or was asked another day.
        await sent(bot_test.client, [Outgoing(an.address, "Nog iets?", question=OTHER)])
        await an.presses("Prima")
        assert said(an) == ["een andere vraag"]
        await bot_test.advance(timedelta(days=1))
        await sent(bot_test.client, [Outgoing(an.address, "Goed zo?", question=VISIT)])
        await an.presses("Ja")
        assert said(an) == ["een andere vraag"] * 2
