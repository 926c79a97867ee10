"""Dialogs that an event begins: each once, however often it is handled, and none is taken for another one."""

from contextlib import suppress

import pytest
from attrs import define

from healthmsg.bot import Dialog, Dialogs, IncomingMessage, Router, command, text
from healthmsg.bot.testing import BotTest, StartBot
from healthmsg.errors import CallError, DialogOpenError
from healthmsg.sandbox import AnswerStatus

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")

router = Router()


@define(eq=False)
class Calls:
    """Of a handler. The first one fails at its end."""

    begun: int = 0

    @property
    def is_first(self) -> bool:
        return self.begun == 1

    def end(self) -> None:
        if self.is_first:
            raise OSError


@router.dialog
async def silent(d: Dialog) -> None:
    await d.now()


@router.dialog
async def brief(d: Dialog) -> None:
    await d.say("brief")


@router.dialog
async def other(d: Dialog) -> None:
    await d.say("other")


@router.dialog
async def asking(d: Dialog) -> None:
    await d.say(f"so: {await d.text('how are you?')}")


@router.message(command("changed"))
async def changed(message: IncomingMessage, dialogs: Dialogs, calls: Calls) -> None:
    calls.begun += 1
    await dialogs.start(brief if calls.is_first else other, message)
    if calls.is_first:
        raise LookupError


@router.message(command("changed while open"))
async def changed_while_open(message: IncomingMessage, dialogs: Dialogs, calls: Calls) -> None:
    calls.begun += 1
    await dialogs.start(asking if calls.is_first else other, message)
    calls.end()


@router.message(command("one after the other"))
async def one_after_the_other(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(silent, message)
    await dialogs.start(silent, message)
    await dialogs.start(brief, message)


@router.message(command("one before"))
async def one_before(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(silent, message)
    await dialogs.start(asking, message)


@router.message(text(prefix="with "))
async def with_another(message: IncomingMessage, dialogs: Dialogs, calls: Calls) -> None:
    calls.begun += 1
    with suppress(CallError):
        await dialogs.start(brief, (f"conversations/{message.text.split()[1]}", message.text.split()[1]))
    await message.reply("it is on its way")
    calls.end()


@router.error(LookupError, retry=None)
async def parked(message: IncomingMessage) -> None: ...


@router.dialog
async def failing(d: Dialog) -> None:
    await d.say("hello")
    raise DialogOpenError("another")


@router.dialog
async def handed_over_twice(d: Dialog) -> None:
    await d.hand_over("the first")
    await d.say("back")
    await d.hand_over("the second")


@router.message(text(prefix="let fail "))
async def let_fail(message: IncomingMessage, dialogs: Dialogs) -> None:
    chat, user = message.text.split()[2:]
    await dialogs.start(failing, (chat, user))


@router.message(command("a person"))
async def a_person(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(handed_over_twice, message)


@router.message
async def any_other(message: IncomingMessage) -> None:
    await message.reply("what?")


async def begun(start: StartBot) -> BotTest:
    return await start(router, provide=[Calls()])


async def test_another_dialog_at_the_same_call_is_not_taken_for_the_one_that_has_ended(
    healthmsg_bot: StartBot,
) -> None:
    bot_test = await healthmsg_bot(router, provide=[Calls()], allow_parked=True)
    an = bot_test.patient("An")
    await an.says("changed")
    await an.says("hello")
    assert await bot_test.bot.retry(None) == 1
    await bot_test.idle()
    assert [seen.body for seen in an.sees] == ["brief", "what?", "other"]
    assert not await bot_test.bot.parked()


async def test_nor_for_the_one_that_is_open(healthmsg_bot: StartBot) -> None:
    an = (bot_test := await begun(healthmsg_bot)).patient("An")
    await an.says("changed while open")
    await bot_test.advance(minutes=1)
    assert len(an.sees) == 2  # that another one is open
    assert "how" not in an.sees[-1].body


@pytest.mark.parametrize("every_step", [False, True])
async def test_one_that_ends_at_once_makes_room_for_the_next(
    healthmsg_bot: StartBot, every_step: bool
) -> None:
    bot_test = await healthmsg_bot(router, provide=[Calls()], restart_after_every_step=every_step)
    an = bot_test.patient("An")
    await an.says("one after the other")
    await an.says("hello")
    await an.says("one before")
    await an.says("fine")
    assert [seen.body for seen in an.sees] == ["brief", "what?", "how are you?", "so: fine"]
    assert not await bot_test.bot.parked()


async def test_a_call_that_failed_before_it_had_an_id_makes_no_reply_come_twice(
    healthmsg_bot: StartBot,
) -> None:
    bot_test = await begun(healthmsg_bot)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    bot_test.sandbox.faults.add(kind=AnswerStatus(400), path_contains=f"/conversations/{bo.id}")
    await an.says(f"with {bo.id}")
    await bot_test.advance(minutes=1)
    assert [seen.body for seen in an.sees] == ["it is on its way"]
    assert [seen.body for seen in bo.sees] == ["brief"]


async def test_one_whose_own_code_says_that_another_is_open_has_begun(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router, provide=[Calls()], allow_parked=True)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    await an.says(f"let fail {bo.address} {bo.id}")
    await bot_test.advance(minutes=1)
    assert [seen.body for seen in bo.sees] == ["hello"]
    assert len(await bot_test.bot.open_dialogs()) == 1
    (parked,) = await bot_test.bot.parked()
    assert "has not begun" not in parked.reason


async def test_a_hand_over_is_not_taken_back_by_what_was_asked_of_the_one_before(
    healthmsg_bot: StartBot,
) -> None:
    an = (bot_test := await begun(healthmsg_bot)).patient("An")
    await an.says("a person")
    (held,) = await bot_test.bot.open_dialogs()
    assert all([await bot_test.bot.take_back_dialog(held.id) for _ in range(2)])
    await bot_test.idle()
    assert [seen.body for seen in an.sees] == ["back"]
    (held,) = await bot_test.bot.open_dialogs()
    assert held.state == "held"
    assert await bot_test.bot.take_back_dialog(held.id)
    await bot_test.idle()
    assert not await bot_test.bot.open_dialogs()
