"""What an event does to a dialog holds once it is committed: not before, and not if its handler fails."""

from datetime import timedelta

import pytest
from attrs import define, field

from healthmsg.bot import CallNext, Dialog, Dialogs, IncomingMessage, Router, command
from healthmsg.bot.testing import BotTest, StartBot
from healthmsg.events import Event, MessageCreated


@define(eq=False)
class Failing:
    """Fails so many times."""

    times: int
    done: list[str] = field(factory=list)

    def note(self, what: str) -> None:
        self.done.append(what)

    def call(self, what: str) -> None:
        if self.times > 0:
            self.times -= 1
            raise OSError
        self.done.append(what)


def bot_with(failing: Failing) -> Router:
    router = dialogs_and_what_begins_them(failing)

    @router.message(command("terug"))
    async def back(message: IncomingMessage, dialogs: Dialogs) -> None:
        await message.reply(f"{await dialogs.take_back(message)}")

    @router.message(command("einde"))
    async def end(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.stop(message)
        failing.call("ended")

    @router.middleware
    async def audit(event: Event, call_next: CallNext) -> None:
        await call_next(event)
        if isinstance(event, MessageCreated) and event.message.body == "An":
            failing.call("audited")

    @router.fallback
    async def other(message: IncomingMessage) -> None:
        await message.reply(f"bot: {message.text}")

    return router


def dialogs_and_what_begins_them(failing: Failing) -> Router:
    router = Router()

    @router.dialog
    async def person(d: Dialog) -> None:
        await d.hand_over("asked for one", resume=("terug", "einde"))
        await d.say("Weer bij de bot.")

    @router.dialog
    async def person_after_a_word(d: Dialog) -> None:
        await d.say("Een collega komt zo.")
        await d.hand_over("asked for one", resume=("terug",))

    @router.dialog
    async def intake(d: Dialog) -> None:
        name = await d.text("Naam?")
        await d.sleep(timedelta(hours=1))
        place = await d.text(f"Dag {name}, uit welke plaats?")
        await d.say(f"Dank, {name} uit {place}.")

    @router.message(command("mens"))
    async def to_person(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.start(person, message)
        failing.call("the staff was called")

    @router.message(command("bel"))
    async def to_person_after_a_word(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.start(person_after_a_word, message)
        failing.call("the staff was called")

    @router.message(command("begin"))
    async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.start(intake, message)
        failing.call("begun")

    return router


def bot_with_silent(failing: Failing) -> Router:
    router = bot_with(failing)

    @router.dialog
    async def silent(d: Dialog) -> None:
        await d.once(failing.note, "booked")

    @router.dialog
    async def talking(d: Dialog) -> None:
        await d.say(f"Dag {await d.text('Naam?')}")

    @router.message(command("stil"))
    async def begin_silent(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.start(silent, message)
        failing.call("silent begun")

    @router.message(command("beide"))
    async def begin_both(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.start(silent, message)
        await dialogs.start(talking, message)
        failing.call("both begun")

    return router


async def tried_again(bot: BotTest) -> None:
    for _ in range(6):
        await bot.advance(minutes=10)


@pytest.mark.parametrize("word", ["mens", "bel"])
async def test_a_handler_that_fails_after_a_hand_over_runs_again_and_the_chat_is_silent_then(
    healthmsg_bot: StartBot, word: str
) -> None:
    failing = Failing(1)
    bot = await healthmsg_bot(bot_with(failing))
    an = bot.patient("An")
    await an.says(word)
    await tried_again(bot)
    assert failing.done == ["the staff was called"]
    assert [one.state for one in await bot.bot.open_dialogs()] == ["held"]
    before = len(an.sees)
    await an.says("hallo")
    assert len(an.sees) == before
    await an.says("terug")
    assert "True" in [one.body for one in an.sees]


async def test_a_chat_is_not_silent_after_a_hand_over_that_was_not_committed(healthmsg_bot: StartBot) -> None:
    bot = await healthmsg_bot(bot_with(Failing(99)), allow_parked=True)
    an = bot.patient("An")
    await an.says("mens")
    await tried_again(bot)
    assert len(await bot.bot.parked()) == 1
    await an.says("hallo")
    assert [one.body for one in an.sees] == ["bot: hallo"]


async def test_a_chat_stays_silent_when_the_end_of_its_dialog_was_not_committed(
    healthmsg_bot: StartBot,
) -> None:
    failing = Failing(0)
    bot = await healthmsg_bot(bot_with(failing), allow_parked=True)
    an = bot.patient("An")
    await an.says("mens")
    failing.times = 99
    await an.says("einde")
    await tried_again(bot)
    assert [one.state for one in await bot.bot.open_dialogs()] == ["held"]
    await an.says("hallo")
    assert an.sees == []


async def test_an_answer_counts_though_a_middleware_failed_after_it(healthmsg_bot: StartBot) -> None:
    failing = Failing(0)
    bot = await healthmsg_bot(bot_with(failing))
    an = bot.patient("An")
    await an.says("begin")
    failing.times = 1
    await an.says("An")
    await tried_again(bot)
    await bot.advance(hours=1)
    await an.says("Assen")
    assert [one.body for one in an.sees] == ["Naam?", "Dag An, uit welke plaats?", "Dank, An uit Assen."]


async def test_a_question_stays_open_when_the_event_that_answered_it_is_parked(
    healthmsg_bot: StartBot,
) -> None:
    failing = Failing(0)
    bot = await healthmsg_bot(bot_with(failing), allow_parked=True)
    an = bot.patient("An")
    await an.says("begin")
    failing.times = 99
    await an.says("An")
    await tried_again(bot)
    assert len(await bot.bot.parked()) == 1
    failing.times = 0
    await an.says("Bea")
    await bot.advance(hours=2)
    assert [one.body for one in an.sees] == ["Naam?", "Dag Bea, uit welke plaats?"]


async def test_a_dialog_that_has_ended_does_not_begin_again_with_its_parked_event(
    healthmsg_bot: StartBot,
) -> None:
    failing = Failing(99)
    bot = await healthmsg_bot(bot_with(failing), allow_parked=True)
    an = bot.patient("An")
    await an.says("begin")
    await tried_again(bot)
    failing.times = 0
    await an.says("Bea")
    await bot.advance(hours=1)
    await an.says("Assen")
    assert await bot.bot.retry(None) == 1
    await bot.idle()
    assert failing.done == ["begun"]
    assert await bot.bot.open_dialogs() == []
    await an.says("hallo")
    assert [one.body for one in an.sees] == [
        *("Naam?", "Dag Bea, uit welke plaats?", "Dank, Bea uit Assen.", "bot: hallo"),
    ]


async def test_nor_does_one_that_has_said_nothing(healthmsg_bot: StartBot) -> None:
    failing = Failing(99)
    bot = await healthmsg_bot(bot_with_silent(failing), allow_parked=True)
    an = bot.patient("An")
    await an.says("stil")
    await tried_again(bot)
    assert failing.done == ["booked"]
    assert len(await bot.bot.parked()) == 1
    await an.says("hallo")  # it ends with this
    assert await bot.bot.open_dialogs() == []
    failing.times = 0
    await bot.kill_and_restart()
    assert await bot.bot.retry(None) == 1
    await bot.idle()
    assert failing.done == ["booked", "silent begun"]
    assert await bot.bot.open_dialogs() == []


async def test_nor_does_one_that_was_ended_by_a_person(healthmsg_bot: StartBot) -> None:
    failing = Failing(99)
    bot = await healthmsg_bot(bot_with_silent(failing), allow_parked=True)
    an = bot.patient("An")
    await an.says("stil")
    await tried_again(bot)
    (record,) = await bot.bot.open_dialogs()
    assert await bot.bot.end_dialog(record.id)
    await bot.idle()
    failing.times = 0
    assert await bot.bot.retry(None) == 1
    await bot.idle()
    assert failing.done == ["booked", "silent begun"]


async def test_a_handler_that_begins_a_dialog_after_one_that_has_ended_runs_again(
    healthmsg_bot: StartBot,
) -> None:
    failing = Failing(1)
    bot = await healthmsg_bot(bot_with_silent(failing))
    an = bot.patient("An")
    await an.says("beide")
    await tried_again(bot)
    assert failing.done == ["booked", "both begun"]
    await an.says("An")
    assert [one.body for one in an.sees] == ["Naam?", "Dag An"]
