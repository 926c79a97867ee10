"""A dialog with one patient is never begun in the chat of another one."""

import pytest

from healthmsg.bot import Dialog, DialogRequest, Dialogs, IncomingMessage, Router
from healthmsg.bot.testing import BotTest, StartBot
from healthmsg.errors import InvalidInputError
from healthmsg.ids import ChatAddress

WANTED: list[tuple[str, str]] = []
router = Router()


@router.dialog
async def result(d: Dialog) -> None:
    await d.say("De uitslag is er.")


@router.fallback
async def start(message: IncomingMessage, dialogs: Dialogs) -> None:
    try:
        await dialogs.start(result, WANTED[0])
    except InvalidInputError:
        await message.reply("geweigerd")


def gets(bot_test: BotTest) -> int:
    return sum(call.method == "GET" for call in bot_test.sandbox.calls)


async def test_a_chat_of_another_user_is_refused_from_outside(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")

    with pytest.raises(InvalidInputError, match="not in this chat") as error:
        await bot_test.bot.start_dialog(DialogRequest(dialog="result", user=an.id, chat=bo.address))
    await bot_test.idle()

    assert an.id not in str(error.value)
    assert (an.sees, bo.sees) == ([], [])


async def test_a_chat_of_another_user_is_refused_in_a_handler(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an, bo, cees = (bot_test.patient(name) for name in ("An", "Bo", "Cees"))
    WANTED[:] = [(bo.address, an.id)]
    await cees.says("begin")

    assert [seen.body for seen in cees.sees] == ["geweigerd"]
    assert (an.sees, bo.sees) == ([], [])


async def test_the_users_own_chat_is_asked_for_once(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    for _ in range(3):
        before = gets(bot_test)
        await bot_test.bot.start_dialog(
            DialogRequest(dialog="result", user=an.id, chat=ChatAddress.parse(an.address))
        )
        await bot_test.idle()
    assert gets(bot_test) == before
    assert [seen.body for seen in an.sees] == ["De uitslag is er."] * 3


async def test_a_group_is_refused_for_one_who_is_no_member(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    group = bot_test.group("Team", an)

    with pytest.raises(InvalidInputError, match="not in this chat"):
        await bot_test.bot.start_dialog(DialogRequest(dialog="result", user=bo.id, chat=group.address))
    await bot_test.bot.start_dialog(DialogRequest(dialog="result", user=an.id, chat=group.address))
    await bot_test.idle()
    assert [seen.body for seen in group.sees] == ["De uitslag is er."]
