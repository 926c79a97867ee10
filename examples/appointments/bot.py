"""Takes the answers to the reminders: `healthmsg bot run examples.appointments.bot:bot`."""

from datetime import timedelta
from typing import Final

from examples.appointments.agenda import Agenda
from examples.appointments.reminders import QUESTION, Visit
from healthmsg.bot import Answer, Bot, Dialog, Dialogs, NoAnswer, Router, Stopped, TooManyTries

router = Router("appointments")

JOURNAL: Final = "visits.db"
"""What the reminders are sent with; it need not exist yet."""
NONE_OF_THESE: Final = "Geen van deze"
CALL_US: Final = "Belt u ons dan even: 010 123 45 67. Uw afspraak blijft staan tot u belt."


@router.answered(QUESTION, options=Visit)
async def visit(answer: Answer[Visit], agenda: Agenda, dialogs: Dialogs) -> None:
    """Note the answer. A second tap on the same button changes nothing, and gets no second reply."""
    key = answer.key or ""
    match answer.option:
        case Visit.CONFIRM:
            await agenda.confirm(key, idempotency_key=answer.id)
            await answer.reply("Fijn, tot dan.")
        case Visit.CANCEL:
            await agenda.cancel(key, idempotency_key=answer.id)
            await answer.reply("Uw afspraak is afgezegd.")
        case Visit.MOVE:
            await dialogs.start(move, answer, key)


@router.dialog(stop=("stop", "laat maar"))
async def move(d: Dialog, key: str, agenda: Agenda) -> None:
    """Offer the times that are free until one is taken."""
    try:
        await offer_times(d, key, agenda)
    except (Stopped, NoAnswer, TooManyTries):
        await d.say("Uw afspraak blijft zoals die was.")


async def offer_times(d: Dialog, key: str, agenda: Agenda) -> None:
    """Offer times. One can be taken by another patient meanwhile."""
    for number in range(1, 4):
        times = await d.once(agenda.free, key=f"free {number}")
        chosen = await d.choice(
            "Wanneer komt het u uit?",
            [*times, NONE_OF_THESE],
            key=f"time {number}",
            tries=3,
            remind=timedelta(hours=4),
            timeout=timedelta(days=1),
        )
        if chosen == NONE_OF_THESE:
            break
        if await d.once(agenda.move, key, chosen, key=f"move {number}"):
            await d.say(f"Uw afspraak is verzet naar {chosen}.")
            return
        await d.say("Die tijd is net vergeven.")
    await d.say(CALL_US)


def set_up(bot: Bot) -> None:
    """Put everything into a bot; what it works with is provided beside."""
    bot.include(router)


def bot() -> Bot:
    """Return the bot."""
    made = Bot(store="appointments.db")
    made.campaign(QUESTION, journal=JOURNAL)
    made.provide(Agenda())
    set_up(made)
    return made
