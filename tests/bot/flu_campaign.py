"""A bot with a campaign that asks a patient, for tests of what becomes of the answer."""

from pathlib import Path

from healthmsg.bot import Answer, Bot, IncomingMessage, Router, text
from healthmsg.bot.testing import BotTest, Patient, StartBot
from tests.bot.test_campaigns import asking
from tests.bulk.journal_runs import sent

router = Router()


@router.answered("flu")
async def flu(answer: Answer[str]) -> None:
    await answer.reply(f"{answer.key}: {answer.option}")


@router.answered
async def any_other(answer: Answer[str]) -> None:
    await answer.reply("een andere vraag")


@router.message(text("hallo"))
async def greet(message: IncomingMessage) -> None:
    await message.reply("dag")


async def asked_by_a_campaign(
    healthmsg_bot: StartBot, journal: Path, options: str = "", handlers: Router = router
) -> tuple[BotTest, Patient]:
    """Start a bot, and have the campaign "flu" ask a patient, with a journal with these options."""

    def set_up(bot: Bot) -> None:
        bot.campaign("flu", journal=journal)

    bot_test = await healthmsg_bot(handlers, set_up, allow_parked=True)
    an = bot_test.patient("An")
    await sent(bot_test.client, asking(an.address), journal=f"{journal}{options}")
    await bot_test.idle()
    return bot_test, an


def said(patient: Patient) -> list[str]:
    """Return what a patient was told, without the questions."""
    return [seen.body for seen in patient.sees if not seen.options]
