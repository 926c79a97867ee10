"""Each type of question over the real bot: stopped, gone back from, and left open by a command."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from healthmsg.bot import (
    ConfirmQuestion,
    Dialog,
    Dialogs,
    IncomingMessage,
    Router,
    Stopped,
    command,
    text,
)
from healthmsg.bot.testing import BotTest, Patient, StartBot

Ask = Callable[[Dialog], Awaitable[Any]]
Answer = Callable[[Patient], Awaitable[None]]
router = Router()

QUESTIONS: dict[str, tuple[Ask, Answer]] = {
    "text": (lambda d: d.text("Naam?"), lambda an: an.says("An")),
    "number": (lambda d: d.number("Hoeveel?"), lambda an: an.says("7")),
    "email": (lambda d: d.email("E-mail?"), lambda an: an.says("an@example.nl")),
    "phone": (lambda d: d.phone("Telefoon?"), lambda an: an.says("06 12345678")),
    "date": (lambda d: d.date("Wanneer?"), lambda an: an.says("2-3-2026")),
    "confirm": (lambda d: d.confirm("Goed?"), lambda an: an.presses("Ja")),
    "choice": (lambda d: d.choice("Welke?", ["rood", "blauw"]), lambda an: an.presses("blauw")),
    "choices": (lambda d: d.choices("Welke?", ["rood", "blauw"]), lambda an: an.presses("rood", "blauw")),
    "files": (lambda d: d.files("Foto?"), lambda an: an.sends(("knie.jpg", b"\xff\xd8"))),
    "mention": (lambda d: d.mention("Wie?"), lambda an: an.says(f"[mention={an.id}]")),
    "verification": (lambda d: d.verification("idin"), lambda an: an.verifies()),
    "ask_all": (
        lambda d: d.ask_all([d.user_id], ConfirmQuestion("Allen?")),
        lambda an: an.presses("Ja"),
    ),
}
every_question = pytest.mark.parametrize("kind", QUESTIONS)


@router.message(text(prefix="begin "))
async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(asking, message, message.text.removeprefix("begin "))


@router.message(command("vraag", "help", help="Een vraag stellen"))
async def ask(message: IncomingMessage) -> None:
    await message.reply("Vraag maar.")


@router.dialog(stop=("stop", "annuleren"), back=("terug",))
async def asking(d: Dialog, kind: str) -> None:
    try:
        await d.text("Eerst?")
        await QUESTIONS[kind][0](d)
        await d.say("Beantwoord.")
    except Stopped:
        await d.say("Gestopt.")


@router.dialog
async def photo(d: Dialog) -> None:
    files = await d.files("Foto's?", count=(2, 2))
    await d.text("Nog iets?")
    await d.say(f"{[file.name for file in files]} {files.text}")


@router.message(text("foto"))
async def begin_photo(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(photo, message)


@pytest.fixture(
    params=[False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.thorough])],
    ids=["plainly", "restarted"],
)
async def bot_test(request: pytest.FixtureRequest, healthmsg_bot: StartBot) -> BotTest:
    """Run the bot; the second time, it is killed and started again after each step."""
    return await healthmsg_bot(router, restart_after_every_step=request.param)


async def asked(bot_test: BotTest, kind: str) -> Patient:
    """Return a patient who is asked a question of this kind."""
    an = bot_test.patient("An")
    await an.says(f"begin {kind}")
    await an.answers("eerst dit")
    assert len(an.sees) == 2
    return an


@every_question
async def test_help_leaves_the_question_open__python_telegram_bot_1136(bot_test: BotTest, kind: str) -> None:
    an = await asked(bot_test, kind)
    before = an.sees

    await an.says("/help")
    assert [seen.body for seen in an.sees[2:]] == ["Vraag maar."]
    assert len(await bot_test.bot.open_dialogs()) == 1
    await QUESTIONS[kind][1](an)

    assert [*an.sees[:2]] == before
    assert [seen.body for seen in an.sees[2:]] == ["Vraag maar.", "Beantwoord."]
    assert await bot_test.bot.open_dialogs() == []


@every_question
async def test_a_stop_word_ends_it(bot_test: BotTest, kind: str) -> None:
    an = await asked(bot_test, kind)

    await an.says(" STOP ")

    assert [seen.body for seen in an.sees[2:]] == ["Gestopt."]
    assert await bot_test.bot.open_dialogs() == []


@every_question
async def test_a_back_word_asks_the_question_before_it_again(bot_test: BotTest, kind: str) -> None:
    an = await asked(bot_test, kind)
    question = an.sees[1]

    await an.says("terug")
    assert an.sees[-1].body == "Eerst?"
    await an.answers("toch dat")
    assert (an.sees[-1].body, an.sees[-1].options) == (question.body, question.options)
    await QUESTIONS[kind][1](an)

    assert an.sees[-1].body == "Beantwoord."
    assert await bot_test.bot.open_dialogs() == []


async def test_what_is_written_with_files_survives_a_restart(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    await an.says("foto")
    await an.sends(("a.png", b"x"), text="ik heb pijn op de borst")
    await bot_test.kill_and_restart()
    await an.sends(("b.png", b"y"), text="sinds gisteren")
    await bot_test.kill_and_restart()
    await an.answers("nee")

    assert an.sees[-1].body == "['a.png', 'b.png'] ik heb pijn op de borst\nsinds gisteren"
