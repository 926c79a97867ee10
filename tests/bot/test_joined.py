"""A whole bot: what is said of what it does."""

from healthmsg.bot import Dialog, Dialogs, IncomingMessage, Router, Texts, command
from healthmsg.bot.testing import BotTest, bot_maker

router = Router()


@router.message(command("begin", help="Begin"))
async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(intake, message)


@router.dialog
async def intake(d: Dialog) -> None:
    await d.text("Naam?")
    await d.text("Plaats?")


async def test_what_is_noted_of_an_event_names_its_handler_or_its_dialog_and_the_bot_s_own_messages() -> None:
    async with BotTest(bot_maker(router)) as bot_test:
        an = bot_test.patient("An")
        await an.says("help")
        await an.says("begin")
        await an.answers("An Visser")

    messages = [one for one in bot_test.handled if one.kind == "message_created"]
    found = [(one.handler.partition(" (")[0], one.ended) for one in messages if not one.is_own]
    assert found == [("the automatic help", "done"), ("begin", "done"), ("intake", "done")]
    assert [one.ended for one in messages if one.is_own] == ["ignored"] * 3
    assert "An" not in repr(bot_test.handled).split()


async def test_a_user_who_asks_for_a_second_dialog_hears_that_one_is_open() -> None:
    async with BotTest(bot_maker(router)) as bot_test:
        an = bot_test.patient("An")
        for said in ("begin", "begin", "An Visser"):
            await an.says(said)

        open_already = Texts.dutch().dialog_open
        assert [seen.body for seen in an.sees] == ["Naam?", open_already, "Plaats?"]
        assert [one.ended for one in bot_test.handled if one.ended == "parked"] == []
