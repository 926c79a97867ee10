"""Bots over the real bot and the real sandbox: what must hold for a patient, whatever happens."""

from datetime import timedelta

import pytest

from healthmsg.bot import Dialog, Dialogs, IncomingMessage, Router, command, text
from healthmsg.bot.surface import DialogRequest
from healthmsg.bot.testing import BotTest, Patient, StartBot
from healthmsg.ids import ChatAddress

router = Router()
HOUR = timedelta(hours=1)
ENDS: list[str] = []
"""Where the command `einde` ends a dialog."""


@router.message(command("intake"))
async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(intake, message)


@router.message(text(prefix="begin bij "))
async def begin_with(message: IncomingMessage, dialogs: Dialogs) -> None:
    chat = message.text.removeprefix("begin bij ")
    await dialogs.start(intake, (chat, message.user_id))


@router.message(command("einde"))
async def end(message: IncomingMessage, dialogs: Dialogs) -> None:
    place = ENDS[0], message.user_id
    assert await dialogs.open(place)
    assert await dialogs.stop(place)
    await message.reply("Einde.")


@router.fallback
async def other(message: IncomingMessage) -> None:
    await message.reply("?")


@router.dialog(stop=("stop",))
async def intake(d: Dialog) -> None:
    name = await d.text("Naam?")
    is_right = await d.confirm("Goed?")
    await d.say(f"{name} {is_right}")


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["plainly", "restarted"])
async def bot_test(request: pytest.FixtureRequest, healthmsg_bot: StartBot) -> BotTest:
    """Run the bot; the second time, it is killed and started again after each step."""
    return await healthmsg_bot(router, restart_after_every_step=request.param)


def said(patient: Patient) -> list[str]:
    return [seen.body for seen in patient.sees]


# --- one place, however it is addressed


@pytest.mark.parametrize("names_user", [False, True], ids=["chat alone", "chat and user"])
@pytest.mark.parametrize("by", ["conversation", "user", "auxiliary id"])
async def test_a_dialog_is_answered_however_its_conversation_was_addressed(
    bot_test: BotTest, by: str, names_user: bool
) -> None:
    an = bot_test.patient("An", aux_id="p-1")
    addresses = {
        "conversation": an.address,
        "user": f"conversations/{an.id}",
        "auxiliary id": "aux/conversations/p-1",
    }
    await bot_test.idle()
    request = DialogRequest(
        dialog="intake", chat=ChatAddress.parse(addresses[by]), user=an.id if names_user else None
    )
    await bot_test.bot.start_dialog(request)
    await bot_test.idle()

    await an.answers("An")
    await an.presses("Ja")

    assert said(an) == ["Naam?", "Goed?", "An True"]


@pytest.mark.parametrize("by", ["conversation", "user", "auxiliary id"])
async def test_a_handler_starts_and_ends_a_dialog_however_it_addresses_the_conversation(
    bot_test: BotTest, by: str
) -> None:
    an = bot_test.patient("An", aux_id="p-1")
    addresses = {
        "conversation": an.address,
        "user": f"conversations/{an.id}",
        "auxiliary id": "aux/conversations/p-1",
    }
    await an.says(f"begin bij {addresses[by]}")
    await an.answers("An")
    await an.presses("Nee")
    assert said(an) == ["Naam?", "Goed?", "An False"]

    await an.says("intake")
    ENDS[:] = [addresses[by]]
    await an.says("einde")
    await an.says("Bo")

    assert said(an)[3:] == ["Naam?", "Einde.", "?"]
